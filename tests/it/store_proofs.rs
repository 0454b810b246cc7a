//! The only good copy of a segment goes when the store is known to have another: upload checksums, a look at what was sent,
//! uploads in parts that nobody finishes, deletes that are denied or lied about.

use std::time::Duration;

use strandline_tests::{Fault, S3Server, TestBroker, eventually};

use super::*;

/// A bit that is flipped on the way up, and a page that says 200. The store verifies a checksum, or knows none.
#[tokio::test(flavor = "multi_thread")]
async fn what_did_not_arrive_whole_is_sent_again_before_the_local_copy_goes() {
    let page = "<html>\r\nWelcome to the hotel's network</html>".to_owned();
    for ignores in [false, true] {
        for fault in [Fault::FlipBitUp, Fault::Body(200, page.clone())] {
            for suffix in [".log", ".side"] {
                let s3 = S3Server::start().await;
                if ignores {
                    s3.ignore_checksums();
                }
                let (mut broker, mut client) = tiered_on(&s3, &TIERED).await;
                s3.inject("PUT", suffix, 3, fault.clone());
                let values = produce(&mut client, "t", 1000, 200).await;
                offloaded(&mut client, "t").await;
                assert_eq!(
                    read_all(&mut client, "t", 0).await,
                    values,
                    "{suffix} {fault:?} {ignores}"
                );
                broker.stop().await;
            }
        }
    }
}

/// The same of a part of a large segment.
#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_lost_a_bit_is_sent_again() {
    for ignores in [false, true] {
        let s3 = S3Server::start().await;
        if ignores {
            s3.ignore_checksums();
        }
        let (mut broker, mut client) = tiered_on(&s3, &LARGE_SEGMENTS).await;
        s3.inject("PUT", "partNumber=2", 1, Fault::FlipBitUp);
        let values = produce(&mut client, "t", 300, 100_000).await;
        let client = tokio::sync::Mutex::new(client);
        eventually("the segment leaves the local disk", || async {
            let mut client = client.lock().await;
            let local = client.list_offset("t", 0, EARLIEST_LOCAL).await.unwrap();
            (local > 200).then_some(())
        })
        .await;
        let mut client = client.into_inner();
        assert!(read_all(&mut client, "t", 0).await == values, "{ignores}");
        assert_eq!(s3.open_uploads(), 0);
        broker.stop().await;
    }
}

/// The bill: with a store that verifies checksums nothing is read back.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_costs_two_puts_and_two_heads() {
    let s3 = S3Server::start().await;
    let (mut broker, mut client) = tiered_on(&s3, &TIERED).await;
    produce(&mut client, "t", 1000, 200).await;
    offloaded(&mut client, "t").await;
    for method in ["PUT", "HEAD"] {
        assert_eq!(s3.count(method, "segments"), 22, "{method}");
    }
    assert_eq!(s3.count("GET", "segments"), 0);
    broker.stop().await;
}

/// A policy or a lock denies deletes.
#[tokio::test(flavor = "multi_thread")]
async fn a_denied_delete_stops_neither_copying_nor_local_retention() {
    let s3 = S3Server::start().await;
    let mut broker = TestBroker::start_on_s3(&s3.endpoint(), &[]).await;
    let mut client = broker.client().await;
    let mut configs = TIERED.to_vec();
    configs.push(("retention.bytes", "60000"));
    configs.push(("retention.ms", "-1"));
    client.create_topic("t", 1, &configs).await.unwrap();
    s3.inject("DELETE", "cold", u32::MAX, Fault::Forbidden);
    produce(&mut client, "t", 1000, 200).await;
    eventually("deletes were refused", || async {
        (s3.count("DELETE", "cold") > 0).then_some(())
    })
    .await;
    // All that follows is produced while deletes fail.
    produce(&mut client, "t", 1000, 200).await;
    let client = tokio::sync::Mutex::new(client);
    eventually("what came later is copied and leaves the disk", || async {
        let mut client = client.lock().await;
        let tiered = client.list_offset("t", 0, LATEST_TIERED).await.unwrap();
        let local = client.list_offset("t", 0, EARLIEST_LOCAL).await.unwrap();
        (tiered > 1900 && local > 1900).then_some(())
    })
    .await;
    let refused = s3.keys().len();
    assert!(refused > 12, "the store keeps {refused} objects");
    s3.heal();
    eventually("what retention no longer wants is gone", || async {
        (s3.keys().len() < 12).then_some(())
    })
    .await;
    broker.stop().await;
}

