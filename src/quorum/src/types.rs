//! openraft's type parameters, bound once.

use std::io::Cursor;

use serde::{Deserialize, Serialize};

pub(crate) type NodeId = u64;

/// One entry's payload: encoded metadata records, all applied or none.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Proposal(pub Vec<u8>);

openraft::declare_raft_types!(
    pub TypeConfig:
        D = Proposal,
        R = (),
        NodeId = NodeId,
        Node = openraft::BasicNode,
        SnapshotData = Cursor<Vec<u8>>,
);

pub(crate) type Raft = openraft::Raft<TypeConfig>;
pub(crate) type Entry = openraft::Entry<TypeConfig>;
pub(crate) type LogId = openraft::LogId<NodeId>;
pub(crate) type Vote = openraft::Vote<NodeId>;
pub(crate) type StorageError = openraft::StorageError<NodeId>;
pub(crate) type StoredMembership = openraft::StoredMembership<NodeId, openraft::BasicNode>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<NodeId, openraft::BasicNode>;
