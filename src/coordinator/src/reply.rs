//! Requests to a coordinator and its replies, independent of any wire version.

use bytes::Bytes;
use strandline_wire::ErrorCode;

use crate::classic::GroupState;
use crate::record::OffsetAndMetadata;

/// The member that sends a request.
#[derive(Clone, Debug, Default)]
pub struct MemberIdentity {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub generation: i32,
}

#[derive(Clone, Debug)]
pub struct JoinRequest {
    pub group: String,
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    pub protocol_type: String,
    pub protocols: Vec<(String, Bytes)>,
    /// From version 4 on, the coordinator first answers a new dynamic member with its id.
    pub require_known_member_id: bool,
    /// Random part of a new member's id; the caller brings the randomness.
    pub new_member_suffix: String,
}

#[derive(Clone, Debug)]
pub struct SyncRequest {
    pub group: String,
    pub member: MemberIdentity,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    /// The leader's assignments, one for each member; empty in the requests of other members.
    pub assignments: Vec<(String, Bytes)>,
}

#[derive(Clone, Debug)]
pub struct LeaveMember {
    pub member_id: String,
    pub instance_id: Option<String>,
}

#[derive(Clone, Debug)]
pub struct CommitPartition {
    pub topic: String,
    pub partition: i32,
    pub offset: OffsetAndMetadata,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub metadata: Bytes,
}

/// An answer to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Join {
        error: ErrorCode,
        generation: i32,
        protocol_type: Option<String>,
        protocol: Option<String>,
        leader: String,
        member_id: String,
        /// The members of the group; empty in the answers to members that do not lead.
        members: Vec<JoinedMember>,
    },
    Sync {
        error: ErrorCode,
        protocol_type: Option<String>,
        protocol: Option<String>,
        assignment: Bytes,
    },
    Heartbeat(ErrorCode),
    /// The results, in the order of the request.
    Leave {
        error: ErrorCode,
        members: Vec<ErrorCode>,
    },
    /// The error codes, in the order of the request.
    OffsetCommit(Vec<ErrorCode>),
    Delete(ErrorCode),
    /// The group's error, then each partition's in the order of the request.
    OffsetDelete(ErrorCode, Vec<ErrorCode>),
}

impl Reply {
    pub(crate) fn join_error(error: ErrorCode, member_id: &str) -> Self {
        Self::Join {
            error,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            member_id: member_id.to_owned(),
            members: Vec::new(),
        }
    }

    pub(crate) fn sync_error(error: ErrorCode) -> Self {
        Self::Sync {
            error,
            protocol_type: None,
            protocol: None,
            assignment: Bytes::new(),
        }
    }
}

#[derive(Clone, Debug)]
pub struct DescribedMember {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub metadata: Bytes,
    pub assignment: Bytes,
}

#[derive(Clone, Debug)]
pub struct DescribedGroup {
    pub state: GroupState,
    pub protocol_type: String,
    pub protocol: String,
    pub members: Vec<DescribedMember>,
}

#[derive(Clone, Debug)]
pub struct ListedGroup {
    pub group: String,
    pub protocol_type: String,
    pub state: GroupState,
}

impl JoinRequest {
    /// Bytes that a group keeps of the request.
    pub(crate) fn bytes(&self) -> usize {
        let texts = self.client_id.len() + self.client_host.len() + self.member_id.len();
        let protocols = self.protocols.iter();
        let protocols = protocols.map(|(name, metadata)| name.len() + metadata.len());
        texts + protocols.sum::<usize>()
    }
}

impl SyncRequest {
    /// Bytes that a group keeps of the request.
    pub(crate) fn bytes(&self) -> usize {
        let assignments = self.assignments.iter();
        let assignments = assignments.map(|(id, assignment)| id.len() + assignment.len());
        assignments.sum()
    }
}
