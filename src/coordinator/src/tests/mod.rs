//! Groups as clients see them: join, sync, rebalance, leave, fall silent, come back.

use bytes::Bytes;
use strandline_types::{MonotonicMs, Now, TopicPartition};
use strandline_wire::ErrorCode;

use crate::*;

mod commits;
mod expiry;
mod forgetting;
mod room;

const CONFIG: GroupConfig = GroupConfig {
    min_session_timeout_ms: 10,
    max_session_timeout_ms: 100_000,
    initial_rebalance_delay_ms: 0,
    max_size: 3,
    offset_metadata_max_bytes: 10,
    offsets_retention_ms: 1000,
};

struct Harness {
    coordinator: GroupCoordinator,
    log: Vec<CoordinatorRecord>,
    replies: Vec<(Token, Reply)>,
    token: Token,
    now: Now,
}

impl Harness {
    fn new(config: GroupConfig) -> Self {
        Self {
            coordinator: GroupCoordinator::new(config),
            log: vec![],
            replies: vec![],
            token: 0,
            now: at(0),
        }
    }

    /// Commits the records of the outcome, as a log that never fails.
    fn run(&mut self, outcome: Outcome) {
        self.replies.extend(outcome.replies);
        for append in outcome.appends {
            self.log.extend(append.records.clone());
            let next = self.coordinator.committed(append, self.now);
            self.run(next);
        }
    }

    fn reply(&mut self, token: Token) -> Option<Reply> {
        let at = self.replies.iter().position(|(t, _)| *t == token)?;
        Some(self.replies.remove(at).1)
    }

