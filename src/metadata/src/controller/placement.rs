//! Where the replicas of new partitions go: leaders and replicas of each topic even over the brokers, as Kafka stripes them,
//! then those of all topics; replicas of one partition over as many racks as there are.

use std::collections::{BTreeMap, BTreeSet};

use strandline_types::{BrokerId, PartitionId};

use super::Refusal;
use crate::image::{BrokerImage, ClusterImage, TopicImage};

/// The replicas and leaders that a broker has already.
#[derive(Clone, Copy, Default)]
struct Load {
    of_topic: Share,
    of_all: Share,
}

/// Partitions of one topic, or of all, on a broker.
#[derive(Clone, Copy, Default)]
struct Share {
    /// Partitions that prefer it as their leader.
    preferred: usize,
    replicas: usize,
}

impl Share {
    fn add(&mut self, first: bool) {
        self.replicas += 1;
        self.preferred += usize::from(first);
    }
}

/// Places `partitions` of a topic, which may have others already, with `replication_factor` replicas each. Brokers that are
/// fenced or shutting down come last.
pub(super) fn place(
    image: &ClusterImage,
    topic: Option<&TopicImage>,
    partitions: std::ops::Range<PartitionId>,
    replication_factor: i16,
) -> Result<Vec<(PartitionId, Vec<BrokerId>)>, Refusal> {
    if replication_factor < 1 {
        return Err(Refusal::InvalidReplicationFactor(
            "Replication factor must be larger than 0, or -1 to use the default value.".into(),
        ));
    }
    let wanted = replication_factor as usize;
    let registered = image.brokers.len();
    if wanted > registered {
        return Err(Refusal::InvalidReplicationFactor(format!(
            "Unable to replicate the partition {wanted} time(s): The target replication factor of {wanted} cannot be reached because only {registered} broker(s) are registered or some brokers have all their log directories cordoned."
        )));
    }
    if !image.brokers.values().any(BrokerImage::is_active) {
        return Err(Refusal::InvalidReplicationFactor(format!(
            "Unable to replicate the partition {wanted} time(s): All brokers are currently fenced."
        )));
    }
    let mut loads = loads(image, topic);
    Ok(partitions
        .map(|p| (p, place_one(image, &mut loads, wanted)))
        .collect())
}

fn loads(image: &ClusterImage, topic: Option<&TopicImage>) -> BTreeMap<BrokerId, Load> {
    let mut loads: BTreeMap<BrokerId, Load> = image
        .brokers
        .keys()
        .map(|id| (*id, Load::default()))
        .collect();
    for other in image.topics() {
        let is_own = topic.is_some_and(|t| t.id == other.id);
        for partition in other.partitions.values() {
            for (at, replica) in partition.replicas.iter().enumerate() {
                let Some(load) = loads.get_mut(replica) else {
                    continue;
                };
                load.of_all.add(at == 0);
                if is_own {
                    load.of_topic.add(at == 0);
                }
            }
        }
    }
    loads
}

fn place_one(
    image: &ClusterImage,
    loads: &mut BTreeMap<BrokerId, Load>,
    wanted: usize,
) -> Vec<BrokerId> {
    let mut chosen: Vec<BrokerId> = Vec::with_capacity(wanted);
    let mut racks: BTreeMap<Option<&str>, usize> = BTreeMap::new();
    while chosen.len() < wanted {
        let first = chosen.is_empty();
        let best = loads
            .iter()
            .filter(|(id, _)| !chosen.contains(id))
            .min_by_key(|(id, load)| {
                let broker = &image.brokers[*id];
                let in_rack = racks.get(&broker.rack.as_deref()).copied().unwrap_or(0);
                let leads = |share: Share| if first { share.preferred } else { 0 };
                // Distance behind the leader breaks ties, so that the followers of one leader spread as well.
                let distance = chosen
                    .first()
                    .map_or(0, |leader| id.0.wrapping_sub(leader.0) as u32);
                (
                    !broker.is_active(),
                    in_rack,
                    leads(load.of_topic),
                    load.of_topic.replicas,
                    leads(load.of_all),
                    load.of_all.replicas,
                    distance,
                    **id,
                )
            })
            .map(|(id, _)| *id);
        let Some(id) = best else { break };
        let load = loads.get_mut(&id).expect("it was just found");
        load.of_all.add(first);
        load.of_topic.add(first);
        *racks.entry(image.brokers[&id].rack.as_deref()).or_default() += 1;
        chosen.push(id);
    }
    chosen
}

/// Checks a client's own assignment: consecutive partitions from `first` on, known and distinct brokers, one of them up.
pub(super) fn manual(
    image: &ClusterImage,
    assignments: &BTreeMap<PartitionId, Vec<BrokerId>>,
    first: PartitionId,
) -> Result<Vec<(PartitionId, Vec<BrokerId>)>, Refusal> {
    for (expected, (partition, replicas)) in (first..).zip(assignments) {
        if *partition != expected {
            return Err(Refusal::InvalidReplicaAssignment(
                "partitions should be a consecutive 0-based integer sequence".into(),
            ));
        }
        check_replicas(image, replicas)?;
        if !replicas.iter().any(|id| image.is_active(*id)) {
            return Err(Refusal::InvalidReplicaAssignment(format!(
                "All brokers specified in the manual partition assignment for partition {partition} are fenced or in controlled shutdown."
            )));
        }
    }
    Ok(assignments.iter().map(|(p, r)| (*p, r.clone())).collect())
}

/// Known and distinct brokers, at least one.
pub(super) fn check_replicas(image: &ClusterImage, replicas: &[BrokerId]) -> Result<(), Refusal> {
    let invalid = |text: String| Err(Refusal::InvalidReplicaAssignment(text));
    if replicas.is_empty() {
        return invalid("The manual partition assignment includes an empty replica list.".into());
    }
    let mut seen = BTreeSet::new();
    for broker in replicas {
        if !seen.insert(broker) {
            return invalid(format!(
                "The manual partition assignment includes the broker {broker} more than once."
            ));
        }
        if !image.brokers.contains_key(broker) {
            return invalid(format!(
                "The manual partition assignment includes broker {broker}, but no such broker is registered."
            ));
        }
    }
    Ok(())
}
