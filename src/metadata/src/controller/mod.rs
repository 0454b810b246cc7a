//! The controller's decisions: [`decide`] takes the image and a [`Command`] and returns the records to commit and the
//! answer. Nothing here acts; the quorum commits the records first. Brokers forward a command unchanged, so any of them
//! can take a request and hand it to the active controller.

mod brokers;
mod configs;
#[cfg(test)]
mod directory_tests;
mod partitions;
mod placement;
mod quotas;
mod reassignment;
mod registration;
mod remote;
mod remote_store;
mod standing;
#[cfg(test)]
mod tests;
mod topics;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use strandline_types::{
    BrokerEpoch, BrokerId, RemoteLogSegmentId, RemoteLogSegmentMetadata, TopicId, TopicIdPartition,
    TopicPartition,
};
use thiserror::Error;

pub use configs::{ConfigChange, ConfigOperation};
pub use partitions::{ElectionKind, IsrChange, imbalanced_partitions};
pub use quotas::QuotaChange;
pub use reassignment::Reassignment;
pub use registration::{FoundReplica, Registration};
pub use remote::RemoteLogCut;
pub use remote_store::{KnownRemoteStore, REMOTE_STORE_KEY, RemoteStoreStep};
pub use topics::NewTopic;

use crate::config::BrokerConfig;
use crate::image::ClusterImage;
use crate::record::{ConfigResource, MetadataRecord};
use standing::{Standing, replicas_are};

/// Producer ids are handed out in blocks of this many.
pub const PRODUCER_ID_BLOCK: i64 = 1000;

/// A request for a decision of the controller.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Command {
    RegisterBroker(Registration),
    FenceBroker {
        id: BrokerId,
        epoch: BrokerEpoch,
    },
    UnfenceBroker {
        id: BrokerId,
        epoch: BrokerEpoch,
    },
    ShutDownBroker {
        id: BrokerId,
        epoch: BrokerEpoch,
    },
    UnregisterBroker(BrokerId),
    /// The log directory of these replicas has failed.
    ReplicasFailed {
        id: BrokerId,
        epoch: BrokerEpoch,
        partitions: Vec<TopicIdPartition>,
    },
    CreateTopic(NewTopic),
    /// Adds partitions up to `count`. `assignments` names the replicas of the new ones, where the client does.
    CreatePartitions {
        topic: String,
        count: i32,
        assignments: Option<Vec<Vec<BrokerId>>>,
    },
    DeleteTopic(TopicId),
    /// The objects of a deleted topic are gone.
    TopicPurged(TopicId),
    AlterConfigs {
        resource: ConfigResource,
        changes: Vec<ConfigChange>,
    },
    /// All keys of one resource (the old `AlterConfigs`).
    ReplaceConfigs {
        resource: ConfigResource,
        configs: BTreeMap<String, String>,
    },
    AllocateProducerIds,
    UpdateRemoteSegment(RemoteLogSegmentMetadata),
    /// No process will finish this copy. Refused if the copy has finished: the sender may not know so yet, and readers
    /// may rely on the copy already.
    AbandonCopy {
        partition: TopicIdPartition,
        id: RemoteLogSegmentId,
    },
    AlterIsr {
        broker: BrokerId,
        broker_epoch: BrokerEpoch,
        changes: Vec<IsrChange>,
    },
    ElectLeaders {
        kind: ElectionKind,
        /// `None`: every partition.
        partitions: Option<Vec<TopicPartition>>,
    },
    AlterReassignments(Vec<Reassignment>),
    AlterQuotas(Vec<QuotaChange>),
    /// Whether a controller votes in the metadata quorum.
    SetVoter {
        node_id: BrokerId,
        votes: bool,
    },
    /// A leader's log and its cold tier have diverged.
    CutRemoteLog(RemoteLogCut),
    NoteRemoteStore(RemoteStoreStep),
    /// Nothing can be appended to these replicas, because their disk is full.
    ReplicasFull {
        id: BrokerId,
        epoch: BrokerEpoch,
        partitions: Vec<TopicIdPartition>,
    },
    /// These replicas can be used again.
    ReplicasUsable {
        id: BrokerId,
        epoch: BrokerEpoch,
        partitions: Vec<TopicIdPartition>,
    },
    /// Registers a broker together with the replicas that lie in its log directories.
    RegisterWithReplicas(Registration, Vec<FoundReplica>),
}

/// The records to commit, and the answer to the command's sender after the commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub records: Vec<MetadataRecord>,
    pub answer: Answer,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The image after says it all.
    Done,
    /// The first of [`PRODUCER_ID_BLOCK`] producer ids.
    FirstProducerId(i64),
    /// One result for each part of the command, in its order.
    Results(Vec<Result<(), Refusal>>),
    Elections(Vec<(TopicPartition, Result<(), Refusal>)>),
}

