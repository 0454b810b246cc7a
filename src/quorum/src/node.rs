//! This process as a member: it dials the controllers, forms the quorum with them, says that it lives, and answers what
//! others ask. How it joins a quorum that is there is in `voters`.
//!
//! *Forming.* A configured voter whose directory is empty asks all the others who they are. Only when every one of them
//! has answered and none has a history does it begin one, with all their ids; all begin the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use openraft::ServerState;
use strandline_metadata::ClusterImage;
use strandline_metadata::controller::{Command, ControllerContext, Refusal, decide};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Notify, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::alive::{Alive, MAX_SUSPECTS};
use crate::door::Door;
use crate::link::{Handler, Link, RefusedLinks};
use crate::peers::Peers;
use crate::rpc::{
    Committed, Hello, MemberProgress, QuorumDescription, Request, Response, SubmitFailure,
};
use crate::types::{Applied, Member, NodeId, Proposal, Raft};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Between attempts to reach a controller.
const REDIAL: Duration = Duration::from_millis(100);
/// Between looks at whether every controller is dialled.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const HELLO_TIMEOUT: Duration = Duration::from_secs(2);
/// A link whose peer leaves this unanswered is dialled anew.
const ALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// Between looks at whether all voters are connected.
const FORM_RETRY: Duration = Duration::from_millis(200);
/// A leader whose majority has been silent for longer does not act as leader.
const QUORUM_SILENCE: Duration = Duration::from_millis(1500);
/// How long a new leader may take to apply the entries that earlier leaders committed.
const TAKE_OVER: Duration = Duration::from_secs(10);
/// How long a majority may take to write an entry before its fate counts as unknown.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a process with this `node.id` is refused.
fn taken(node_id: i32, place: &str) -> String {
    format!(
        "node.id: {node_id} belongs to a process that runs, {place}; stop that process, or give this one a node.id of its own"
    )
}

pub(crate) struct Node {
    pub raft: Raft,
    pub id: NodeId,
    pub member: Member,
    pub incarnation: Uuid,
    /// `controller.quorum.voters`: address by `node.id`.
    pub voters: BTreeMap<i32, String>,
    pub peers: Arc<Peers>,
    pub image: watch::Receiver<Arc<ClusterImage>>,
    pub context: ArcSwap<ControllerContext>,
    /// Say at once how far this process has applied.
    pub announce: Notify,
    /// Decisions are made one after the other, each against the image that the one before led to.
    pub deciding: Mutex<()>,
    pub joining: Mutex<()>,
    /// Operators change one voter at a time.
    pub changing_voter: Mutex<()>,
    /// When an active controller answered last.
    pub last_contact: StdMutex<Instant>,
    /// The pause between two signs of life.
    pub speaks_every: Duration,
    /// Leaders, by `node.id`, that leave a fetch of this process unanswered.
    pub suspects: StdMutex<BTreeSet<i32>>,
    /// Whether controllers let this process in.
    pub door: Door,
    pub refused_links: Arc<RefusedLinks>,
    /// Its log directories belong to a cluster, though its metadata is new: no quorum is founded with this process.
    pub remembers: bool,
    pub stop: CancellationToken,
}

impl Node {
    fn handler(self: &Arc<Self>) -> Handler {
        let node = self.clone();
        let accepted: Arc<StdMutex<Option<(Hello, u64)>>> = Arc::default();
        Arc::new(move |link: &Link, request: Request| {
            let (node, link, accepted) = (node.clone(), link.clone(), accepted.clone());
            Box::pin(async move {
                match request {
                    Request::Hello(hello) => {
                        if let Some(reason) = node.refuses(&hello) {
                            return Response::Refused(reason);
                        }
                        let number = node.peers.accepted(&hello, link.clone());
                        let again = accepted
                            .lock()
                            .expect("no holder panics")
                            .replace((hello.clone(), number));
                        if again.is_none() {
                            let node = node.clone();
                            tokio::spawn(async move {
                                link.closed().await;
                                node.peers.ended(&hello, number);
                            });
                        }
                        Response::Hello(node.hello().await)
                    }
                    other => node.answer(other).await,
                }
            })
        })
    }

