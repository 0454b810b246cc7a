//! The handle that the rest of the process holds: `start.rs` opens it, `submit.rs` brings commands to the leader.

mod options;
mod start;
mod submit;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex as StdMutex};
use std::time::Duration;

use strandline_metadata::ClusterImage;
use strandline_metadata::controller::ControllerContext;
use strandline_types::BrokerId;
use thiserror::Error;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use self::start::start;
use self::submit::SUBMIT_TIMEOUT;
use crate::link::CallError;
use crate::node::Node;
use crate::presence::{Presence, Presences};
use crate::rpc::{QuorumDescription, Request, Response, VoterChange, VoterRefusal};

pub use self::options::{ControllerListener, QuorumOptions, SIGN_OF_LIFE};
pub use self::start::is_new;
#[cfg(test)]
pub(crate) use self::start::member_id;
pub use self::submit::{Change, SubmitError};

/// How long a quorum of one may take to lead and apply its log.
const START_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Error)]
pub enum QuorumError {
    #[error("metadata log: {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("metadata quorum: {0}")]
    Raft(String),
}

/// This process's member of the quorum. Raft, its disk and its links have threads of their own, so that load on the
/// listeners for clients delays no heartbeat.
pub struct Quorum {
    node: Arc<Node>,
    threads: StdMutex<Option<Runtime>>,
}

impl Drop for Quorum {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.lock().expect("no holder panics").take() {
            threads.shutdown_background();
        }
    }
}

impl Quorum {
    /// Opens the metadata log, replays it, and begins to find the other members. A quorum of one leads when this returns.
    pub async fn open(options: QuorumOptions) -> Result<Self, QuorumError> {
        let directory = options.directory.clone();
        let io = move |source| QuorumError::Io {
            path: directory.clone(),
            source,
        };
        std::fs::create_dir_all(&options.directory).map_err(&io)?;
        let threads = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("quorum")
            .enable_all()
            .build()
            .map_err(&io)?;
        let alone = options.voters.len() <= 1 && options.founds && !options.remembers;
        let opening = threads.spawn(start(options));
        let node = match opening.await.expect("opening the quorum does not panic") {
            Ok(node) => node,
            Err(error) => {
                threads.shutdown_background();
                return Err(error);
            }
        };
        let quorum = Self {
            node,
            threads: StdMutex::new(Some(threads)),
        };
        if alone {
            quorum.wait_until_leading().await?;
        }
        Ok(quorum)
    }

    /// Waits until this node leads and everything in its log is applied.
    async fn wait_until_leading(&self) -> Result<(), QuorumError> {
        let wait = self.node.raft.wait(Some(START_TIMEOUT));
        let id = self.node.id;
        let leads = wait.metrics(
            |m| {
                m.current_leader == Some(id)
                    && m.last_log_index.is_some()
                    && m.last_applied.map(|l| l.index) == m.last_log_index
            },
            "lead and apply the log",
        );
        leads
            .await
            .map(|_| ())
            .map_err(|e| QuorumError::Raft(e.to_string()))
    }

    /// The image of all metadata that this process has applied.
    pub fn image(&self) -> Arc<ClusterImage> {
        self.node.image.borrow().clone()
    }

    /// Follows the image: every change is seen, possibly several at once.
    pub fn subscribe(&self) -> watch::Receiver<Arc<ClusterImage>> {
        self.node.image.clone()
    }

    /// Sets the settings that decisions of this process need beside the image.
    pub fn set_context(&self, context: ControllerContext) {
        self.node.context.store(Arc::new(context));
    }

    /// `node.id` of the leader and its term; −1 while there is no leader.
    pub fn leader(&self) -> (i32, i32) {
        let metrics = self.node.raft.metrics().borrow().clone();
        let leader = metrics.current_leader.and_then(|id| {
            let node = metrics.membership_config.membership().get_node(&id)?;
            Some(node.node_id)
        });
        (leader.unwrap_or(-1), metrics.current_term as i32)
    }

    /// The threads of the quorum, for work that must not wait behind clients.
    pub fn threads(&self) -> tokio::runtime::Handle {
        let threads = self.threads.lock().expect("no holder panics");
        let threads = threads.as_ref().expect("taken only when dropped");
        threads.handle().clone()
    }

    /// Whether this process is the active controller.
    pub fn is_active_controller(&self) -> bool {
        self.node.leads()
    }

    /// Where all members stand, asked of the leader.
    pub async fn describe(&self) -> Option<QuorumDescription> {
        if let Some(own) = self.node.describe() {
            return Some(own);
        }
        let leader = self.node.raft.metrics().borrow().current_leader?;
        let link = self.node.peers.link_to(leader)?;
        match link.call(Request::Describe, Duration::from_secs(5)).await {
            Ok(Response::Describe(description)) => description,
            _ => None,
        }
    }

