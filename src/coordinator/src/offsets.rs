//! Committed positions: commit, look-up, deletion. A position is set or removed only once its record is committed.

use strandline_types::{Now, TopicPartition};
use strandline_wire::ErrorCode;

use crate::classic::{GroupState, check_member, tombstone};
use crate::coordinator::GroupCoordinator;
use crate::outcome::{Outcome, Token};
use crate::record::{CoordinatorRecord, OffsetAndMetadata};
use crate::reply::{CommitPartition, MemberIdentity, Reply};

impl GroupCoordinator {
    pub fn commit_offsets(
        &mut self,
        token: Token,
        group_id: &str,
        member: &MemberIdentity,
        partitions: Vec<CommitPartition>,
        now: Now,
    ) -> Outcome {
        let mut out = Outcome::default();
        if let Err(error) = self.check_commit(group_id, member, now) {
            let each = partitions.iter().map(|_| error).collect();
            out.reply(token, Reply::OffsetCommit(each));
            return out;
        }
        let limit = self.config.offset_metadata_max_bytes;
        let mut results = Vec::with_capacity(partitions.len());
        let mut records = Vec::new();
        for commit in partitions {
            if commit.offset.metadata.len() > limit {
                results.push(ErrorCode::OffsetMetadataTooLarge);
                continue;
            }
            results.push(ErrorCode::None);
            records.push(CoordinatorRecord::Offset {
                group: group_id.to_owned(),
                partition: TopicPartition::new(commit.topic, commit.partition),
                value: Some(commit.offset),
            });
        }
        out.append_offsets(records, token, Reply::OffsetCommit(results));
        out
    }

    fn check_commit(
        &mut self,
        group_id: &str,
        member: &MemberIdentity,
        now: Now,
    ) -> Result<(), ErrorCode> {
        let Some(group) = self.groups.get_mut(group_id) else {
            // A consumer that assigns partitions itself commits without a group; it makes one.
            return if member.generation < 0 {
                Ok(())
            } else {
                Err(ErrorCode::GroupIdNotFound)
            };
        };
        // An administrator, or a consumer that assigns partitions itself, whatever it calls itself.
        if member.generation < 0 && group.state == GroupState::Empty {
            return Ok(());
        }
        let state = group.state;
        check_member(group, member)?.heartbeat(now.monotonic);
        match state {
            GroupState::Dead => Err(ErrorCode::CoordinatorNotAvailable),
            GroupState::CompletingRebalance => Err(ErrorCode::RebalanceInProgress),
            GroupState::Empty | GroupState::Stable | GroupState::PreparingRebalance => Ok(()),
        }
    }

    /// A committed position.
    pub fn offset(&self, group: &str, partition: &TopicPartition) -> Option<&OffsetAndMetadata> {
        self.groups.get(group)?.offsets.get(partition)
    }

    /// All committed positions of a group.
    pub fn offsets(
        &self,
        group: &str,
    ) -> impl Iterator<Item = (&TopicPartition, &OffsetAndMetadata)> {
        self.groups
            .get(group)
            .into_iter()
            .flat_map(|g| g.offsets.iter())
    }

    pub fn delete_offsets(
        &mut self,
        token: Token,
        group_id: &str,
        partitions: &[TopicPartition],
    ) -> Outcome {
        let mut out = Outcome::default();
        let refuse = |error| Reply::OffsetDelete(error, Vec::new());
        let Some(group) = self.groups.get(group_id) else {
            out.reply(token, refuse(ErrorCode::GroupIdNotFound));
            return out;
        };
        let busy = !group.members.is_empty();
        if busy && !group.uses_consumer_protocol() {
            out.reply(token, refuse(ErrorCode::NonEmptyGroup));
            return out;
        }
        let subscription = group.subscription();
        let mut results = Vec::new();
        let mut records = Vec::new();
        for partition in partitions {
            if busy && subscription.may_contain(&partition.topic) {
                results.push(ErrorCode::GroupSubscribedToTopic);
                continue;
            }
            results.push(ErrorCode::None);
            if group.offsets.contains_key(partition) {
                records.push(tombstone(group_id, partition));
            }
        }
        let reply = Reply::OffsetDelete(ErrorCode::None, results);
        out.append_offsets(records, token, reply);
        out
    }
}
