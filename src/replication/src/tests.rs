//! Kafka's rules of replication, by name.

use strandline_types::{BrokerEpoch, BrokerId, LeaderEpoch, MonotonicMs, Offset};

use crate::{LeaderState, Leadership, Replica, end_is_known, truncation_offset};

const LAG: i64 = 30_000;

fn at(ms: i64) -> MonotonicMs {
    MonotonicMs::new(ms)
}

fn leadership(partition_epoch: i32, isr: &[i32], replicas: i32) -> Leadership {
    Leadership {
        leader_epoch: LeaderEpoch(5),
        partition_epoch,
        isr: isr.iter().copied().map(BrokerId).collect(),
        replicas: (1..=replicas)
            .map(|id| Replica {
                id: BrokerId(id),
                broker_epoch: BrokerEpoch(i64::from(id) * 100),
                is_eligible: true,
            })
            .collect(),
        recovering: false,
    }
}

/// Broker 1 leads a log that ends at 10, with the high watermark at 5.
fn leader(isr: &[i32], min: usize) -> LeaderState {
    LeaderState::new(BrokerId(1), leadership(7, isr, 3), min, 10, 5, at(0))
}

fn fetch(state: &mut LeaderState, id: i32, offset: Offset, now: i64) -> Offset {
    let epoch = BrokerEpoch(i64::from(id) * 100);
    state.follower_fetched(BrokerId(id), epoch, offset, 10, at(now))
}

fn wished(state: &mut LeaderState, now: i64) -> Option<Vec<i32>> {
    let wish = state.wish(at(now), LAG)?;
    Some(wish.new_isr.iter().map(|(id, _)| id.0).collect())
}

#[test]
fn the_high_watermark_is_the_smallest_end_of_the_in_sync_replicas_and_never_moves_back() {
    let mut state = leader(&[1, 2], 1);
    assert_eq!(state.local_reached(10), 5);
    assert_eq!(fetch(&mut state, 2, 8, 1), 8);
    assert_eq!(fetch(&mut state, 2, 7, 2), 8);
    assert_eq!(fetch(&mut state, 9, 10, 3), 8, "a stranger does not count");
    assert_eq!(fetch(&mut state, 3, 9, 4), 8, "nor one that is not in sync");
}

#[test]
fn it_stands_still_while_fewer_than_min_insync_replicas_are_in_sync() {
    let mut state = leader(&[1], 2);
    assert!(!state.has_enough_replicas());
    assert_eq!(state.local_reached(10), 5);
    state.set_min_insync_replicas(1);
    assert_eq!(state.local_reached(10), 10);
    let mut more_than_there_are = leader(&[1, 2, 3], 9);
    more_than_there_are.local_reached(10);
    fetch(&mut more_than_there_are, 2, 10, 1);
    assert_eq!(fetch(&mut more_than_there_are, 3, 10, 1), 10);
}

#[test]
fn it_waits_for_a_replica_that_is_about_to_join() {
    let mut state = leader(&[1], 1);
    state.local_reached(9);
    fetch(&mut state, 2, 10, 1);
    assert_eq!(wished(&mut state, 1), Some(vec![1, 2]));
    state.local_reached(20);
    assert_eq!(state.high_watermark(), 10, "it may be in the ISR already");
    state.wish_refused(7);
    assert_eq!(state.local_reached(20), 20);
}

#[test]
fn a_wish_whose_answer_was_lost_counts_as_granted_until_it_is_asked_again() {
    let mut state = leader(&[1], 1);
    state.local_reached(9);
    fetch(&mut state, 2, 10, 1);
    let wish = state.wish(at(1), LAG).unwrap();
    state.wish_unanswered(7);
    assert_eq!(state.local_reached(20), 10, "it may be in the ISR");
    assert_eq!(state.wish(at(2), LAG), Some(wish), "the same, not another");
    assert_eq!(state.wish(at(3), LAG), None);
    state.update(leadership(8, &[1, 2], 3), at(4));
    assert_eq!(fetch(&mut state, 2, 20, 5), 20);
}

