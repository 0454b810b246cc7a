//! The cluster as the applied records make it. Cheap to clone: the large parts are shared and copied on change.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use strandline_types::{
    BrokerEpoch, BrokerId, LeaderEpoch, Offset, PartitionId, RemoteLogSegmentId,
    RemoteLogSegmentMetadata, RemoteLogSegmentState, TopicId, TopicIdPartition,
};
use uuid::Uuid;

use crate::quota::Quotas;
use crate::record::{ConfigResource, Listener, MetadataRecord};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerImage {
    pub id: BrokerId,
    pub incarnation: Uuid,
    pub epoch: BrokerEpoch,
    pub rack: Option<String>,
    pub listeners: Vec<Listener>,
    pub log_dirs: Vec<Uuid>,
    /// A fenced broker leads nothing and is shown to no client: it was silent for too long, or has not yet caught up
    /// with the metadata.
    pub fenced: bool,
    /// On its way out: it gets no leaderships and no place in an ISR any more.
    pub in_controlled_shutdown: bool,
}

impl BrokerImage {
    /// `host:port` of a listener.
    pub fn address(&self, listener: &str) -> Option<String> {
        let found = self.listeners.iter().find(|l| l.name == listener)?;
        Some(format!("{}:{}", found.host, found.port))
    }

    /// Whether it may lead and join in-sync sets.
    pub fn is_active(&self) -> bool {
        !self.fenced && !self.in_controlled_shutdown
    }
}

/// The replicas of a partition, and which of them may lead it (KIP-966 names the two sets behind the ISR).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionImage {
    /// The replicas in order of preference.
    pub replicas: Vec<BrokerId>,
    pub isr: Vec<BrokerId>,
    pub leader: Option<BrokerId>,
    pub leader_epoch: LeaderEpoch,
    /// Counts every change.
    pub partition_epoch: i32,
    /// Replicas that a running reassignment adds, and those that it removes; both are in `replicas`.
    pub adding_replicas: Vec<BrokerId>,
    pub removing_replicas: Vec<BrokerId>,
    /// Left the ISR while it was below `min.insync.replicas`: they have every committed record and may lead.
    pub eligible_leader_replicas: Vec<BrokerId>,
    /// The last leader, when neither set has a member left.
    pub last_known_leader: Option<BrokerId>,
    /// The leader was elected uncleanly and has not reported its recovery yet.
    pub leader_recovering: bool,
    /// Replicas whose log directory has failed, until their broker starts again.
    pub offline_replicas: Vec<BrokerId>,
}

impl PartitionImage {
    /// Whether replicas are being added or removed.
    pub fn is_reassigning(&self) -> bool {
        !self.adding_replicas.is_empty() || !self.removing_replicas.is_empty()
    }

    /// The replicas that a reassignment under way ends with.
    pub fn target_replicas(&self) -> Vec<BrokerId> {
        let stays = |r: &&BrokerId| !self.removing_replicas.contains(r);
        self.replicas.iter().filter(stays).copied().collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicImage {
    pub id: TopicId,
    pub name: Arc<str>,
    pub partitions: BTreeMap<PartitionId, Arc<PartitionImage>>,
}

/// The remote segments of one partition, in every state, by base offset and attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteLogImage {
    segments: BTreeMap<(Offset, RemoteLogSegmentId), RemoteLogSegmentMetadata>,
}

impl RemoteLogImage {
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &RemoteLogSegmentMetadata> {
        self.segments.values()
    }

    /// Segments that may be read, by base offset.
    pub fn readable(&self) -> impl DoubleEndedIterator<Item = &RemoteLogSegmentMetadata> {
        self.segments.values().filter(|s| s.is_readable())
    }

    pub fn get(
        &self,
        base_offset: Offset,
        id: RemoteLogSegmentId,
    ) -> Option<&RemoteLogSegmentMetadata> {
        self.segments.get(&(base_offset, id))
    }

    pub fn find(&self, id: RemoteLogSegmentId) -> Option<&RemoteLogSegmentMetadata> {
        self.segments.values().find(|s| s.id == id)
    }

    /// Readable segments that begin at or below `offset`, by base offset.
    pub fn readable_around(
        &self,
        offset: Offset,
    ) -> impl DoubleEndedIterator<Item = &RemoteLogSegmentMetadata> {
        let key = (offset, RemoteLogSegmentId(Uuid::max()));
        let below = self.segments.range(..=key).map(|(_, segment)| segment);
        below.filter(|segment| segment.is_readable())
    }

    /// The readable segment that holds `offset`.
    pub fn segment_for(&self, offset: Offset) -> Option<&RemoteLogSegmentMetadata> {
        let mut around = self.readable_around(offset).rev();
        around.find(|segment| segment.end_offset > offset)
    }

    /// Inclusive last offset that is in the cold tier, −1 where there is none.
    pub fn highest_remote_offset(&self) -> Offset {
        self.readable()
            .map(RemoteLogSegmentMetadata::last_offset)
            .max()
            .unwrap_or(-1)
    }

