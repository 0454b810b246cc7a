//! A number of bytes that the process shares. Bytes are given out in the order in which they are asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Budgets are counted in these units, because a semaphore gives out 32 bits at once.
const UNIT_BYTES: usize = 1 << 10;

/// Bytes that are given out until [`Held`] returns them.
#[derive(Debug)]
pub struct Budget {
    units: Arc<Semaphore>,
    capacity: u32,
    waiting: AtomicUsize,
}

/// A part of a budget; returned when the value is dropped.
#[derive(Debug)]
pub struct Held {
    /// `None` for no bytes.
    permit: Option<OwnedSemaphorePermit>,
}

/// A buffer that returns its part of a budget when its last slice is dropped.
struct Counted {
    bytes: Bytes,
    _held: Held,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Counts a caller of [`Budget::take`] as long as it waits.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

impl Budget {
    pub fn new(bytes: usize) -> Self {
        let capacity = units(bytes).max(1);
        Self {
            units: Arc::new(Semaphore::new(capacity as usize)),
            capacity,
            waiting: AtomicUsize::new(0),
        }
    }

    pub fn capacity_bytes(&self) -> usize {
        self.capacity as usize * UNIT_BYTES
    }

    pub fn free_bytes(&self) -> usize {
        self.units.available_permits() * UNIT_BYTES
    }

    pub fn used_bytes(&self) -> usize {
        self.capacity_bytes().saturating_sub(self.free_bytes())
    }

    /// Whether a caller waits for bytes now.
    pub fn is_contended(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Waits until `bytes` are free; more than the whole budget waits until all of it is free. Callers are served in
    /// order. A caller that is dropped while it waits has taken nothing.
    pub async fn take(&self, bytes: usize) -> Held {
        if let Some(held) = self.try_take(bytes.min(self.capacity_bytes())) {
            return held;
        }
        let _waiting = Waiting::begin(&self.waiting);
        let wanted = units(bytes).min(self.capacity);
        // The semaphore is never closed, so a permit always comes.
        let permit = self.units.clone().acquire_many_owned(wanted).await.ok();
        Held { permit }
    }

    /// The bytes, if they are free now and nobody waits for them.
    pub fn try_take(&self, bytes: usize) -> Option<Held> {
        let wanted = units(bytes);
        if wanted == 0 {
            return Some(Held { permit: None });
        }
        let permit = self.units.clone().try_acquire_many_owned(wanted).ok()?;
        Some(Held {
            permit: Some(permit),
        })
    }
}

impl Held {
    /// Returns all but `bytes`.
    pub fn shrink(&mut self, bytes: usize) {
        if let Some(permit) = &mut self.permit {
            let surplus = permit.num_permits().saturating_sub(units(bytes) as usize);
            drop(permit.split(surplus));
        }
    }

    /// Returns the part when the last slice of `bytes` is dropped.
    pub fn until_dropped(self, bytes: Bytes) -> Bytes {
        if self.permit.is_none() {
            return bytes;
        }
        Bytes::from_owner(Counted { bytes, _held: self })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn bytes_return_with_the_last_slice_of_their_buffer() {
        let budget = Budget::new(100 << 10);
        let held = budget.take(64 << 10).await;
        let buffer = held.until_dropped(Bytes::from(vec![7; 64 << 10]));
        let slice = buffer.slice(5..6);
        assert_eq!(budget.used_bytes(), 64 << 10);
        assert!(budget.try_take(64 << 10).is_none());
        drop(buffer);
        let late = tokio::time::timeout(LIMIT, budget.take(64 << 10)).await;
        assert!(late.is_err(), "a slice is still there");
        drop(slice);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_the_budget_gets_all_of_it_and_a_waiter_is_seen() {
        let budget = Budget::new(10 << 10);
        assert!(budget.try_take(11 << 10).is_none());
        let mut all = budget.take(1 << 40).await;
        assert_eq!(budget.free_bytes(), 0);
        let taking = budget.take(3 << 10);
        let mut taking = std::pin::pin!(taking);
        let waited = tokio::time::timeout(LIMIT, &mut taking).await;
        assert!(waited.is_err() && budget.is_contended());
        all.shrink(2 << 10);
        let three = tokio::time::timeout(LIMIT, taking).await.unwrap();
        assert!(!budget.is_contended());
        assert_eq!(budget.used_bytes(), 5 << 10);
        drop((all, three));
        assert_eq!(budget.used_bytes(), 0);
    }
}
