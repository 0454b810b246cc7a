//! Compressed batches are checked on blocking threads, a few at a time: a few bytes can come out as hundreds of megabytes,
//! and a decoder may hold a window of that size.

use std::sync::Arc;

use bytes::Bytes;
use strandline_wire::ErrorCode;
use strandline_wire::batch::{BatchHeader, ValidatedBatch};
use strandline_wire::compression::Compression;
use strandline_wire::produce::ProducePartitionResponse;
use tokio::sync::Semaphore;
use tokio::task::JoinError;

use super::Call;
use super::validation::validate;
use crate::partition::Partition;

/// Checks a batch against its topic's rules. Compressed ones wait for a turn.
pub(super) async fn validated(
    call: &Call,
    partition: &Arc<Partition>,
    records: Bytes,
) -> Result<ValidatedBatch, Box<ProducePartitionResponse>> {
    if !needs_codec(partition, &records) {
        return validate(partition, &records);
    }
    let partition = partition.clone();
    let check = move || validate(&partition, &records);
    let checked = in_turn(&call.context.memory.codecs, check).await;
    checked.unwrap_or_else(|error| {
        let code = ErrorCode::UnknownServerError;
        let failed = ProducePartitionResponse::error(0, code, Some(error.to_string()));
        Err(Box::new(failed))
    })
}

/// Runs `work` on a blocking thread when one of the `turns` is free.
async fn in_turn<T: Send + 'static>(
    turns: &Semaphore,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    // Never closed, so a turn always comes.
    let _turn = turns.acquire().await;
    tokio::task::spawn_blocking(work).await
}

/// Whether a codec runs: the batch is compressed, or the topic wants it to be.
fn needs_codec(partition: &Partition, records: &[u8]) -> bool {
    let plain = |header: BatchHeader| {
        let codec = Compression::from_attributes(header.attributes);
        matches!(codec, Ok(Compression::None))
    };
    let kept = matches!(
        partition.config().compression_type.as_str(),
        "producer" | "uncompressed"
    );
    !(kept && BatchHeader::decode(records).is_ok_and(plain))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn compressed_batches_are_checked_in_turns() {
        let turns = Semaphore::new(2);
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let work = |number: usize| {
            let (now, most) = (now.clone(), most.clone());
            move || {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::yield_now();
                now.fetch_sub(1, Ordering::SeqCst);
                number
            }
        };
        let all = join_all((0..200).map(|number| in_turn(&turns, work(number)))).await;
        let all: Vec<usize> = all.into_iter().map(Result::unwrap).collect();
        assert_eq!(all, (0..200).collect::<Vec<_>>());
        assert!(most.load(Ordering::SeqCst) <= 2);
    }
}
