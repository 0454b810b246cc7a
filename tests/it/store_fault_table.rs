//! Every way in which a store can fail, for a while: nothing that is produced is refused, nothing is lost, everything is as
//! before soon after, and the log stays readable.
//!
//! A second each with every build. `STRANDLINE_FAULT_SECONDS=60 cargo test --test it store_fault_table -- --nocapture` is the
//! long form, which also holds the time until all is as before to ten seconds, and prints a table.

use std::time::{Duration, Instant};

use futures::StreamExt;
use strandline_client::{Client, ClientError};
use strandline_tests::{Fault, S3Server, TestBroker, eventually, logged};
use strandline_wire::ErrorCode;

use super::*;

/// Cases that run at once.
const SIDE_BY_SIDE: usize = 6;
/// Between two batches: what piles up in a minute is copied within seconds.
const PACE: Duration = Duration::from_millis(200);
const BACK_TO_NORMAL: Duration = Duration::from_secs(10);

struct Case {
    name: &'static str,
    method: &'static str,
    part: &'static str,
    fault: Fault,
    /// Every answer is damaged, so a consumer may be told so.
    damages: bool,
}

fn case(name: &'static str, method: &'static str, fault: Fault) -> Case {
    Case {
        name,
        method,
        // Deletes name their keys in the body.
        part: if method == "DELETE" {
            "cold"
        } else {
            "segments"
        },
        damages: matches!(fault, Fault::FlipBit | Fault::Shorten) && method != "PUT",
        fault,
    }
}

fn cases() -> Vec<Case> {
    let page = || format!("<html>\n{}</html>", "please log in\n".repeat(1000));
    let error = |status, code| Fault::Error(status, code);
    let late = Fault::SlowFirstByte(Duration::from_millis(500));
    vec![
        case("500", "*", error(500, "InternalError")),
        case("502-page", "*", Fault::Body(502, page())),
        case("503", "*", Fault::SlowDown),
        case("504", "*", Fault::Body(504, String::new())),
        case("429", "*", error(429, "TooManyRequests")),
        case("408", "*", error(408, "RequestTimeout")),
        case("400", "*", error(400, "InvalidRequest")),
        case("401", "*", error(401, "Unauthorized")),
        case("403-denied", "*", Fault::Forbidden),
        case("403-signature", "*", error(403, "SignatureDoesNotMatch")),
        case("403-clock", "*", error(403, "RequestTimeTooSkewed")),
        case("404-bucket", "*", error(404, "NoSuchBucket")),
        case("409", "*", error(409, "OperationAborted")),
        case("412", "*", error(412, "PreconditionFailed")),
        case("501", "*", error(501, "NotImplemented")),
        case("put-page", "PUT", Fault::Body(200, page())),
        case("get-page", "GET", Fault::Body(200, page())),
        case("page", "*", Fault::Body(200, page())),
        case("empty-200", "*", Fault::Body(200, String::new())),
        case("redirect-301", "*", Fault::Redirect(301)),
        case("redirect-307", "*", Fault::Redirect(307)),
        case("reset", "*", Fault::DropBefore),
        case("put-answer-lost", "PUT", Fault::DropAfter),
        case("get-answer-lost", "GET", Fault::DropAfter),
        case("short-body", "GET", Fault::TruncateBody),
        case("half-body", "GET", Fault::Shorten),
        case("flip-down", "GET", Fault::FlipBit),
        case("flip-up", "PUT", Fault::FlipBitUp),
        case("put-hangs", "PUT", Fault::Hang),
        case("get-hangs", "GET", Fault::Hang),
        case("hangs", "*", Fault::Hang),
        case("late", "*", late),
        case("delete-denied", "DELETE", Fault::Forbidden),
        case("delete-said", "DELETE", Fault::SayDone),
    ]
}

/// The outcome of a case.
struct Seen {
    name: &'static str,
    records: usize,
    back: Duration,
    lines: usize,
}

