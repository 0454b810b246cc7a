//! Invariant 8 in the coordinator: the contents of a record are invisible until it is committed, and a record that the
//! log refuses leaves no trace.

use super::*;

impl Harness {
    /// A command's appends, not committed yet; its replies are kept.
    fn hold(&mut self, outcome: Outcome) -> Vec<PendingAppend> {
        self.replies.extend(outcome.replies);
        outcome.appends
    }

    fn commit_all(&mut self, appends: Vec<PendingAppend>) {
        for append in appends {
            self.log.extend(append.records.clone());
            let next = self.coordinator.committed(append, self.now);
            self.run(next);
        }
    }

    fn refuse_all(&mut self, appends: Vec<PendingAppend>) {
        for append in appends {
            let refused = ErrorCode::CoordinatorNotAvailable;
            let next = self.coordinator.failed(append, refused, self.now);
            self.run(next);
        }
    }

    /// A static member of this instance joins under a new id; its appends are held.
    fn come_back(
        &mut self,
        instance: &str,
        subscription: &'static [u8],
    ) -> (Token, Vec<PendingAppend>) {
        self.token += 1;
        let request = JoinRequest {
            protocols: vec![("range".into(), Bytes::from_static(subscription))],
            ..self.request("", Some(instance))
        };
        let outcome = self.coordinator.join(self.token, request, self.now);
        let appends = self.hold(outcome);
        (self.token, appends)
    }

    /// A stable group of static members `a` and `b`; returns their ids.
    fn stable_pair(&mut self) -> (String, String) {
        let first = self.join("", Some("a"));
        let (_, a, _) = self.joined(first);
        let second = self.join("", Some("b"));
        let again = self.join_static(&a, "a");
        let (generation, _, _) = self.joined(again);
        let (_, b, _) = self.joined(second);
        let follower = self.sync(&b, generation, &[]);
        let lead = self.sync(&a, generation, &[(&a, "for a"), (&b, "for b")]);
        assert_eq!(self.assignment(lead), "for a");
        assert_eq!(self.assignment(follower), "for b");
        (a, b)
    }

    fn join_static(&mut self, member: &str, instance: &str) -> Token {
        self.join(member, Some(instance))
    }

    fn members(&self) -> Vec<String> {
        let group = self.coordinator.describe("g").unwrap();
        group.members.into_iter().map(|m| m.member_id).collect()
    }

    fn static_heartbeat(&mut self, member: &str, instance: &str, generation: i32) -> ErrorCode {
        let identity = MemberIdentity {
            instance_id: Some(instance.into()),
            ..identity(member, generation)
        };
        self.coordinator.heartbeat("g", &identity, self.now)
    }

    /// A coordinator that replays the log.
    fn reloaded(&self) -> GroupCoordinator {
        let mut loaded = GroupCoordinator::new(CONFIG);
        for record in &self.log {
            let (key, value) = record.encode();
            let decoded = CoordinatorRecord::decode(&key, value.as_ref()).unwrap();
            loaded.load(decoded, self.now);
        }
        loaded.finish_load();
        loaded
    }
}

const SAME: &[u8] = b"\0\0\0\0\0\x01\0\x01t";
const OTHER: &[u8] = b"\0\0\0\0\0\x01\0\x01u";

#[test]
fn a_static_member_is_replaced_by_the_commit_and_by_nothing_before() {
    for subscription in [SAME, OTHER] {
        let mut h = Harness::new(CONFIG);
        let (old, other) = h.stable_pair();
        let (token, appends) = h.come_back("a", subscription);
        assert_eq!(appends.len(), 1);
        assert!(h.reply(token).is_none(), "no answer before the commit");
        let mut both = vec![old.clone(), other.clone()];
        both.sort();
        assert_eq!(h.members(), both, "nor can the change be seen");
        assert_eq!(h.static_heartbeat(&old, "a", 2), ErrorCode::None);
        assert_eq!(h.state(), GroupState::Stable);
        h.commit_all(appends);
        assert_eq!(
            h.static_heartbeat(&old, "a", 2),
            ErrorCode::FencedInstanceId
        );
        if subscription == SAME {
            let (generation, new, leader) = h.joined(token);
            assert_eq!((generation, leader), (2, old.clone()));
            assert!(h.members().contains(&new));
            assert_eq!(h.members().len(), 2);
            let loaded = h.reloaded().describe("g").unwrap();
            assert!(loaded.members.iter().any(|m| m.member_id == new));
        } else {
            assert_eq!(h.state(), GroupState::PreparingRebalance);
            assert!(h.reply(token).is_none(), "it waits for the others");
        }
    }
}

#[test]
fn a_replacement_that_the_log_refuses_has_never_been() {
    let mut h = Harness::new(CONFIG);
    let (old, _) = h.stable_pair();
    let before = h.members();
    let (token, appends) = h.come_back("a", SAME);
    h.refuse_all(appends);
    let refused = matches!(
        h.reply(token),
        Some(Reply::Join {
            error: ErrorCode::CoordinatorNotAvailable,
            ..
        })
    );
    assert!(refused);
    assert_eq!(h.members(), before);
    assert_eq!(h.static_heartbeat(&old, "a", 2), ErrorCode::None);
    // The client asks again.
    let (token, appends) = h.come_back("a", SAME);
    h.commit_all(appends);
    assert_eq!(h.joined(token).0, 2);
}

#[test]
fn a_subscription_that_changed_with_the_member_is_noticed_after_a_restart_as_well() {
    let mut h = Harness::new(CONFIG);
    h.stable_pair();
    let (_, appends) = h.come_back("a", OTHER);
    h.commit_all(appends);
    // The coordinator dies before the rebalance is over; the client has had no answer and asks the next one.
    h.coordinator = h.reloaded();
    assert_eq!(h.state(), GroupState::Stable);
    let (_, appends) = h.come_back("a", OTHER);
    h.commit_all(appends);
    assert_eq!(h.state(), GroupState::PreparingRebalance);
}

