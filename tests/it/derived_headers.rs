//! The broker writes the fields of a batch header that derive from its records, whatever a producer claims: a raw
//! producer, or Sarama up to 1.45, whose newest timestamp is always −1. Look-ups by time, retention and the memory of
//! producers rest on these fields.

use bytes::Bytes;
use kafka_protocol::messages as m;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use strandline_tests::TestBroker;
use strandline_wire::ApiKey;
use strandline_wire::batch::{BatchBuilder, BatchHeader, crc32c, split_batches, verify_crc};

use super::*;

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

/// Milliseconds since the epoch.
fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |d| d.as_millis() as i64)
}

/// A batch of an idempotent producer whose header claims `max_timestamp`, under a CRC that fits.
fn batch(codec: Compression, sequence: i32, timestamps: &[i64], max_timestamp: i64) -> Bytes {
    let mut builder = BatchBuilder::new(codec);
    builder.producer_id = 5;
    builder.producer_epoch = 0;
    builder.base_sequence = sequence;
    for timestamp in timestamps {
        builder.push(&RecordToWrite {
            timestamp: *timestamp,
            // Random bytes cannot be compressed, so every batch fills a segment.
            value: Some((0..2000).map(|_| rand::random::<u8>()).collect()),
            ..RecordToWrite::default()
        });
    }
    let mut bytes = builder.build().to_vec();
    bytes[35..43].copy_from_slice(&max_timestamp.to_be_bytes());
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

/// Produces a batch unchanged; returns its base offset.
async fn produce_raw(address: &str, topic: &str, batch: &Bytes) -> i64 {
    let data = PartitionProduceData::default().with_records(Some(batch.clone()));
    let data = TopicProduceData::default()
        .with_name(m::TopicName(topic.to_owned().into()))
        .with_partition_data(vec![data]);
    let request = m::ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![data]);
    let mut connection = strandline_client::Connection::open(address).await.unwrap();
    let response: m::ProduceResponse = connection.call(ApiKey::Produce, 9, &request).await.unwrap();
    let answer = &response.responses[0].partition_responses[0];
    assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
    answer.base_offset
}

#[tokio::test(flavor = "multi_thread")]
async fn times_retention_and_producers_follow_the_records_and_not_the_header_that_came() {
    let mut broker = TestBroker::start(&[("log.retention.check.interval.ms", "50")]).await;
    let address = broker.address();
    let mut client = broker.client().await;
    let properties = [
        ("internal.segment.bytes", "8000"),
        ("retention.ms", "600000"),
    ];
    for codec in CODECS {
        let topic = format!("{codec:?}");
        client.create_topic(&topic, 1, &properties).await.unwrap();
        let (old, fresh) = (now() - 3_600_000, now());
        let written = [
            // Old records that claim to be from the future, then fresh ones that claim to be old or to have no time.
            (vec![old, old + 2, old + 1], i64::MAX),
            (vec![fresh, fresh + 20, fresh + 10], -1),
            (vec![fresh + 30, fresh + 31, fresh + 32], 0),
            (vec![fresh + 40, fresh + 41, fresh + 42], fresh + 41),
            (vec![fresh + 50, fresh + 51, fresh + 52], fresh + 600_000),
        ];
        let mut batches = Vec::new();
        for (number, (timestamps, claim)) in written.iter().enumerate() {
            let sequence = number as i32 * 3;
            let bytes = batch(codec, sequence, timestamps, *claim);
            let at = produce_raw(&address, &topic, &bytes).await;
            assert_eq!(at, i64::from(sequence));
            batches.push(bytes);
        }
        let kept = tokio::sync::Mutex::new(&mut client);
        let earliest = eventually("old records are deleted", || async {
            let mut client = kept.lock().await;
            let earliest = client.list_offset(&topic, 0, EARLIEST).await.unwrap();
            (earliest > 0).then_some(earliest)
        })
        .await;
        assert_eq!(earliest, 3, "{topic}: fresh records are kept");
        for (number, (timestamps, _)) in written.iter().enumerate().skip(1) {
            for (index, timestamp) in timestamps.iter().enumerate() {
                let found = client.list_offset(&topic, 0, *timestamp).await.unwrap();
                let first_as_new = timestamps.iter().position(|t| t >= timestamp);
                let expected = number * 3 + first_as_new.unwrap_or(index);
                assert_eq!(found, expected as i64, "{topic}: {timestamp}");
            }
        }
        let wait = std::time::Duration::from_secs(30);
        let mut offset = 3;
        for (timestamps, claim) in &written[1..] {
            let bytes = client
                .fetch_bytes(&topic, 0, offset, 1 << 20, wait)
                .await
                .unwrap();
            let (at, header): (usize, BatchHeader) = split_batches(&bytes).next().unwrap().unwrap();
            verify_crc(&header, &bytes[at..at + header.size()]).unwrap();
            let newest = timestamps.iter().max().copied();
            assert_eq!(Some(header.max_timestamp), newest, "{topic}: not {claim}");
            assert_eq!(header.base_offset, offset);
            offset = header.end_offset();
        }
        // Retention has run, and with it the expiry of producers: a resend is still recognised.
        for (number, bytes) in batches.iter().enumerate().skip(1) {
            let again = produce_raw(&address, &topic, bytes).await;
            assert_eq!(again, number as i64 * 3, "{topic}: a resend is recognised");
        }
        let end = client.list_offset(&topic, 0, LATEST).await.unwrap();
        assert_eq!(end, 15, "{topic}: nothing is written twice");
    }
    broker.stop().await;
}
