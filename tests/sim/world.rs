//! One replicated partition, simulated: the real controller's decisions, the real leader state, the real lineage and
//! rule of truncation; around them a network that loses, delays and reorders messages, disks that lose unflushed
//! records, and brokers that crash or are fenced although they are healthy. Everything follows from the seed.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use strandline_log::LeaderEpochs;
use strandline_metadata::controller::{
    Answer, Command, ControllerContext, IsrChange, NewTopic, Refusal, Registration, decide,
};
use strandline_metadata::{ClusterImage, PartitionImage};
use strandline_replication::{IsrWish, LeaderState, Leadership, Replica, truncation_offset};
use strandline_types::{
    BrokerEpoch, BrokerId, LeaderEpoch, MonotonicMs, TopicId, TopicIdPartition,
};
use uuid::Uuid;

pub const REPLICAS: i32 = 3;
const LAG_MS: i64 = 100;
const TOPIC: TopicId = TopicId(Uuid::from_u128(7));
const PARTITION: TopicIdPartition = TopicIdPartition {
    topic_id: TOPIC,
    partition: 0,
};

/// A defect that is put in on purpose: each must be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    None,
    /// A leader answers when it has the record itself.
    AcknowledgeBeforeIsr,
    /// A follower truncates its log to its high watermark when it learns of another leader, and nowhere else.
    TruncateToHighWatermark,
    /// A follower never truncates its log.
    NeverTruncate,
    /// A replica vouches for records that it has not flushed.
    VouchUnflushed,
    /// A follower believes its whole log to be committed.
    CommitAtLogEnd,
}

/// A record: the epoch that wrote it, and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub epoch: i32,
    pub value: u32,
}

#[derive(Debug)]
enum Role {
    Leader {
        state: LeaderState,
        /// Values that wait for the high watermark, with their offsets.
        waiting: Vec<(i64, u32)>,
    },
    Follower {
        leader: Option<BrokerId>,
    },
}

#[derive(Debug)]
pub struct Node {
    id: BrokerId,
    up: bool,
    pub log: Vec<Record>,
    flushed: i64,
    pub high_watermark: i64,
    /// The high watermark on disk, which a crash leaves.
    stored_high_watermark: i64,
    epochs: LeaderEpochs,
    leader_epoch: LeaderEpoch,
    broker_epoch: BrokerEpoch,
    applied: u64,
    role: Role,
    /// The fetch whose answer the node still accepts.
    outstanding: Option<u64>,
}

enum Fetched {
    Records(Vec<Record>, i64),
    Diverging(LeaderEpoch, i64),
}

enum Message {
    Image(usize, Arc<ClusterImage>),
    Fetch {
        from: usize,
        to: usize,
        number: u64,
        leader_epoch: LeaderEpoch,
        offset: i64,
        last_epoch: Option<LeaderEpoch>,
        broker_epoch: BrokerEpoch,
    },
    Fetched {
        to: usize,
        number: u64,
        leader_epoch: LeaderEpoch,
        offset: i64,
        result: Fetched,
    },
    AlterIsr(usize, BrokerEpoch, IsrWish),
    /// Refused for good, or the answer was lost.
    IsrRefused(usize, i32),
    IsrUnanswered(usize, i32),
}

pub struct World {
    pub seed: u64,
    random: StdRng,
    mutant: Mutant,
    image: ClusterImage,
    context: ControllerContext,
    pub nodes: Vec<Node>,
    messages: Vec<Message>,
    now: MonotonicMs,
    next_value: u32,
    next_fetch: u64,
    /// The records that clients know to be written: value and offset.
    pub acknowledged: Vec<(u32, i64)>,
    /// How often something happened, so that a test can tell that its seeds reach it.
    pub seen: BTreeMap<&'static str, usize>,
}

impl Node {
    fn end(&self) -> i64 {
        self.log.len() as i64
    }

    /// For a leader: its epoch, the size of its ISR, and the minimum size.
    pub fn leads(&self) -> Option<(i32, usize, usize)> {
        match &self.role {
            Role::Leader { state, .. } if self.up => {
                Some((state.leader_epoch().0, state.isr().len(), state.min_isr()))
            }
            _ => None,
        }
    }

    fn vouched(&self, mutant: Mutant) -> i64 {
        if mutant == Mutant::VouchUnflushed {
            self.end()
        } else {
            self.flushed
        }
    }

