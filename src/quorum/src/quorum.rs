//! The handle that the rest of the process holds.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex as StdMutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use openraft::{Config, ServerState, SnapshotPolicy};
use strandline_metadata::ClusterImage;
use strandline_metadata::controller::{Answer, Command, ControllerContext, Refusal};
use strandline_types::BrokerId;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Mutex, Notify, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::door::Door;
use crate::link::{CallError, RefusedLinks};
use crate::log_store::{LogStore, VOTE};
use crate::network::LinkNetwork;
use crate::node::Node;
use crate::peers::Peers;
use crate::presence::{Presence, Presences};
use crate::rpc::{QuorumDescription, Request, Response, SubmitFailure, VoterChange, VoterRefusal};
use crate::state_machine::{SNAPSHOT, StateMachine};
use crate::storage_file::{read, replace};
use crate::types::{Member, NodeId, Raft};

/// Entries between snapshots.
const SNAPSHOT_EVERY: u64 = 5000;
/// Milliseconds. A follower stands for election when the longest election time-out has passed since the last heartbeat,
/// and after it another, random one: here after 350 to 500 ms.
const HEARTBEAT_MS: u64 = 50;
const ELECTION_MS: std::ops::Range<u64> = 100..250;
/// How long a command may wait for a leader, and its effect for being applied here.
const SUBMIT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a quorum of one may take to lead and apply its log.
const START_TIMEOUT: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_millis(20);
/// The longest pause between two signs of life. Silence is believed after a few of them are missing.
pub const SIGN_OF_LIFE: Duration = Duration::from_millis(100);
/// How long a controller that was replaced may still take to answer.
const LAST_ANSWER: Duration = Duration::from_millis(250);

#[derive(Debug, Error)]
pub enum QuorumError {
    #[error("metadata log: {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("metadata quorum: {0}")]
    Raft(String),
}

/// Why a command was not committed.
#[derive(Debug, Error)]
pub enum SubmitError {
    /// The decision itself refused; nothing was proposed.
    #[error("{0}")]
    Refused(Refusal),
    /// Whether the records were committed is not known.
    #[error("metadata quorum: {0}")]
    Unavailable(String),
}

/// A committed command: the image that shows it, and the answer.
#[derive(Clone, Debug)]
pub struct Change {
    pub image: Arc<ClusterImage>,
    pub answer: Answer,
}

/// The address and socket on which a controller accepts links of other members.
#[derive(Debug)]
pub struct ControllerListener {
    pub listener: std::net::TcpListener,
    /// `host:port` for the others.
    pub address: String,
}

/// The identity, place and settings of this process as a member of the quorum.
#[derive(Debug)]
pub struct QuorumOptions {
    pub directory: PathBuf,
    pub node_id: BrokerId,
    /// The incarnation of this process.
    pub incarnation: Uuid,
    /// `directory.id` of the directory that holds the metadata.
    pub directory_id: Uuid,
    /// Begins the quorum's history, together with `voters`, if there is none yet.
    pub founds: bool,
    /// This node was a member of a cluster, whatever its metadata directory holds: it joins a quorum and founds none.
    pub remembers: bool,
    /// A quorum of one needs none.
    pub listener: Option<ControllerListener>,
    /// `controller.quorum.voters`: address by `node.id`. Empty: this process alone.
    pub voters: BTreeMap<i32, String>,
    /// Further addresses of controllers (`controller.quorum.bootstrap.servers`).
    pub contacts: Vec<String>,
    /// `broker.heartbeat.interval.ms`; signs of life are sent at least every [`SIGN_OF_LIFE`].
    pub heartbeat_interval: Duration,
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

