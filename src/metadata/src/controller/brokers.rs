//! Brokers: fenced and unfenced, shut down, forgotten. `registration.rs` registers them.
//!
//! Fencing is always safe, however early: the leader epochs that it begins keep the old process from doing harm.

use strandline_types::{BrokerEpoch, BrokerId};

use super::partitions::{change_partitions, check_broker_epoch};
use super::{ControllerContext, Refusal};
use crate::image::{BrokerImage, ClusterImage, PartitionImage};
use crate::record::MetadataRecord;

/// The broker is gone or silent: other replicas take over its partitions.
pub(super) fn fence(
    image: &ClusterImage,
    context: &ControllerContext,
    id: BrokerId,
    epoch: BrokerEpoch,
) -> Result<Vec<MetadataRecord>, Refusal> {
    let broker = check_broker_epoch(image, id, epoch)?;
    if broker.fenced {
        return Ok(Vec::new());
    }
    let mut records = vec![MetadataRecord::Broker(BrokerImage {
        fenced: true,
        in_controlled_shutdown: false,
        ..broker.clone()
    })];
    let concerned = |p: &PartitionImage| p.isr.contains(&id) || p.leader == Some(id);
    records.extend(hand_over(image, context, id, concerned));
    Ok(records)
}

/// Takes a broker out of the ISR of these partitions, and elects other leaders for those that it led.
fn hand_over(
    image: &ClusterImage,
    context: &ControllerContext,
    id: BrokerId,
    concerns: impl Fn(&PartitionImage) -> bool,
) -> Vec<MetadataRecord> {
    change_partitions(
        image,
        context,
        concerns,
        &|other| other != id && image.is_active(other),
        |_, change| change.leave_isr(id),
    )
}

/// The broker is up and knows the metadata as of its registration: it may lead partitions that have no leader.
pub(super) fn unfence(
    image: &ClusterImage,
    context: &ControllerContext,
    id: BrokerId,
    epoch: BrokerEpoch,
) -> Result<Vec<MetadataRecord>, Refusal> {
    let broker = check_broker_epoch(image, id, epoch)?;
    if !broker.fenced {
        return Ok(Vec::new());
    }
    let mut records = vec![MetadataRecord::Broker(BrokerImage {
        fenced: false,
        ..broker.clone()
    })];
    records.extend(change_partitions(
        image,
        context,
        |p| p.leader.is_none() && p.replicas.contains(&id),
        &|other| other == id || image.is_active(other),
        |_, _| {},
    ));
    Ok(records)
}

/// A broker that wants to stop hands its leaderships over and leaves every ISR in which it is not the last.
pub(super) fn shut_down(
    image: &ClusterImage,
    context: &ControllerContext,
    id: BrokerId,
    epoch: BrokerEpoch,
) -> Result<Vec<MetadataRecord>, Refusal> {
    let broker = check_broker_epoch(image, id, epoch)?;
    let mut records = Vec::new();
    if !broker.in_controlled_shutdown {
        records.push(MetadataRecord::Broker(BrokerImage {
            in_controlled_shutdown: true,
            ..broker.clone()
        }));
    }
    let has_another = |p: &PartitionImage| {
        let usable =
            |r: &BrokerId| *r != id && image.is_active(*r) && !p.offline_replicas.contains(r);
        p.isr.contains(&id) && p.isr.iter().any(usable)
    };
    records.extend(hand_over(image, context, id, has_another));
    Ok(records)
}

pub(super) fn unregister(
    image: &ClusterImage,
    id: BrokerId,
) -> Result<Vec<MetadataRecord>, Refusal> {
    match image.brokers.get(&id) {
        None => Err(Refusal::BrokerIdNotRegistered(id)),
        Some(broker) if !broker.fenced => Err(Refusal::InvalidRequest(format!(
            "Broker {id} is running; stop it before it is unregistered."
        ))),
        Some(_) => Ok(vec![MetadataRecord::UnregisterBroker(id)]),
    }
}