    fn truncate(&mut self, to: i64) {
        self.log.truncate(to as usize);
        self.flushed = self.flushed.min(to);
        self.high_watermark = self.high_watermark.min(to);
        self.epochs.truncate_from_end(to);
    }

    fn push(&mut self, record: Record) {
        let end = self.end();
        self.epochs.assign(LeaderEpoch(record.epoch), end);
        self.log.push(record);
    }
}

impl World {
    pub fn new(seed: u64, mutant: Mutant) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let min = random.random_range(1..=2);
        let mut world = Self {
            seed,
            random,
            mutant,
            image: ClusterImage::default(),
            context: ControllerContext::default(),
            nodes: Vec::new(),
            messages: Vec::new(),
            now: MonotonicMs::new(1000),
            next_value: 0,
            next_fetch: 0,
            acknowledged: Vec::new(),
            seen: BTreeMap::new(),
        };
        for id in 1..=REPLICAS {
            world.nodes.push(Node {
                id: BrokerId(id),
                up: true,
                log: Vec::new(),
                flushed: 0,
                high_watermark: 0,
                stored_high_watermark: 0,
                epochs: LeaderEpochs::default(),
                leader_epoch: LeaderEpoch(-1),
                broker_epoch: BrokerEpoch(-1),
                applied: 0,
                role: Role::Follower { leader: None },
                outstanding: None,
            });
            world.register(id as usize - 1);
            world.unfence(id as usize - 1);
        }
        let replicas = (1..=REPLICAS).map(BrokerId).collect();
        let topic = NewTopic {
            name: "t".into(),
            id: TOPIC,
            partitions: -1,
            replication_factor: -1,
            assignments: [(0, replicas)].into(),
            configs: [("min.insync.replicas".to_owned(), min.to_string())].into(),
        };
        world.submit(Command::CreateTopic(topic));
        for node in 0..world.nodes.len() {
            world.apply_image(node, Arc::new(world.image.clone()));
        }
        world
    }

    fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// Decides at once, as the quorum does in order; brokers apply the records later.
    fn submit(&mut self, command: Command) -> Option<Answer> {
        let decision = decide(&self.image, &self.context, command).ok()?;
        if decision.records.is_empty() {
            return Some(decision.answer);
        }
        for record in decision.records {
            self.image.apply(record);
        }
        self.image.applied_index += 1;
        let image = Arc::new(self.image.clone());
        for node in 0..self.nodes.len() {
            self.messages.push(Message::Image(node, image.clone()));
        }
        Some(decision.answer)
    }

    fn register(&mut self, node: usize) {
        let id = self.nodes[node].id;
        let incarnation = Uuid::from_u128(self.random.random());
        self.submit(Command::RegisterBroker(Registration {
            id,
            incarnation,
            rack: None,
            listeners: vec![],
            log_dirs: vec![Uuid::from_u128(u128::from(id.0.unsigned_abs()))],
            cluster_id: "c".into(),
            clean_start: false,
        }));
        self.nodes[node].broker_epoch = self.image.brokers[&id].epoch;
    }

    fn unfence(&mut self, node: usize) {
        let (id, epoch) = (self.nodes[node].id, self.nodes[node].broker_epoch);
        self.submit(Command::UnfenceBroker { id, epoch });
    }

    pub fn partition(&self) -> &PartitionImage {
        self.image.partition(PARTITION).expect("the topic is there")
    }

    /// Does one random step.
    pub fn step(&mut self) {
        self.now = self.now.plus_ms(self.random.random_range(0..10));
        let node = self.random.random_range(0..self.nodes.len());
        match self.random.random_range(0..100) {
            0..45 => self.deliver_any(),
            45..60 => self.produce(node),
            60..75 => self.flush(node),
            75..90 => self.fetch(node),
            90..93 => self.review(node),
            93..95 => self.crash(node),
            95..97 => self.restart(node),
            97 => self.fence(node),
            98 => {
                if self.nodes[node].up {
                    self.unfence(node);
                }
            }
            _ => {
                self.nodes[node].stored_high_watermark = self.nodes[node].high_watermark;
            }
        }
    }

    fn deliver_any(&mut self) {
        if self.messages.is_empty() {
            return;
        }
        let at = self.random.random_range(0..self.messages.len());
        let message = self.messages.swap_remove(at);
        // Commands to a controller that changes are lost more often than anything between two brokers.
        let one_in = if matches!(message, Message::AlterIsr(..)) {
            3
        } else {
            20
        };
        if self.random.random_range(0..one_in) != 0 {
            return self.deliver(message);
        }
        match message {
            Message::Fetch { .. } | Message::Fetched { .. } => self.count("lost messages"),
            // The wish, or only its answer: the leader cannot tell.
            Message::AlterIsr(node, _, ref wish) => {
                let epoch = wish.partition_epoch;
                if self.random.random() {
                    self.deliver(message);
                }
                self.count("lost messages");
                self.messages.push(Message::IsrUnanswered(node, epoch));
            }
            // Metadata is not lost, only late: the quorum sends it again.
            Message::Image(..) | Message::IsrRefused(..) | Message::IsrUnanswered(..) => {
                self.deliver(message);
            }
        }
    }

    fn deliver(&mut self, message: Message) {
        match message {
            Message::Image(node, image) => self.apply_image(node, image),
            Message::Fetch {
                from,
                to,
                number,
                leader_epoch,
                offset,
                last_epoch,
                broker_epoch,
            } => {
                let answer =
                    self.answer_fetch(from, to, leader_epoch, offset, last_epoch, broker_epoch);
                if let Some(result) = answer {
                    self.messages.push(Message::Fetched {
                        to: from,
                        number,
                        leader_epoch,
                        offset,
                        result,
                    });
                }
            }
            Message::Fetched {
                to,
                number,
                leader_epoch,
                offset,
                result,
            } => self.take_fetched(to, number, leader_epoch, offset, result),
            Message::AlterIsr(node, broker_epoch, wish) => {
                let epoch = wish.partition_epoch;
                let command = Command::AlterIsr {
                    broker: self.nodes[node].id,
                    broker_epoch,
                    changes: vec![IsrChange {
                        partition: PARTITION,
                        leader_epoch: wish.leader_epoch,
                        partition_epoch: epoch,
                        new_isr: wish.new_isr,
                        recovered: wish.recovered,
                    }],
                };
                let answer = self.submit(command);
                match answer {
                    Some(Answer::Results(results)) => match &results[0] {
                        Ok(()) => self.count("ISR changes"),
                        Err(Refusal::InvalidUpdateVersion | Refusal::Fenced(_)) => {}
                        Err(_) => self.messages.push(Message::IsrRefused(node, epoch)),
                    },
                    _ => self.messages.push(Message::IsrUnanswered(node, epoch)),
                }
            }
            Message::IsrRefused(node, epoch) => {
                if let Role::Leader { state, .. } = &mut self.nodes[node].role {
                    state.wish_refused(epoch);
                }
            }
            Message::IsrUnanswered(node, epoch) => {
                if let Role::Leader { state, .. } = &mut self.nodes[node].role {
                    state.wish_unanswered(epoch);
                }
                self.ask_for_isr(node, i64::MAX);
            }
        }
    }

    fn apply_image(&mut self, at: usize, image: Arc<ClusterImage>) {
        let now = self.now;
        let mutant = self.mutant;
        let Some(state) = image.partition(PARTITION).cloned() else {
            return;
        };
        let node = &mut self.nodes[at];
        if !node.up || image.applied_index <= node.applied {
            return;
        }
        node.applied = image.applied_index;
        let newer = state.leader_epoch > node.leader_epoch;
        node.leader_epoch = state.leader_epoch;
        // A process acts only for the incarnation that it registered.
        if image.brokers[&node.id].epoch != node.broker_epoch {
            node.role = Role::Follower { leader: None };
            return;
        }
        if state.leader != Some(node.id) {
            if newer && mutant == Mutant::TruncateToHighWatermark {
                let to = node.high_watermark;
                node.truncate(to);
            }
            if newer || !matches!(node.role, Role::Follower { leader } if leader == state.leader) {
                node.outstanding = None;
            }
            node.role = Role::Follower {
                leader: state.leader,
            };
            return;
        }
        let replica = |id: &BrokerId| Replica {
            id: *id,
            broker_epoch: image.brokers[id].epoch,
            is_eligible: image.is_active(*id) && !state.offline_replicas.contains(id),
        };
        let leadership = Leadership {
            leader_epoch: state.leader_epoch,
            partition_epoch: state.partition_epoch,
            isr: state.isr.clone(),
            replicas: state.replicas.iter().map(replica).collect(),
            recovering: state.leader_recovering,
        };
        match &mut node.role {
            Role::Leader { state, .. } if !newer => state.update(leadership, now),
            _ => {
                let end = node.end();
                node.epochs.assign(state.leader_epoch, end);
                let min = image.topic_configs("t")["min.insync.replicas"]
                    .parse()
                    .expect("a number");
                node.role = Role::Leader {
                    state: LeaderState::new(
                        node.id,
                        leadership,
                        min,
                        end,
                        node.high_watermark,
                        now,
                    ),
                    waiting: Vec::new(),
                };
                self.count("leaders");
            }
        }
        self.advance(at);
    }

    fn advance(&mut self, at: usize) {
        let mutant = self.mutant;
        let node = &mut self.nodes[at];
        let vouched = node.vouched(mutant);
        let Role::Leader { state, waiting } = &mut node.role else {
            return;
        };
        let high_watermark = state.local_reached(vouched).min(node.log.len() as i64);
        assert!(
            high_watermark >= node.high_watermark,
            "the high watermark moved back"
        );
        node.high_watermark = high_watermark;
        let done = waiting
            .iter()
            .filter(|(offset, _)| *offset < high_watermark);
        self.acknowledged
            .extend(done.map(|(offset, value)| (*value, *offset)));
        waiting.retain(|(offset, _)| *offset >= high_watermark);
    }

    fn produce(&mut self, at: usize) {
        let mutant = self.mutant;
        let node = &mut self.nodes[at];
        let epoch = node.leader_epoch.0;
        let offset = node.end();
        let value = self.next_value;
        let Role::Leader { state, waiting } = &mut node.role else {
            return;
        };
        if !node.up || !state.has_enough_replicas() {
            return;
        }
        self.next_value += 1;
        if mutant == Mutant::AcknowledgeBeforeIsr {
            self.acknowledged.push((value, offset));
        } else {
            waiting.push((offset, value));
        }
        node.push(Record { epoch, value });
        self.count("appends");
    }

    fn flush(&mut self, at: usize) {
        if self.nodes[at].up {
            self.nodes[at].flushed = self.nodes[at].end();
            self.advance(at);
        }
    }

    fn fetch(&mut self, at: usize) {
        let mutant = self.mutant;
        let number = self.next_fetch;
        let node = &mut self.nodes[at];
        let durable = node.vouched(mutant) == node.end();
        let Role::Follower {
            leader: Some(leader),
        } = node.role
        else {
            return;
        };
        if !node.up || !durable {
            return;
        }
        self.next_fetch += 1;
        node.outstanding = Some(number);
        let end = node.end();
        self.messages.push(Message::Fetch {
            from: at,
            to: leader.0 as usize - 1,
            number,
            leader_epoch: node.leader_epoch,
            offset: end,
            last_epoch: node.epochs.epoch_of(end - 1),
            broker_epoch: node.broker_epoch,
        });
    }

    fn answer_fetch(
        &mut self,
        from: usize,
        to: usize,
        leader_epoch: LeaderEpoch,
        offset: i64,
        last_epoch: Option<LeaderEpoch>,
        broker_epoch: BrokerEpoch,
    ) -> Option<Fetched> {
        let (now, mutant) = (self.now, self.mutant);
        let id = self.nodes[from].id;
        let leader = &mut self.nodes[to];
        let end = leader.end();
        let wrong = leader.leader_epoch != leader_epoch;
        if !leader.up || wrong || !matches!(leader.role, Role::Leader { .. }) {
            return None;
        }
        if let Some(last) = last_epoch
            && let Some((epoch, ends)) = leader.epochs.end_offset_for(last, end)
            && (epoch < last || ends < offset)
            && mutant != Mutant::NeverTruncate
        {
            return Some(Fetched::Diverging(epoch, ends));
        }
        if offset > end {
            return None;
        }
        if let Role::Leader { state, .. } = &mut leader.role {
            state.follower_fetched(id, broker_epoch, offset, end, now);
        }
        let most = self.random.random_range(1..4);
        let records = self.nodes[to].log[offset as usize..].iter().take(most);
        let records = records.copied().collect();
        self.advance(to);
        self.ask_for_isr(to, i64::MAX);
        Some(Fetched::Records(records, self.nodes[to].high_watermark))
    }

    fn take_fetched(
        &mut self,
        at: usize,
        number: u64,
        leader_epoch: LeaderEpoch,
        offset: i64,
        result: Fetched,
    ) {
        let mutant = self.mutant;
        let node = &mut self.nodes[at];
        let expected = node.outstanding == Some(number) && node.leader_epoch == leader_epoch;
        if !node.up || !expected || !matches!(node.role, Role::Follower { .. }) {
            return;
        }
        node.outstanding = None;
        match result {
            Fetched::Records(records, high_watermark) => {
                assert_eq!(offset, node.end(), "nothing else appends to a follower");
                records.into_iter().for_each(|r| node.push(r));
                let known = if mutant == Mutant::CommitAtLogEnd {
                    node.end()
                } else {
                    high_watermark.min(node.flushed)
                };
                node.high_watermark = node.high_watermark.max(known);
            }
            Fetched::Diverging(epoch, ends) => {
                let end = node.end();
                let epochs = &node.epochs;
                let to = truncation_offset((epoch, ends), end, |e| epochs.end_offset_for(e, end));
                node.truncate(to);
                self.count("truncations");
            }
        }
    }

    fn review(&mut self, at: usize) {
        if self.nodes[at].up {
            self.ask_for_isr(at, LAG_MS);
        }
    }

    fn ask_for_isr(&mut self, at: usize, max_lag_ms: i64) {
        let (now, broker_epoch) = (self.now, self.nodes[at].broker_epoch);
        if let Role::Leader { state, .. } = &mut self.nodes[at].role
            && let Some(wish) = state.wish(now, max_lag_ms)
        {
            self.messages
                .push(Message::AlterIsr(at, broker_epoch, wish));
        }
    }

    /// The machine loses its power: unflushed records are gone.
    fn crash(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if !node.up {
            return;
        }
        node.up = false;
        let flushed = node.flushed as usize;
        node.log.truncate(flushed);
        // The lineage comes back from the records; an epoch that wrote nothing is forgotten.
        node.epochs = LeaderEpochs::default();
        for (offset, record) in node.log.iter().enumerate() {
            node.epochs.assign(LeaderEpoch(record.epoch), offset as i64);
        }
        node.high_watermark = node.stored_high_watermark.min(node.flushed);
        node.role = Role::Follower { leader: None };
        node.outstanding = None;
        self.count("crashes");
        if self.random.random() {
            self.fence(at);
        }
    }

    fn restart(&mut self, at: usize) {
        if !self.nodes[at].up {
            self.nodes[at].up = true;
            self.nodes[at].leader_epoch = LeaderEpoch(-1);
            self.register(at);
            self.nodes[at].applied = 0;
            self.apply_image(at, Arc::new(self.image.clone()));
        }
    }

    fn fence(&mut self, at: usize) {
        let (id, epoch) = (self.nodes[at].id, self.nodes[at].broker_epoch);
        self.submit(Command::FenceBroker { id, epoch });
        self.count("fencings");
    }

    /// No more faults: every broker starts, applies all metadata and catches up. Panics where a broker does not.
    pub fn heal(&mut self) {
        for _ in 0..400 {
            for at in 0..self.nodes.len() {
                self.restart(at);
                self.unfence(at);
                self.flush(at);
                self.fetch(at);
                self.review(at);
            }
            while !self.messages.is_empty() {
                for message in std::mem::take(&mut self.messages) {
                    self.deliver(message);
                }
            }
            self.now = self.now.plus_ms(10);
            let ends: Vec<_> = self.nodes.iter().map(|n| (n.end(), n.flushed)).collect();
            let whole = self.partition().isr.len() == self.nodes.len();
            let leader = self.partition().leader;
            let equal = ends.iter().all(|e| *e == ends[0] && e.0 == e.1);
            let led = leader.is_some_and(|l| {
                let node = &self.nodes[l.0 as usize - 1];
                node.high_watermark == node.end()
            });
            if whole && equal && led {
                return;
            }
        }
        panic!(
            "never in sync again: {:?}, {:?}",
            self.partition(),
            self.nodes
        );
    }
}
