//! Invariant 8: a coordinator commits a change of its state before it acts on the change. Coordinators die at any
//! moment and lose the records that they had not committed; the next coordinator reads the log. The log must have every
//! change that a client was told of, and no change that was refused. One group commits positions; another one has a
//! static member that comes back under new ids, leaves, and returns.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use strandline_coordinator::{
    CommitPartition, CoordinatorRecord, GroupConfig, GroupCoordinator, GroupState, JoinRequest,
    LeaveMember, MemberIdentity, OffsetAndMetadata, Outcome, PendingAppend, Reply, SyncRequest,
    Token,
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
    /// The position that was acknowledged last, by partition.
    acknowledged: BTreeMap<i32, i64>,
    /// Commits without an answer, by token.
    asked: BTreeMap<Token, (i32, i64)>,
    /// Positions of commits that were never answered.
    unknown: BTreeMap<i32, Vec<i64>>,
    next: i64,
}

/// Tokens of the static member's requests; those below are commits.
const STATIC_TOKENS: Token = 1 << 40;
const STATIC_GROUP: &str = "s";
const INSTANCE: &str = "i";

/// A process with an instance id. The simulation restarts the process at will, so a new request may come before the
/// previous one is answered.
#[derive(Default)]
struct StaticClient {
    /// The member id of the assignment, according to the coordinator's answers; `None` after a leave.
    holder: Option<String>,
    /// The value of `holder` once a request is answered.
    asked: BTreeMap<Token, Option<String>>,
    next: Token,
    changes: usize,
}

impl StaticClient {
    fn token(&mut self) -> Token {
        self.next += 1;
        STATIC_TOKENS + self.next
    }

    fn take(&mut self, token: Token, reply: &Reply) {
        let after = self.asked.remove(&token).expect("it was asked");
        let error = match reply {
            Reply::Join { error, .. } | Reply::Sync { error, .. } => *error,
            Reply::Leave { error, members } => {
                let each = members.iter().find(|e| **e != ErrorCode::None);
                each.copied().unwrap_or(*error)
            }
            other => panic!("another answer: {other:?}"),
        };
        if error == ErrorCode::None {
            self.holder = after;
            self.changes += 1;
        }
    }
}

struct World {
    random: StdRng,
    coordinator: GroupCoordinator,
    /// Committed.
    log: Vec<CoordinatorRecord>,
    appending: VecDeque<PendingAppend>,
    client: Client,
    process: StaticClient,
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
            process: StaticClient::default(),
            answered: 0,
            failovers: 0,
        }
    }

    fn step(&mut self) {
        match self.random.random_range(0..13) {
            0..4 => self.commit(),
            4..7 => self.append(true),
            7 => self.append(false),
            8 => self.check(),
            9 | 10 => self.come_back(),
            11 => self.leave_or_return(),
            _ if self.random.random_range(0..3) == 0 => self.fail_over(),
            _ => {}
        }
    }

    /// The process joins without a member id, as one that has just started.
    fn join(&mut self) -> (Token, String, Outcome) {
        let token = self.process.token();
        let request = JoinRequest {
            group: STATIC_GROUP.into(),
            member_id: String::new(),
            instance_id: Some(INSTANCE.into()),
            client_id: "c".into(),
            client_host: "/h".into(),
            session_timeout_ms: 100_000,
            rebalance_timeout_ms: 100_000,
            protocol_type: "consumer".into(),
            protocols: vec![("range".into(), Bytes::new())],
            require_known_member_id: true,
            new_member_suffix: token.to_string(),
        };
        let outcome = self.coordinator.join(token, request, Now::default());
        (token, format!("{INSTANCE}-{token}"), outcome)
    }

    /// The process is restarted while its predecessor is the member.
    fn come_back(&mut self) {
        if self.process.holder.is_some() && !self.process.asked.values().any(Option::is_none) {
            let (token, id, outcome) = self.join();
            self.process.asked.insert(token, Some(id));
            self.take(outcome);
        }
    }

    fn leave_or_return(&mut self) {
        if !self.process.asked.is_empty() {
            return;
        }
        if let Some(member_id) = self.process.holder.clone() {
            let leaving = [LeaveMember {
                member_id,
                instance_id: Some(INSTANCE.into()),
            }];
            let token = self.process.token();
            self.process.asked.insert(token, None);
            let outcome = self
                .coordinator
                .leave(token, STATIC_GROUP, &leaving, Now::default());
            self.take(outcome);
            return;
        }
        let (joined, id, mut outcome) = self.join();
        let at = outcome.replies.iter().position(|(t, _)| *t == joined);
        let answer = at.map(|at| outcome.replies.remove(at).1);
        let Some(Reply::Join {
            error: ErrorCode::None,
            generation,
            ..
        }) = answer
        else {
            panic!("the only member joins at once: {answer:?}");
        };
        self.take(outcome);
        let token = self.process.token();
        self.process.asked.insert(token, Some(id.clone()));
        let request = SyncRequest {
            group: STATIC_GROUP.into(),
            member: MemberIdentity {
                member_id: id.clone(),
                instance_id: Some(INSTANCE.into()),
                generation,
            },
            protocol_type: None,
            protocol: None,
            assignments: vec![(id, Bytes::from_static(b"all"))],
        };
        let outcome = self.coordinator.sync(token, request, Now::default());
        self.take(outcome);
    }

    /// The member that has an assignment, as clients can see it.
    fn assigned(&self) -> Option<String> {
        let group = self.coordinator.describe(STATIC_GROUP)?;
        if group.state != GroupState::Stable {
            return None;
        }
        let ids: Vec<String> = group.members.into_iter().map(|m| m.member_id).collect();
        assert_eq!(ids.len(), 1, "one instance, one member: {ids:?}");
        ids.into_iter().next()
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
                expire_timestamp_ms: None,
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
            if token > STATIC_TOKENS {
                self.process.take(token, &reply);
                continue;
            }
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

    /// The coordinator dies. The log has a first part of its unfinished appends, although none was answered.
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
        // The log has the answered change, or an unanswered one; the process learns which.
        let assigned = self.assigned();
        let asked = std::mem::take(&mut self.process.asked);
        let explained = assigned == self.process.holder || asked.values().any(|a| *a == assigned);
        assert!(
            explained,
            "the log has {assigned:?}, answered was {:?}, asked {asked:?}",
            self.process.holder
        );
        self.process.holder = assigned;
        self.check();
    }

    /// The coordinator must have the position that was acknowledged last, or one whose commit was never answered.
    fn check(&self) {
        assert_eq!(
            self.assigned(),
            self.process.holder,
            "nothing is seen before it is committed and answered"
        );
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
    let (mut answered, mut failovers, mut changes) = (0, 0, 0);
    for seed in 0..seeds() {
        let mut world = World::new(seed);
        for _ in 0..200 {
            world.step();
        }
        world.fail_over();
        answered += world.answered;
        failovers += world.failovers;
        changes += world.process.changes;
    }
    println!(
        "{} seeds: {answered} commits answered, {changes} changes of a member, {failovers} failovers",
        seeds()
    );
    assert!(answered as u64 > seeds() && failovers as u64 > seeds());
    assert!(changes as u64 > seeds());
}
