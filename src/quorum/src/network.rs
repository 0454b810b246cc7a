//! openraft's transport over links.
// The errors are openraft's own.
#![allow(clippy::result_large_err)]

use std::io;
use std::sync::Arc;

use openraft::error::{
    InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, Unreachable,
};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};

use crate::peers::Peers;
use crate::rpc::{Request, Response};
use crate::types::{Member, NodeId, TypeConfig};

pub(crate) struct LinkNetwork(pub Arc<Peers>);

/// The way to one member.
pub(crate) struct ToMember {
    peers: Arc<Peers>,
    target: NodeId,
}

impl RaftNetworkFactory<TypeConfig> for LinkNetwork {
    type Network = ToMember;

    async fn new_client(&mut self, target: NodeId, _node: &Member) -> ToMember {
        ToMember {
            peers: self.0.clone(),
            target,
        }
    }
}

type Error<E> = RPCError<NodeId, Member, E>;

impl ToMember {
    async fn call<E: std::error::Error>(
        &self,
        request: Request,
        option: &RPCOption,
    ) -> Result<Response, Error<E>> {
        let Some(link) = self.peers.link_to(self.target) else {
            let reason = io::Error::new(io::ErrorKind::NotConnected, "the member is not connected");
            return Err(RPCError::Unreachable(Unreachable::new(&reason)));
        };
        link.call(request, option.hard_ttl()).await.map_err(|_| {
            let reason = io::Error::new(io::ErrorKind::TimedOut, "the member did not answer");
            RPCError::Network(NetworkError::new(&reason))
        })
    }

    fn remote<T, E: std::error::Error>(&self, result: Result<T, E>) -> Result<T, Error<E>> {
        result.map_err(|e| RPCError::RemoteError(RemoteError::new(self.target, e)))
    }
}

fn unexpected<E: std::error::Error>() -> Error<E> {
    let reason = io::Error::new(io::ErrorKind::InvalidData, "the answer is of another kind");
    RPCError::Network(NetworkError::new(&reason))
}

impl RaftNetwork<TypeConfig> for ToMember {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<NodeId>, Error<RaftError<NodeId>>> {
        match self.call(Request::Append(rpc), &option).await? {
            Response::Append(result) => self.remote(result),
            _ => Err(unexpected()),
        }
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<NodeId>, Error<RaftError<NodeId, InstallSnapshotError>>>
    {
        match self.call(Request::Snapshot(rpc), &option).await? {
            Response::Snapshot(result) => self.remote(result),
            _ => Err(unexpected()),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<NodeId>,
        option: RPCOption,
    ) -> Result<VoteResponse<NodeId>, Error<RaftError<NodeId>>> {
        match self.call(Request::Vote(rpc), &option).await? {
            Response::Vote(result) => self.remote(result),
            _ => Err(unexpected()),
        }
    }
}
