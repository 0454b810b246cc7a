//! openraft's type parameters, bound once.

use std::io::Cursor;

use serde::{Deserialize, Serialize};
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
    pub records: Vec<u8>,
}

/// The outcome of applying an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Applied {
    Done,
    /// The entry was decided without knowledge of the change before it.
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
