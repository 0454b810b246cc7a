//! Invariant 8: a coordinator's state is committed before it is acted on. Coordinators die at any moment with what they had
//! not committed; the next one reads the log. What a client was told must be there, and nothing that was refused.

use std::collections::{BTreeMap, VecDeque};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use strandline_coordinator::{
    CommitPartition, CoordinatorRecord, GroupConfig, GroupCoordinator, MemberIdentity,
    OffsetAndMetadata, Outcome, PendingAppend, Reply, Token,
};
use strandline_types::{Now, TopicPartition};
use strandline_wire::ErrorCode;

use crate::seeds;

const PARTITIONS: i32 = 3;
const CONFIG: GroupConfig = GroupConfig {
    min_session_timeout_ms: 10,
    max_session_timeout_ms: 100_000,
    initial_rebalance_delay_ms: 0,
    max_size: 3,
    offset_metadata_max_bytes: 10,
    offsets_retention_ms: i64::MAX,
};

#[derive(Default)]
struct Client {
    /// What was acknowledged last, by partition.
    acknowledged: BTreeMap<i32, i64>,
    /// Commits without an answer, by token.
    asked: BTreeMap<Token, (i32, i64)>,
    /// Of commits that were never answered.
    unknown: BTreeMap<i32, Vec<i64>>,
    next: i64,
}

struct World {
    random: StdRng,
    coordinator: GroupCoordinator,
    /// Committed.
    log: Vec<CoordinatorRecord>,
    appending: VecDeque<PendingAppend>,
    client: Client,
    answered: usize,
    failovers: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut coordinator = GroupCoordinator::new(CONFIG);
        coordinator.finish_load();
        Self {
            random: StdRng::seed_from_u64(seed),
            coordinator,
            log: Vec::new(),
            appending: VecDeque::new(),
            client: Client::default(),
            answered: 0,
            failovers: 0,
        }
    }

    fn step(&mut self) {
        match self.random.random_range(0..10) {
            0..4 => self.commit(),
            4..7 => self.append(true),
            7 => self.append(false),
            8 => self.check(),
            _ if self.random.random_range(0..3) == 0 => self.fail_over(),
            _ => {}
        }
    }

    fn commit(&mut self) {
        self.client.next += 1;
        let (token, offset) = (self.client.next as Token, self.client.next);
        let partition = self.random.random_range(0..PARTITIONS);
        let commit = CommitPartition {
            topic: "t".into(),
            partition,
            offset: OffsetAndMetadata {
                offset,
                leader_epoch: -1,
                metadata: String::new(),
                commit_timestamp_ms: 0,
            },
        };
        self.client.asked.insert(token, (partition, offset));
        let member = MemberIdentity {
            generation: -1,
            ..MemberIdentity::default()
        };
        let outcome =
            self.coordinator
                .commit_offsets(token, "g", &member, vec![commit], Now::default());
        self.take(outcome);
    }

    fn take(&mut self, outcome: Outcome) {
        self.appending.extend(outcome.appends);
        for (token, reply) in outcome.replies {
            let (partition, offset) = self.client.asked.remove(&token).expect("it was asked");
            let Reply::OffsetCommit(codes) = reply else {
                panic!("another answer: {reply:?}");
            };
            if codes == [ErrorCode::None] {
                self.client.acknowledged.insert(partition, offset);
                self.answered += 1;
            }
        }
    }

    /// The oldest append is committed, or refused.
    fn append(&mut self, succeeds: bool) {
        let Some(append) = self.appending.pop_front() else {
            return;
        };
        let outcome = if succeeds {
            self.log.extend(append.records.iter().cloned());
            self.coordinator.committed(append, Now::default())
        } else {
            let refused = ErrorCode::CoordinatorNotAvailable;
            self.coordinator.failed(append, refused, Now::default())
        };
        self.take(outcome);
    }

    /// The coordinator dies. Of what it was appending, a beginning is in the log although nobody was told.
    fn fail_over(&mut self) {
        let kept = self.random.random_range(0..=self.appending.len());
        let appending = std::mem::take(&mut self.appending);
        for append in appending.into_iter().take(kept) {
            self.log.extend(append.records);
        }
        for (partition, offset) in std::mem::take(&mut self.client.asked).into_values() {
            let unknown = self.client.unknown.entry(partition).or_default();
            unknown.push(offset);
        }
        let mut next = GroupCoordinator::new(CONFIG);
        for record in self.log.clone() {
            next.load(record, Now::default());
        }
        next.finish_load();
        self.coordinator = next;
        self.failovers += 1;
        self.check();
    }

    /// What the coordinator says is what was acknowledged last, or what nobody was told of.
    fn check(&self) {
        for partition in 0..PARTITIONS {
            let at = TopicPartition::new("t", partition);
            let found = self.coordinator.offset("g", &at).map(|o| o.offset);
            let acknowledged = self.client.acknowledged.get(&partition).copied();
            let unknown = self.client.unknown.get(&partition);
            let explained = found == acknowledged
                || found.is_some_and(|f| unknown.is_some_and(|u| u.contains(&f)));
            assert!(
                explained,
                "partition {partition}: {found:?}, acknowledged {acknowledged:?}, unknown {unknown:?}"
            );
        }
    }
}

#[test]
fn a_coordinator_acts_on_what_is_committed() {
    let (mut answered, mut failovers) = (0, 0);
    for seed in 0..seeds() {
        let mut world = World::new(seed);
        for _ in 0..200 {
            world.step();
        }
        world.fail_over();
        answered += world.answered;
        failovers += world.failovers;
    }
    println!(
        "{} seeds: {answered} commits answered, {failovers} failovers",
        seeds()
    );
    assert!(answered as u64 > seeds() && failovers as u64 > seeds());
}