    pub fn readable_bytes(&self) -> u64 {
        self.readable().map(|s| s.log_bytes).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }
}

/// Fields of [`ClusterImage`] that are newer than the format of its snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addendum {
    lost: Arc<BTreeMap<TopicIdPartition, Vec<BrokerId>>>,
}

/// A replica that is in sync has everything again, and one that was taken away has nothing to lose.
fn forget_lost(
    lost: &mut Arc<BTreeMap<TopicIdPartition, Vec<BrokerId>>>,
    partition: TopicIdPartition,
    state: &PartitionImage,
) {
    if !lost.contains_key(&partition) {
        return;
    }
    let lost = Arc::make_mut(lost);
    if let Some(replicas) = lost.get_mut(&partition) {
        replicas.retain(|r| state.replicas.contains(r) && !state.isr.contains(r));
        if replicas.is_empty() {
            lost.remove(&partition);
        }
    }
}

/// All metadata of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterImage {
    pub cluster_id: Option<String>,
    pub brokers: BTreeMap<BrokerId, BrokerImage>,
    topics: Arc<BTreeMap<Arc<str>, Arc<TopicImage>>>,
    topic_names: Arc<BTreeMap<TopicId, Arc<str>>>,
    configs: Arc<BTreeMap<ConfigResource, BTreeMap<String, String>>>,
    remote: Arc<BTreeMap<TopicIdPartition, Arc<RemoteLogImage>>>,
    /// Deleted topics whose remote data is still to be purged.
    purging: Arc<BTreeMap<TopicId, Arc<str>>>,
    /// The voters of the quorum and the other members, once `controller.quorum.voters` is no longer the last word.
    pub voters: BTreeMap<BrokerId, bool>,
    quotas: Arc<Quotas>,
    /// Replicas that lost everything and have not been in sync since; in the addendum of a snapshot.
    #[serde(skip)]
    lost: Arc<BTreeMap<TopicIdPartition, Vec<BrokerId>>>,
    pub next_producer_id: i64,
    /// Index of the last applied entry of the quorum's log.
    pub applied_index: u64,
    /// Index of the last entry that changed something.
    pub changed_index: u64,
}

static NO_CONFIGS: BTreeMap<String, String> = BTreeMap::new();

impl ClusterImage {
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Arc<TopicImage>> {
        self.topics.values()
    }

