//! The groups of one partition of `__consumer_offsets`: replay, commit, time, and the answers for administration.
//!
//! Crash consistency: a coordinator that dies loses the records that are not committed. The next coordinator replays
//! the log. No client was told of a change that is not in the log, and no request was served as if such a change
//! existed.

use std::collections::BTreeMap;

use bytes::Bytes;
use strandline_types::{MonotonicMs, Now};
use strandline_wire::ErrorCode;

use crate::classic::{self, Deferred, Group, GroupState, Replacement};
use crate::config::GroupConfig;
use crate::forgetting::Forgetting;
use crate::outcome::{Effect, Outcome, PendingAppend, Token, refused};
use crate::record::CoordinatorRecord;
use crate::reply::{DescribedGroup, DescribedMember, ListedGroup, Reply};

/// Groups by id.
#[derive(Debug)]
pub struct GroupCoordinator {
    pub(crate) config: GroupConfig,
    pub(crate) groups: BTreeMap<String, Group>,
    pub(crate) forgetting: Forgetting,
}

impl GroupCoordinator {
    pub fn new(config: GroupConfig) -> Self {
        Self {
            config,
            groups: BTreeMap::new(),
            forgetting: Forgetting::default(),
        }
    }

    // --- Replay

    /// Replays one record of the log.
    pub fn load(&mut self, record: CoordinatorRecord, now: Now) {
        match record {
            CoordinatorRecord::Offset {
                group,
                partition,
                value,
            } => {
                let group = self.group_or_new(&group);
                match value {
                    Some(value) => {
                        group.offsets.insert(partition, value);
                    }
                    None => {
                        group.offsets.remove(&partition);
                    }
                }
            }
            CoordinatorRecord::Group { group, value: None } => {
                self.groups.remove(&group);
            }
            CoordinatorRecord::Group {
                group,
                value: Some(value),
            } => {
                let offsets = self
                    .groups
                    .remove(&group)
                    .map(|g| g.offsets)
                    .unwrap_or_default();
                let mut loaded = classic::restore(&group, value, now);
                loaded.offsets = offsets;
                self.groups.insert(group, loaded);
            }
        }
    }

    /// The log has been replayed: groups that nothing is left of are forgotten.
    pub fn finish_load(&mut self) {
        self.groups
            .retain(|_, g| !g.members.is_empty() || !g.offsets.is_empty() || g.generation > 0);
    }

    pub(crate) fn group_or_new(&mut self, id: &str) -> &mut Group {
        self.groups
            .entry(id.to_owned())
            .or_insert_with(|| Group::new(id))
    }

    // --- Commit

    /// Records that a command asked for are in the log: their effects happen, and requests that waited for them are served.
    pub fn committed(&mut self, append: PendingAppend, now: Now) -> Outcome {
        let mut out = Outcome::default();
        let config = self.config;
        let id = match append.effect {
            Effect::Offsets { reply } => {
                for record in append.records {
                    self.apply_offsets(record);
                }
                out.replies.extend(reply);
                return out;
            }
            Effect::Forget { .. } => {
                for record in append.records {
                    self.apply_offsets(record);
                }
                return out;
            }
            Effect::Assign { group, assignments } => {
                if let Some(group) = self.appended(&group) {
                    classic::finish_sync(group, &assignments, now, &mut out);
                }
                group
            }
            Effect::Replace { group, replacement } => {
                if let Some(group) = self.appended(&group) {
                    classic::finish_replacement(group, *replacement, config, now, &mut out);
                }
                group
            }
            Effect::Empty { group, emptying } => {
                if let Some(group) = self.appended(&group) {
                    classic::finish_emptying(group, emptying, &mut out);
                }
                group
            }
        };
        self.serve_deferred(&id, now, &mut out);
        out
    }

    /// The log refused the records: nothing has changed, and requests that waited for them get `error`.
    pub fn failed(&mut self, append: PendingAppend, error: ErrorCode, now: Now) -> Outcome {
        let mut out = Outcome::default();
        let config = self.config;
        let id = match append.effect {
            Effect::Offsets { reply } => {
                out.replies
                    .extend(reply.map(|(token, reply)| (token, refused(reply, error))));
                return out;
            }
            Effect::Forget { positions } => {
                self.forgetting.refused(positions, now);
                return out;
            }
            Effect::Assign { group, .. } => {
                if let Some(group) = self.appended(&group) {
                    classic::fail_sync(group, error, config, now, &mut out);
                }
                group
            }
            Effect::Replace { group, replacement } => {
                self.appended(&group);
                let Replacement { token, member, .. } = *replacement;
                out.reply(token, Reply::join_error(error, &member.id));
                group
            }
            Effect::Empty { group, emptying } => {
                if let Some(group) = self.appended(&group) {
                    classic::fail_emptying(group, now);
                }
                let reply = emptying.reply;
                out.replies
                    .extend(reply.map(|(token, reply)| (token, refused(reply, error))));
                group
            }
        };
        self.serve_deferred(&id, now, &mut out);
        out
    }

