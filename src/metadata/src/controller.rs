//! The controller's decisions: `(image, command) -> (records, response)`. Nothing here acts; the quorum commits the
//! records first.

use std::collections::BTreeMap;

use strandline_types::{
    BrokerEpoch, BrokerId, LeaderEpoch, PartitionId, RemoteLogSegmentMetadata,
    RemoteLogSegmentState, TopicId, validate_topic_name,
};
use thiserror::Error;
use uuid::Uuid;

use crate::config::{
    BrokerConfig, ConfigType, TopicConfig, broker_def, topic_def, validate_topic_configs,
};
use crate::image::ClusterImage;
use crate::record::{ConfigResource, Listener, MetadataRecord};

/// Producer ids are handed out in blocks of this many.
pub const PRODUCER_ID_BLOCK: i64 = 1000;

/// Why a command is refused; the broker maps each to Kafka's code.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("{0}")]
    InvalidTopic(String),
    #[error("Topic '{0}' already exists.")]
    TopicExists(String),
    #[error("This server does not host this topic-partition.")]
    UnknownTopic,
    #[error("This server does not host this topic ID.")]
    UnknownTopicId,
    #[error("{0}")]
    InvalidPartitions(String),
    #[error("{0}")]
    InvalidReplicationFactor(String),
    #[error("{0}")]
    InvalidReplicaAssignment(String),
    #[error("{0}")]
    InvalidConfig(String),
    #[error("{0}")]
    InvalidRequest(String),
    /// A leader that has been replaced, or a step that does not follow from the segment's state.
    #[error("{0}")]
    Fenced(String),
}

/// A topic to create.
#[derive(Clone, Debug)]
pub struct NewTopic {
    pub name: String,
    /// Chosen by the caller at random.
    pub id: TopicId,
    /// −1: the broker's `num.partitions`.
    pub partitions: i32,
    /// −1: the broker's `default.replication.factor`.
    pub replication_factor: i16,
    /// By partition; then `partitions` and `replication_factor` must be −1.
    pub assignments: BTreeMap<PartitionId, Vec<BrokerId>>,
    pub configs: BTreeMap<String, String>,
}

/// What happens to one configuration key (`IncrementalAlterConfigs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigOperation {
    Set,
    Delete,
    Append,
    Subtract,
}

#[derive(Clone, Debug)]
pub struct ConfigChange {
    pub key: String,
    pub operation: ConfigOperation,
    pub value: Option<String>,
}

/// What a decision may look at beside the image.
#[derive(Clone, Debug, Default)]
pub struct ControllerContext {
    /// The controller's own broker configuration; gives topics their defaults.
    pub broker: BrokerConfig,
    /// `remote.log.storage.system.enable`
    pub remote_enabled: bool,
}

/// Names that collide in Kafka's metric names.
fn collides(a: &str, b: &str) -> bool {
    a != b && a.replace('.', "_") == b.replace('.', "_")
}

/// Creates a topic with all its partitions.
pub fn create_topic(
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
    let configs = with_default_tier(new, context);
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
            .map(|(p, replicas)| new_partition(new.id, p, replicas)),
    );
    records.extend(configs.iter().map(|(key, value)| MetadataRecord::Config {
        resource: ConfigResource::Topic(new.name.clone()),
        key: key.clone(),
        value: Some(value.clone()),
    }));
    Ok(records)
}

/// `log.remote.storage.enable` gives new topics their cold tier, where their policy allows one.
fn with_default_tier(new: &NewTopic, context: &ControllerContext) -> BTreeMap<String, String> {
    const KEY: &str = "remote.storage.enable";
    let mut configs = new.configs.clone();
    let wanted = context.remote_enabled && context.broker.boolean("log.remote.storage.enable");
    let compact = TopicConfig::resolve(&configs, &context.broker)
        .cleanup_policy
        .compact;
    if wanted && !compact && !configs.contains_key(KEY) {
        configs.insert(KEY.to_owned(), "true".to_owned());
    }
    configs
}

fn new_partition(
    topic_id: TopicId,
    partition: PartitionId,
    replicas: Vec<BrokerId>,
) -> MetadataRecord {
    MetadataRecord::Partition {
        topic_id,
        partition,
        isr: replicas.clone(),
        leader: replicas.first().copied(),
        replicas,
        leader_epoch: LeaderEpoch(0),
        partition_epoch: 0,
    }
}

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
    place(image, 0..partitions, replication_factor)
}

/// Kafka's own bound on partitions per request.
const MAX_PARTITIONS_PER_REQUEST: i32 = 10_000;

