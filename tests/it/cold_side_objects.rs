//! A side object is derived from the segment's batches, whatever the local files beside the log contain. Cold data can
//! be read under every chunk size that is allowed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use strandline_client::Connection;
use strandline_log::{decode_leader_epochs, decode_snapshot};
use strandline_metadata::config::broker_def;
use strandline_tests::TestBroker;
use strandline_tiering::side::{SectionKind, SideObject};
use strandline_wire::batch::split_batches;
use strandline_wire::special_timestamp::LATEST;

use super::cluster::set_configs;
use super::{TIERED, offloaded, produce, read_all, timestamp};

/// All files below a directory whose names end with `.extension`.
fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Checks a side object in the bucket against the log object beside it.
fn check_side_object(side: &Path) {
    let bytes = Bytes::from(std::fs::read(side).unwrap());
    let crc = strandline_tiering::crc32c(&bytes);
    let decoded = SideObject::decode(&bytes, bytes.len() as u64, crc).unwrap();
    let log = Bytes::from(std::fs::read(side.with_extension("log")).unwrap());
    let mut batches = BTreeMap::new();
    let mut epochs = Vec::new();
    for found in split_batches(&log) {
        let (position, header) = found.unwrap();
        batches.insert(position, (header.last_offset(), header.max_timestamp));
        epochs.push(header.partition_leader_epoch);
    }
    let base = side.file_name().unwrap().to_str().unwrap();
    let base: i64 = base.split('-').next().unwrap().parse().unwrap();
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0i64, |all, byte| all << 8 | i64::from(*byte))
    };
    let index = decoded.section(SectionKind::OffsetIndex).unwrap();
    let entries: Vec<_> = index
        .chunks(8)
        .map(|entry| (number(&entry[..4]) + base, number(&entry[4..]) as usize))
        .collect();
    assert!(entries.len() >= 3, "one entry for 4 KiB: {entries:?}");
    for (last_offset, position) in entries {
        let batch = batches.get(&position).expect("a batch begins there");
        assert_eq!(batch.0, last_offset);
    }
    let index = decoded.section(SectionKind::TimeIndex).unwrap();
    let entries: Vec<_> = index
        .chunks(12)
        .map(|entry| (number(&entry[..8]), number(&entry[8..]) + base))
        .collect();
    let newest = batches.values().map(|(_, timestamp)| *timestamp).max();
    assert_eq!(entries.last().map(|(timestamp, _)| *timestamp), newest);
    for (timestamp, offset) in entries {
        let known = batches.values().any(|batch| *batch == (offset, timestamp));
        assert!(known, "{timestamp} at {offset}");
    }
    let lineage = decoded.section(SectionKind::LeaderEpochs).unwrap();
    let lineage = decode_leader_epochs(&lineage).unwrap();
    for epoch in epochs {
        assert!(lineage.iter().any(|entry| entry.epoch.0 == epoch));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_indexes_and_snapshots_are_not_copied() {
    let mut broker = TestBroker::start_tiered(&[]).await;
    let mut client = broker.client().await;
    // Copying begins when the files have been damaged.
    let configs = [TIERED[0], TIERED[1], ("remote.log.copy.disable", "true")];
    client.create_topic("t", 1, &configs).await.unwrap();
    // The first batch is one of an idempotent producer.
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", broker.address())
        .set("enable.idempotence", "true")
        .create()
        .unwrap();
    let payload = vec![b'p'; 200];
    let record = FutureRecord::<(), _>::to("t")
        .partition(0)
        .payload(&payload);
    let record = record.timestamp(timestamp(0));
    producer
        .send(record, Duration::from_secs(30))
        .await
        .unwrap();
    let values = produce(&mut client, "t", 1000, 200).await;
    let local = broker.path().join("log/t-0");
    for extension in ["index", "timeindex", "snapshot"] {
        let mut damaged = files(&local, extension);
        if extension != "snapshot" {
            // The newest index is in use.
            damaged.pop();
        }
        assert!(damaged.len() >= 9, "{extension}: {damaged:?}");
        for path in damaged {
            let file = std::fs::File::options().write(true).open(path).unwrap();
            file.set_len(0).unwrap();
        }
    }
    let mut connection = Connection::open(&broker.address()).await.unwrap();
    let enabled = [("remote.log.copy.disable", "false"), TIERED[2]];
    set_configs(&mut connection, 2, "t", &enabled).await;
    offloaded_behind(&mut client, 900).await;
    let sides = files(&broker.path().join("remote/segments"), "side");
    assert!(sides.len() >= 9, "{sides:?}");
    sides.iter().for_each(|side| check_side_object(side));
    let first = Bytes::from(std::fs::read(&sides[0]).unwrap());
    let crc = strandline_tiering::crc32c(&first);
    let first = SideObject::decode(&first, first.len() as u64, crc).unwrap();
    let snapshot = first.section(SectionKind::ProducerSnapshot).unwrap();
    assert_eq!(decode_snapshot(&snapshot).map(|state| state.len()), Some(1));
    assert_eq!(read_all(&mut client, "t", 1).await, values);
    for number in [0, 1, 57, 500, 899] {
        let found = client.list_offset("t", 0, timestamp(number) + 1).await;
        assert_eq!(found.unwrap(), number as i64 + 2);
    }
    broker.stop().await;
}

/// Waits until nothing below `offset` is local.
async fn offloaded_behind(client: &mut strandline_client::Client, offset: i64) {
    use strandline_wire::special_timestamp::EARLIEST_LOCAL;
    let client = tokio::sync::Mutex::new(client);
    strandline_tests::eventually("segments leave the local disk", || async {
        let mut client = client.lock().await;
        let local = client.list_offset("t", 0, EARLIEST_LOCAL).await.ok()?;
        (local >= offset).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cold_data_is_readable_whatever_the_chunk_size_is_and_was() {
    let mut broker = TestBroker::start_tiered(&[("strandline.remote.chunk.bytes", "100000")]).await;
    let mut client = broker.client().await;
    let configs = [
        ("remote.storage.enable", "true"),
        ("internal.segment.bytes", "900000"),
        ("local.retention.bytes", "1"),
    ];
    client.create_topic("t", 1, &configs).await.unwrap();
    let mut values = Vec::new();
    for chunk_bytes in ["1000000", "5242880", "16777216", "65536"] {
        values.extend(produce(&mut client, "t", 200, 10_000).await);
        broker.stop().await;
        broker.set_property("strandline.remote.chunk.bytes", chunk_bytes);
        broker.resume().await;
        client = broker.client().await;
        let end = client.list_offset("t", 0, LATEST).await.unwrap();
        offloaded_behind(&mut client, end - 90).await;
        assert_eq!(read_all(&mut client, "t", 0).await, values, "{chunk_bytes}");
    }
    broker.stop().await;
    for refused in ["33554432", "1000", "0"] {
        let def = broker_def("strandline.remote.chunk.bytes").unwrap();
        assert!(def.validate(refused).is_err(), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_a_cold_tier_is_refused_while_topics_have_one() {
    let mut broker = TestBroker::start_tiered(&[]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &TIERED).await.unwrap();
    client.create_topic("local", 1, &[]).await.unwrap();
    let values = produce(&mut client, "t", 1000, 200).await;
    offloaded(&mut client, "t").await;
    broker.stop().await;
    broker.set_property("remote.log.storage.system.enable", "false");
    for _ in 0..2 {
        let error = broker.try_resume().await.unwrap_err();
        assert_eq!(
            error,
            "remote.log.storage.system.enable: You have to delete all topics with the property \
             remote.storage.enable=true before disabling tiered storage cluster-wide. List of topics to delete: t"
        );
    }
    broker.set_property("remote.log.storage.system.enable", "true");
    broker.resume().await;
    let mut client = broker.client().await;
    assert_eq!(read_all(&mut client, "t", 0).await, values);
    crate::delete_topic(&broker.address(), "t").await;
    broker.stop().await;
    broker.set_property("remote.log.storage.system.enable", "false");
    broker.resume().await;
    broker.stop().await;
}