    /// Brings a command to the leader, wherever it is, and waits until its effect is applied here.
    ///
    /// Not cancel safe in effect: a caller that goes away may still have its command committed.
    pub async fn submit(&self, command: Command) -> Result<Change, SubmitError> {
        let deadline = Instant::now() + SUBMIT_TIMEOUT;
        loop {
            match self.submit_once(&command).await {
                Ok(committed) => return self.applied(committed, deadline).await,
                Err(SubmitFailure::Refused(refusal)) => return Err(SubmitError::Refused(refusal)),
                Err(SubmitFailure::Unknown(reason)) => {
                    return Err(SubmitError::Unavailable(reason));
                }
                Err(SubmitFailure::NotLeader) if Instant::now() >= deadline => {
                    let reason = "no controller leads the quorum".to_owned();
                    return Err(SubmitError::Unavailable(reason));
                }
                Err(SubmitFailure::NotLeader) => tokio::time::sleep(RETRY).await,
            }
        }
    }

    /// The term in which this process is the active controller, if it is.
    pub fn office(&self) -> Option<u64> {
        let metrics = self.node.raft.metrics().borrow().clone();
        (metrics.state == ServerState::Leader).then_some(metrics.current_term)
    }

    /// Commits a decision that this process has made as the active controller of `term`. Fails where it is that no longer:
    /// the decision is handed to nobody, because the next controller may know better.
    ///
    /// Not cancel safe in effect: a caller that goes away may still have its command committed.
    pub async fn decide_in_office(
        &self,
        term: u64,
        command: Command,
    ) -> Result<Change, SubmitError> {
        let deadline = Instant::now() + SUBMIT_TIMEOUT;
        match self.node.decide_in(Some(term), command).await {
            Ok(committed) => self.applied(committed, deadline).await,
            Err(SubmitFailure::Refused(refusal)) => Err(SubmitError::Refused(refusal)),
            Err(SubmitFailure::Unknown(reason)) => Err(SubmitError::Unavailable(reason)),
            Err(SubmitFailure::NotLeader) => {
                let reason = format!("this process is not the controller of term {term} any more");
                Err(SubmitError::Unavailable(reason))
            }
        }
    }

    async fn submit_once(&self, command: &Command) -> Result<crate::rpc::Committed, SubmitFailure> {
        let leader = self.node.raft.metrics().borrow().current_leader;
        let leader = leader.ok_or(SubmitFailure::NotLeader)?;
        if leader == self.node.id {
            return self.node.decide(command.clone()).await;
        }
        let link = self.node.peers.link_to(leader);
        let link = link.ok_or(SubmitFailure::NotLeader)?;
        let request = Request::Submit(Box::new(command.clone()));
        // A controller that is silent is replaced. The next one does not know the request.
        let mut metrics = self.node.raft.metrics();
        let replaced = async {
            let another = |id: &NodeId| *id != leader;
            let waiting = metrics.wait_for(|m| m.current_leader.as_ref().is_some_and(another));
            if waiting.await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(LAST_ANSWER).await;
        };
        let answer = tokio::select! {
            answer = link.call(request, SUBMIT_TIMEOUT) => answer,
            () = replaced => Err(CallError::NoAnswer),
        };
        match answer {
            Ok(Response::Submit(result)) => result,
            Ok(_) => Err(SubmitFailure::Unknown("an answer of another kind".into())),
            Err(CallError::NotSent) => Err(SubmitFailure::NotLeader),
            Err(CallError::NoAnswer) => Err(SubmitFailure::Unknown(
                "the controller did not answer".into(),
            )),
        }
    }

