//! One broker without a cold tier: durability, deletion, full disks.

use std::time::Duration;

use strandline_client::ClientError;
use strandline_tests::{TestBroker, eventually};
use strandline_wire::ErrorCode;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn records_survive_a_clean_restart_and_a_lost_marker() {
    let mut broker = TestBroker::start(&[]).await;
    let mut client = broker.client().await;
    client
        .create_topic("t", 1, &[("internal.segment.bytes", "20000")])
        .await
        .unwrap();
    let values = produce(&mut client, "t", 300, 200).await;
    broker.stop().await;
    broker.resume().await;
    assert_eq!(read_all(&mut broker.client().await, "t", 0).await, values);
    broker.stop().await;
    std::fs::remove_file(broker.path().join("log/.kafka_cleanshutdown")).unwrap();
    broker.resume().await;
    assert_eq!(read_all(&mut broker.client().await, "t", 0).await, values);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_removes_whole_segments() {
    let mut broker = TestBroker::start(&[("log.retention.check.interval.ms", "50")]).await;
    let mut client = broker.client().await;
    let configs = [
        ("internal.segment.bytes", "20000"),
        ("retention.bytes", "50000"),
        ("retention.ms", "-1"),
    ];
    client.create_topic("t", 1, &configs).await.unwrap();
    let values = produce(&mut client, "t", 1000, 200).await;
    let client = tokio::sync::Mutex::new(client);
    let start = eventually("the log start moves up", || async {
        let start = client
            .lock()
            .await
            .list_offset("t", 0, EARLIEST)
            .await
            .unwrap();
        (start > 600).then_some(start)
    })
    .await;
    let mut client = client.into_inner();
    assert_eq!(
        read_all(&mut client, "t", start).await,
        values[start as usize..]
    );
    broker.stop().await;
    broker.resume().await;
    let mut client = broker.client().await;
    assert!(
        client.list_offset("t", 0, EARLIEST).await.unwrap() >= start,
        "deleted records stay deleted"
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_produces_and_keeps_reads() {
    let mut broker = TestBroker::start(&[]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &[]).await.unwrap();
    let values = produce(&mut client, "t", 10, 200).await;
    broker.stop().await;
    broker.set_property("strandline.log.dir.reserved.bytes", "9000000000000000");
    broker.resume().await;
    let mut client = broker.client().await;
    let record = RecordToWrite {
        value: Some("x".into()),
        ..RecordToWrite::default()
    };
    let refused = client.produce("t", 0, Compression::None, &[record]).await;
    match refused {
        Err(ClientError::Broker {
            code: ErrorCode::KafkaStorageError,
            message: Some(message),
            ..
        }) => {
            assert!(message.contains("reserve"), "{message}");
        }
        unexpected => panic!("{unexpected:?}"),
    }
    assert_eq!(read_all(&mut client, "t", 0).await, values);
    broker.stop().await;
    broker.set_property("strandline.log.dir.reserved.bytes", "0");
    broker.resume().await;
    let mut client = broker.client().await;
    assert_eq!(read_all(&mut client, "t", 0).await, values);
    produce(&mut client, "t", 10, 200).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_codec_is_accepted_and_kept() {
    let mut broker = TestBroker::start(&[]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &[]).await.unwrap();
    let codecs = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    for codec in codecs {
        let records: Vec<RecordToWrite> = (0..50)
            .map(|i| RecordToWrite {
                timestamp: 1_700_000_000_000,
                value: Some(format!("{codec:?} {i}").into()),
                ..RecordToWrite::default()
            })
            .collect();
        client.produce("t", 0, codec, &records).await.unwrap();
    }
    let values = read_all(&mut client, "t", 0).await;
    assert_eq!(values.len(), 250);
    assert_eq!(values[249], "Zstd 49");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_led_when_its_creation_is_answered() {
    let mut broker = TestBroker::start(&[]).await;
    let mut client = broker.client().await;
    for number in 0..200 {
        let name = format!("t{number}");
        client.create_topic(&name, 1, &[]).await.unwrap();
        produce(&mut client, &name, 10, 50).await;
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_answers_as_soon_as_there_is_something() {
    let mut broker = TestBroker::start(&[]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &[]).await.unwrap();
    let mut waiting = broker.client().await;
    let mut poll = tokio::spawn(async move {
        waiting
            .fetch("t", 0, 0, 1000, Duration::from_secs(30))
            .await
    });
    let early = tokio::time::timeout(Duration::from_millis(500), &mut poll).await;
    assert!(early.is_err(), "there is nothing yet: {early:?}");
    produce(&mut client, "t", 10, 50).await;
    let answered = tokio::time::timeout(Duration::from_secs(2), poll).await;
    let answered = answered.expect("an answer long before the request's limit of 30 s");
    assert_eq!(answered.unwrap().unwrap().len(), 10);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_on_the_disk_is_an_error_and_never_data() {
    let mut broker = TestBroker::start(&[]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &[]).await.unwrap();
    let values = produce(&mut client, "t", 100, 200).await;
    let path = broker.path().join("log/t-0/00000000000000000000.log");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2 + 100;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let mut read = Vec::new();
    let failed = loop {
        let offset = read.len() as i64;
        match client.fetch("t", 0, offset, 100_000, Duration::ZERO).await {
            Ok(records) => read.extend(records.into_iter().filter_map(|r| r.value)),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(
            failed,
            ClientError::Broker {
                code: ErrorCode::CorruptMessage,
                ..
            }
        ),
        "{failed:?}"
    );
    assert_eq!(read, values[..50], "what comes before it is served");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_spread_over_the_log_directories_and_found_again() {
    let directory = tempfile::tempdir().unwrap();
    let directories: Vec<_> = ["a", "b"].map(|n| directory.path().join(n)).into();
    let log_dirs = format!("{},{}", directories[0].display(), directories[1].display());
    let mut broker = TestBroker::start(&[("log.dirs", &log_dirs)]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 4, &[]).await.unwrap();
    let values = produce(&mut client, "t", 100, 200).await;
    let partitions = |directory: &std::path::PathBuf| {
        let entries = std::fs::read_dir(directory).unwrap().flatten();
        let names = entries.map(|e| e.file_name().into_string().unwrap());
        names.filter(|n| n.starts_with("t-")).count()
    };
    assert_eq!(
        directories.iter().map(partitions).collect::<Vec<_>>(),
        [2, 2]
    );
    broker.stop().await;
    broker.resume().await;
    assert_eq!(read_all(&mut broker.client().await, "t", 0).await, values);
    broker.stop().await;
}
