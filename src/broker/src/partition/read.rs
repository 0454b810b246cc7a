//! Reads records from the local disk without blocking the reactor: bytes in the page cache are read at once, the rest
//! on the blocking pool. Every batch is checked against its producer's CRC before it leaves the broker.

use std::io;
use std::sync::LazyLock;

use bytes::Bytes;
use strandline_log::{LogError, LogSlice};
use strandline_types::BufferPool;
use strandline_wire::batch::{split_batches, verify_crc};

/// Answers of at most a mebibyte (`max.partition.fetch.bytes` of Kafka's clients) share these buffers.
static BUFFERS: LazyLock<BufferPool> = LazyLock::new(|| BufferPool::new(16, 1 << 20));

/// The whole batches of a slice, at least one. A damaged one is an error with its place.
pub async fn read_batches(slice: LogSlice) -> Result<Bytes, LogError> {
    let bytes = read(&slice).await.map_err(|source| LogError::Io {
        path: slice.segment.log_path.clone(),
        source,
    })?;
    let mut end = 0;
    let mut damage = None;
    for found in split_batches(&bytes) {
        let checked = match found {
            Ok((at, header)) => verify_crc(&header, &bytes[at..at + header.size()])
                .map(|()| end = at + header.size())
                .map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(reason) = checked {
            damage = Some(reason);
            break;
        }
    }
    // A slice begins with a whole batch.
    if end == 0 && damage.is_none() {
        damage = Some("the batch does not end where its length says".to_owned());
    }
    // Batches before the damaged one are served; the next read begins with it.
    match damage {
        Some(reason) if end == 0 => Err(LogError::Corrupt {
            position: slice.position,
            offset: first_offset(&bytes),
            path: slice.segment.log_path.clone(),
            reason,
        }),
        _ => Ok(bytes.slice(..end)),
    }
}

fn first_offset(bytes: &[u8]) -> i64 {
    bytes
        .first_chunk()
        .map_or(-1, |first| i64::from_be_bytes(*first))
}

async fn read(slice: &LogSlice) -> io::Result<Bytes> {
    let (length, position) = (slice.length, slice.position);
    let mut buffer = BUFFERS.take(length);
    // `WouldBlock`: not in the page cache. Anything else shows again in the blocking read.
    let cached = slice
        .segment
        .read_at_cached(&mut buffer.as_mut()[..length], position)
        .unwrap_or_default();
    if cached < length {
        let segment = slice.segment.clone();
        let read = tokio::task::spawn_blocking(move || {
            let rest = &mut buffer.as_mut()[cached..length];
            segment.read_at(rest, position + cached as u64)?;
            Ok::<_, io::Error>(buffer)
        });
        buffer = read.await.map_err(io::Error::other)??;
    }
    Ok(buffer.freeze(length))
}
