//! Where a position in a partition is in a mirror of that partition: the same records in the same order, under other offsets.
//!
//! Offsets differ where the mirror began later, or where transactions left gaps. Keys, values, headers and timestamps do not,
//! so a position is looked up by the record that stands there.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use strandline_wire::ErrorCode;
use strandline_wire::batch::Record;
use strandline_wire::special_timestamp::{EARLIEST, LATEST};

use crate::cluster::Cluster;
use crate::consumer::{Consumer, ConsumerOptions, OffsetReset};
use crate::error::ClientError;
use crate::offsets::{Key, list_offsets};

/// How far before a position the last record is looked for, where none stands behind it: markers of transactions may be there.
const LOOK_BACK: i64 = 1000;
/// A partition that gives nothing for so long has come to its end.
const SILENCE: Duration = Duration::from_secs(3);

/// Where a position is in the mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mirrored {
    At(i64),
    /// The record is not in the mirror, or not yet.
    NotThere,
    /// No record is left to look the position up by.
    NothingLeft,
}

/// The offset in `to` of the record that a consumer at `position` in `from` reads next; behind the last one that it has read,
/// where the mirror ends there.
pub async fn mirrored_position(
    from: &Arc<Cluster>,
    key: &Key,
    position: i64,
    to: &Arc<Cluster>,
    mirror: &Key,
) -> Result<Mirrored, ClientError> {
    let (start, end) = bounds(from, key).await?;
    let (mirror_start, mirror_end) = bounds(to, mirror).await?;
    if mirror_start == mirror_end && start == end {
        return Ok(Mirrored::At(mirror_end));
    }
    let position = position.max(start);
    let next = Reader::new(from, key, position, end).next().await?;
    if let Some(next) = &next
        && let Some(offset) = find(from, key, next, to, mirror, mirror_end).await?
    {
        return Ok(Mirrored::At(offset));
    }
    let mut before = Reader::new(from, key, start.max(position - LOOK_BACK), position);
    let mut last = None;
    while let Some(record) = before.next().await? {
        last = Some(record);
    }
    match last {
        Some(last) => {
            let found = find(from, key, &last, to, mirror, mirror_end).await?;
            Ok(found.map_or(Mirrored::NotThere, |offset| Mirrored::At(offset + 1)))
        }
        None if next.is_some() => Ok(Mirrored::NotThere),
        None => Ok(Mirrored::NothingLeft),
    }
}

async fn offset_for(cluster: &Cluster, key: &Key, timestamp: i64) -> Result<i64, ClientError> {
    let asked = BTreeSet::from([key.clone()]);
    let found = list_offsets(cluster, &asked, timestamp).await?;
    let known = found.get(key).map(|(offset, _)| *offset);
    known.ok_or_else(|| ClientError::Broker {
        what: format!("{}-{}", key.0, key.1),
        code: ErrorCode::UnknownTopicOrPartition,
        message: None,
    })
}

async fn bounds(cluster: &Cluster, key: &Key) -> Result<(i64, i64), ClientError> {
    let start = offset_for(cluster, key, EARLIEST).await?;
    Ok((start, offset_for(cluster, key, LATEST).await?))
}

/// The mirror's offset of a record: of those that are equal to it, the one with as many before it.
async fn find(
    from: &Arc<Cluster>,
    key: &Key,
    record: &Record,
    to: &Arc<Cluster>,
    mirror: &Key,
    mirror_end: i64,
) -> Result<Option<i64>, ClientError> {
    let first = offset_for(from, key, record.timestamp).await?;
    let mut before = 0;
    if first >= 0 {
        let mut earlier = Reader::new(from, key, first, record.offset);
        while let Some(other) = earlier.next().await? {
            before += u64::from(is_same(&other, record));
        }
    }
    let first = offset_for(to, mirror, record.timestamp).await?;
    if first < 0 {
        return Ok(None);
    }
    let mut there = Reader::new(to, mirror, first, mirror_end);
    while let Some(other) = there.next().await? {
        if is_same(&other, record) {
            if before == 0 {
                return Ok(Some(other.offset));
            }
            before -= 1;
        }
    }
    Ok(None)
}

fn is_same(a: &Record, b: &Record) -> bool {
    a.timestamp == b.timestamp && a.key == b.key && a.value == b.value && a.headers == b.headers
}

/// The records of a partition from one offset up to another.
struct Reader {
    consumer: Consumer,
    ready: VecDeque<Record>,
    next: i64,
    end: i64,
}

impl Reader {
    fn new(cluster: &Arc<Cluster>, (topic, partition): &Key, from: i64, end: i64) -> Self {
        let options = ConsumerOptions {
            reset: OffsetReset::None,
            // The records exist; a fetch that waits at the end of the log would hold up the next request.
            max_wait: Duration::from_millis(10),
            ..ConsumerOptions::default()
        };
        let consumer = Consumer::assign(
            cluster.clone(),
            topic,
            *partition,
            Some(from),
            EARLIEST,
            options,
        );
        Self {
            consumer,
            ready: VecDeque::new(),
            next: from,
            end,
        }
    }

    async fn next(&mut self) -> Result<Option<Record>, ClientError> {
        if self.ready.is_empty() && self.next < self.end {
            let polled = self.consumer.poll(SILENCE).await?;
            self.ready = polled.into_iter().map(|c| c.record).collect();
        }
        let record = self.ready.pop_front().filter(|r| r.offset < self.end);
        self.next = record.as_ref().map_or(self.end, |r| r.offset + 1);
        Ok(record)
    }
}
