//! A broker registers a new incarnation: what the one before led or kept in sync goes to others, and what its log
//! directories have lost is noted.
//!
//! A broker tells which replicas it has found. A log directory that is not there any more takes with it what lay in it, and
//! nothing else. Where no directory is new, the missing one may come back: replicas that somebody relies on wait for it,
//! offline. Where a directory is new, it has replaced the missing one, and what lay there is lost.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use strandline_types::{BrokerEpoch, BrokerId, TopicIdPartition};
use uuid::Uuid;

use super::partitions::{Loss, PartitionChange, TopicRules};
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

/// A replica in the log directories of a broker that starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundReplica {
    pub partition: TopicIdPartition,
    /// Something was appended to it, or may have been.
    pub has_records: bool,
}

/// The fate of a replica since its broker registered before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The replica is where it was, or nothing tells otherwise.
    Here,
    /// Its log directory is not there and may come back.
    Away,
    /// Its log directory was replaced by a new one.
    Lost,
}

/// The log directories of a broker, compared with those of its incarnation before.
#[derive(Clone, Copy, Debug)]
struct Directories {
    any_missing: bool,
    any_new: bool,
}

fn fate(directories: Directories, is_found: bool, somebody_relies_on_it: bool) -> Fate {
    match directories {
        _ if is_found => Fate::Here,
        Directories {
            any_missing: false, ..
        } => Fate::Here,
        Directories { any_new: true, .. } => Fate::Lost,
        _ if somebody_relies_on_it => Fate::Away,
        _ => Fate::Here,
    }
}

/// Registers an incarnation, fenced. Other replicas take over the partitions that the previous incarnation led, and its
/// places in the ISR. Where no other replica is in sync, the broker stays eligible, unless its disks may have lost
/// records that it vouched for.
pub(super) fn register(
    image: &ClusterImage,
    context: &ControllerContext,
    new: Registration,
    found: &[FoundReplica],
) -> Result<Vec<MetadataRecord>, Refusal> {
    let mut records = Vec::new();
    match &image.cluster_id {
        None => records.push(MetadataRecord::ClusterId(new.cluster_id.clone())),
        Some(known) if *known != new.cluster_id => {
            return Err(Refusal::InconsistentClusterId(known.clone()));
        }
        Some(_) => {}
    }
    let mut log_dirs = new.log_dirs.clone();
    if let Some(before) = image.brokers.get(&new.id) {
        if before.incarnation == new.incarnation {
            return Ok(records);
        }
        let missing: Vec<Uuid> = before
            .log_dirs
            .iter()
            .filter(|d| !new.log_dirs.contains(d))
            .copied()
            .collect();
        let directories = Directories {
            any_missing: !missing.is_empty(),
            any_new: new.log_dirs.iter().any(|d| !before.log_dirs.contains(d)),
        };
        let (changes, any_away) = begin_again(image, context, &new, found, directories);
        records.extend(changes);
        if any_away {
            // Until they are replaced, the directories are missed at every start.
            log_dirs.extend(missing);
        }
    }
    records.push(MetadataRecord::Broker(BrokerImage {
        id: new.id,
        incarnation: new.incarnation,
        // The index that this entry will have, or one just below: it only has to grow with every registration.
        epoch: BrokerEpoch(image.applied_index as i64 + 1),
        rack: new.rack,
        listeners: new.listeners,
        log_dirs,
        fenced: true,
        in_controlled_shutdown: false,
    }));
    Ok(records)
}

/// Changes every replica of the broker; returns whether any waits for its directory.
fn begin_again(
    image: &ClusterImage,
    context: &ControllerContext,
    new: &Registration,
    found: &[FoundReplica],
    directories: Directories,
) -> (Vec<MetadataRecord>, bool) {
    let found: BTreeMap<TopicIdPartition, bool> =
        found.iter().map(|f| (f.partition, f.has_records)).collect();
    let id = new.id;
    let is_active = |other| other != id && image.is_active(other);
    let mut records = Vec::new();
    let mut any_away = false;
    for topic in image.topics() {
        let mut rules = None;
        let own = topic.partitions.iter();
        for (number, partition) in own.filter(|(_, p)| p.replicas.contains(&id)) {
            let rules = *rules.get_or_insert_with(|| TopicRules::of(image, context, topic));
            let tp = TopicIdPartition {
                topic_id: topic.id,
                partition: *number,
            };
            let has_records = found.get(&tp).copied();
            let fate = fate(directories, has_records.is_some(), relies_on(partition, id));
            let lost = image.lost_replicas(tp);
            let mut change = PartitionChange::new(partition, rules, &is_active, lost);
            change.state.offline_replicas.retain(|r| *r != id);
            match fate {
                Fate::Lost => change.forget(id, Loss::Everything),
                Fate::Away => {
                    any_away = true;
                    change.state.offline_replicas.push(id);
                    change.leave_isr(id);
                }
                Fate::Here if has_records == Some(true) && is_all_there_is(partition, id) => {
                    change.state.eligible_leader_replicas.push(id);
                }
                Fate::Here if !new.clean_start && !rules.flushed => {
                    change.forget(id, Loss::Unflushed);
                }
                Fate::Here => change.leave_isr(id),
            }
            records.extend(change.finish_as_record(topic, *number));
            if fate == Fate::Lost && !lost.contains(&id) {
                let mut replicas = lost.to_vec();
                replicas.push(id);
                records.push(MetadataRecord::LostReplicas {
                    partition: tp,
                    replicas,
                });
            }
        }
    }
    (records, any_away)
}

/// Whether the partition may need what this replica has: a replica that is neither in sync nor eligible can be made anew.
fn relies_on(partition: &PartitionImage, id: BrokerId) -> bool {
    partition.isr.contains(&id)
        || partition.eligible_leader_replicas.contains(&id)
        || partition.last_known_leader == Some(id)
        || partition.offline_replicas.contains(&id)
}

/// The only replica was given up, and here it is with its records: its directory has come back.
fn is_all_there_is(partition: &PartitionImage, id: BrokerId) -> bool {
    partition.replicas == [id]
        && partition.leader.is_none()
        && partition.isr.is_empty()
        && partition.eligible_leader_replicas.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lay_in_a_missing_directory_is_away_or_lost() {
        let directories = |any_missing, any_new| Directories {
            any_missing,
            any_new,
        };
        for relied_on in [false, true] {
            for any_missing in [false, true] {
                for any_new in [false, true] {
                    let found = fate(directories(any_missing, any_new), true, relied_on);
                    assert_eq!(found, Fate::Here);
                }
            }
            assert_eq!(
                fate(directories(false, false), false, relied_on),
                Fate::Here
            );
            assert_eq!(fate(directories(false, true), false, relied_on), Fate::Here);
            assert_eq!(fate(directories(true, true), false, relied_on), Fate::Lost);
        }
        assert_eq!(fate(directories(true, false), false, true), Fate::Away);
        assert_eq!(fate(directories(true, false), false, false), Fate::Here);
    }
}