    /// The reason why a process stays outside: another one that lives has its `node.id`.
    fn refuses(&self, hello: &Hello) -> Option<String> {
        let node_id = hello.member.node_id;
        if node_id == self.member.node_id && hello.incarnation != self.incarnation {
            let place = format!("the controller at {}", self.member.address);
            return Some(taken(node_id, &place));
        }
        self.rival(node_id, hello.incarnation)
    }

    fn rival(&self, node_id: i32, incarnation: Uuid) -> Option<String> {
        let place = self.peers.rival(node_id, incarnation)?;
        Some(taken(node_id, &place))
    }

    async fn hello(&self) -> Hello {
        Hello {
            id: self.id,
            member: self.member.clone(),
            incarnation: self.incarnation,
            initialized: self.remembers || self.raft.is_initialized().await.unwrap_or(true),
        }
    }

    async fn answer(&self, request: Request) -> Response {
        match request {
            Request::Hello(_) => Response::Refused("introduced already".into()),
            Request::Alive(alive) => {
                self.peers.heard(&alive);
                Response::Alive {
                    leads: self.leads_with_majority(),
                }
            }
            Request::Append(rpc) => Response::Append(self.raft.append_entries(rpc).await),
            Request::Vote(rpc) => Response::Vote(self.raft.vote(rpc).await),
            Request::Snapshot(rpc) => Response::Snapshot(self.raft.install_snapshot(rpc).await),
            Request::Join(id, member) => Response::Join(self.admit(id, member).await),
            Request::Submit(command) => Response::Submit(self.decide(*command).await),
            Request::Describe => Response::Describe(self.describe()),
            Request::ChangeVoter(change) => Response::ChangeVoter(self.change_voter(change).await),
        }
    }

    pub fn leads(&self) -> bool {
        self.raft.metrics().borrow().state == ServerState::Leader
    }

    pub fn leads_with_majority(&self) -> bool {
        let metrics = self.raft.metrics().borrow().clone();
        metrics.state == ServerState::Leader
            && metrics
                .millis_since_quorum_ack
                .is_some_and(|ms| ms <= QUORUM_SILENCE.as_millis() as u64)
    }

    /// Decides about a command and commits its records, if this process leads.
    ///
    /// Not cancel safe in effect: a caller that goes away may still have its records committed.
    pub async fn decide(&self, command: Command) -> Result<Committed, SubmitFailure> {
        self.decide_in(None, command).await
    }

    /// The same, in `term` only, where one is given.
    pub async fn decide_in(
        &self,
        term: Option<u64>,
        command: Command,
    ) -> Result<Committed, SubmitFailure> {
        let _turn = self.deciding.lock().await;
        let current = self.take_over().await?;
        if term.is_some_and(|term| term != current) {
            return Err(SubmitFailure::NotLeader);
        }
        if let Command::RegisterBroker(new) | Command::RegisterWithReplicas(new, _) = &command
            && let Some(reason) = self.rival(new.id.0, new.incarnation)
        {
            return Err(SubmitFailure::Refused(Refusal::DuplicateBroker(reason)));
        }
        let image = self.image.borrow().clone();
        let context = self.context.load_full();
        let decision = decide(&image, &context, command).map_err(SubmitFailure::Refused)?;
        let mut index = image.applied_index;
        if !decision.records.is_empty() {
            let proposal = Proposal::new(image.changed_index, current, &decision.records);
            let unknown = |e: &dyn std::fmt::Display| SubmitFailure::Unknown(e.to_string());
            let writing = self.raft.client_write(proposal);
            let written = tokio::time::timeout(COMMIT_TIMEOUT, writing)
                .await
                .map_err(|_| unknown(&"no majority of the controllers answers"))?
                .map_err(|e| unknown(&e))?;
            if written.data == Applied::Stale {
                return Err(SubmitFailure::NotLeader);
            }
            index = written.log_id.index;
        }
        Ok(Committed {
            index,
            answer: decision.answer,
        })
    }

