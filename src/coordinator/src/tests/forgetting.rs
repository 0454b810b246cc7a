//! The positions of a deleted topic are removed, even if the log refuses the tombstones for a while.

use super::*;

const RETRY: i64 = 1000;

fn position(topic: &str, offset: i64) -> CoordinatorRecord {
    CoordinatorRecord::Offset {
        group: "g".into(),
        partition: TopicPartition::new(topic, 0),
        value: Some(OffsetAndMetadata {
            offset,
            leader_epoch: -1,
            metadata: String::new(),
            commit_timestamp_ms: 0,
            expire_timestamp_ms: None,
        }),
    }
}

impl Harness {
    fn load_position(&mut self, topic: &str, offset: i64) {
        self.coordinator.load(position(topic, offset), self.now);
    }

    fn kept(&self, topic: &str) -> Option<i64> {
        let partition = TopicPartition::new(topic, 0);
        self.coordinator.offset("g", &partition).map(|p| p.offset)
    }

    /// The log refuses the records of a command.
    fn refuse(&mut self, outcome: Outcome) {
        assert!(!outcome.appends.is_empty(), "there is something to append");
        for append in outcome.appends {
            let error = ErrorCode::CoordinatorNotAvailable;
            let next = self.coordinator.failed(append, error, self.now);
            self.run(next);
        }
    }

    fn tick_later(&mut self, ms: i64) -> Outcome {
        self.now = at(self.now.wall_ms + ms);
        self.coordinator.tick(self.now)
    }
}

#[test]
fn refused_tombstones_of_a_deleted_topic_are_appended_again() {
    let mut harness = Harness::new(CONFIG);
    harness.load_position("gone", 5);
    harness.load_position("stays", 6);
    let outcome = harness.coordinator.forget_topic("gone");
    harness.refuse(outcome);
    assert_eq!(
        harness.kept("gone"),
        Some(5),
        "nothing is said before it is committed"
    );
    let deadline = harness.coordinator.next_deadline();
    assert_eq!(deadline, Some(harness.now.monotonic.plus_ms(RETRY)));
    let early = harness.tick_later(RETRY - 1);
    assert!(early.appends.is_empty());
    let again = harness.tick_later(1);
    harness.refuse(again);
    let last = harness.tick_later(RETRY);
    harness.run(last);
    assert_eq!(harness.kept("gone"), None);
    assert_eq!(harness.kept("stays"), Some(6));
    assert_eq!(harness.coordinator.next_deadline(), None);
}

#[test]
fn a_position_of_the_topic_that_was_created_again_stays() {
    let mut harness = Harness::new(CONFIG);
    harness.load_position("t", 5);
    let outcome = harness.coordinator.forget_topic("t");
    harness.refuse(outcome);
    harness.load_position("t", 1);
    let again = harness.tick_later(RETRY);
    assert!(again.appends.is_empty());
    assert_eq!(harness.kept("t"), Some(1));
    assert_eq!(harness.coordinator.next_deadline(), None);
}