    /// The group whose append has ended.
    fn appended(&mut self, group: &str) -> Option<&mut Group> {
        let group = self.groups.get_mut(group)?;
        group.end_append();
        Some(group)
    }

    /// Serves the requests for a group that came while a record of the group was being appended.
    fn serve_deferred(&mut self, group: &str, now: Now, out: &mut Outcome) {
        let Some(found) = self.groups.get_mut(group) else {
            return;
        };
        for deferred in found.take_deferred() {
            out.merge(match deferred {
                Deferred::Join(token, request) => self.join(token, request, now),
                Deferred::Sync(token, request) => self.sync(token, request, now),
                Deferred::Leave(token, members) => self.leave(token, group, &members, now),
            });
        }
    }

    fn apply_offsets(&mut self, record: CoordinatorRecord) {
        match record {
            CoordinatorRecord::Offset {
                group,
                partition,
                value: Some(value),
            } => {
                self.group_or_new(&group).offsets.insert(partition, value);
            }
            CoordinatorRecord::Offset {
                group,
                partition,
                value: None,
            } => {
                if let Some(group) = self.groups.get_mut(&group) {
                    group.offsets.remove(&partition);
                }
            }
            CoordinatorRecord::Group { group, value: None } => {
                if self.groups.get(&group).is_some_and(Group::is_unused) {
                    self.groups.remove(&group);
                }
            }
            CoordinatorRecord::Group { .. } => {}
        }
    }

    // --- Time

    /// The earliest moment at which [`GroupCoordinator::tick`] has something to do.
    pub fn next_deadline(&self) -> Option<MonotonicMs> {
        let groups = self.groups.values().filter_map(Group::next_deadline);
        groups.chain(self.forgetting.next_deadline()).min()
    }

    /// Ends join and sync phases that are over, removes members whose sessions have expired, and appends refused tombstones
    /// again.
    pub fn tick(&mut self, now: Now) -> Outcome {
        let mut out = self.forget_again(now);
        for group in self.groups.values_mut() {
            classic::tick(group, self.config, now, &mut out);
        }
        out
    }

    // --- Administration

    pub fn delete_group(&mut self, token: Token, group_id: &str) -> Outcome {
        let mut out = Outcome::default();
        match self.groups.get(group_id) {
            None => out.reply(token, Reply::Delete(ErrorCode::GroupIdNotFound)),
            Some(group) if !group.is_unused() => {
                out.reply(token, Reply::Delete(ErrorCode::NonEmptyGroup));
            }
            Some(group) => {
                let records = classic::group_tombstones(group);
                out.append_offsets(records, token, Reply::Delete(ErrorCode::None));
            }
        }
        out
    }

    /// Subscriptions are shown in a stable group only; assignments always, as Kafka does: during a rebalance they are those of
    /// the generation before.
    pub fn describe(&self, group: &str) -> Option<DescribedGroup> {
        let group = self.groups.get(group)?;
        let protocol = group.protocol.clone().unwrap_or_default();
        let stable = group.state == GroupState::Stable;
        let members = group.members.values().map(|m| DescribedMember {
            member_id: m.id.clone(),
            instance_id: m.instance_id.clone(),
            client_id: m.client_id.clone(),
            client_host: m.client_host.clone(),
            metadata: if stable {
                m.metadata(&protocol)
            } else {
                Bytes::new()
            },
            assignment: m.assignment.clone(),
        });
        Some(DescribedGroup {
            state: group.state,
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
            members: members.collect(),
            protocol: if stable { protocol } else { String::new() },
        })
    }

    pub fn list(&self) -> impl Iterator<Item = ListedGroup> {
        self.groups.values().map(|g| ListedGroup {
            group: g.id.clone(),
            protocol_type: g.protocol_type.clone().unwrap_or_default(),
            state: g.state,
        })
    }
}