/// One fetch: the records there, or `None` where the store's failure is told as such.
async fn fetch(client: &mut Client, case: &Case, offset: i64) -> Option<Vec<Bytes>> {
    let got = client
        .fetch(case.name, 0, offset, 100_000, Duration::from_millis(100))
        .await;
    match got {
        Ok(records) => {
            let first = records.first().map(|record| record.offset);
            assert!(first.is_none_or(|o| o == offset), "{}", case.name);
            Some(records.into_iter().filter_map(|r| r.value).collect())
        }
        Err(ClientError::Broker {
            code: ErrorCode::KafkaStorageError,
            ..
        }) => None,
        Err(ClientError::Broker {
            code: ErrorCode::CorruptMessage,
            ..
        }) if case.damages => None,
        Err(error) => panic!("{}: {error}", case.name),
    }
}

async fn run(case: Case, lasts: Duration) -> Seen {
    let s3 = S3Server::start().await;
    let mut broker = TestBroker::start_on_s3(&s3.endpoint(), &[]).await;
    let mut client = broker.client().await;
    let mut configs = TIERED.to_vec();
    configs.push(("retention.ms", "-1"));
    client.create_topic(case.name, 1, &configs).await.unwrap();
    let mut values = produce(&mut client, case.name, 300, 200).await;
    let left = async |records: usize| {
        let client = tokio::sync::Mutex::new(broker.client().await);
        eventually("what is sealed leaves the local disk", || async {
            let mut client = client.lock().await;
            let local = client.list_offset(case.name, 0, EARLIEST_LOCAL).await;
            (local.unwrap() > records as i64 - 100).then_some(())
        })
        .await;
    };
    left(values.len()).await;
    s3.inject(case.method, case.part, u32::MAX, case.fault.clone());
    let began = Instant::now();
    let mut pace = tokio::time::interval(PACE);
    while began.elapsed() < lasts {
        pace.tick().await;
        // No produce fails.
        values.extend(produce(&mut client, case.name, 50, 200).await);
        let offset = values.len() as i64 / 3;
        if let Some(read) = fetch(&mut client, &case, offset).await {
            let there = &values[offset as usize..][..read.len()];
            assert!(read == there, "{}: wrong bytes", case.name);
        }
        // Ten megabytes a minute are enough.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    s3.heal();
    let healed = Instant::now();
    left(values.len()).await;
    let mut read = Vec::new();
    while read.len() < values.len() {
        let offset = read.len() as i64;
        match fetch(&mut client, &case, offset).await {
            Some(more) => read.extend(more),
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
        let took = healed.elapsed();
        assert!(took < Duration::from_secs(60), "{}: {offset}", case.name);
    }
    let back = healed.elapsed();
    assert!(read == values, "{}: lost or changed", case.name);
    assert_eq!(s3.open_uploads(), 0, "{}", case.name);
    broker.stop().await;
    Seen {
        name: case.name,
        records: values.len(),
        back,
        lines: logged(&[&format!("{}-0", case.name)]).len(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_fault_of_a_store_fails_a_produce_or_loses_a_record() {
    let long = std::env::var("STRANDLINE_FAULT_SECONDS");
    let seconds = long.as_ref().map_or(Ok(1), |text| text.parse::<u64>());
    let lasts = Duration::from_secs(seconds.expect("a number of seconds"));
    assert!(cases().len() >= 30);
    let runs = futures::stream::iter(cases()).map(|case| run(case, lasts));
    let all: Vec<Seen> = runs.buffer_unordered(SIDE_BY_SIDE).collect().await;
    for seen in &all {
        println!(
            "{:<18} {:>7} records, back after {:>5.1} s, {:>3} lines",
            seen.name,
            seen.records,
            seen.back.as_secs_f64(),
            seen.lines
        );
    }
    for seen in all {
        let lines_allowed = 10.max(2 * lasts.as_secs() as usize);
        assert!(seen.lines <= lines_allowed, "{}: {}", seen.name, seen.lines);
        assert!(
            long.is_err() || seen.back <= BACK_TO_NORMAL,
            "{}",
            seen.name
        );
    }
}
