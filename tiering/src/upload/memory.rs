//! Memory of copies: the bytes that were read from disk and are not in the store yet, under one limit.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::PART_BYTES;

/// Permits are counted in these.
const UNIT_BYTES: u64 = 4096;

/// `strandline.remote.copy.memory.bytes`. Clones share it.
#[derive(Clone, Debug)]
pub struct CopyMemory {
    units: Arc<Semaphore>,
    all: u32,
}

/// Bytes that may be held as long as this lives.
#[derive(Debug)]
pub struct Room {
    _units: Option<OwnedSemaphorePermit>,
}

impl CopyMemory {
    /// A limit below one part is one part: nothing could be copied.
    pub fn new(limit_bytes: u64) -> Self {
        let all = limit_bytes.max(PART_BYTES as u64) / UNIT_BYTES;
        let all = u32::try_from(all).unwrap_or(u32::MAX);
        Self {
            units: Arc::new(Semaphore::new(all as usize)),
            all,
        }
    }

    /// Waits until `bytes` may be held. First come, first served.
    pub async fn room(&self, bytes: u64) -> Room {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        let acquired = self.units.clone().acquire_many_owned(units.min(self.all));
        Room {
            // Nothing closes the semaphore.
            _units: acquired.await.ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_more_is_held_than_the_limit_and_a_part_always_fits() {
        let memory = CopyMemory::new(2 * PART_BYTES as u64);
        let one = memory.room(PART_BYTES as u64).await;
        let _two = memory.room(PART_BYTES as u64).await;
        let mut three = Box::pin(memory.room(1));
        assert!(futures::poll!(&mut three).is_pending());
        drop(one);
        assert!(futures::poll!(&mut three).is_ready());
        for limit in [0, 1, u64::MAX] {
            CopyMemory::new(limit).room(u64::MAX).await;
        }
    }
}