    async fn applied(
        &self,
        committed: crate::rpc::Committed,
        deadline: Instant,
    ) -> Result<Change, SubmitError> {
        let mut images = self.subscribe();
        let applied = images.wait_for(|image| image.applied_index >= committed.index);
        let left = deadline.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, applied).await {
            Ok(Ok(image)) => Ok(Change {
                image: image.clone(),
                answer: committed.answer,
            }),
            _ => Err(SubmitError::Unavailable(
                "committed, but not applied here yet".into(),
            )),
        }
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
    pub(crate) fn raft(&self) -> &Raft {
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

/// Runs on the quorum's threads.
async fn start(options: QuorumOptions) -> Result<Arc<Node>, QuorumError> {
    let io = |source| QuorumError::Io {
        path: options.directory.clone(),
        source,
    };
    let raft_error = |e: &dyn std::fmt::Display| QuorumError::Raft(e.to_string());
    let config = Config {
        cluster_name: "strandline".into(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_MS.start,
        election_timeout_max: ELECTION_MS.end,
        install_snapshot_timeout: 5000,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_EVERY),
        max_in_snapshot_log_to_keep: 500,
        ..Config::default()
    };
    let config = Arc::new(config.validate().map_err(|e| raft_error(&e))?);
    let id = member_id(&options.directory).map_err(io)?;
    let (published, image) = watch::channel(Arc::new(ClusterImage::default()));
    let log = LogStore::open(&options.directory).map_err(io)?;
    let machine = StateMachine::open(&options.directory, published).map_err(io)?;
    let peers = Arc::new(Peers::default());
    let network = LinkNetwork(peers.clone());
    let raft = Raft::new(id, config, network, log, machine)
        .await
        .map_err(|e| raft_error(&e))?;
    let (listener, address) = match options.listener {
        Some(controller) => (Some(controller.listener), controller.address),
        None => (None, String::new()),
    };
    let member = Member {
        node_id: options.node_id.0,
        directory_id: options.directory_id,
        address,
    };
    let node = Arc::new(Node {
        raft,
        id,
        member,
        incarnation: options.incarnation,
        voters: options.voters.clone(),
        peers,
        image,
        context: ArcSwap::default(),
        announce: Notify::new(),
        deciding: Mutex::new(()),
        joining: Mutex::new(()),
        changing_voter: Mutex::new(()),
        last_contact: StdMutex::new(Instant::now()),
        speaks_every: options.heartbeat_interval.min(SIGN_OF_LIFE),
        suspects: StdMutex::default(),
        door: Door::new(),
        refused_links: Arc::new(RefusedLinks::new()),
        remembers: options.remembers,
        stop: CancellationToken::new(),
    });
    if let Some(listener) = listener {
        listener
            .set_nonblocking(true)
            .and_then(|()| TcpListener::from_std(listener))
            .map(|listener| tokio::spawn(node.clone().accept(listener)))
            .map_err(io)?;
    }
    let own = options.node_id.0;
    let voters = options.voters.iter().filter(|(id, _)| **id != own);
    let contacts: BTreeSet<String> = voters
        .map(|(_, address)| address.clone())
        .chain(options.contacts)
        .collect();
    for address in contacts {
        tokio::spawn(node.clone().dial(address, node.stop.child_token()));
    }
    if options.founds && !options.remembers {
        tokio::spawn(node.clone().form());
    }
    tokio::spawn(node.clone().join());
    tokio::spawn(node.clone().dial_controllers());
    tokio::spawn(node.clone().keep_voters());
    tokio::spawn(node.clone().end_with_raft());
    tokio::spawn(node.clone().keep_alive());
    Ok(node)
}

/// Whether a directory holds nothing of a quorum's history: no vote, no entry, no snapshot. One that does not exist is new.
pub fn is_new(directory: &Path) -> Result<bool, QuorumError> {
    let io = |source| QuorumError::Io {
        path: directory.to_path_buf(),
        source,
    };
    for name in [VOTE, SNAPSHOT] {
        if !read(&directory.join(name)).map_err(io)?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// This directory's id in the quorum, made at random at its first use.
pub(crate) fn member_id(directory: &Path) -> io::Result<NodeId> {
    let path = directory.join("member-id");
    let bytes = read(&path)?;
    if bytes.is_empty() {
        let id = rand::random_range(1..NodeId::MAX);
        replace(&path, id.to_string().as_bytes())?;
        return Ok(id);
    }
    let text = String::from_utf8_lossy(&bytes);
    text.trim().parse().map_err(|_| {
        let text = format!("{} is damaged", path.display());
        io::Error::new(io::ErrorKind::InvalidData, text)
    })
}
