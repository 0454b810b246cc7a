//! Brokers: registered, fenced and unfenced, shut down, forgotten.
//!
//! Fencing is always safe, however early: the leader epochs that it begins keep the old process from doing harm.

use serde::{Deserialize, Serialize};
use strandline_types::{BrokerEpoch, BrokerId, TopicIdPartition};
use uuid::Uuid;

use super::partitions::{Loss, PartitionChange, TopicRules, change_partitions, check_broker_epoch};
use super::{ControllerContext, Refusal};
use crate::image::{BrokerImage, ClusterImage, PartitionImage};
use crate::record::{Listener, MetadataRecord};

/// A broker's new incarnation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Registration {
    pub id: BrokerId,
    pub incarnation: Uuid,
    pub rack: Option<String>,
    pub listeners: Vec<Listener>,
    pub log_dirs: Vec<Uuid>,
    /// Made by the first broker where the cluster has none.
    pub cluster_id: String,
    /// The process before this one stopped in order: nothing that was written can be missing.
    pub clean_start: bool,
}

/// Registers an incarnation, fenced. Other replicas take over the partitions that the previous incarnation led, and its
/// places in the ISR. Where no other replica is in sync, the broker stays eligible, unless its disks may have lost
/// records that it vouched for.
pub(super) fn register(
    image: &ClusterImage,
    context: &ControllerContext,
    new: Registration,
) -> Result<Vec<MetadataRecord>, Refusal> {
    let mut records = Vec::new();
    match &image.cluster_id {
        None => records.push(MetadataRecord::ClusterId(new.cluster_id)),
        Some(known) if *known != new.cluster_id => {
            return Err(Refusal::InconsistentClusterId(known.clone()));
        }
        Some(_) => {}
    }
    let before = image.brokers.get(&new.id);
    if let Some(before) = before {
        if before.incarnation == new.incarnation {
            return Ok(records);
        }
        let another = before.log_dirs.iter().any(|d| !new.log_dirs.contains(d));
        let (id, clean) = (new.id, new.clean_start);
        records.extend(change_partitions(
            image,
            context,
            |p| p.replicas.contains(&id),
            &|other| other != id && image.is_active(other),
            |rules, change| {
                change.state.offline_replicas.retain(|r| *r != id);
                if another {
                    change.forget(id, Loss::Everything);
                } else if !clean && !rules.flushed {
                    change.forget(id, Loss::Unflushed);
                } else {
                    change.leave_isr(id);
                }
            },
        ));
    }
    records.push(MetadataRecord::Broker(BrokerImage {
        id: new.id,
        incarnation: new.incarnation,
        // The index that this entry will have, or one just below: it only has to grow with every registration.
        epoch: BrokerEpoch(image.applied_index as i64 + 1),
        rack: new.rack,
        listeners: new.listeners,
        log_dirs: new.log_dirs,
        fenced: true,
        in_controlled_shutdown: false,
    }));
    Ok(records)
}

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

/// Replicas whose log directory has failed leave their ISR and lead no more; the broker keeps its others.
pub(super) fn replicas_failed(
    image: &ClusterImage,
    context: &ControllerContext,
    id: BrokerId,
    epoch: BrokerEpoch,
    partitions: &[TopicIdPartition],
) -> Result<Vec<MetadataRecord>, Refusal> {
    check_broker_epoch(image, id, epoch)?;
    let is_active = |other| image.is_active(other);
    let mut records = Vec::new();
    for tp in partitions {
        let Some(topic) = image.topic_by_id(tp.topic_id) else {
            continue;
        };
        let Some(partition) = topic.partitions.get(&tp.partition) else {
            continue;
        };
        let rules = TopicRules::of(image, context, topic);
        let mut change = PartitionChange::new(partition, rules, &is_active);
        if !change.state.offline_replicas.contains(&id) {
            change.state.offline_replicas.push(id);
        }
        change.leave_isr(id);
        records.extend(change.finish_as_record(topic, tp.partition));
    }
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
