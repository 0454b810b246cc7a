//! A member of a classic group.

use bytes::Bytes;
use strandline_types::MonotonicMs;

use crate::outcome::Token;
use crate::reply::JoinRequest;

/// Bytes of a member, but for its texts, its metadata and its assignment.
const MEMBER_BYTES: usize = 500;

#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub id: String,
    /// Static membership (KIP-345).
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// Protocols in the member's order of preference.
    pub protocols: Vec<(String, Bytes)>,
    pub assignment: Bytes,
    /// The member has sent JoinGroup and waits for the generation.
    pub awaiting_join: Option<Token>,
    /// The member has sent SyncGroup and waits for its assignment.
    pub awaiting_sync: Option<Token>,
    /// Expired at this time unless it waits for an answer.
    pub session_deadline: MonotonicMs,
}

impl Member {
    /// A member that waits for its first generation.
    pub fn joining(id: String, token: Token, request: &JoinRequest, now: MonotonicMs) -> Self {
        Self {
            id,
            instance_id: request.instance_id.clone(),
            client_id: request.client_id.clone(),
            client_host: request.client_host.clone(),
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            session_timeout_ms: request.session_timeout_ms,
            protocols: request.protocols.clone(),
            assignment: Bytes::new(),
            awaiting_join: Some(token),
            awaiting_sync: None,
            session_deadline: now.plus_ms(i64::from(request.session_timeout_ms)),
        }
    }

    pub fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    pub fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| name == protocol)
            .map_or(Bytes::new(), |(_, m)| m.clone())
    }

    /// Bytes that the member keeps.
    pub fn bytes(&self) -> usize {
        let texts = self.id.len() + self.client_id.len() + self.client_host.len();
        let protocols = self.protocols.iter();
        let protocols = protocols.map(|(name, metadata)| name.len() + metadata.len());
        MEMBER_BYTES + texts + protocols.sum::<usize>() + self.assignment.len()
    }

    pub fn heartbeat(&mut self, now: MonotonicMs) {
        self.session_deadline = now.plus_ms(i64::from(self.session_timeout_ms));
    }

    pub fn is_waiting(&self) -> bool {
        self.awaiting_join.is_some() || self.awaiting_sync.is_some()
    }
}
