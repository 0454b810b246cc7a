//! Reading records off the local disk without stopping the reactor: what the page cache has is read at once, the rest on
//! the blocking pool.

use std::io;

use bytes::Bytes;
use strandline_log::LogSlice;
use strandline_wire::batch::split_batches;

/// The bytes of a slice. The last batch may be cut; see [`whole_batches`].
pub async fn read_slice(slice: LogSlice) -> io::Result<Bytes> {
    let mut buffer = vec![0; slice.length];
    // `WouldBlock`: not in the page cache. Anything else shows again in the blocking read.
    let cached = slice
        .segment
        .read_at_cached(&mut buffer, slice.position)
        .unwrap_or_default();
    if cached == buffer.len() {
        return Ok(buffer.into());
    }
    let read = tokio::task::spawn_blocking(move || {
        slice
            .segment
            .read_at(&mut buffer[cached..], slice.position + cached as u64)?;
        Ok(buffer)
    });
    let buffer: io::Result<Vec<u8>> = read.await.map_err(io::Error::other)?;
    buffer.map(Bytes::from)
}

/// The whole batches at the front of `bytes`.
pub fn whole_batches(bytes: Bytes) -> Bytes {
    let mut end = 0;
    for (at, header) in split_batches(&bytes).flatten() {
        end = at + header.size();
    }
    bytes.slice(..end)
}
