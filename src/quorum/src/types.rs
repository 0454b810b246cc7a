//! openraft's type parameters, bound once.

use std::io::Cursor;

use serde::{Deserialize, Serialize};
use strandline_metadata::{MetadataRecord, RecordBatchError, decode_records, encode_records};
use uuid::Uuid;

/// Names a member by its metadata directory, not by `node.id`: a node whose disk was replaced is another member, which
/// has forgotten the old member's promises and must not vote in its name.
pub(crate) type NodeId = u64;

/// A member as the others see it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// `node.id`
    pub node_id: i32,
    /// `directory.id` of its metadata directory, by which operators name a voter.
    pub directory_id: Uuid,
    /// `host:port` of its controller listener; empty for a broker that is no controller.
    pub address: String,
}

/// One entry's payload: encoded metadata records, all applied or none.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Proposal {
    /// Index of the last change that the decision knew. If another change came in between (an entry of an older leader,
    /// or one that timed out and was committed all the same), this entry changes nothing.
    pub based_on: u64,
    /// See [`Proposal::new`].
    records: Vec<u8>,
}

/// The first byte of a proposal that is bound to a term. Proposals of older versions begin with the format of their
/// records, which is another number.
const IN_TERM: u8 = 0xff;

impl Proposal {
    /// A decision of the leader of `term`. The decision is void in the log of any other term: the leader may have lost its office and
    /// won it again between the decision and the write.
    pub fn new(based_on: u64, term: u64, records: &[MetadataRecord]) -> Self {
        let mut bytes = vec![IN_TERM];
        bytes.extend_from_slice(&term.to_be_bytes());
        bytes.extend(encode_records(records));
        Self {
            based_on,
            records: bytes,
        }
    }

    /// Whether the decision holds in an entry of `term`.
    pub fn is_of(&self, term: u64) -> bool {
        self.parts().0.is_none_or(|own| own == term)
    }

    pub fn records(&self) -> Result<Vec<MetadataRecord>, RecordBatchError> {
        decode_records(self.parts().1)
    }

    fn parts(&self) -> (Option<u64>, &[u8]) {
        if let Some((&IN_TERM, rest)) = self.records.split_first()
            && let Some((term, records)) = rest.split_first_chunk()
        {
            return (Some(u64::from_be_bytes(*term)), records);
        }
        (None, &self.records)
    }
}

/// The outcome of applying an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Applied {
    Done,
    /// The entry was decided without knowledge of the change before it, or in another term.
    Stale,
}

openraft::declare_raft_types!(
    pub TypeConfig:
        D = Proposal,
        R = Applied,
        NodeId = NodeId,
        Node = Member,
        SnapshotData = Cursor<Vec<u8>>,
);

pub(crate) type Raft = openraft::Raft<TypeConfig>;
pub(crate) type Entry = openraft::Entry<TypeConfig>;
pub(crate) type LogId = openraft::LogId<NodeId>;
pub(crate) type Vote = openraft::Vote<NodeId>;
pub(crate) type StorageError = openraft::StorageError<NodeId>;
pub(crate) type StoredMembership = openraft::StoredMembership<NodeId, Member>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<NodeId, Member>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_holds_in_its_own_term_only_and_one_of_an_older_version_in_any() {
        let records = vec![MetadataRecord::NextProducerId(7)];
        let new = Proposal::new(5, 3, &records);
        assert!(new.is_of(3) && !new.is_of(2) && !new.is_of(4));
        assert_eq!(new.records().unwrap(), records);
        let old = Proposal {
            based_on: 5,
            records: encode_records(&records),
        };
        assert!(old.is_of(3) && old.is_of(4));
        assert_eq!(old.records().unwrap(), records);
    }
}
