//! The accumulator, without a broker and with a clock of its own.

use std::time::{Duration, Instant};

use strandline_wire::ErrorCode;
use strandline_wire::batch::RecordToWrite;

use super::accumulator::Accumulator;
use super::batch::Outgoing;
use super::numbering::Identity;
use super::options::ProducerOptions;
use crate::error::ClientError;

/// Bytes of the buffer that each record takes.
const BYTES: usize = 100;

fn accumulator(linger: Duration) -> (Accumulator, Instant) {
    let mut accumulator = Accumulator::new(ProducerOptions {
        linger,
        batch_bytes: 2 * BYTES,
        max_request_bytes: 10 * BYTES,
        max_in_flight: 2,
        ..ProducerOptions::default()
    });
    accumulator.note_leaders("t", &[(0, 1), (1, 1), (2, -1)]);
    (accumulator, Instant::now())
}

fn take(accumulator: &mut Accumulator, partition: i32, token: u64, now: Instant) -> bool {
    let record = RecordToWrite::default();
    let taken = accumulator.take("t", Some(partition), &record, token, BYTES, now);
    taken.expect("the partition is known")
}

/// The tokens of a request's batches.
fn tokens(requests: &[Outgoing]) -> Vec<Vec<u64>> {
    let batches = requests.iter().flat_map(|request| &request.batches);
    batches.map(|s| s.batch.tokens.clone()).collect()
}

fn refused(code: ErrorCode) -> Result<i64, ClientError> {
    Err(ClientError::Broker {
        what: "t-0".into(),
        code,
        message: None,
    })
}

/// Numbers and marks the only batch of the only request, as the sender does.
fn sent(accumulator: &mut Accumulator, mut requests: Vec<Outgoing>) -> Outgoing {
    let mut request = requests.pop().expect("one request");
    for sending in &mut request.batches {
        let identity = Identity {
            producer_id: 7,
            epoch: 0,
        };
        assert!(accumulator.number(sending, Some(identity)));
        sending.batch.sent = true;
    }
    request
}

/// Answers every batch of a request; returns the tokens of those that are through.
fn answer(
    accumulator: &mut Accumulator,
    request: Outgoing,
    now: Instant,
    result: impl Fn() -> Result<i64, ClientError>,
) -> Vec<u64> {
    accumulator.end_request(request.leader);
    let batches = request.batches.into_iter();
    let settled = batches.filter_map(|batch| accumulator.settle(batch, result(), now));
    settled.flat_map(|f| f.delivery.tokens).collect()
}

#[test]
fn a_batch_waits_for_its_linger_and_a_full_one_does_not() {
    let linger = Duration::from_millis(5);
    let (mut accumulator, now) = accumulator(linger);
    assert!(take(&mut accumulator, 0, 1, now), "a batch begins");
    let (requests, next) = accumulator.take_ready(now);
    assert!(requests.is_empty());
    assert_eq!(next, Some(now + linger));
    assert!(!take(&mut accumulator, 0, 2, now), "the batch has room");
    let (requests, _) = accumulator.take_ready(now);
    assert_eq!(tokens(&requests), [[1, 2]]);
}

#[test]
fn a_flush_does_not_wait_for_the_linger() {
    let (mut accumulator, now) = accumulator(Duration::from_secs(60));
    take(&mut accumulator, 0, 1, now);
    accumulator.flushing += 1;
    assert_eq!(tokens(&accumulator.take_ready(now).0), [[1]]);
}

#[test]
fn a_partition_without_a_leader_asks_for_metadata() {
    let (mut accumulator, now) = accumulator(Duration::ZERO);
    take(&mut accumulator, 2, 1, now);
    let (requests, next) = accumulator.take_ready(now);
    assert!(requests.is_empty() && accumulator.stale && next.is_some());
    accumulator.note_leaders("t", &[(2, 4)]);
    assert_eq!(accumulator.take_ready(now).0[0].leader, 4);
}

#[test]
fn a_broker_has_a_limited_number_of_requests_under_way() {
    let (mut accumulator, now) = accumulator(Duration::ZERO);
    let mut under_way = Vec::new();
    for token in 0..2 {
        take(&mut accumulator, token as i32, token, now);
        under_way.extend(accumulator.take_ready(now).0);
    }
    take(&mut accumulator, 0, 2, now);
    assert!(
        accumulator.take_ready(now).0.is_empty(),
        "both are under way"
    );
    accumulator.end_request(under_way.remove(0).leader);
    assert_eq!(tokens(&accumulator.take_ready(now).0), [[2]]);
}

#[test]
fn a_batch_that_is_sent_again_keeps_its_sequence_and_travels_alone() {
    let (mut accumulator, now) = accumulator(Duration::ZERO);
    take(&mut accumulator, 0, 1, now);
    let requests = accumulator.take_ready(now).0;
    let first = sent(&mut accumulator, requests);
    take(&mut accumulator, 0, 2, now);
    let requests = accumulator.take_ready(now).0;
    let second = sent(&mut accumulator, requests);
    assert_eq!(second.batches[0].batch.builder.base_sequence, 1);
    let retriable = || refused(ErrorCode::NotLeaderOrFollower);
    assert!(answer(&mut accumulator, first, now, retriable).is_empty());
    assert!(accumulator.stale, "the leader has changed");
    let later = now + Duration::from_secs(1);
    assert!(
        accumulator.take_ready(later).0.is_empty(),
        "not beside another"
    );
    assert!(answer(&mut accumulator, second, later, retriable).is_empty());
    let later = later + Duration::from_secs(1);
    let requests = accumulator.take_ready(later).0;
    assert_eq!(tokens(&requests), [[1]], "by sequence");
    assert_eq!(requests[0].batches[0].batch.builder.base_sequence, 0);
    let request = sent(&mut accumulator, requests);
    assert_eq!(answer(&mut accumulator, request, later, || Ok(5)), [1]);
    assert_eq!(tokens(&accumulator.take_ready(later).0), [[2]]);
}

#[test]
fn a_duplicate_was_written_by_an_earlier_attempt() {
    let (mut accumulator, now) = accumulator(Duration::ZERO);
    take(&mut accumulator, 0, 1, now);
    let mut requests = accumulator.take_ready(now).0;
    let sending = requests.remove(0).batches.remove(0);
    let duplicate = refused(ErrorCode::DuplicateSequenceNumber);
    let finished = accumulator.settle(sending, duplicate, now);
    let finished = finished.expect("the batch is through");
    assert!(matches!(finished.delivery.result, Ok(-1)));
    assert_eq!(finished.bytes, BYTES);
}

#[test]
fn a_batch_that_waited_too_long_fails_and_is_settled_when_that_is_reported() {
    let (mut accumulator, now) = accumulator(Duration::from_secs(1000));
    take(&mut accumulator, 0, 1, now);
    assert!(
        accumulator
            .expire(now + Duration::from_secs(120))
            .is_empty()
    );
    let expired = accumulator.expire(now + Duration::from_secs(121));
    let Err(error) = &expired[0].delivery.result else {
        panic!("the batch was not written");
    };
    assert_eq!(error.code(), Some(ErrorCode::RequestTimedOut));
    assert!(!accumulator.is_settled());
    accumulator.reported(expired.len());
    assert!(accumulator.is_settled());
}

#[test]
fn a_partition_beyond_the_topic_is_refused() {
    let (mut accumulator, now) = accumulator(Duration::ZERO);
    let record = RecordToWrite::default();
    let taken = accumulator.take("t", Some(3), &record, 1, BYTES, now);
    assert_eq!(
        taken.unwrap_err().code(),
        Some(ErrorCode::InvalidPartitions)
    );
}
