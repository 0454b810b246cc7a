//! Buffers of chunks, used again and again: a fresh allocation of megabytes costs a page fault every four kilobytes,
//! about a quarter of the processor time of a cold read.

use std::sync::{Arc, Mutex};

use bytes::Bytes;

/// Buffers that wait to be used again.
#[derive(Clone, Debug)]
pub(super) struct BufferPool {
    free: Arc<Mutex<Vec<Vec<u8>>>>,
    limit: usize,
}

impl BufferPool {
    /// A pool that keeps at most `limit` buffers.
    pub fn new(limit: usize) -> Self {
        Self {
            free: Arc::default(),
            limit,
        }
    }

    /// An empty buffer.
    pub fn take(&self) -> PooledBuffer {
        let free = self.free.lock().expect("no holder panics").pop();
        PooledBuffer {
            bytes: free.unwrap_or_default(),
            pool: self.clone(),
        }
    }
}

/// A buffer that goes back to its pool when the last slice of it is dropped.
#[derive(Debug)]
pub(super) struct PooledBuffer {
    pub bytes: Vec<u8>,
    pool: BufferPool,
}

impl PooledBuffer {
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for PooledBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        let mut free = self.pool.free.lock().expect("no holder panics");
        if free.len() < self.pool.limit {
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.clear();
            free.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_empty_when_its_last_slice_is_gone() {
        let pool = BufferPool::new(1);
        let mut buffer = pool.take();
        buffer.bytes.extend_from_slice(b"records");
        let bytes = buffer.freeze();
        let slice = bytes.slice(2..4);
        drop(bytes);
        assert_eq!(&slice[..], b"co");
        assert_eq!(pool.free.lock().unwrap().len(), 0);
        drop(slice);
        let again = pool.take();
        assert!(again.bytes.is_empty() && again.bytes.capacity() >= 7);
        drop(pool.take());
        drop(again);
        assert_eq!(
            pool.free.lock().unwrap().len(),
            1,
            "no more than the limit are kept"
        );
    }
}