    /// Waits until the entries that earlier leaders committed are applied; returns the term in which this process leads.
    async fn take_over(&self) -> Result<u64, SubmitFailure> {
        let mut metrics = self.raft.metrics();
        let ready = metrics.wait_for(|m| {
            let applied = m.last_applied.map(|l| l.leader_id.term);
            m.state != ServerState::Leader || applied == Some(m.current_term)
        });
        match tokio::time::timeout(TAKE_OVER, ready).await {
            Ok(Ok(m)) if m.state == ServerState::Leader => Ok(m.current_term),
            _ => Err(SubmitFailure::NotLeader),
        }
    }

    pub fn describe(&self) -> Option<QuorumDescription> {
        let metrics = self.raft.metrics().borrow().clone();
        if metrics.state != ServerState::Leader {
            return None;
        }
        let presences = self.peers.presences();
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<NodeId> = membership.voter_ids().collect();
        let matched = metrics.replication.unwrap_or_default();
        let progress = |id: NodeId, member: &Member| {
            let index = if id == self.id {
                metrics.last_log_index
            } else {
                matched.get(&id).copied().flatten().map(|l| l.index)
            };
            let heard = presences
                .newest(member.node_id)
                .map(|p| p.last_heard.elapsed());
            MemberProgress {
                node_id: member.node_id,
                directory_id: member.directory_id,
                address: member.address.clone(),
                log_end_offset: index.map_or(0, |i| i as i64 + 1),
                silent_ms: if id == self.id {
                    Some(0)
                } else {
                    heard.map(|h| h.as_millis() as i64)
                },
            }
        };
        let (mut leading, mut following) = (Vec::new(), Vec::new());
        for (id, member) in membership.nodes() {
            let to = if voters.contains(id) {
                &mut leading
            } else {
                &mut following
            };
            to.push(progress(*id, member));
        }
        leading.sort_by_key(|m| m.node_id);
        following.sort_by_key(|m| m.node_id);
        Some(QuorumDescription {
            leader: self.member.node_id,
            epoch: metrics.current_term as i32,
            high_watermark: metrics.last_applied.map_or(0, |l| l.index as i64 + 1),
            voters: leading,
            observers: following,
        })
    }