    pub fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics.get(name)
    }

    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.topic(self.topic_names.get(&id)?)
    }

    pub fn partition(&self, tp: TopicIdPartition) -> Option<&Arc<PartitionImage>> {
        self.topic_by_id(tp.topic_id)?.partitions.get(&tp.partition)
    }

    /// Brokers that clients may be sent to.
    pub fn live_brokers(&self) -> impl Iterator<Item = &BrokerImage> {
        self.brokers.values().filter(|b| !b.fenced)
    }

    pub fn is_active(&self, id: BrokerId) -> bool {
        self.brokers.get(&id).is_some_and(BrokerImage::is_active)
    }

    pub fn configs(&self, resource: &ConfigResource) -> &BTreeMap<String, String> {
        self.configs.get(resource).unwrap_or(&NO_CONFIGS)
    }

    pub fn config_resources(&self) -> impl Iterator<Item = &ConfigResource> {
        self.configs.keys()
    }

    pub fn quotas(&self) -> &Arc<Quotas> {
        &self.quotas
    }

    /// Overrides of a topic.
    pub fn topic_configs(&self, name: &str) -> &BTreeMap<String, String> {
        self.configs(&ConfigResource::Topic(name.to_owned()))
    }

    pub fn remote_log(&self, partition: TopicIdPartition) -> Option<&Arc<RemoteLogImage>> {
        self.remote.get(&partition)
    }

    pub fn remote_logs(&self) -> impl Iterator<Item = (&TopicIdPartition, &Arc<RemoteLogImage>)> {
        self.remote.iter()
    }

    /// Replicas of a partition that lost everything and have not been in sync since.
    pub fn lost_replicas(&self, partition: TopicIdPartition) -> &[BrokerId] {
        self.lost.get(&partition).map_or(&[], Vec::as_slice)
    }

    /// The fields of a snapshot that came later than its format. An older version ignores them.
    pub fn addendum(&self) -> Addendum {
        Addendum {
            lost: self.lost.clone(),
        }
    }

    pub fn add(&mut self, addendum: Addendum) {
        self.lost = addendum.lost;
    }

    pub fn purging(&self) -> impl Iterator<Item = (&TopicId, &Arc<str>)> {
        self.purging.iter()
    }

    pub fn partition_count(&self) -> usize {
        self.topics.values().map(|t| t.partitions.len()).sum()
    }

    /// Applies one committed record. Records that no longer fit (their topic is gone) change nothing.
    pub fn apply(&mut self, record: MetadataRecord) {
        match record {
            MetadataRecord::ClusterId(id) => self.cluster_id = Some(id),
            MetadataRecord::Broker(broker) => {
                self.brokers.insert(broker.id, broker);
            }
            MetadataRecord::UnregisterBroker(id) => {
                self.brokers.remove(&id);
            }
            MetadataRecord::Topic { id, name } => {
                let name: Arc<str> = name.into();
                let topic = TopicImage {
                    id,
                    name: name.clone(),
                    partitions: BTreeMap::new(),
                };
                Arc::make_mut(&mut self.topic_names).insert(id, name.clone());
                Arc::make_mut(&mut self.topics).insert(name, Arc::new(topic));
            }
            MetadataRecord::Partition {
                topic_id,
                partition,
                state,
            } => {
                if let Some(name) = self.topic_names.get(&topic_id)
                    && let Some(topic) = Arc::make_mut(&mut self.topics).get_mut(name)
                {
                    let partitions = &mut Arc::make_mut(topic).partitions;
                    let id = TopicIdPartition {
                        topic_id,
                        partition,
                    };
                    forget_lost(&mut self.lost, id, &state);
                    partitions.insert(partition, Arc::new(state));
                }
            }
            MetadataRecord::RemoveTopic { id } => self.remove_topic(id),
            MetadataRecord::TopicPurged { id } => {
                Arc::make_mut(&mut self.purging).remove(&id);
                Arc::make_mut(&mut self.remote).retain(|tp, _| tp.topic_id != id);
            }
            MetadataRecord::Config {
                resource,
                key,
                value,
            } => self.set_config(resource, key, value),
            MetadataRecord::NextProducerId(id) => self.next_producer_id = id,
            MetadataRecord::Quota { entity, key, rate } => {
                let quotas = Arc::make_mut(&mut self.quotas);
                let keys = quotas.entry(entity.clone()).or_default();
                match rate {
                    Some(rate) => keys.insert(key, rate),
                    None => keys.remove(&key),
                };
                if keys.is_empty() {
                    quotas.remove(&entity);
                }
            }
            MetadataRecord::Voter { node_id, votes } => {
                self.voters.insert(node_id, votes);
            }
            MetadataRecord::LostReplicas {
                partition,
                replicas,
            } => {
                if self.partition(partition).is_some() {
                    Arc::make_mut(&mut self.lost).insert(partition, replicas);
                }
            }
            MetadataRecord::RemoteSegment(segment) => {
                let remote = Arc::make_mut(&mut self.remote)
                    .entry(segment.partition)
                    .or_default();
                Arc::make_mut(remote)
                    .segments
                    .insert((segment.base_offset, segment.id), segment);
            }
            MetadataRecord::RemoveRemoteSegment { partition, id } => {
                let remote = Arc::make_mut(&mut self.remote);
                if let Some(log) = remote.get_mut(&partition) {
                    Arc::make_mut(log)
                        .segments
                        .retain(|(_, segment), _| *segment != id);
                    if log.is_empty() {
                        remote.remove(&partition);
                    }
                }
            }
        }
    }

    fn remove_topic(&mut self, id: TopicId) {
        let Some(name) = Arc::make_mut(&mut self.topic_names).remove(&id) else {
            return;
        };
        Arc::make_mut(&mut self.topics).remove(&name);
        if !self.lost.is_empty() {
            Arc::make_mut(&mut self.lost).retain(|tp, _| tp.topic_id != id);
        }
        Arc::make_mut(&mut self.configs).remove(&ConfigResource::Topic(name.to_string()));
        // Its segments stay known, unreadable through any topic, until their objects are gone.
        if self.remote.keys().any(|tp| tp.topic_id == id) {
            Arc::make_mut(&mut self.purging).insert(id, name);
        }
    }

    fn set_config(&mut self, resource: ConfigResource, key: String, value: Option<String>) {
        let configs = Arc::make_mut(&mut self.configs);
        let entries = configs.entry(resource.clone()).or_default();
        match value {
            Some(value) => {
                entries.insert(key, value);
            }
            None => {
                entries.remove(&key);
            }
        }
        if entries.is_empty() {
            configs.remove(&resource);
        }
    }

    /// Whether a change of a remote segment may be committed, and why not otherwise.
    pub(crate) fn check_remote_segment(
        &self,
        next: &RemoteLogSegmentMetadata,
    ) -> Result<(), String> {
        let known = self
            .remote
            .get(&next.partition)
            .and_then(|log| log.find(next.id));
        match known {
            None if next.state != RemoteLogSegmentState::CopySegmentStarted => {
                Err(format!("segment {} was never started", next.id))
            }
            Some(known) if !known.state.can_become(next.state) => Err(format!(
                "segment {} is {:?} and cannot become {:?}",
                next.id, known.state, next.state
            )),
            Some(known)
                if known.base_offset != next.base_offset || known.end_offset != next.end_offset =>
            {
                Err(format!("segment {} changed its offsets", next.id))
            }
            _ => Ok(()),
        }
    }
}
