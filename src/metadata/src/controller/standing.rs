//! Replicas whose log directory has failed, is full, or can be used again. Such replicas are in `offline_replicas`: they do
//! not lead and join no ISR until their broker says that they can be used, or starts again.

use strandline_types::{BrokerEpoch, BrokerId, TopicIdPartition};

use super::partitions::{PartitionChange, TopicRules, check_broker_epoch};
use super::{ControllerContext, Refusal};
use crate::image::{ClusterImage, PartitionImage};
use crate::record::MetadataRecord;

/// A broker's statement about some of its replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Their log directory has failed: they leave their ISR and lead no more; the broker keeps its others.
    Failed,
    /// Nothing can be appended to them. A full replica steps aside where another one can lead; alone, it still serves
    /// reads. The next leader was in sync, so nothing is lost.
    Full,
    Usable,
}

pub(super) fn replicas_are(
    image: &ClusterImage,
    context: &ControllerContext,
    (id, epoch): (BrokerId, BrokerEpoch),
    partitions: &[TopicIdPartition],
    standing: Standing,
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
        if standing == Standing::Full && !others_go_on(partition, id, &is_active) {
            continue;
        }
        let rules = TopicRules::of(image, context, topic);
        let lost = image.lost_replicas(*tp);
        let mut change = PartitionChange::new(partition, rules, &is_active, lost);
        if standing == Standing::Usable {
            change.state.offline_replicas.retain(|r| *r != id);
        } else {
            if !change.state.offline_replicas.contains(&id) {
                change.state.offline_replicas.push(id);
            }
            change.leave_isr(id);
        }
        records.extend(change.finish_as_record(topic, tp.partition));
    }
    Ok(records)
}

/// Whether another replica leads, or is in sync and can.
fn others_go_on(
    partition: &PartitionImage,
    id: BrokerId,
    is_active: &dyn Fn(BrokerId) -> bool,
) -> bool {
    let usable = |r: BrokerId| r != id && is_active(r) && !partition.offline_replicas.contains(&r);
    partition.leader.is_some_and(usable) || partition.isr.iter().any(|r| usable(*r))
}