/// Round-robin placement over the registered brokers.
fn place(
    image: &ClusterImage,
    partitions: std::ops::Range<PartitionId>,
    replication_factor: i16,
) -> Result<Vec<(PartitionId, Vec<BrokerId>)>, Refusal> {
    if replication_factor < 1 {
        return Err(Refusal::InvalidReplicationFactor(
            "Replication factor must be larger than 0, or -1 to use the default value.".into(),
        ));
    }
    let brokers: Vec<BrokerId> = image.brokers.keys().copied().collect();
    let wanted = replication_factor as usize;
    if wanted > brokers.len() {
        return Err(Refusal::InvalidReplicationFactor(format!(
            "Unable to replicate the partition {wanted} time(s): The target replication factor of {wanted} cannot be reached because only {} broker(s) are registered or some brokers have all their log directories cordoned.",
            brokers.len()
        )));
    }
    let start = image.partition_count();
    let replicas = |p: PartitionId| {
        (0..wanted)
            .map(|r| brokers[(start + p as usize + r) % brokers.len()])
            .collect()
    };
    Ok(partitions.map(|p| (p, replicas(p))).collect())
}

/// Checks a client's own assignment: consecutive partitions from `first` on, known and distinct brokers.
fn manual(
    image: &ClusterImage,
    assignments: &BTreeMap<PartitionId, Vec<BrokerId>>,
    first: PartitionId,
) -> Result<Vec<(PartitionId, Vec<BrokerId>)>, Refusal> {
    let invalid = |text: String| Err(Refusal::InvalidReplicaAssignment(text));
    for (expected, (partition, replicas)) in (first..).zip(assignments) {
        if *partition != expected {
            return invalid("partitions should be a consecutive 0-based integer sequence".into());
        }
        if replicas.is_empty() {
            return invalid(
                "The manual partition assignment includes an empty replica list.".into(),
            );
        }
        let mut seen = std::collections::BTreeSet::new();
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
    }
    Ok(assignments.iter().map(|(p, r)| (*p, r.clone())).collect())
}

/// Adds partitions up to `count`. `assignments` names the replicas of the new ones, in order, where the client does.
pub fn create_partitions(
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
            place(image, have..count, factor as i16)?
        }
    };
    Ok(placed
        .into_iter()
        .map(|(p, replicas)| new_partition(topic.id, p, replicas))
        .collect())
}

pub fn delete_topic(image: &ClusterImage, id: TopicId) -> Result<Vec<MetadataRecord>, Refusal> {
    image.topic_by_id(id).ok_or(Refusal::UnknownTopicId)?;
    Ok(vec![MetadataRecord::RemoveTopic { id }])
}

/// Changes some keys of one resource (`IncrementalAlterConfigs`).
pub fn alter_configs(
    image: &ClusterImage,
    context: &ControllerContext,
    resource: &ConfigResource,
    changes: &[ConfigChange],
) -> Result<Vec<MetadataRecord>, Refusal> {
    let before = image.configs(resource);
    let mut after = before.clone();
    for change in changes {
        apply_change(&mut after, resource, change)?;
    }
    commit_configs(image, context, resource, before, &after)
}

/// Replaces all keys of one resource (the old `AlterConfigs`).
pub fn replace_configs(
    image: &ClusterImage,
    context: &ControllerContext,
    resource: &ConfigResource,
    after: &BTreeMap<String, String>,
) -> Result<Vec<MetadataRecord>, Refusal> {
    commit_configs(image, context, resource, image.configs(resource), after)
}

fn apply_change(
    values: &mut BTreeMap<String, String>,
    resource: &ConfigResource,
    change: &ConfigChange,
) -> Result<(), Refusal> {
    let def = match resource {
        ConfigResource::Topic(_) => topic_def(&change.key),
        ConfigResource::Broker(_) => broker_def(&change.key),
        _ => None,
    };
    let needs_value = || {
        change.value.clone().ok_or_else(|| {
            Refusal::InvalidConfig(format!("Null value not supported for : {}", change.key))
        })
    };
    match change.operation {
        ConfigOperation::Set => {
            values.insert(change.key.clone(), needs_value()?);
        }
        ConfigOperation::Delete => {
            values.remove(&change.key);
        }
        ConfigOperation::Append | ConfigOperation::Subtract => {
            if def.is_none_or(|d| d.type_ != ConfigType::List) {
                return Err(Refusal::InvalidConfig(format!(
                    "Can't {} to key {} because its type is not LIST.",
                    if change.operation == ConfigOperation::Append {
                        "append"
                    } else {
                        "subtract"
                    },
                    change.key
                )));
            }
            let current = values
                .get(&change.key)
                .cloned()
                .or_else(|| def.and_then(|d| d.default.clone()));
            let mut list: Vec<String> = split_list(current.as_deref().unwrap_or_default());
            for item in split_list(&needs_value()?) {
                if change.operation == ConfigOperation::Subtract {
                    list.retain(|have| *have != item);
                } else if !list.contains(&item) {
                    list.push(item);
                }
            }
            values.insert(change.key.clone(), list.join(","));
        }
    }
    Ok(())
}

