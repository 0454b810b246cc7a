//! A group as its record keeps it, and back.

use std::collections::BTreeMap;

use bytes::Bytes;
use strandline_types::{Now, TimestampMs, TopicPartition};

use super::group::{Group, GroupState};
use super::member::Member;
use crate::record::{CoordinatorRecord, GroupRecord, MemberRecord};

fn member_record(member: &Member, protocol: &str) -> MemberRecord {
    MemberRecord {
        member_id: member.id.clone(),
        instance_id: member.instance_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        session_timeout_ms: member.session_timeout_ms,
        subscription: member.metadata(protocol),
        assignment: member.assignment.clone(),
    }
}

fn group_record(group: &Group, leader: Option<String>, members: Vec<MemberRecord>) -> GroupRecord {
    GroupRecord {
        protocol_type: group.protocol_type.clone().unwrap_or_default(),
        generation: group.generation,
        protocol: group.protocol.clone(),
        leader,
        state_since_ms: group.state_since_ms.unwrap_or(-1),
        members,
    }
}

fn record(group: &Group, value: GroupRecord) -> CoordinatorRecord {
    CoordinatorRecord::Group {
        group: group.id.clone(),
        value: Some(value),
    }
}

/// The group with these assignments.
pub fn assigned_record(group: &Group, assignments: &BTreeMap<String, Bytes>) -> CoordinatorRecord {
    let protocol = group.protocol.as_deref().unwrap_or_default();
    let members = group.members.values().map(|member| MemberRecord {
        assignment: assignments.get(&member.id).cloned().unwrap_or_default(),
        ..member_record(member, protocol)
    });
    let members = members.collect();
    record(group, group_record(group, group.leader.clone(), members))
}

/// The group with `new` in the place of the member `old_id`. The subscription stays the one that the assignment was made for:
/// after a restart, the rebalance that another subscription asks for must still begin.
pub fn replaced_record(group: &Group, old_id: &str, new: &Member) -> CoordinatorRecord {
    let protocol = group.protocol.as_deref().unwrap_or_default();
    let members = group.members.values().map(|member| {
        let kept = member_record(member, protocol);
        if member.id != old_id {
            return kept;
        }
        MemberRecord {
            subscription: kept.subscription,
            assignment: kept.assignment,
            ..member_record(new, protocol)
        }
    });
    let members = members.collect();
    let leader = group.leader.clone().map(|leader| {
        if leader == old_id {
            new.id.clone()
        } else {
            leader
        }
    });
    record(group, group_record(group, leader, members))
}

/// The group without members.
pub fn empty_record(group: &Group, generation: i32, since_ms: TimestampMs) -> CoordinatorRecord {
    let value = GroupRecord {
        generation,
        protocol: None,
        state_since_ms: since_ms,
        ..group_record(group, None, Vec::new())
    };
    record(group, value)
}

pub fn tombstone(group: &str, partition: &TopicPartition) -> CoordinatorRecord {
    CoordinatorRecord::Offset {
        group: group.to_owned(),
        partition: partition.clone(),
        value: None,
    }
}

/// The tombstones of a group and of all its positions.
pub fn group_tombstones(group: &Group) -> Vec<CoordinatorRecord> {
    let offsets = group.offsets.keys().map(|tp| tombstone(&group.id, tp));
    let itself = CoordinatorRecord::Group {
        group: group.id.clone(),
        value: None,
    };
    offsets.chain([itself]).collect()
}

/// A group from its record; sessions begin now.
pub fn restore(id: &str, record: GroupRecord, now: Now) -> Group {
    let mut group = Group::new(id);
    group.generation = record.generation;
    group.protocol_type = Some(record.protocol_type).filter(|t| !t.is_empty());
    group.protocol = record.protocol;
    for m in record.members {
        let protocol = group.protocol.clone().unwrap_or_default();
        group.insert(Member {
            id: m.member_id,
            instance_id: m.instance_id,
            client_id: m.client_id,
            client_host: m.client_host,
            rebalance_timeout_ms: m.rebalance_timeout_ms,
            session_timeout_ms: m.session_timeout_ms,
            protocols: vec![(protocol, m.subscription)],
            assignment: m.assignment,
            awaiting_join: None,
            awaiting_sync: None,
            session_deadline: now.monotonic.plus_ms(i64::from(m.session_timeout_ms)),
        });
    }
    group.leader = record.leader;
    group.state = if group.members.is_empty() {
        GroupState::Empty
    } else {
        GroupState::Stable
    };
    group.state_since_ms = Some(record.state_since_ms).filter(|at| *at >= 0);
    group
}