#[test]
fn replacements_that_overlap_are_one_after_the_other_in_the_log() {
    let mut h = Harness::new(CONFIG);
    let (a, b) = h.stable_pair();
    let (first, appends) = h.come_back("a", SAME);
    let (second, none) = h.come_back("b", SAME);
    let (third, also_none) = h.come_back("a", SAME);
    assert!(none.is_empty() && also_none.is_empty(), "they wait");
    let leave = [LeaveMember {
        member_id: b.clone(),
        instance_id: Some("b".into()),
    }];
    let outcome = h.coordinator.leave(99, "g", &leave, h.now);
    let waiting = h.hold(outcome);
    assert!(waiting.is_empty() && h.reply(99).is_none());
    h.commit_all(appends);
    let new_a = h.joined(first).1;
    let new_b = h.joined(second).1;
    let newest_a = h.joined(third).1;
    // The leave waited behind the replacements: another member holds instance id `b` now, so the leave is fenced.
    let Some(Reply::Leave { members, .. }) = h.reply(99) else {
        panic!("no answer to LeaveGroup");
    };
    assert_eq!(members, [ErrorCode::FencedInstanceId]);
    let mut expected = vec![newest_a.clone(), new_b];
    expected.sort();
    assert_eq!(h.members(), expected);
    let loaded = h.reloaded().describe("g").unwrap();
    let loaded: Vec<_> = loaded.members.into_iter().map(|m| m.member_id).collect();
    assert_eq!(loaded, expected);
    for fenced in [&a, &new_a] {
        assert_eq!(
            h.static_heartbeat(fenced, "a", 2),
            ErrorCode::FencedInstanceId
        );
    }
    assert_eq!(h.static_heartbeat(&newest_a, "a", 2), ErrorCode::None);
}

#[test]
fn the_last_member_leaves_by_the_commit() {
    for refused in [false, true] {
        let mut h = Harness::new(CONFIG);
        let member = h.stable();
        let leave = [LeaveMember {
            member_id: member.clone(),
            instance_id: None,
        }];
        let outcome = h.coordinator.leave(7, "g", &leave, h.now);
        let appends = h.hold(outcome);
        assert!(h.reply(7).is_none(), "no answer before the commit");
        assert_eq!(h.members(), std::slice::from_ref(&member));
        assert_eq!(h.heartbeat(&member, 1), ErrorCode::None);
        // Nothing that only an empty group allows.
        assert_eq!(h.commit("", -1, 6, ""), [ErrorCode::UnknownMemberId]);
        let outcome = h.coordinator.delete_group(8, "g");
        h.run(outcome);
        assert_eq!(h.reply(8), Some(Reply::Delete(ErrorCode::NonEmptyGroup)));
        if refused {
            h.refuse_all(appends);
            let Some(Reply::Leave { error, .. }) = h.reply(7) else {
                panic!("no answer to LeaveGroup");
            };
            assert_eq!(error, ErrorCode::CoordinatorNotAvailable);
            assert_eq!(h.heartbeat(&member, 1), ErrorCode::None);
        } else {
            h.commit_all(appends);
            assert!(
                matches!(h.reply(7), Some(Reply::Leave { members, .. }) if members == [ErrorCode::None])
            );
            assert_eq!(h.state(), GroupState::Empty);
            assert_eq!(h.reloaded().describe("g").unwrap().state, GroupState::Empty);
        }
    }
}

#[test]
fn a_group_whose_members_fell_silent_is_empty_by_the_commit_and_tries_again_after_a_refusal() {
    let mut h = Harness::new(CONFIG);
    h.stable();
    h.now = at(1000);
    let outcome = h.coordinator.tick(h.now);
    let appends = h.hold(outcome);
    assert_eq!(appends.len(), 1);
    assert_ne!(h.state(), GroupState::Empty);
    assert_eq!(h.coordinator.next_deadline(), None, "the log answers first");
    h.refuse_all(appends);
    assert_ne!(h.state(), GroupState::Empty);
    let again = h.coordinator.next_deadline().unwrap();
    assert!(again > h.now.monotonic, "not at once");
    h.tick(again.get());
    assert_eq!(h.state(), GroupState::Empty);
}

#[test]
fn members_are_told_their_assignment_by_the_commit() {
    let mut h = Harness::new(CONFIG);
    let token = h.join("", None);
    let (generation, member, _) = h.joined(token);
    h.token += 1;
    let token = h.token;
    let request = SyncRequest {
        group: "g".into(),
        member: identity(&member, generation),
        protocol_type: None,
        protocol: None,
        assignments: vec![(member.clone(), Bytes::from_static(b"all"))],
    };
    let outcome = h.coordinator.sync(token, request, h.now);
    let appends = h.hold(outcome);
    assert!(h.reply(token).is_none());
    // A newcomer waits for the record as well: the generation is not thrown away under it.
    let newcomer = h.join("", None);
    assert!(h.reply(newcomer).is_none());
    assert_eq!(h.state(), GroupState::CompletingRebalance);
    h.commit_all(appends);
    assert_eq!(h.assignment(token), "all");
    assert_eq!(h.state(), GroupState::PreparingRebalance, "the newcomer's");
}

#[test]
fn a_refused_join_leaves_no_group_behind() {
    let mut h = Harness::new(CONFIG);
    let request = JoinRequest {
        protocols: Vec::new(),
        ..h.request("", None)
    };
    let outcome = h.coordinator.join(1, request, h.now);
    h.run(outcome);
    assert!(h.coordinator.describe("g").is_none());
}