fn split_list(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|s| !s.is_empty())
        .map(str::to_owned)
        .collect()
}

fn commit_configs(
    image: &ClusterImage,
    context: &ControllerContext,
    resource: &ConfigResource,
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Result<Vec<MetadataRecord>, Refusal> {
    match resource {
        ConfigResource::Topic(name) => {
            image.topic(name).ok_or(Refusal::UnknownTopic)?;
            validate_topic_configs(after, Some(before), &context.broker, context.remote_enabled)
                .map_err(Refusal::InvalidConfig)?;
        }
        ConfigResource::Broker(_) => validate_broker_configs(before, after)?,
        ConfigResource::Group(_) | ConfigResource::ClientMetrics(_) => {
            return Err(Refusal::InvalidRequest(
                "This resource type cannot be configured yet.".into(),
            ));
        }
    }
    let record = |key: &String, value: Option<&String>| MetadataRecord::Config {
        resource: resource.clone(),
        key: key.clone(),
        value: value.cloned(),
    };
    let removed = before
        .keys()
        .filter(|k| !after.contains_key(*k))
        .map(|k| record(k, None));
    let set = after
        .iter()
        .filter(|(k, v)| before.get(*k) != Some(v))
        .map(|(k, v)| record(k, Some(v)));
    Ok(removed.chain(set).collect())
}

fn validate_broker_configs(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Result<(), Refusal> {
    let changed = after.iter().filter(|(k, v)| before.get(*k) != Some(v));
    for (key, value) in changed {
        // Kafka lets any name stand in a broker's dynamic configuration; a known one must be dynamic and valid.
        let Some(def) = broker_def(key) else { continue };
        if !def.dynamic {
            return Err(Refusal::InvalidRequest(format!(
                "Cannot update these configs dynamically: [{key}]"
            )));
        }
        def.validate(value).map_err(Refusal::InvalidRequest)?;
    }
    Ok(())
}

/// Registers a broker's new incarnation. `epoch` is the index that the record will have in the quorum's log.
#[derive(Clone, Debug)]
pub struct Registration {
    pub id: BrokerId,
    pub incarnation: Uuid,
    pub rack: Option<String>,
    pub listeners: Vec<Listener>,
    pub log_dirs: Vec<Uuid>,
    /// Made by the first controller where the cluster has none.
    pub cluster_id: String,
}

pub fn register_broker(image: &ClusterImage, new: Registration) -> Vec<MetadataRecord> {
    let mut records = Vec::new();
    if image.cluster_id.is_none() {
        records.push(MetadataRecord::ClusterId(new.cluster_id));
    }
    records.push(MetadataRecord::RegisterBroker {
        id: new.id,
        incarnation: new.incarnation,
        epoch: BrokerEpoch(image.applied_index as i64 + 1),
        rack: new.rack,
        listeners: new.listeners,
        log_dirs: new.log_dirs,
    });
    // Partitions that this broker leads begin a new leader epoch: the old process may have died with its.
    for topic in image.topics() {
        for (partition, p) in &topic.partitions {
            if p.leader == Some(new.id) {
                records.push(MetadataRecord::Partition {
                    topic_id: topic.id,
                    partition: *partition,
                    replicas: p.replicas.clone(),
                    isr: p.isr.clone(),
                    leader: p.leader,
                    leader_epoch: LeaderEpoch(p.leader_epoch.0 + 1),
                    partition_epoch: p.partition_epoch + 1,
                });
            }
        }
    }
    records
}

/// Reserves a block of producer ids; the first of them is the image's `next_producer_id`.
pub fn allocate_producer_ids(image: &ClusterImage) -> Vec<MetadataRecord> {
    vec![MetadataRecord::NextProducerId(
        image.next_producer_id + PRODUCER_ID_BLOCK,
    )]
}

/// Moves a remote segment to its next state, for the leader that asks.
///
/// `CopySegmentStarted` must come from the partition's current leader epoch and continue where the readable copies end:
/// a stale leader, or one that has not yet seen the last copy, is refused.
pub fn update_remote_segment(
    image: &ClusterImage,
    segment: RemoteLogSegmentMetadata,
) -> Result<Vec<MetadataRecord>, Refusal> {
    use RemoteLogSegmentState::{CopySegmentFinished, CopySegmentStarted, DeleteSegmentFinished};
    image
        .check_remote_segment(&segment)
        .map_err(Refusal::Fenced)?;
    let deleting = !matches!(segment.state, CopySegmentStarted | CopySegmentFinished);
    if !deleting {
        check_copier(image, &segment)?;
    }
    if segment.state == DeleteSegmentFinished {
        return Ok(vec![MetadataRecord::RemoveRemoteSegment {
            partition: segment.partition,
            id: segment.id,
        }]);
    }
    Ok(vec![MetadataRecord::RemoteSegment(segment)])
}

fn check_copier(image: &ClusterImage, segment: &RemoteLogSegmentMetadata) -> Result<(), Refusal> {
    let fenced = |text: String| Err(Refusal::Fenced(text));
    let tp = segment.partition;
    let Some(partition) = image
        .topic_by_id(tp.topic_id)
        .and_then(|t| t.partitions.get(&tp.partition))
    else {
        return fenced(format!("partition {tp} does not exist"));
    };
    if partition.leader != Some(segment.broker_id) || partition.leader_epoch != segment.leader_epoch
    {
        return fenced(format!(
            "broker {} in epoch {} does not lead {tp} (leader {:?}, epoch {})",
            segment.broker_id, segment.leader_epoch, partition.leader, partition.leader_epoch
        ));
    }
    let highest = image
        .remote_log(tp)
        .map_or(-1, |log| log.highest_remote_offset());
    if segment.base_offset <= highest {
        return fenced(format!(
            "offsets from {} of {tp} are in the cold tier already (up to {highest})",
            segment.base_offset
        ));
    }
    Ok(())
}

/// The objects of a deleted topic are gone.
pub fn topic_purged(id: TopicId) -> Vec<MetadataRecord> {
    vec![MetadataRecord::TopicPurged { id }]
}

#[cfg(test)]
mod tests {
    use strandline_types::RemoteLogSegmentState::*;
    use strandline_types::{RemoteLogSegmentId, TopicIdPartition};

    use super::*;

    fn image() -> ClusterImage {
        let mut image = ClusterImage::default();
        let registration = Registration {
            id: BrokerId(1),
            incarnation: Uuid::nil(),
            rack: None,
            listeners: vec![],
            log_dirs: vec![],
            cluster_id: "c".into(),
        };
        apply(
            &mut image,
            register_broker(&ClusterImage::default(), registration),
        );
        image
    }

    fn apply(image: &mut ClusterImage, records: Vec<MetadataRecord>) {
        let bytes = crate::encode_records(&records);
        for record in crate::decode_records(&bytes).unwrap() {
            image.apply(record);
        }
    }

    fn topic(name: &str, partitions: i32) -> NewTopic {
        NewTopic {
            name: name.into(),
            id: TopicId(Uuid::from_u128(u128::from(name.as_bytes()[0]))),
            partitions,
            replication_factor: 1,
            assignments: BTreeMap::new(),
            configs: [("retention.ms".to_owned(), "5".to_owned())].into(),
        }
    }

    fn create(image: &mut ClusterImage, new: &NewTopic) -> Result<(), Refusal> {
        let records = create_topic(image, &context(), new)?;
        apply(image, records);
        Ok(())
    }

    fn context() -> ControllerContext {
        ControllerContext {
            remote_enabled: true,
            ..ControllerContext::default()
        }
    }

    #[test]
    fn a_topic_lives_from_creation_over_growth_to_deletion() {
        let mut image = image();
        create(&mut image, &topic("t", 3)).unwrap();
        assert_eq!(
            image.topic("t").unwrap().partitions[&2].leader,
            Some(BrokerId(1))
        );
        assert_eq!(image.topic_configs("t")["retention.ms"], "5");
        assert_eq!(
            create(&mut image, &topic("t", 3)),
            Err(Refusal::TopicExists("t".into()))
        );
        let grown = create_partitions(&image, "t", 5, None).unwrap();
        apply(&mut image, grown);
        assert_eq!(image.topic("t").unwrap().partitions.len(), 5);
        assert!(create_partitions(&image, "t", 5, None).is_err());
        let id = image.topic("t").unwrap().id;
        let gone = delete_topic(&image, id).unwrap();
        apply(&mut image, gone);
        assert!(image.topic("t").is_none() && image.topic_configs("t").is_empty());
    }

    #[test]
    fn impossible_topics_are_refused() {
        let mut image = image();
        assert!(matches!(
            create(&mut image, &topic("a/b", 1)),
            Err(Refusal::InvalidTopic(_))
        ));
        assert!(matches!(
            create(&mut image, &topic("t", 0)),
            Err(Refusal::InvalidPartitions(_))
        ));
        let replicated = NewTopic {
            replication_factor: 3,
            ..topic("t", 1)
        };
        assert!(matches!(
            create(&mut image, &replicated),
            Err(Refusal::InvalidReplicationFactor(_))
        ));
        create(&mut image, &topic("a.b", 1)).unwrap();
        assert!(matches!(
            create(&mut image, &topic("a_b", 1)),
            Err(Refusal::InvalidTopic(_))
        ));
        let strange = NewTopic {
            partitions: -1,
            replication_factor: -1,
            assignments: [(0, vec![BrokerId(9)])].into(),
            ..topic("m", 1)
        };
        assert!(matches!(
            create(&mut image, &strange),
            Err(Refusal::InvalidReplicaAssignment(_))
        ));
    }

    #[test]
    fn lists_grow_and_shrink_and_read_only_keys_do_not_change() {
        let mut image = image();
        create(&mut image, &topic("t", 1)).unwrap();
        let resource = ConfigResource::Topic("t".into());
        let change = |operation, value: &str| ConfigChange {
            key: "cleanup.policy".into(),
            operation,
            value: Some(value.into()),
        };
        for (operation, value, wanted) in [
            (ConfigOperation::Append, "compact", "delete,compact"),
            (ConfigOperation::Subtract, "delete", "compact"),
        ] {
            let records =
                alter_configs(&image, &context(), &resource, &[change(operation, value)]).unwrap();
            apply(&mut image, records);
            assert_eq!(image.topic_configs("t")["cleanup.policy"], wanted);
        }
        let read_only = ConfigChange {
            key: "log.dirs".into(),
            operation: ConfigOperation::Set,
            value: Some("/x".into()),
        };
        let broker = ConfigResource::Broker(Some(BrokerId(1)));
        assert!(matches!(
            alter_configs(&image, &context(), &broker, &[read_only]),
            Err(Refusal::InvalidRequest(_))
        ));
    }

    #[test]
    fn only_the_current_leader_may_copy_and_nothing_twice() {
        let mut image = image();
        create(&mut image, &topic("t", 1)).unwrap();
        let partition = TopicIdPartition {
            topic_id: image.topic("t").unwrap().id,
            partition: 0,
        };
        let segment = |attempt: u128, base: i64, state| RemoteLogSegmentMetadata {
            id: RemoteLogSegmentId(Uuid::from_u128(attempt)),
            partition,
            base_offset: base,
            end_offset: base + 10,
            max_timestamp_ms: 0,
            broker_id: BrokerId(1),
            leader_epoch: LeaderEpoch(0),
            event_timestamp_ms: 0,
            segment_leader_epochs: vec![],
            log_bytes: 100,
            log_crc32c: 0,
            side_bytes: 0,
            side_crc32c: 0,
            state,
        };
        let mut step = |s: RemoteLogSegmentMetadata| {
            let records = update_remote_segment(&image, s)?;
            apply(&mut image, records);
            Ok::<_, Refusal>(image.clone())
        };
        assert!(
            step(segment(1, 0, CopySegmentFinished)).is_err(),
            "never started"
        );
        step(segment(1, 0, CopySegmentStarted)).unwrap();
        let stale = RemoteLogSegmentMetadata {
            leader_epoch: LeaderEpoch(7),
            ..segment(1, 0, CopySegmentFinished)
        };
        assert!(step(stale).is_err());
        let after = step(segment(1, 0, CopySegmentFinished)).unwrap();
        let log = after.remote_log(partition).unwrap();
        assert_eq!(log.highest_remote_offset(), 9);
        assert_eq!(log.segment_for(9).unwrap().base_offset, 0);
        assert!(log.segment_for(10).is_none());
        assert!(
            step(segment(2, 0, CopySegmentStarted)).is_err(),
            "copied already"
        );
        step(segment(3, 10, CopySegmentStarted)).unwrap();
        step(segment(1, 0, DeleteSegmentStarted)).unwrap();
        assert!(
            step(segment(1, 0, CopySegmentFinished)).is_err(),
            "no way back"
        );
        let after = step(segment(1, 0, DeleteSegmentFinished)).unwrap();
        assert_eq!(after.remote_log(partition).unwrap().segments().count(), 1);
    }
}
