//! The bytes that a fetch could be answered with now, found without reading them: a fetch that waits for `min.bytes`
//! reads its records once, when there are enough.

use super::reader::Reader;
use super::reading::{Reading, Throttled};

/// Bytes of local records that the readings would give within `limit`, counted up to `wanted`. Records of the cold tier
/// count as enough.
pub(super) fn available(
    readings: &[&Reading],
    reader: &Reader,
    limit: usize,
    wanted: usize,
) -> usize {
    let mut found = 0;
    for reading in readings {
        if found >= wanted {
            break;
        }
        if reading.remote {
            return wanted;
        }
        if reading.has_answer() || reading.throttle == Throttled::Waits {
            continue;
        }
        let Some(partition) = &reading.partition else {
            continue;
        };
        let (view, offset) = (partition.view(), reading.visit.request.fetch_offset);
        let most = usize::try_from(reading.visit.request.max_bytes).unwrap_or(0);
        if offset >= reader.limit(&view) {
            continue;
        }
        // One byte is wanted: a record below the limit is enough, wherever it lies.
        if wanted == 1 {
            return 1;
        }
        found += match view.slice(offset, most.min(limit), reader.limit(&view)) {
            Ok(Some(slice)) => slice.length,
            Ok(None) => 0,
            // The read finds out and tells the client.
            Err(_) => return wanted,
        };
    }
    found
}