    fn request(&self, member: &str, instance: Option<&str>) -> JoinRequest {
        JoinRequest {
            group: "g".into(),
            member_id: member.into(),
            instance_id: instance.map(Into::into),
            client_id: "c".into(),
            client_host: "/h".into(),
            session_timeout_ms: 100,
            rebalance_timeout_ms: 200,
            protocol_type: "consumer".into(),
            protocols: vec![("range".into(), Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t"))],
            require_known_member_id: false,
            new_member_suffix: self.token.to_string(),
        }
    }

    fn join(&mut self, member: &str, instance: Option<&str>) -> Token {
        self.token += 1;
        let request = self.request(member, instance);
        let outcome = self.coordinator.join(self.token, request, self.now);
        self.run(outcome);
        self.token
    }

    fn joined(&mut self, token: Token) -> (i32, String, String) {
        match self.reply(token) {
            Some(Reply::Join {
                error: ErrorCode::None,
                generation,
                member_id,
                leader,
                ..
            }) => (generation, member_id, leader),
            other => panic!("not joined: {other:?}"),
        }
    }

    fn sync(
        &mut self,
        member: &str,
        generation: i32,
        assignments: &[(&str, &'static str)],
    ) -> Token {
        self.token += 1;
        let request = SyncRequest {
            group: "g".into(),
            member: identity(member, generation),
            protocol_type: None,
            protocol: None,
            assignments: assignments
                .iter()
                .map(|(m, a)| ((*m).to_owned(), Bytes::from_static(a.as_bytes())))
                .collect(),
        };
        let outcome = self.coordinator.sync(self.token, request, self.now);
        self.run(outcome);
        self.token
    }

    fn assignment(&mut self, token: Token) -> Bytes {
        match self.reply(token) {
            Some(Reply::Sync {
                error: ErrorCode::None,
                assignment,
                ..
            }) => assignment,
            other => panic!("not synced: {other:?}"),
        }
    }

    fn commit(
        &mut self,
        member: &str,
        generation: i32,
        offset: i64,
        metadata: &str,
    ) -> Vec<ErrorCode> {
        self.token += 1;
        let commit = CommitPartition {
            topic: "t".into(),
            partition: 0,
            offset: OffsetAndMetadata {
                offset,
                leader_epoch: -1,
                metadata: metadata.into(),
                commit_timestamp_ms: self.now.wall_ms,
                expire_timestamp_ms: None,
            },
        };
        let outcome = self.coordinator.commit_offsets(
            self.token,
            "g",
            &identity(member, generation),
            vec![commit],
            self.now,
        );
        self.run(outcome);
        match self.reply(self.token) {
            Some(Reply::OffsetCommit(codes)) => codes,
            other => panic!("{other:?}"),
        }
    }

    fn tick(&mut self, to_ms: i64) {
        self.now = at(to_ms);
        let outcome = self.coordinator.tick(self.now);
        self.run(outcome);
    }

    /// Time passes on both clocks.
    fn pass(&mut self, ms: i64) {
        self.now.monotonic = self.now.monotonic.plus_ms(ms);
        self.now.wall_ms += ms;
        let outcome = self.coordinator.tick(self.now);
        self.run(outcome);
    }

    /// An administrator sets the wall clock; no time passes.
    fn step_wall_clock(&mut self, by_ms: i64) {
        self.now.wall_ms += by_ms;
        let outcome = self.coordinator.tick(self.now);
        self.run(outcome);
    }

    fn heartbeat(&mut self, member: &str, generation: i32) -> ErrorCode {
        self.coordinator
            .heartbeat("g", &identity(member, generation), self.now)
    }

    fn state(&self) -> GroupState {
        self.coordinator.describe("g").unwrap().state
    }

    /// One member, synced.
    fn stable(&mut self) -> String {
        let token = self.join("", None);
        let (generation, member, _) = self.joined(token);
        let token = self.sync(&member, generation, &[(&member, "all")]);
        assert_eq!(self.assignment(token), "all");
        member
    }
}

/// A moment at which the wall clock agrees with the monotonic clock.
fn at(ms: i64) -> Now {
    Now {
        monotonic: MonotonicMs::new(ms),
        wall_ms: ms,
    }
}

fn identity(member: &str, generation: i32) -> MemberIdentity {
    MemberIdentity {
        member_id: member.into(),
        instance_id: None,
        generation,
    }
}

#[test]
fn two_members_share_a_group_and_the_second_forces_a_rebalance() {
    let mut h = Harness::new(CONFIG);
    let first = h.stable();
    let newcomer = h.join("", None);
    assert_eq!(h.heartbeat(&first, 1), ErrorCode::RebalanceInProgress);
    let again = h.join(&first, None);
    let (generation, _, leader) = h.joined(again);
    let (_, second, _) = h.joined(newcomer);
    assert_eq!((generation, leader), (2, first.clone()));
    let follower = h.sync(&second, 2, &[]);
    assert!(h.reply(follower).is_none(), "waits for the leader");
    let lead = h.sync(&first, 2, &[(&first, "a"), (&second, "b")]);
    assert_eq!(
        (h.assignment(lead), h.assignment(follower)),
        ("a".into(), "b".into())
    );
    assert_eq!(h.state(), GroupState::Stable);
    assert_eq!(h.heartbeat(&first, 1), ErrorCode::IllegalGeneration);
    assert_eq!(h.heartbeat("nobody", 2), ErrorCode::UnknownMemberId);
}

#[test]
fn a_silent_member_is_removed_and_one_that_does_not_rejoin_too() {
    let mut h = Harness::new(CONFIG);
    let first = h.stable();
    let newcomer = h.join("", None);
    // The first member never rejoins: the phase ends with its session.
    h.tick(100);
    let (generation, second, leader) = h.joined(newcomer);
    assert_eq!((generation, &leader), (2, &second));
    assert_eq!(h.heartbeat(&first, 2), ErrorCode::UnknownMemberId);
    h.sync(&second, 2, &[(&second, "x")]);
    let deadline = h.coordinator.next_deadline().unwrap();
    h.tick(deadline.get());
    assert_eq!(h.state(), GroupState::Empty);
    assert!(
        matches!(h.log.last(), Some(CoordinatorRecord::Group { value: Some(v), .. }) if v.members.is_empty())
    );
}

#[test]
fn a_group_without_members_waits_for_more_before_its_first_generation() {
    let mut h = Harness::new(GroupConfig {
        initial_rebalance_delay_ms: 50,
        ..CONFIG
    });
    let a = h.join("", None);
    assert!(h.reply(a).is_none());
    h.tick(30);
    let b = h.join("", None);
    h.tick(50);
    assert!(h.reply(a).is_none(), "the newcomer prolonged the wait");
    h.tick(80);
    assert_eq!(h.joined(a).0, 1);
    assert_eq!(h.joined(b).0, 1);
}

#[test]
fn a_static_member_that_comes_back_keeps_its_assignment_without_a_rebalance() {
    let mut h = Harness::new(CONFIG);
    let token = h.join("", Some("i"));
    let (_, old, _) = h.joined(token);
    h.sync_static(&old);
    let token = h.join("", Some("i"));
    let (generation, new, leader) = h.joined(token);
    assert_eq!(generation, 1, "no new generation");
    assert_ne!(new, old);
    assert_eq!(leader, old, "it must not assign anew");
    let mut fenced = identity(&old, 1);
    fenced.instance_id = Some("i".into());
    assert_eq!(
        h.coordinator.heartbeat("g", &fenced, at(0)),
        ErrorCode::FencedInstanceId
    );
    let token = h.sync(&new, 1, &[]);
    assert_eq!(h.assignment(token), "mine");
}

impl Harness {
    fn sync_static(&mut self, member: &str) {
        let token = self.sync(member, 1, &[(member, "mine")]);
        assert_eq!(self.assignment(token), "mine");
    }
}

#[test]
fn offsets_are_committed_by_members_of_the_generation_or_by_nobody_elses_group() {
    let mut h = Harness::new(CONFIG);
    assert_eq!(h.commit("", -1, 5, ""), [ErrorCode::None]);
    assert_eq!(h.commit("ghost", 3, 6, ""), [ErrorCode::UnknownMemberId]);
    let member = h.stable();
    assert_eq!(h.commit("", -1, 6, ""), [ErrorCode::UnknownMemberId]);
    assert_eq!(h.commit(&member, 9, 6, ""), [ErrorCode::IllegalGeneration]);
    assert_eq!(
        h.commit(&member, 1, 6, "too long for this"),
        [ErrorCode::OffsetMetadataTooLarge]
    );
    assert_eq!(h.commit(&member, 1, 7, "m"), [ErrorCode::None]);
    let tp = TopicPartition::new("t", 0);
    assert_eq!(h.coordinator.offset("g", &tp).unwrap().offset, 7);
}

#[test]
fn a_commit_that_the_log_refuses_changes_nothing() {
    let mut h = Harness::new(CONFIG);
    h.commit("", -1, 5, "");
    let commit = CommitPartition {
        topic: "t".into(),
        partition: 0,
        offset: OffsetAndMetadata {
            offset: 9,
            leader_epoch: -1,
            metadata: String::new(),
            commit_timestamp_ms: 0,
            expire_timestamp_ms: None,
        },
    };
    let mut outcome = h
        .coordinator
        .commit_offsets(77, "g", &identity("", -1), vec![commit], at(0));
    let refused = h.coordinator.failed(
        outcome.appends.remove(0),
        ErrorCode::KafkaStorageError,
        at(0),
    );
    assert_eq!(
        refused.replies,
        [(77, Reply::OffsetCommit(vec![ErrorCode::KafkaStorageError]))]
    );
    assert_eq!(
        h.coordinator
            .offset("g", &TopicPartition::new("t", 0))
            .unwrap()
            .offset,
        5
    );
}

#[test]
fn everything_durable_comes_back_from_the_log() {
    let mut h = Harness::new(CONFIG);
    let member = h.stable();
    h.commit(&member, 1, 7, "m");
    let mut loaded = GroupCoordinator::new(CONFIG);
    for record in &h.log {
        let (key, value) = record.encode();
        loaded.load(
            CoordinatorRecord::decode(&key, value.as_ref()).unwrap(),
            at(5000),
        );
    }
    loaded.finish_load();
    assert_eq!(
        loaded
            .offset("g", &TopicPartition::new("t", 0))
            .unwrap()
            .metadata,
        "m"
    );
    let described = loaded.describe("g").unwrap();
    assert_eq!(
        (described.state, described.members.len()),
        (GroupState::Stable, 1)
    );
    assert_eq!(described.members[0].assignment, "all");
    assert_eq!(
        loaded.heartbeat("g", &identity(&member, 1), at(5000)),
        ErrorCode::None
    );
}

#[test]
fn a_group_is_deleted_only_without_members_and_its_offsets_go_with_it() {
    let mut h = Harness::new(CONFIG);
    let member = h.stable();
    h.commit(&member, 1, 7, "");
    let refused = h.coordinator.delete_group(1, "g");
    assert_eq!(
        refused.replies,
        [(1, Reply::Delete(ErrorCode::NonEmptyGroup))]
    );
    let subscribed = h
        .coordinator
        .delete_offsets(2, "g", &[TopicPartition::new("t", 0)]);
    assert_eq!(
        subscribed.replies,
        [(
            2,
            Reply::OffsetDelete(ErrorCode::None, vec![ErrorCode::GroupSubscribedToTopic])
        )]
    );
    let leaving = [LeaveMember {
        member_id: member,
        instance_id: None,
    }];
    let outcome = h.coordinator.leave(3, "g", &leaving, at(0));
    h.run(outcome);
    let outcome = h.coordinator.delete_group(4, "g");
    h.run(outcome);
    assert_eq!(h.reply(4), Some(Reply::Delete(ErrorCode::None)));
    assert!(h.coordinator.describe("g").is_none());
}

#[test]
fn old_offsets_of_an_empty_group_expire_with_the_group() {
    let mut h = Harness::new(CONFIG);
    h.commit("", -1, 5, "");
    h.now = at(999);
    assert!(
        h.coordinator
            .expire_offsets(h.now.wall_ms)
            .appends
            .is_empty()
    );
    h.now = at(1001);
    let outcome = h.coordinator.expire_offsets(h.now.wall_ms);
    h.run(outcome);
    assert!(h.coordinator.describe("g").is_none());
}

#[test]
fn steps_of_the_wall_clock_neither_end_nor_prolong_a_session_or_a_rebalance() {
    const DAY_MS: i64 = 86_400_000;
    for step_ms in [-DAY_MS, -600_000, 600_000, DAY_MS] {
        let mut h = Harness::new(CONFIG);
        let member = h.stable();
        h.step_wall_clock(step_ms);
        h.pass(99);
        assert_eq!(h.heartbeat(&member, 1), ErrorCode::None, "step {step_ms}");
        h.step_wall_clock(-2 * step_ms);
        h.pass(99);
        assert_eq!(h.heartbeat(&member, 1), ErrorCode::None, "step {step_ms}");
        // A second member comes, the first one stays away: the session ends when it would have ended anyway.
        let newcomer = h.join("", None);
        h.step_wall_clock(step_ms);
        h.pass(99);
        assert!(h.reply(newcomer).is_none(), "step {step_ms}");
        h.pass(1);
        let (generation, second, leader) = h.joined(newcomer);
        assert_eq!((generation, &leader), (2, &second), "step {step_ms}");
    }
}

#[test]
fn a_full_group_and_foreign_protocols_are_refused() {
    let mut h = Harness::new(CONFIG);
    for _ in 0..3 {
        h.join("", None);
    }
    let token = h.join("", None);
    assert!(matches!(
        h.reply(token),
        Some(Reply::Join {
            error: ErrorCode::GroupMaxSizeReached,
            ..
        })
    ));
    let request = JoinRequest {
        group: "g".into(),
        member_id: String::new(),
        instance_id: None,
        client_id: "c".into(),
        client_host: "h".into(),
        session_timeout_ms: 100,
        rebalance_timeout_ms: 100,
        protocol_type: "connect".into(),
        protocols: vec![("x".into(), Bytes::new())],
        require_known_member_id: true,
        new_member_suffix: "z".into(),
    };
    let other = h.coordinator.join(99, request.clone(), at(0));
    assert!(matches!(
        &other.replies[0].1,
        Reply::Join {
            error: ErrorCode::InconsistentGroupProtocol,
            ..
        }
    ));
    let told = h.coordinator.join(
        100,
        JoinRequest {
            group: "h".into(),
            ..request
        },
        at(0),
    );
    assert!(
        matches!(&told.replies[0].1, Reply::Join { error: ErrorCode::MemberIdRequired, member_id, .. } if member_id == "c-z")
    );
}