#[test]
fn a_replica_joins_when_it_has_what_is_committed_and_what_is_older_than_this_leader() {
    let mut state = leader(&[1], 1);
    state.local_reached(8);
    fetch(&mut state, 2, 9, 1);
    assert_eq!(
        wished(&mut state, 1),
        None,
        "the leader's epoch began at 10"
    );
    fetch(&mut state, 2, 10, 2);
    assert_eq!(wished(&mut state, 2), Some(vec![1, 2]));
    assert_eq!(wished(&mut state, 3), None, "one wish at a time");
    state.update(leadership(8, &[1, 2], 3), at(4));
    assert_eq!(wished(&mut state, 4), None);
}

#[test]
fn a_stale_incarnation_or_a_fenced_broker_does_not_join() {
    let mut state = leader(&[1], 1);
    state.follower_fetched(BrokerId(2), BrokerEpoch(199), 10, 10, at(1));
    assert_eq!(wished(&mut state, 1), None);
    fetch(&mut state, 2, 10, 2);
    let mut fenced = leadership(7, &[1], 3);
    fenced.replicas[1].is_eligible = false;
    state.update(fenced, at(3));
    assert_eq!(wished(&mut state, 3), None);
    // The old process's last fetches come late and change nothing.
    state.follower_fetched(BrokerId(2), BrokerEpoch(199), 0, 10, at(4));
    state.update(leadership(7, &[1], 3), at(5));
    assert_eq!(wished(&mut state, 5), Some(vec![1, 2]));
}

#[test]
fn a_replica_leaves_when_it_has_not_caught_up_for_the_allowed_time() {
    let mut state = leader(&[1, 2, 3], 1);
    fetch(&mut state, 3, 10, LAG);
    assert_eq!(wished(&mut state, LAG), None);
    assert_eq!(wished(&mut state, LAG + 1), Some(vec![1, 3]));
    state.wish_refused(6);
    assert_eq!(
        wished(&mut state, LAG + 2),
        None,
        "an answer to an older wish ends nothing"
    );
    state.wish_refused(7);
    assert_eq!(wished(&mut state, LAG + 3), Some(vec![1, 3]));
}

#[test]
fn a_replica_that_joins_has_the_full_time_from_then_on() {
    let mut state = leader(&[1], 1);
    state.local_reached(10);
    // The follower has every committed record, and never reaches the end of the log.
    state.follower_fetched(BrokerId(2), BrokerEpoch(200), 10, 20, at(LAG));
    assert_eq!(wished(&mut state, LAG), Some(vec![1, 2]));
    state.update(leadership(8, &[1, 2], 3), at(LAG));
    assert_eq!(wished(&mut state, 2 * LAG), None);
    assert_eq!(wished(&mut state, 2 * LAG + 1), Some(vec![1]));
}

#[test]
fn a_replica_that_keeps_pace_with_a_moving_end_counts_as_caught_up() {
    let mut state = leader(&[1, 2], 1);
    let epoch = BrokerEpoch(200);
    for step in 1..=10 {
        let now = step * LAG;
        // The follower always has the records that existed at its last fetch, and never those that exist now.
        state.follower_fetched(BrokerId(2), epoch, step * 100, (step + 1) * 100, at(now));
        assert_eq!(wished(&mut state, now), None, "step {step}");
    }
}

#[test]
fn the_low_watermark_is_the_smallest_log_start_of_the_replicas_that_may_lead_next() {
    let mut state = leader(&[1, 2], 1);
    assert_eq!(
        state.low_watermark(8),
        Some(-1),
        "nobody knows where 2 starts"
    );
    state.follower_starts_at(BrokerId(2), BrokerEpoch(200), 5);
    assert_eq!(state.low_watermark(8), Some(5));
    assert_eq!(state.low_watermark(4), Some(4));
    // An old process of the follower says nothing about the new one; a replica out of sync holds up nothing.
    fetch(&mut state, 2, 5, 1);
    state.follower_starts_at(BrokerId(2), BrokerEpoch(199), 9);
    state.follower_starts_at(BrokerId(3), BrokerEpoch(300), 0);
    assert_eq!(state.low_watermark(8), Some(5));
    state.update(leadership(8, &[1], 3), at(2));
    assert_eq!(state.low_watermark(8), Some(8));
}