/// A store without calls that others have: the topic is copied, read and deleted with what there is.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_aborts_no_upload_and_deletes_one_object_at_a_time_will_do() {
    let s3 = S3Server::start().await;
    let unknown = |code| Fault::Error(405, code);
    s3.inject("POST", "?delete", u32::MAX, unknown("MethodNotAllowed"));
    s3.inject("DELETE", "uploadId", u32::MAX, unknown("MethodNotAllowed"));
    s3.inject("GET", "?uploads", u32::MAX, unknown("MethodNotAllowed"));
    let (mut broker, mut client) = tiered_on(&s3, &TIERED).await;
    let values = produce(&mut client, "t", 1000, 200).await;
    offloaded(&mut client, "t").await;
    assert_eq!(read_all(&mut client, "t", 0).await, values);
    super::tiers::delete_topic(&broker.address(), "t").await;
    eventually("the topic's objects are gone", || async {
        (!s3.keys().iter().any(|k| k.contains("/segments/"))).then_some(())
    })
    .await;
    broker.stop().await;
}

/// Deletes that are said to be done and are not.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_whose_objects_stay_holds_up_no_other_and_is_not_asked_without_pause() {
    let s3 = S3Server::start().await;
    let (mut broker, mut client) = tiered_on(&s3, &TIERED).await;
    produce(&mut client, "t", 1000, 200).await;
    offloaded(&mut client, "t").await;
    let keys = s3.keys();
    let key = keys.iter().find(|k| k.contains("/segments/")).unwrap();
    let topic = key.split('/').nth(3).unwrap().to_owned();
    client.create_topic("u", 1, &TIERED).await.unwrap();
    produce(&mut client, "u", 1000, 200).await;
    offloaded(&mut client, "u").await;
    s3.keep(&topic);
    super::tiers::delete_topic(&broker.address(), "t").await;
    eventually("deleting was tried", || async {
        (s3.count("DELETE", "cold") > 0).then_some(())
    })
    .await;
    super::tiers::delete_topic(&broker.address(), "u").await;
    eventually("the other topic's objects are gone", || async {
        let keys = s3.keys();
        let left = keys.iter().filter(|k| k.contains("/segments/"));
        left.clone().all(|k| k.contains(&topic)).then_some(())
    })
    .await;
    // The back-off of the tests ends at 200 ms: a loop without pause lists hundreds of times in that time.
    let before = s3.count("GET", "cold");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let listed = s3.count("GET", "cold") - before;
    assert!(listed <= 60, "{listed} requests in a second");
    s3.keep("nothing");
    eventually("the topic's objects are gone", || async {
        let keys = s3.keys();
        (!keys.iter().any(|k| k.contains("/segments/"))).then_some(())
    })
    .await;
    broker.stop().await;
}

/// A stop aborts what runs; a topic's uploads go with it; a lost answer to Create leaves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn no_unfinished_upload_is_left() {
    let s3 = S3Server::start().await;
    let (mut broker, mut client) = tiered_on(&s3, &LARGE_SEGMENTS).await;
    s3.inject("PUT", "partNumber=2", u32::MAX, Fault::Hang);
    produce(&mut client, "t", 300, 100_000).await;
    eventually("a copy is half-way", || async {
        (s3.open_uploads() > 0).then_some(())
    })
    .await;
    broker.stop().await;
    assert_eq!(s3.open_uploads(), 0, "a stop aborts what runs");
    s3.heal();
    // Uploads are created and the answers are lost, of the probe and of a copy.
    s3.inject("POST", "?uploads", 1, Fault::DropAfter);
    s3.inject("POST", ".log?uploads", 1, Fault::DropAfter);
    broker.resume().await;
    eventually("the segment leaves the local disk", || async {
        let mut client = broker.client().await;
        let local = client.list_offset("t", 0, EARLIEST_LOCAL).await.unwrap();
        (local > 200).then_some(())
    })
    .await;
    let keys = s3.keys();
    let key = keys.iter().find(|k| k.ends_with(".log")).unwrap();
    s3.leave_upload(key);
    let report: serde_json::Value =
        serde_json::from_str(&broker.http_get("/tier/orphans").await).unwrap();
    assert!(report["open_uploads"].as_u64() >= Some(1), "{report}");
    super::tiers::delete_topic(&broker.address(), "t").await;
    eventually("no object is left", || async {
        let keys = s3.keys();
        (!keys.iter().any(|k| k.contains("/segments/"))).then_some(())
    })
    .await;
    assert_eq!(s3.open_uploads(), 0, "{:?}", s3.requests());
    broker.stop().await;
}

