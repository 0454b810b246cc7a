//! Where the replicas of new partitions go: leaders and replicas even over the brokers, replicas of one partition over as
//! many racks as there are.

use std::collections::{BTreeMap, BTreeSet};

use strandline_types::{BrokerId, PartitionId};

use super::Refusal;
use crate::image::{BrokerImage, ClusterImage};

/// The replicas and leaders that a broker has already.
#[derive(Clone, Copy, Default)]
struct Load {
    /// Partitions that prefer it as their leader.
    preferred: usize,
    replicas: usize,
}

/// Places `partitions` with `replication_factor` replicas each. Brokers that are fenced or shutting down come last.
pub(super) fn place(
    image: &ClusterImage,
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
    let mut loads = loads(image);
    Ok(partitions
        .map(|p| (p, place_one(image, &mut loads, wanted)))
        .collect())
}

fn loads(image: &ClusterImage) -> BTreeMap<BrokerId, Load> {
    let mut loads: BTreeMap<BrokerId, Load> = image
        .brokers
        .keys()
        .map(|id| (*id, Load::default()))
        .collect();
    for partition in image.topics().flat_map(|t| t.partitions.values()) {
        for (at, replica) in partition.replicas.iter().enumerate() {
            if let Some(load) = loads.get_mut(replica) {
                load.replicas += 1;
                load.preferred += usize::from(at == 0);
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
                let leads = if first { load.preferred } else { 0 };
                // Distance behind the leader breaks ties, so that the followers of one leader spread as well.
                let distance = chosen
                    .first()
                    .map_or(0, |leader| id.0.wrapping_sub(leader.0) as u32);
                (
                    !broker.is_active(),
                    in_rack,
                    leads,
                    load.replicas,
                    distance,
                    **id,
                )
            })
            .map(|(id, _)| *id);
        let Some(id) = best else { break };
        let load = loads.get_mut(&id).expect("it was just found");
        load.replicas += 1;
        load.preferred += usize::from(first);
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
