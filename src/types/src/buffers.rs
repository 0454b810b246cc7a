//! Large buffers, used again and again: a fresh allocation of megabytes costs a page fault every four kilobytes, about a
//! quarter of the processor time of reading records, hot or cold.

use std::sync::{Arc, Mutex};

use bytes::Bytes;

/// Below this a fresh allocation is cheaper than holding a large buffer for it.
const SMALLEST_BYTES: usize = 16 << 10;

/// Buffers that wait to be used again. Clones share them.
#[derive(Clone, Debug)]
pub struct BufferPool {
    free: Arc<Mutex<Vec<Vec<u8>>>>,
    limit: usize,
    largest_bytes: usize,
}

impl BufferPool {
    /// A pool that keeps at most `limit` buffers of at most `largest_bytes` each.
    pub fn new(limit: usize, largest_bytes: usize) -> Self {
        Self {
            free: Arc::default(),
            limit,
            largest_bytes,
        }
    }

    /// A buffer of at least `length` bytes. The bytes keep the contents of an earlier use.
    pub fn take(&self, length: usize) -> PooledBuffer {
        let pooled = (SMALLEST_BYTES..=self.largest_bytes).contains(&length);
        let free = pooled.then(|| self.lock().pop()).flatten();
        PooledBuffer {
            bytes: free
                .filter(|bytes| bytes.len() >= length)
                .unwrap_or_else(|| vec![0; length]),
            pool: self.clone(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.free.lock().expect("no holder panics")
    }
}

/// A buffer that goes back to its pool when the last slice of it is dropped.
#[derive(Debug)]
pub struct PooledBuffer {
    bytes: Vec<u8>,
    pool: BufferPool,
}

impl PooledBuffer {
    /// The first `length` bytes, for sharing. Panics where the buffer is shorter.
    pub fn freeze(self, length: usize) -> Bytes {
        Bytes::from_owner(self).slice(..length)
    }
}

impl AsRef<[u8]> for PooledBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsMut<[u8]> for PooledBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        if (SMALLEST_BYTES..=self.pool.largest_bytes).contains(&self.bytes.len()) {
            let mut free = self.pool.lock();
            if free.len() < self.pool.limit {
                free.push(std::mem::take(&mut self.bytes));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_last_slice_is_gone() {
        let pool = BufferPool::new(1, 1 << 20);
        let mut buffer = pool.take(20_000);
        buffer.as_mut()[..7].copy_from_slice(b"records");
        let bytes = buffer.freeze(7);
        let slice = bytes.slice(2..4);
        drop(bytes);
        assert_eq!(&slice[..], b"co");
        assert_eq!(pool.lock().len(), 0);
        drop(slice);
        assert_eq!(pool.lock().len(), 1);
        let again = pool.take(18_000);
        assert_eq!(again.as_ref().len(), 20_000, "the same one");
        drop(pool.take(18_000));
        drop(again);
        assert_eq!(pool.lock().len(), 1, "no more than the limit are kept");
    }

    #[test]
    fn small_and_huge_buffers_are_not_kept() {
        let pool = BufferPool::new(4, 1 << 20);
        drop(pool.take(100));
        drop(pool.take(2 << 20));
        assert_eq!(pool.lock().len(), 0);
    }
}
