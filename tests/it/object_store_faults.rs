//! An S3 server that misbehaves: produces never fail for it, nothing is deleted that is not safely copied, and wrong
//! bytes are an error, never data.

use std::time::Duration;

use strandline_client::ClientError;
use strandline_tests::{Fault, S3Server, TestBroker, eventually};
use strandline_wire::ErrorCode;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn uploads_survive_errors_and_lost_answers() {
    let s3 = S3Server::start().await;
    let (mut broker, mut client) = tiered_on(&s3, &TIERED).await;
    s3.inject("PUT", "segments", 3, Fault::SlowDown);
    s3.inject("PUT", ".side", 2, Fault::DropAfter);
    s3.inject("PUT", ".log", 2, Fault::DropBefore);
    let values = produce(&mut client, "t", 1000, 200).await;
    offloaded(&mut client, "t").await;
    assert_eq!(read_all(&mut client, "t", 0).await, values);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_fails_no_produce_and_deletes_nothing_and_is_visible() {
    let s3 = S3Server::start().await;
    let (mut broker, mut client) = tiered_on(&s3, &TIERED).await;
    s3.inject("PUT", "segments", u32::MAX, Fault::SlowDown);
    let values = produce(&mut client, "t", 1000, 200).await;
    assert_eq!(
        client.list_offset("t", 0, EARLIEST_LOCAL).await.unwrap(),
        0,
        "nothing left the disk"
    );
    assert_eq!(read_all(&mut client, "t", 0).await, values);
    eventually("the lag is visible", || async {
        let page = broker.http_get("/metrics").await;
        let lag = page.lines().find_map(|line| {
            line.strip_prefix("strandline_remote_copy_lag_bytes{topic=\"t\"} ")?
                .parse::<u64>()
                .ok()
        });
        lag.filter(|bytes| *bytes > 100_000)
    })
    .await;
    s3.heal();
    offloaded(&mut client, "t").await;
    assert_eq!(read_all(&mut client, "t", 0).await, values);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_survive_truncated_and_slow_bodies() {
    let s3 = S3Server::start().await;
    let (mut broker, mut client) = tiered_on(&s3, &TIERED).await;
    let values = produce(&mut client, "t", 1000, 200).await;
    offloaded(&mut client, "t").await;
    s3.inject("GET", ".log", 2, Fault::TruncateBody);
    s3.inject(
        "GET",
        ".side",
        1,
        Fault::SlowFirstByte(Duration::from_millis(300)),
    );
    s3.inject("GET", ".log", 2, Fault::SlowDown);
    let client = tokio::sync::Mutex::new(client);
    // A retriable error is an answer too; the client comes again, as Kafka's clients do.
    let read = eventually("the records can be read", || async {
        let mut client = client.lock().await;
        let first = client.fetch("t", 0, 0, 1000, Duration::from_secs(1)).await;
        first.ok().filter(|records| !records.is_empty())
    })
    .await;
    assert_eq!(read[0].value.as_ref(), Some(&values[0]));
    let mut client = client.into_inner();
    assert_eq!(read_all(&mut client, "t", 0).await, values);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_remote_byte_is_an_error_and_never_data() {
    for suffix in [".log", ".side"] {
        let s3 = S3Server::start().await;
        let (mut broker, mut client) = tiered_on(&s3, &TIERED).await;
        produce(&mut client, "t", 1000, 200).await;
        offloaded(&mut client, "t").await;
        s3.corrupt(suffix);
        let failed = client.fetch("t", 0, 0, 1000, Duration::from_secs(1)).await;
        assert!(
            matches!(
                failed,
                Err(ClientError::Broker {
                    code: ErrorCode::CorruptMessage,
                    ..
                })
            ),
            "{suffix}: {failed:?}"
        );
        let end = client.list_offset("t", 0, LATEST).await.unwrap();
        assert!(
            client
                .fetch("t", 0, end - 1, 1000, Duration::ZERO)
                .await
                .is_ok(),
            "hot data is unharmed"
        );
        broker.stop().await;
    }
}

/// Line by line as applications see it: no answer of a consumer may be an error for one damaged answer of the store.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_answer_is_fetched_again_and_reaches_no_application() {
    for suffix in [".log", ".side"] {
        for damage in [Fault::FlipBit, Fault::Shorten, Fault::TruncateBody] {
            let s3 = S3Server::start().await;
            let (mut broker, mut client) = tiered_on(&s3, &TIERED).await;
            let values = produce(&mut client, "t", 1000, 200).await;
            offloaded(&mut client, "t").await;
            // Once, and so often that only another angle helps.
            for times in [1, 2] {
                s3.inject("GET", suffix, times, damage.clone());
                assert_eq!(
                    read_all(&mut client, "t", 0).await,
                    values,
                    "{suffix} {damage:?} {times}"
                );
                broker.stop().await;
                broker.resume().await;
                client = broker.client().await;
            }
            broker.stop().await;
        }
    }
}

/// A chunk that stays damaged hides its own range, and nothing before or behind it.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_chunk_hides_its_own_range_alone() {
    let s3 = S3Server::start().await;
    let chunk = [("strandline.remote.chunk.bytes", "65536")];
    let mut broker = TestBroker::start_on_s3(&s3.endpoint(), &chunk).await;
    let mut client = broker.client().await;
    let mut configs = TIERED.to_vec();
    configs[1] = ("internal.segment.bytes", "1000000");
    client.create_topic("t", 1, &configs).await.unwrap();
    let values = produce(&mut client, "t", 2000, 1000).await;
    eventually("a segment leaves the local disk", || async {
        let mut client = broker.client().await;
        let local = client.list_offset("t", 0, EARLIEST_LOCAL).await.unwrap();
        (local > 900).then_some(())
    })
    .await;
    let keys = s3.keys();
    let first = keys.iter().find(|k| k.contains("/00000000000000000000-"));
    s3.corrupt(first.unwrap());
    let (mut offset, mut damaged) = (0, Vec::new());
    while offset < 900 {
        let got = client
            .fetch("t", 0, offset, 1_000_000, Duration::from_secs(1))
            .await;
        match got {
            Ok(records) => {
                assert_eq!(records[0].offset, offset);
                for record in records {
                    assert_eq!(record.value.as_ref(), Some(&values[record.offset as usize]));
                    offset = record.offset + 1;
                }
            }
            Err(ClientError::Broker {
                code: ErrorCode::CorruptMessage,
                ..
            }) => {
                damaged.push(offset);
                offset += 10;
            }
            Err(error) => panic!("{error}"),
        }
    }
    let (first, last) = (damaged[0], damaged[damaged.len() - 1]);
    assert!((380..500).contains(&first) && last < 600, "{damaged:?}");
    assert!(last - first <= 80, "one chunk of 64 KiB: {damaged:?}");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_chunk_is_fetched_once_by_a_sequential_reader() {
    let s3 = S3Server::start().await;
    let (mut broker, mut client) = tiered_on(&s3, &TIERED).await;
    produce(&mut client, "t", 1000, 200).await;
    offloaded(&mut client, "t").await;
    let segments = s3.keys().iter().filter(|k| k.ends_with(".log")).count();
    let before = s3.count("GET", ".log");
    read_all(&mut client, "t", 0).await;
    assert_eq!(
        s3.count("GET", ".log") - before,
        segments,
        "a segment here is one chunk"
    );
    assert_eq!(s3.open_uploads(), 0);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_store_is_said_at_start() {
    let s3 = S3Server::start().await;
    let at_once = [("strandline.remote.store.startup.timeout.ms", "0")];
    let mut broker = TestBroker::start_on_s3(&s3.endpoint(), &at_once).await;
    let mut settings = broker.settings();
    broker.stop().await;
    let remote = settings.remote.as_mut().unwrap();
    remote.url = "s3://absent/x".into();
    remote.create_bucket = false;
    let error = strandline_broker::Server::start(settings)
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("put object") && error.contains("s3://absent/x"),
        "{error}"
    );
    let mut settings = broker.settings();
    settings.remote.as_mut().unwrap().endpoint = Some("http://127.0.0.1:1".into());
    let error = strandline_broker::Server::start(settings)
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("127.0.0.1:1"), "{error}");
    for (method, path, action) in [
        ("PUT", "cold", "s3:CreateBucket"),
        ("PUT", "probe", "s3:PutObject"),
        ("GET", "probe", "s3:GetObject"),
        ("POST", "?uploads", "s3:PutObject"),
        ("PUT", "partNumber", "s3:PutObject"),
        ("DELETE", "uploadId", "s3:AbortMultipartUpload"),
    ] {
        s3.heal();
        s3.inject(method, path, 1, Fault::Forbidden);
        let error = strandline_broker::Server::start(broker.settings()).await;
        let error = error.err().unwrap().to_string();
        assert!(error.contains(action), "{error}");
    }
    // Each code of S3 points to what is wrong; only a denial speaks of permissions.
    let page = "<!DOCTYPE html>\r\n<html>\r\nERROR please log in</html>".to_owned();
    for (fault, names) in [
        (
            Fault::Error(403, "SignatureDoesNotMatch"),
            "secret.access.key",
        ),
        (Fault::Error(403, "InvalidAccessKeyId"), "access.key.id"),
        (
            Fault::Error(403, "RequestTimeTooSkewed"),
            "clock of this machine",
        ),
        (Fault::Error(404, "NoSuchBucket"), "no such bucket"),
        (
            Fault::Error(400, "AuthorizationHeaderMalformed"),
            "store.region",
        ),
        (Fault::Body(403, page), "a web page answered"),
    ] {
        s3.heal();
        s3.inject("*", "probe", u32::MAX, fault.clone());
        let error = strandline_broker::Server::start(broker.settings()).await;
        let error = error.err().unwrap().to_string();
        assert!(error.contains(names), "{fault:?}: {error}");
        assert!(!error.contains("do not have"), "{fault:?}: {error}");
        assert!(!error.contains(['\r', '\n']), "{fault:?}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_starts_with_the_broker_is_waited_for() {
    let s3 = S3Server::start().await;
    s3.inject("PUT", "cold", 3, Fault::SlowDown);
    let (mut broker, mut client) = tiered_on(&s3, &TIERED).await;
    assert!(
        s3.count("PUT", "cold") > 3,
        "it was asked until it answered"
    );
    let values = produce(&mut client, "t", 1000, 200).await;
    offloaded(&mut client, "t").await;
    assert_eq!(read_all(&mut client, "t", 0).await, values);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_multipart_upload_that_fails_is_aborted_and_done_again() {
    let s3 = S3Server::start().await;
    let (mut broker, mut client) = tiered_on(&s3, &LARGE_SEGMENTS).await;
    // Parts are PUTs, and fail; creating and aborting an upload are not.
    s3.inject("PUT", ".log", u32::MAX, Fault::SlowDown);
    let values = produce(&mut client, "t", 300, 100_000).await;
    eventually("the upload is aborted", || async {
        let aborted = s3.count("DELETE", ".log") > 0 && s3.open_uploads() == 0;
        aborted.then_some(())
    })
    .await;
    assert_eq!(client.list_offset("t", 0, EARLIEST_LOCAL).await.unwrap(), 0);
    s3.heal();
    let client = tokio::sync::Mutex::new(client);
    eventually("the segment leaves the local disk", || async {
        let mut client = client.lock().await;
        let local = client.list_offset("t", 0, EARLIEST_LOCAL).await.unwrap();
        (local > 200).then_some(())
    })
    .await;
    assert_eq!(s3.open_uploads(), 0);
    assert_eq!(read_all(&mut client.into_inner(), "t", 0).await, values);
    broker.stop().await;
}
