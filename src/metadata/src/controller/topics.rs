//! Topics: created, grown, deleted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use strandline_types::{BrokerId, PartitionId, TopicId, validate_topic_name};

use super::placement::{manual, place};
use super::{ControllerContext, Refusal};
use crate::config::{TIER_BY_DEFAULT, TIER_KEY, TopicConfig, validate_topic_configs};
use crate::image::{ClusterImage, PartitionImage};
use crate::record::{ConfigResource, MetadataRecord};

/// A topic to create.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewTopic {
    pub name: String,
    /// Chosen by the caller at random.
    pub id: TopicId,
    /// −1: the broker's `num.partitions`.
    pub partitions: i32,
    /// −1: the broker's `default.replication.factor`.
    pub replication_factor: i16,
    /// Replicas by partition. If given, `partitions` and `replication_factor` must be −1.
    pub assignments: BTreeMap<PartitionId, Vec<BrokerId>>,
    pub configs: BTreeMap<String, String>,
}

/// Names that collide in Kafka's metric names.
fn collides(a: &str, b: &str) -> bool {
    a != b && a.replace('.', "_") == b.replace('.', "_")
}

/// Creates a topic with all its partitions.
pub(super) fn create_topic(
    image: &ClusterImage,
    context: &ControllerContext,
    new: &NewTopic,
) -> Result<Vec<MetadataRecord>, Refusal> {
    validate_topic_name(&new.name).map_err(|e| Refusal::InvalidTopic(e.to_string()))?;
    if image.topic(&new.name).is_some() {
        return Err(Refusal::TopicExists(new.name.clone()));
    }
    if let Some(other) = image.topics().find(|t| collides(&t.name, &new.name)) {
        return Err(Refusal::InvalidTopic(format!(
            "Topic '{}' collides with existing topic: {}",
            new.name, other.name
        )));
    }
    let configs = with_default_tier(&new.configs, context);
    validate_topic_configs(&configs, None, &context.broker, context.remote_enabled)
        .map_err(Refusal::InvalidConfig)?;
    let assignments = assign(image, context, new)?;
    let mut records = vec![MetadataRecord::Topic {
        id: new.id,
        name: new.name.clone(),
    }];
    records.extend(
        assignments
            .into_iter()
            .map(|(p, replicas)| new_partition(image, new.id, p, replicas)),
    );
    records.extend(configs.iter().map(|(key, value)| MetadataRecord::Config {
        resource: ConfigResource::Topic(new.name.clone()),
        key: key.clone(),
        value: Some(value.clone()),
    }));
    Ok(records)
}

/// `log.remote.storage.enable` gives new topics their cold tier, where their policy allows one.
pub(super) fn with_default_tier(
    configs: &BTreeMap<String, String>,
    context: &ControllerContext,
) -> BTreeMap<String, String> {
    let mut configs = configs.clone();
    let wanted = context.remote_enabled && context.broker.boolean("log.remote.storage.enable");
    let compact = TopicConfig::resolve(&configs, &context.broker)
        .cleanup_policy
        .compact;
    if wanted && !compact && !configs.contains_key(TIER_KEY) {
        for key in [TIER_KEY, TIER_BY_DEFAULT] {
            configs.insert(key.to_owned(), "true".to_owned());
        }
    }
    configs
}

/// Whether the default for new topics gave the tier.
pub(super) fn is_tiered_by_default(configs: &BTreeMap<String, String>) -> bool {
    configs.contains_key(TIER_KEY) && configs.contains_key(TIER_BY_DEFAULT)
}

/// Takes away a tier that the default gave.
pub(super) fn without_default_tier(configs: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut configs = configs.clone();
    if is_tiered_by_default(&configs) {
        configs.remove(TIER_KEY);
    }
    configs.remove(TIER_BY_DEFAULT);
    configs
}

/// A new partition. The replicas whose brokers are up are in sync from the start.
fn new_partition(
    image: &ClusterImage,
    topic_id: TopicId,
    partition: PartitionId,
    replicas: Vec<BrokerId>,
) -> MetadataRecord {
    let isr: Vec<_> = replicas
        .iter()
        .filter(|r| image.is_active(**r))
        .copied()
        .collect();
    MetadataRecord::Partition {
        topic_id,
        partition,
        state: PartitionImage {
            leader: isr.first().copied(),
            isr,
            replicas,
            ..PartitionImage::default()
        },
    }
}

/// Kafka's own bound on partitions per request.
const MAX_PARTITIONS_PER_REQUEST: i32 = 10_000;

fn assign(
    image: &ClusterImage,
    context: &ControllerContext,
    new: &NewTopic,
) -> Result<Vec<(PartitionId, Vec<BrokerId>)>, Refusal> {
    if !new.assignments.is_empty() {
        if new.partitions != -1 || new.replication_factor != -1 {
            return Err(Refusal::InvalidRequest(
                "A manual partition assignment was specified, but partitions or replication factor was not set to -1."
                    .into(),
            ));
        }
        return manual(image, &new.assignments, 0);
    }
    let partitions = match new.partitions {
        -1 => context.broker.number("num.partitions") as i32,
        n => n,
    };
    let replication_factor = match new.replication_factor {
        -1 => context.broker.number("default.replication.factor") as i16,
        n => n,
    };
    if partitions < 1 {
        return Err(Refusal::InvalidPartitions(
            "Number of partitions was set to an invalid non-positive value.".into(),
        ));
    }
    if partitions > MAX_PARTITIONS_PER_REQUEST {
        return Err(Refusal::InvalidPartitions(format!(
            "A topic cannot be created with more than {MAX_PARTITIONS_PER_REQUEST} partitions at once."
        )));
    }
    place(image, None, 0..partitions, replication_factor)
}

/// Adds partitions up to `count`. `assignments` names the replicas of the new ones, in order, where the client does.
pub(super) fn create_partitions(
    image: &ClusterImage,
    name: &str,
    count: i32,
    assignments: Option<Vec<Vec<BrokerId>>>,
) -> Result<Vec<MetadataRecord>, Refusal> {
    let topic = image.topic(name).ok_or(Refusal::UnknownTopic)?;
    let have = topic.partitions.len() as i32;
    if count == have {
        return Err(Refusal::InvalidPartitions(format!(
            "Topic already has {have} partition(s)."
        )));
    }
    if count < have {
        return Err(Refusal::InvalidPartitions(format!(
            "The topic {name} currently has {have} partition(s); {count} would not be an increase."
        )));
    }
    if count - have > MAX_PARTITIONS_PER_REQUEST {
        return Err(Refusal::InvalidPartitions(
            "Too many partitions are added at once.".into(),
        ));
    }
    let placed = match assignments {
        Some(given) if given.len() as i32 != count - have => {
            return Err(Refusal::InvalidReplicaAssignment(format!(
                "Attempted to add {} additional partition(s), but only {} assignment(s) were specified.",
                count - have,
                given.len()
            )));
        }
        Some(given) => manual(image, &(have..).zip(given).collect(), have)?,
        None => {
            let factor = topic
                .partitions
                .values()
                .next()
                .map_or(1, |p| p.replicas.len());
            place(image, Some(topic), have..count, factor as i16)?
        }
    };
    Ok(placed
        .into_iter()
        .map(|(p, replicas)| new_partition(image, topic.id, p, replicas))
        .collect())
}

pub(super) fn delete_topic(
    image: &ClusterImage,
    id: TopicId,
) -> Result<Vec<MetadataRecord>, Refusal> {
    image.topic_by_id(id).ok_or(Refusal::UnknownTopicId)?;
    Ok(vec![MetadataRecord::RemoveTopic { id }])
}