/// Why a command is refused; the broker maps each to Kafka's code.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum Refusal {
    #[error("{0}")]
    InvalidTopic(String),
    #[error("Topic '{0}' already exists.")]
    TopicExists(String),
    #[error("This server does not host this topic-partition.")]
    UnknownTopic,
    #[error("The topic '{0}' does not exist.")]
    NoSuchTopic(String),
    #[error("{0}")]
    NoSuchPartition(String),
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
    #[error("This server knows an older state than the one that the request speaks of.")]
    NotController,
    #[error("The request is based on an older state of the partition.")]
    InvalidUpdateVersion,
    #[error("Broker {0} has registered again since.")]
    StaleBrokerEpoch(BrokerId),
    #[error("Replica {0} may not join the ISR.")]
    IneligibleReplica(BrokerId),
    #[error("The cluster's id is {0}.")]
    InconsistentClusterId(String),
    #[error("Broker ID {0} is not currently registered")]
    BrokerIdNotRegistered(BrokerId),
    #[error("Leader election not needed for topic partition.")]
    ElectionNotNeeded,
    #[error("The preferred leader was not available.")]
    PreferredLeaderNotAvailable,
    #[error("Eligible topic partition leaders are not available.")]
    EligibleLeadersNotAvailable,
    #[error("No partition reassignment is in progress.")]
    NoReassignmentInProgress,
    /// Another process that lives has the broker's id.
    #[error("{0}")]
    DuplicateBroker(String),
}

/// The input of a decision beside the image.
#[derive(Clone, Debug, Default)]
pub struct ControllerContext {
    /// The controller's own broker configuration; gives topics their defaults.
    pub broker: BrokerConfig,
    /// `remote.log.storage.system.enable`
    pub remote_enabled: bool,
}

/// Decides about one command.
pub fn decide(
    image: &ClusterImage,
    context: &ControllerContext,
    command: Command,
) -> Result<Decision, Refusal> {
    let records = match command {
        Command::RegisterBroker(new) => registration::register(image, context, new, &[])?,
        Command::RegisterWithReplicas(new, found) => {
            registration::register(image, context, new, &found)?
        }
        Command::FenceBroker { id, epoch } => brokers::fence(image, context, id, epoch)?,
        Command::UnfenceBroker { id, epoch } => brokers::unfence(image, context, id, epoch)?,
        Command::ShutDownBroker { id, epoch } => brokers::shut_down(image, context, id, epoch)?,
        Command::UnregisterBroker(id) => brokers::unregister(image, id)?,
        Command::ReplicasFailed {
            id,
            epoch,
            partitions,
        } => replicas_are(image, context, (id, epoch), &partitions, Standing::Failed)?,
        Command::ReplicasFull {
            id,
            epoch,
            partitions,
        } => replicas_are(image, context, (id, epoch), &partitions, Standing::Full)?,
        Command::ReplicasUsable {
            id,
            epoch,
            partitions,
        } => replicas_are(image, context, (id, epoch), &partitions, Standing::Usable)?,
        Command::CreateTopic(new) => topics::create_topic(image, context, &new)?,
        Command::CreatePartitions {
            topic,
            count,
            assignments,
        } => topics::create_partitions(image, &topic, count, assignments)?,
        Command::DeleteTopic(id) => topics::delete_topic(image, id)?,
        Command::TopicPurged(id) => vec![MetadataRecord::TopicPurged { id }],
        Command::AlterConfigs { resource, changes } => {
            configs::alter_configs(image, context, &resource, &changes)?
        }
        Command::ReplaceConfigs { resource, configs } => {
            configs::replace_configs(image, context, &resource, &configs)?
        }
        Command::AllocateProducerIds => {
            let first = image.next_producer_id;
            let next = MetadataRecord::NextProducerId(first + PRODUCER_ID_BLOCK);
            return Ok(Decision {
                records: vec![next],
                answer: Answer::FirstProducerId(first),
            });
        }
        Command::AlterQuotas(changes) => quotas::alter_quotas(image, &changes)?,
        Command::SetVoter { node_id, votes } => vec![MetadataRecord::Voter { node_id, votes }],
        Command::AbandonCopy { partition, id } => remote::abandon_copy(image, partition, id)?,
        Command::CutRemoteLog(cut) => remote::cut_remote_log(image, &cut)?,
        Command::NoteRemoteStore(step) => remote_store::note_remote_store(image, step)?,
        Command::UpdateRemoteSegment(segment) => remote::update_remote_segment(image, segment)?,
        Command::AlterIsr {
            broker,
            broker_epoch,
            changes,
        } => return partitions::alter_isr(image, context, broker, broker_epoch, &changes),
        Command::ElectLeaders { kind, partitions } => {
            let chosen = partitions.as_deref();
            return Ok(partitions::elect_leaders(image, context, kind, chosen));
        }
        Command::AlterReassignments(wishes) => {
            return Ok(reassignment::alter_reassignments(image, context, &wishes));
        }
    };
    Ok(Decision {
        records,
        answer: Answer::Done,
    })
}
