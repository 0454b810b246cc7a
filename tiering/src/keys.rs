//! Names in the bucket. A key holds the topic's id, never its name, and the attempt's id, so none is written twice.
//!
//! `<prefix>/segments/<topic id>/<partition>/<base offset>-<leader epoch>-<attempt>.{log,side}`. The topic id is random,
//! which spreads the load over the store's partitions; the charset is `[0-9a-z./-]`.

use object_store::path::Path;
use strandline_types::{
    LeaderEpoch, Offset, RemoteLogSegmentId, RemoteLogSegmentMetadata, TopicId, TopicIdPartition,
};
use uuid::Uuid;

const SEGMENTS: &str = "segments";

/// Which of a segment's two objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// The segment's bytes.
    Log,
    /// The side object: see [`crate::side`].
    Side,
}

/// The bucket's part that belongs to this cluster.
#[derive(Clone, Debug)]
pub struct KeySpace {
    prefix: Path,
}

/// A key read back from a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParsedKey {
    pub partition: TopicIdPartition,
    pub base_offset: Offset,
    pub leader_epoch: LeaderEpoch,
    pub id: RemoteLogSegmentId,
    pub kind: ObjectKind,
}

impl KeySpace {
    pub fn new(prefix: &str) -> Self {
        Self {
            prefix: Path::from(prefix),
        }
    }

    pub fn object(&self, segment: &RemoteLogSegmentMetadata, kind: ObjectKind) -> Path {
        let extension = match kind {
            ObjectKind::Log => "log",
            ObjectKind::Side => "side",
        };
        let name = format!(
            "{:020}-{}-{}.{extension}",
            segment.base_offset, segment.leader_epoch, segment.id
        );
        self.topic(segment.partition.topic_id)
            .join(segment.partition.partition.to_string())
            .join(name)
    }

    /// Prefix of everything that belongs to a topic.
    pub fn topic(&self, topic: TopicId) -> Path {
        self.all_segments().join(topic.to_string())
    }

    /// Prefix of every segment of the cluster.
    pub fn all_segments(&self) -> Path {
        self.prefix.clone().join(SEGMENTS)
    }

    /// An object beside the segments.
    pub fn named(&self, name: &str) -> Path {
        self.prefix.clone().join(name)
    }

    /// Prefix of the objects that probes leave when they cannot delete them.
    pub fn all_probes(&self) -> Path {
        self.prefix.clone().join("probe")
    }

    /// A name for a probe object that no segment can have.
    pub fn probe(&self) -> Path {
        self.all_probes().join(Uuid::new_v4().simple().to_string())
    }

    /// Reads a key; `None` for names that this version did not make.
    pub fn parse(&self, key: &Path) -> Option<ParsedKey> {
        let mut parts = key.prefix_match(&self.all_segments())?;
        let topic_id = TopicId(Uuid::try_parse(parts.next()?.as_ref()).ok()?);
        let partition = parts.next()?.as_ref().parse().ok()?;
        let name = parts.next()?;
        let (stem, extension) = name.as_ref().rsplit_once('.')?;
        let mut fields = stem.split('-');
        let base_offset = fields.next()?.parse().ok()?;
        let leader_epoch = LeaderEpoch(fields.next()?.parse().ok()?);
        let id = RemoteLogSegmentId(Uuid::try_parse(fields.next()?).ok()?);
        let kind = match extension {
            "log" => ObjectKind::Log,
            "side" => ObjectKind::Side,
            _ => return None,
        };
        let partition = TopicIdPartition {
            topic_id,
            partition,
        };
        parts.next().is_none().then_some(ParsedKey {
            partition,
            base_offset,
            leader_epoch,
            id,
            kind,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::tests::remote_segment;

    #[test]
    fn keys_come_back_from_a_listing_and_foreign_names_do_not() {
        let keys = KeySpace::new("a/b");
        let segment = remote_segment(1234, 2000);
        for kind in [ObjectKind::Log, ObjectKind::Side] {
            let parsed = keys.parse(&keys.object(&segment, kind)).unwrap();
            assert_eq!((parsed.id, parsed.kind), (segment.id, kind));
            assert_eq!(
                (parsed.partition, parsed.base_offset),
                (segment.partition, 1234)
            );
        }
        for foreign in ["a/b/segments/x/0/1-2-3.log", "c/segments", "a/b/probe/123"] {
            assert_eq!(keys.parse(&Path::from(foreign)), None, "{foreign}");
        }
    }
}