#[test]
fn nothing_is_deleted_for_good_below_the_minimum_of_in_sync_replicas() {
    let mut state = leader(&[1, 2], 2);
    state.follower_starts_at(BrokerId(2), BrokerEpoch(200), 5);
    assert_eq!(state.low_watermark(8), Some(5));
    // Broker 2 stays eligible to lead, with its log start of 5.
    state.update(leadership(8, &[1], 3), at(1));
    assert_eq!(state.low_watermark(8), None);
}

#[test]
fn a_replica_joins_when_its_log_starts_no_lower_than_the_leaders() {
    let mut state = leader(&[1, 2], 1);
    state.local_starts_at(4);
    let epoch = BrokerEpoch(300);
    fetch(&mut state, 2, 10, 1);
    fetch(&mut state, 3, 10, 1);
    state.follower_starts_at(BrokerId(3), epoch, 0);
    assert_eq!(wished(&mut state, 1), None);
    state.follower_starts_at(BrokerId(3), epoch, 4);
    assert_eq!(wished(&mut state, 1), Some(vec![1, 2, 3]));
}

#[test]
fn acknowledgement_needs_the_minimum_of_in_sync_replicas() {
    let mut state = leader(&[1, 2], 2);
    assert!(state.has_enough_replicas() && state.has_enough_acknowledgements());
    state.update(leadership(8, &[1], 3), at(1));
    assert!(!state.has_enough_replicas() && !state.has_enough_acknowledgements());
}

#[test]
fn a_leader_elected_uncleanly_recovers_alone_before_others_join() {
    let recovering = Leadership {
        recovering: true,
        ..leadership(7, &[1], 3)
    };
    let mut state = LeaderState::new(BrokerId(1), recovering, 1, 10, 5, at(0));
    fetch(&mut state, 2, 10, 1);
    let wish = state.wish(at(1), LAG).unwrap();
    assert!(wish.recovered && wish.new_isr.len() == 1);
    state.update(leadership(8, &[1], 3), at(2));
    assert_eq!(wished(&mut state, 2), Some(vec![1, 2]));
}

#[test]
fn silence_of_the_in_sync_followers_is_noticed() {
    let mut state = leader(&[1, 2], 1);
    assert!(!state.hears_from_followers(at(9_001), 9_000));
    fetch(&mut state, 2, 10, 5_000);
    assert!(state.hears_from_followers(at(9_001), 9_000));
    state.update(leadership(8, &[1], 3), at(1));
    assert!(
        state.hears_from_followers(at(i64::MAX / 2), 9_000),
        "nobody else to hear"
    );
}

#[test]
fn a_log_is_cut_by_epoch_and_never_by_high_watermark() {
    let lineage = [(2, 0), (4, 10), (6, 20)];
    let end = 30;
    let own = |epoch: LeaderEpoch| -> Option<(LeaderEpoch, Offset)> {
        let at = lineage.iter().rposition(|(e, _)| *e <= epoch.0)?;
        let ends = lineage.get(at + 1).map_or(end, |(_, start)| *start);
        Some((LeaderEpoch(lineage[at].0), ends))
    };
    let cut = |epoch, leader_end| truncation_offset((LeaderEpoch(epoch), leader_end), end, own);
    assert_eq!(cut(6, 25), 25, "both have the epoch, the leader less of it");
    assert_eq!(cut(4, 40), 20, "the leader has more of an older epoch");
    assert_eq!(
        cut(5, 15),
        20,
        "an epoch this log never saw: ask again from what is older"
    );
    assert_eq!(cut(1, 3), 3, "nothing in common but the beginning");
}

#[test]
fn the_end_is_unknown_until_the_high_watermark_has_passed_the_beginning_of_the_epoch() {
    let known = |last, high_watermark| end_is_known(LeaderEpoch(5), last, high_watermark);
    let led_since = |start| Some((LeaderEpoch(5), start));
    assert!(!known(led_since(10), 9));
    assert!(known(led_since(10), 10));
    // A leader notes the beginning of its epoch before it is found; where none is noted, nothing is hidden.
    assert!(known(Some((LeaderEpoch(4), 10)), 9));
    assert!(known(None, 0));
}
