//! The requests that members send to each other, and the responses.

use std::time::Duration;

use openraft::error::{InstallSnapshotError, RaftError};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};
use strandline_metadata::controller::{Answer, Command, Refusal};
use thiserror::Error;
use uuid::Uuid;

use crate::alive::Alive;
use crate::types::{Member, NodeId, TypeConfig};

/// A process that introduces itself. The first request on every link.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub id: NodeId,
    pub member: Member,
    /// The incarnation of the process.
    pub incarnation: Uuid,
    /// The process is part of some quorum's history already.
    pub initialized: bool,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Request {
    Hello(Hello),
    Alive(Alive),
    Append(AppendEntriesRequest<TypeConfig>),
    Vote(VoteRequest<NodeId>),
    Snapshot(InstallSnapshotRequest<TypeConfig>),
    /// To the leader: make this member part of the quorum, as a voter if the leader's configuration names it.
    Join(NodeId, Member),
    /// To the leader: decide and commit.
    Submit(Box<Command>),
    /// To the leader: the state of the quorum and of each member.
    Describe,
    /// To the leader: a controller becomes a voter, or is one no longer.
    ChangeVoter(VoterChange),
}

impl Request {
    /// Whether the answer comes only when a majority has written something, or the leader has made up its mind.
    pub fn waits_for_a_decision(&self) -> bool {
        matches!(
            self,
            Self::Submit(_) | Self::ChangeVoter(_) | Self::Join(..) | Self::Describe
        )
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Response {
    Hello(Hello),
    /// Whether the answering member leads, with a majority behind it.
    Alive {
        leads: bool,
    },
    Append(Result<AppendEntriesResponse<NodeId>, RaftError<NodeId>>),
    Vote(Result<VoteResponse<NodeId>, RaftError<NodeId>>),
    Snapshot(Result<InstallSnapshotResponse<NodeId>, RaftError<NodeId, InstallSnapshotError>>),
    Join(Result<(), String>),
    Submit(Result<Committed, SubmitFailure>),
    Describe(Option<QuorumDescription>),
    ChangeVoter(Result<(), VoterRefusal>),
    /// The request makes no sense here, or now.
    Refused(String),
}

/// The result of a committed command.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Committed {
    /// Applying the metadata up to here shows it.
    pub index: u64,
    pub answer: Answer,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum SubmitFailure {
    Refused(Refusal),
    /// Nothing was proposed: another member leads, or none.
    NotLeader,
    /// Whether the records were committed is not known.
    Unknown(String),
}

/// A voter that an operator adds or removes (`AddRaftVoter`, `RemoveRaftVoter`, KIP-853).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoterChange {
    pub node_id: i32,
    /// `directory.id` of the voter's metadata directory.
    pub directory_id: Uuid,
    pub votes: bool,
    /// How long a controller that is to be added may take to come and to catch up.
    pub timeout: Duration,
}

/// Why the voters stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum VoterRefusal {
    #[error("{0}")]
    Duplicate(String),
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Invalid(String),
    /// Whether the change will still happen is not known.
    #[error("{0}")]
    TimedOut(String),
    #[error("This process does not lead the metadata quorum.")]
    NotLeader,
}

/// Where the members of the quorum stand, as its leader sees it (`DescribeQuorum`).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct QuorumDescription {
    /// `node.id` of the leader.
    pub leader: i32,
    pub epoch: i32,
    /// Exclusive end of the committed entries.
    pub high_watermark: i64,
    pub voters: Vec<MemberProgress>,
    pub observers: Vec<MemberProgress>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MemberProgress {
    pub node_id: i32,
    pub directory_id: Uuid,
    /// `host:port` of its controller listener; empty for a broker that is no controller.
    pub address: String,
    /// Exclusive.
    pub log_end_offset: i64,
    /// Milliseconds since the leader last heard from the member; `None` if it has not yet.
    pub silent_ms: Option<i64>,
}