    /// Takes links of other members until the process stops.
    pub async fn accept(self: Arc<Self>, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    Link::start(stream, self.handler(), self.refused_links.clone());
                }
                Err(error) => {
                    tracing::warn!(%error, "a link of the quorum was not accepted");
                    tokio::time::sleep(REDIAL).await;
                }
            }
        }
    }

    /// Keeps a link to one controller until `stop`.
    pub async fn dial(self: Arc<Self>, address: String, stop: CancellationToken) {
        loop {
            if let Some(link) = self.connect(&address).await {
                if link.is_closed() {
                    return;
                }
                self.say_alive(&link).await;
                tokio::select! {
                    () = stop.cancelled() => return link.close(),
                    () = link.closed() => {}
                }
                // A link that broke between two processes that live is there again at once.
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(REDIAL) => {}
            }
        }
    }

    /// Keeps links to the controllers that the configuration does not name: those that were added since.
    pub async fn dial_controllers(self: Arc<Self>) {
        let mut metrics = self.raft.metrics();
        let mut dialling: BTreeMap<NodeId, (String, CancellationToken)> = BTreeMap::new();
        loop {
            let membership = metrics.borrow_and_update().membership_config.clone();
            let address_of = |id: &NodeId| {
                let member = membership.membership().get_node(id)?;
                Some(member.address.clone()).filter(|a| !a.is_empty())
            };
            dialling.retain(|id, (address, stop)| {
                let stays = address_of(id).as_ref() == Some(address);
                if !stays {
                    stop.cancel();
                }
                stays
            });
            for (id, _) in membership.nodes() {
                let Some(address) = address_of(id) else {
                    continue;
                };
                let known = *id == self.id || self.peers.dialled_to(*id);
                if known || dialling.contains_key(id) {
                    continue;
                }
                let stop = self.stop.child_token();
                tokio::spawn(self.clone().dial(address.clone(), stop.clone()));
                dialling.insert(*id, (address, stop));
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                changed = metrics.wait_for(|m| m.membership_config != membership) => {
                    if changed.is_err() {
                        return;
                    }
                }
                // A configured controller that is not there yet may be one of the members.
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }

    /// A link that is closed at once leads to this process itself.
    async fn connect(self: &Arc<Self>, address: &str) -> Option<Link> {
        let connecting = TcpStream::connect(address);
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, connecting)
            .await
            .ok()?
            .ok()?;
        let link = Link::start(stream, self.handler(), self.refused_links.clone());
        let hello = Request::Hello(self.hello().await);
        match link.call(hello, HELLO_TIMEOUT).await {
            Ok(Response::Hello(other)) if other.id == self.id => link.close(),
            Ok(Response::Hello(other)) => {
                self.door.opened();
                self.peers.dialled(address, other, link.clone());
            }
            answer => {
                if let Ok(Response::Refused(reason)) = answer {
                    self.door.refused(reason);
                }
                link.close();
                return None;
            }
        }
        Some(link)
    }

    async fn say_alive(&self, link: &Link) {
        let alive = Alive {
            node_id: self.member.node_id,
            incarnation: self.incarnation,
            applied_index: self.image.borrow().applied_index,
            suspects: self.suspects().iter().take(MAX_SUSPECTS).copied().collect(),
            every_ms: u32::try_from(self.speaks_every.as_millis()).unwrap_or(u32::MAX),
        };
        match link.call(Request::Alive(alive), ALIVE_TIMEOUT).await {
            Ok(Response::Alive { leads: true }) => {
                *self.last_contact.lock().expect("no holder panics") = Instant::now();
            }
            Ok(_) => {}
            // A connection that lost packets for a while is tried again by TCP after pauses that grow; a new one is
            // there as soon as the network is.
            Err(_) => {
                if !link.is_closed() {
                    tracing::info!(peer = ?link.peer(), limit = ?ALIVE_TIMEOUT, "a link of the quorum is silent and is opened anew");
                }
                link.close();
            }
        }
    }

    pub fn suspects(&self) -> MutexGuard<'_, BTreeSet<i32>> {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports to every controller that this process lives, at intervals and whenever there is news.
    pub async fn keep_alive(self: Arc<Self>) {
        loop {
            for link in self.peers.links() {
                let node = self.clone();
                tokio::spawn(async move { node.say_alive(&link).await });
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(self.speaks_every) => {}
                () = self.announce.notified() => {}
            }
        }
    }

    /// Closes every link when raft has ended here, because the process stops or because its disk failed: this process
    /// learns of no change any more, and the others must not count on it.
    pub async fn end_with_raft(self: Arc<Self>) {
        let mut metrics = self.raft.metrics();
        let _ = metrics.wait_for(|m| m.running_state.is_err()).await;
        self.stop.cancel();
        self.peers.close();
    }

    /// Begins the quorum's history together with the other voters, if there is none yet.
    pub async fn form(self: Arc<Self>) {
        loop {
            if self.raft.is_initialized().await.unwrap_or(true) {
                return;
            }
            let changed = self.peers.changed.notified();
            if let Some(members) = self.all_voters() {
                match self.raft.initialize(members).await {
                    Ok(()) => tracing::info!("the metadata quorum is formed"),
                    Err(error) => tracing::debug!(%error, "another voter was faster"),
                }
                return;
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = changed => {}
                () = tokio::time::sleep(FORM_RETRY) => {}
            }
        }
    }

    /// Every configured voter, if all are known and none has a history.
    fn all_voters(&self) -> Option<BTreeMap<NodeId, Member>> {
        let mut members = BTreeMap::from([(self.id, self.member.clone())]);
        for (node_id, address) in &self.voters {
            if *node_id == self.member.node_id {
                continue;
            }
            let hello = self.peers.introduced(address)?;
            if hello.initialized || hello.member.node_id != *node_id {
                return None;
            }
            members.insert(hello.id, hello.member);
        }
        Some(members)
    }
}