    /// Adds or removes a voter, asked of the leader. Returns when the quorum works with the change.
    ///
    /// Not cancel safe in effect: a caller that goes away may still have the voters changed.
    pub async fn change_voter(&self, change: VoterChange) -> Result<(), VoterRefusal> {
        let leader = self.node.raft.metrics().borrow().current_leader;
        let leader = leader.ok_or(VoterRefusal::NotLeader)?;
        if leader == self.node.id {
            return self.node.change_voter(change).await;
        }
        let link = self.node.peers.link_to(leader);
        let link = link.ok_or(VoterRefusal::NotLeader)?;
        let patience = change.timeout + SUBMIT_TIMEOUT;
        match link.call(Request::ChangeVoter(change), patience).await {
            Ok(Response::ChangeVoter(result)) => result,
            Err(CallError::NotSent) => Err(VoterRefusal::NotLeader),
            _ => {
                let reason = "the active controller did not answer";
                Err(VoterRefusal::TimedOut(reason.into()))
            }
        }
    }

    /// Processes whose links or reports this controller has seen, itself included.
    pub fn presences(&self) -> Presences {
        let mut presences = self.node.peers.presences();
        let own = Presence {
            applied_index: self.image().applied_index,
            suspects: self.node.suspects().clone(),
            speaks_every: Some(self.node.speaks_every),
            ..Presence::new(self.node.incarnation, String::new())
        };
        presences.is(self.node.member.node_id, own);
        presences
    }

    /// Notes whether a leader leaves a fetch of this process unanswered; the controllers are told at once of a new suspicion.
    pub fn suspect(&self, leader: BrokerId, is_silent: bool) {
        let mut suspects = self.node.suspects();
        let changed = if is_silent {
            suspects.insert(leader.0)
        } else {
            suspects.remove(&leader.0)
        };
        drop(suspects);
        if changed && is_silent {
            self.announce();
        }
    }

    /// Voters that are not connected to this process, each with its address.
    pub fn missing_voters(&self) -> Vec<String> {
        let membership = self.node.raft.metrics().borrow().membership_config.clone();
        let membership = membership.membership();
        let mut missing = Vec::new();
        for id in membership.voter_ids().filter(|id| *id != self.node.id) {
            if let Some(voter) = membership.get_node(&id)
                && self.node.peers.link_to(id).is_none()
            {
                missing.push(format!("{} at {}", voter.node_id, voter.address));
            }
        }
        if membership.voter_ids().next().is_none() {
            // There is no quorum yet: the configuration names the voters.
            let own = self.node.member.node_id;
            let named = self.node.voters.iter().filter(|(id, _)| **id != own);
            let unknown = named.filter(|(_, a)| !self.node.peers.is_connected(a));
            missing.extend(unknown.map(|(id, address)| format!("{id} at {address}")));
        }
        missing
    }

    /// Returns the reason when the controllers refuse this process: another one that lives has its `node.id`.
    pub async fn refused(&self) -> String {
        self.node.door.shut().await
    }

    /// Returns when a process connected, disconnected, or reported its applied index.
    pub async fn presences_changed(&self) {
        self.node.peers.changed.notified().await;
    }

    /// Reports to the controllers now that this process lives, and its applied index.
    pub fn announce(&self) {
        self.node.announce.notify_one();
        self.node.peers.changed.notify_waiters();
    }

    /// How long ago an active controller answered this process.
    pub fn controller_silence(&self) -> Duration {
        if self.node.leads_with_majority() {
            return Duration::ZERO;
        }
        self.node
            .last_contact
            .lock()
            .expect("no holder panics")
            .elapsed()
    }

    #[cfg(test)]
    pub(crate) fn raft(&self) -> &crate::types::Raft {
        &self.node.raft
    }

    /// Returns when this member must stop: its disk has failed, its log or snapshot is damaged, or another process has
    /// taken its `node.id`. From then on the
    /// member is part of no quorum, and the process should end.
    pub async fn failed(&self) -> String {
        let mut metrics = self.node.raft.metrics();
        let ended = async {
            let stopped = metrics.wait_for(|m| m.running_state.is_err()).await;
            let reason = stopped.ok().and_then(|m| m.running_state.clone().err());
            reason.map_or_else(
                || "the member of the metadata quorum has ended".to_owned(),
                |error| format!("metadata quorum: {error}"),
            )
        };
        tokio::select! {
            reason = ended => reason,
            reason = self.refused() => reason,
        }
    }

    /// Leaves the quorum and ends every link.
    pub async fn shutdown(&self) {
        self.node.stop.cancel();
        if let Err(error) = self.node.raft.shutdown().await {
            tracing::warn!(%error, "the quorum did not stop cleanly");
        }
        self.node.peers.close();
    }
}