/// A rate below one request a second.
#[tokio::test(flavor = "multi_thread")]
async fn a_low_rate_of_cold_reads_is_slow_and_not_dead() {
    for rate in ["1", "20000"] {
        let s3 = S3Server::start().await;
        let limits = [("remote.log.manager.fetch.max.bytes.per.second", rate)];
        let mut broker = TestBroker::start_on_s3(&s3.endpoint(), &limits).await;
        let mut client = broker.client().await;
        client.create_topic("t", 1, &TIERED).await.unwrap();
        let values = produce(&mut client, "t", 1000, 200).await;
        offloaded(&mut client, "t").await;
        let client = tokio::sync::Mutex::new(client);
        let first = eventually("a cold record comes", || async {
            let mut client = client.lock().await;
            let got = client.fetch("t", 0, 0, 1000, Duration::from_secs(1)).await;
            got.ok().filter(|records| !records.is_empty())
        })
        .await;
        assert_eq!(first[0].value.as_ref(), Some(&values[0]), "{rate}");
        // Loads ahead of the reader wait for the rate; a stop does not wait for them.
        let began = std::time::Instant::now();
        broker.stop().await;
        let took = began.elapsed();
        assert!(took < Duration::from_secs(8), "{rate}: {took:?}");
    }
}

/// A PUT of 20 KB that hangs is given up after seconds, and holds back neither other steps nor other partitions.
#[tokio::test(flavor = "multi_thread")]
async fn a_hung_upload_is_given_up_in_proportion_to_its_bytes() {
    let s3 = S3Server::start().await;
    let (mut broker, mut client) = tiered_on(&s3, &TIERED).await;
    s3.inject("PUT", ".log", 1, Fault::Hang);
    let began = std::time::Instant::now();
    let values = produce(&mut client, "t", 1000, 200).await;
    offloaded(&mut client, "t").await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(40), "{took:?}");
    assert_eq!(read_all(&mut client, "t", 0).await, values);
    broker.stop().await;
}

/// Copies of one partition overlap, and their commits stay in order.
#[tokio::test(flavor = "multi_thread")]
async fn copies_of_one_partition_overlap_and_leave_no_gap() {
    let s3 = S3Server::start().await;
    let (mut broker, mut client) = tiered_on(&s3, &TIERED).await;
    // Eleven segments of two objects, each call 200 ms late: one after the other they take nine seconds.
    let late = Fault::SlowFirstByte(Duration::from_millis(200));
    s3.inject("*", "segments", u32::MAX, late);
    s3.inject("PUT", "00000000000000000180-", 1, Fault::Forbidden);
    let values = produce(&mut client, "t", 1000, 200).await;
    offloaded(&mut client, "t").await;
    assert!(s3.most_at_once() >= 4, "{}", s3.most_at_once());
    s3.heal();
    assert_eq!(read_all(&mut client, "t", 0).await, values);
    broker.stop().await;
}

/// Consumers of many cold partitions, and a proxy that answers with a page of many lines.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_many_lines_is_one_line_a_partition_and_is_cut() {
    let s3 = S3Server::start().await;
    let broker = TestBroker::start_on_s3(&s3.endpoint(), &[]).await;
    let mut client = broker.client().await;
    client.create_topic("flood", 1, &TIERED).await.unwrap();
    produce(&mut client, "flood", 1000, 200).await;
    offloaded(&mut client, "flood").await;
    let page = format!("<html>\n{}</html>", "ERROR forged line\n".repeat(2000));
    s3.inject("GET", "segments", u32::MAX, Fault::Body(404, page));
    for _ in 0..10 {
        let got = client.fetch("flood", 0, 0, 1000, Duration::ZERO).await;
        assert!(got.is_err(), "{got:?}");
    }
    let lines = strandline_tests::logged(&["a remote read failed", "flood-0"]);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].len() < 1000, "{}", lines[0].len());
    let forged = strandline_tests::logged(&["ERROR forged line"]);
    assert!(forged.iter().all(|line| !line.starts_with("ERROR")));
    let page = broker.http_get("/metrics").await;
    let failed = page.lines().find_map(|line| {
        line.strip_prefix("strandline_remote_failed_reads_total ")?
            .parse::<u64>()
            .ok()
    });
    assert!(failed >= Some(10), "{failed:?}");
    let mut broker = broker;
    broker.stop().await;
}

/// A bucket is created with a length, and outside the default region with its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_created_where_it_is_to_be() {
    let s3 = S3Server::start().await;
    let region = [("strandline.remote.store.region", "eu-central-1")];
    let mut broker = TestBroker::start_on_s3(&s3.endpoint(), &region).await;
    assert_eq!(
        s3.location("cold").as_deref(),
        Some("eu-central-1"),
        "the body names the region"
    );
    broker.stop().await;
}
