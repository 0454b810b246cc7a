//! Moving partitions between brokers (KIP-455): new replicas are added, and the old ones go when all the new ones are in
//! sync.

use serde::{Deserialize, Serialize};
use strandline_types::{BrokerId, TopicIdPartition, TopicPartition};

use super::partitions::{PartitionChange, TopicRules, find};
use super::placement::check_replicas;
use super::{Answer, ControllerContext, Decision, Refusal};
use crate::image::ClusterImage;
use crate::record::MetadataRecord;

/// Where a partition is to be; `None` ends the move that is under way and goes back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reassignment {
    pub partition: TopicPartition,
    pub replicas: Option<Vec<BrokerId>>,
}

pub(super) fn alter_reassignments(
    image: &ClusterImage,
    context: &ControllerContext,
    wishes: &[Reassignment],
) -> Decision {
    let mut records = Vec::new();
    let results = wishes
        .iter()
        .map(|wish| {
            records.extend(reassign(image, context, wish)?);
            Ok(())
        })
        .collect();
    Decision {
        records,
        answer: Answer::Results(results),
    }
}

fn reassign(
    image: &ClusterImage,
    context: &ControllerContext,
    wish: &Reassignment,
) -> Result<Option<MetadataRecord>, Refusal> {
    let tp = &wish.partition;
    let (topic, partition) = find(image, tp)?;
    let is_active = |id| image.is_active(id);
    let lost = image.lost_replicas(TopicIdPartition {
        topic_id: topic.id,
        partition: tp.partition,
    });
    let rules = TopicRules::of(image, context, topic);
    let mut change = PartitionChange::new(partition, rules, &is_active, lost);
    // The replicas of the partition before any move that is under way.
    let original: Vec<BrokerId> = partition
        .replicas
        .iter()
        .filter(|r| !partition.adding_replicas.contains(r))
        .copied()
        .collect();
    let state = &mut change.state;
    match &wish.replicas {
        None => {
            if !partition.is_reassigning() {
                return Err(Refusal::NoReassignmentInProgress);
            }
            state.replicas = original;
            state.adding_replicas.clear();
            state.removing_replicas.clear();
            let stay = state.replicas.clone();
            state.isr.retain(|r| stay.contains(r));
            state.eligible_leader_replicas.retain(|r| stay.contains(r));
            if state.isr.is_empty() && state.eligible_leader_replicas.is_empty() {
                return Err(Refusal::InvalidReplicaAssignment(format!(
                    "{tp} cannot go back: none of its former replicas is in sync."
                )));
            }
        }
        Some(target) => {
            check_replicas(image, target)?;
            state.adding_replicas = target
                .iter()
                .filter(|r| !original.contains(r))
                .copied()
                .collect();
            state.removing_replicas = original
                .iter()
                .filter(|r| !target.contains(r))
                .copied()
                .collect();
            state.replicas.clone_from(target);
            state.replicas.extend(&state.removing_replicas);
            // Replicas that an earlier move was adding and this one does not want are gone at once.
            let stay = state.replicas.clone();
            state.isr.retain(|r| stay.contains(r));
            state.eligible_leader_replicas.retain(|r| stay.contains(r));
        }
    }
    Ok(change.finish_as_record(topic, tp.partition))
}
