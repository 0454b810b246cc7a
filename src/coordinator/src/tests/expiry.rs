//! Positions expire as in Kafka, no matter which coordinator has loaded them.

use super::*;

const RETENTION_MS: i64 = CONFIG.offsets_retention_ms;

fn position(
    partition: &TopicPartition,
    committed_at: i64,
    expires: Option<i64>,
) -> CoordinatorRecord {
    CoordinatorRecord::Offset {
        group: "g".into(),
        partition: partition.clone(),
        value: Some(OffsetAndMetadata {
            offset: 5,
            leader_epoch: -1,
            metadata: String::new(),
            commit_timestamp_ms: committed_at,
            expire_timestamp_ms: expires,
        }),
    }
}

fn kept(coordinator: &GroupCoordinator, topics: &[&str]) -> Vec<String> {
    let is_kept = |topic: &&&str| {
        let partition = TopicPartition::new(**topic, 0);
        coordinator.offset("g", &partition).is_some()
    };
    topics
        .iter()
        .filter(is_kept)
        .map(ToString::to_string)
        .collect()
}

impl Harness {
    fn expire(&mut self, at_ms: i64) {
        let outcome = self.coordinator.expire_offsets(at_ms);
        self.run(outcome);
    }

    /// Another coordinator, which has loaded the log at this moment.
    fn fail_over(&mut self, at_ms: i64) {
        let mut next = GroupCoordinator::new(CONFIG);
        for record in &self.log {
            let (key, value) = record.encode();
            let decoded = CoordinatorRecord::decode(&key, value.as_ref()).unwrap();
            next.load(decoded, at(at_ms));
        }
        next.finish_load();
        self.coordinator = next;
    }

    fn append(&mut self, record: CoordinatorRecord) {
        self.log.push(record.clone());
        self.coordinator.load(record, self.now);
    }
}

#[test]
fn a_simple_group_counts_from_its_commits_however_often_it_is_loaded() {
    let mut h = Harness::new(CONFIG);
    let (old, new) = (TopicPartition::new("old", 0), TopicPartition::new("new", 0));
    h.append(position(&old, 0, None));
    h.append(position(&new, 700, None));
    for loaded_at in [400, 800, RETENTION_MS - 1] {
        h.fail_over(loaded_at);
        h.expire(loaded_at);
        assert_eq!(kept(&h.coordinator, &["old", "new"]), ["old", "new"]);
    }
    h.fail_over(RETENTION_MS);
    h.expire(RETENTION_MS);
    assert_eq!(kept(&h.coordinator, &["old", "new"]), ["new"]);
    h.expire(700 + RETENTION_MS);
    assert!(h.coordinator.describe("g").is_none(), "the group as well");
}

#[test]
fn a_stable_group_keeps_what_it_subscribes_to_and_no_more() {
    let mut h = Harness::new(CONFIG);
    h.stable();
    // The member subscribes to `t`.
    for topic in ["t", "left"] {
        h.append(position(&TopicPartition::new(topic, 0), 10, None));
    }
    h.append(position(&TopicPartition::new("recent", 0), 900, None));
    h.expire(10 + RETENTION_MS - 1);
    assert_eq!(kept(&h.coordinator, &["t", "left", "recent"]).len(), 3);
    h.fail_over(10 + RETENTION_MS);
    h.expire(10 + RETENTION_MS);
    assert_eq!(
        kept(&h.coordinator, &["t", "left", "recent"]),
        ["t", "recent"]
    );
    assert_eq!(h.state(), GroupState::Stable, "its members stay");
    // During a rebalance nothing expires: the subscription is not known.
    h.join("", None);
    assert_eq!(h.state(), GroupState::PreparingRebalance);
    h.expire(100 * RETENTION_MS);
    assert_eq!(kept(&h.coordinator, &["t", "recent"]), ["t", "recent"]);
}

#[test]
fn an_empty_group_counts_from_the_leave_of_its_last_member_however_often_it_is_loaded() {
    let mut h = Harness::new(CONFIG);
    let member = h.stable();
    h.append(position(&TopicPartition::new("t", 0), 10, None));
    h.now = at(500);
    let leaving = [LeaveMember {
        member_id: member,
        instance_id: None,
    }];
    let outcome = h.coordinator.leave(3, "g", &leaving, h.now);
    h.run(outcome);
    for loaded_at in [600, 900, 500 + RETENTION_MS - 1] {
        h.fail_over(loaded_at);
        h.expire(loaded_at);
        assert_eq!(kept(&h.coordinator, &["t"]), ["t"]);
    }
    h.fail_over(500 + RETENTION_MS);
    h.expire(500 + RETENTION_MS);
    assert!(h.coordinator.describe("g").is_none());
}

#[test]
fn an_empty_group_without_positions_is_forgotten_at_once() {
    let mut h = Harness::new(CONFIG);
    let member = h.stable();
    h.expire(RETENTION_MS * 10);
    assert_eq!(h.state(), GroupState::Stable);
    let leaving = [LeaveMember {
        member_id: member,
        instance_id: None,
    }];
    let outcome = h.coordinator.leave(3, "g", &leaving, h.now);
    h.run(outcome);
    h.expire(1);
    assert!(h.coordinator.describe("g").is_none());
}

#[test]
fn a_group_record_that_does_not_say_since_when_leaves_the_commits_to_count() {
    let mut h = Harness::new(CONFIG);
    h.append(position(&TopicPartition::new("t", 0), 10, None));
    // Version 1 of a group's value has no time: protocol type, generation, protocol, leader, no members.
    let mut value = vec![0, 1, 0, 8];
    value.extend(b"consumer");
    value.extend([0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    let key = Bytes::from_static(b"\0\x02\0\x01g");
    let group = CoordinatorRecord::decode(&key, Some(&value.into())).unwrap();
    h.coordinator.load(group, at(900));
    h.expire(10 + RETENTION_MS);
    assert!(h.coordinator.describe("g").is_none());
}

#[test]
fn a_commit_that_names_its_retention_expires_then_and_comes_back_from_the_log_with_it() {
    let mut h = Harness::new(CONFIG);
    h.append(position(&TopicPartition::new("short", 0), 10, Some(50)));
    h.append(position(&TopicPartition::new("long", 0), 10, Some(50_000)));
    h.fail_over(20);
    h.expire(49);
    assert_eq!(kept(&h.coordinator, &["short", "long"]).len(), 2);
    h.expire(50);
    assert_eq!(kept(&h.coordinator, &["short", "long"]), ["long"]);
    h.expire(10 + RETENTION_MS);
    assert_eq!(kept(&h.coordinator, &["short", "long"]), ["long"]);
    h.expire(50_000);
    assert!(h.coordinator.describe("g").is_none());
}
