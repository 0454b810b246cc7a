//! The state that the parts of a broker share.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use strandline_metadata::config::BrokerConfig;
use strandline_metadata::controller::{Answer, Command, ControllerContext, Refusal, decide};
use strandline_metadata::{BrokerImage, ClusterImage, Listener};
use strandline_quorum::{Change, Quorum, SubmitError};
use strandline_types::{BrokerEpoch, BrokerId, TopicIdPartition};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Lifecycle, ReplicaFetchers};
use crate::coordinators::Groups;
use crate::descriptors;
use crate::disconnects::Disconnects;
use crate::fetch_session::FetchSessions;
use crate::hot_config::HotConfig;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::partition::{Partition, PartitionManager};
use crate::producer_ids::ProducerIds;
use crate::quotas::ClientQuotas;
use crate::settings::Settings;
use crate::throttle::Throttle;
use crate::tier::Tier;

/// The state that the parts of a broker share.
pub struct BrokerContext {
    pub settings: Settings,
    pub quorum: Arc<Quorum>,
    pub partitions: Arc<PartitionManager>,
    pub groups: Groups,
    pub producer_ids: ProducerIds,
    pub fetch_sessions: FetchSessions,
    pub tier: Option<Arc<Tier>>,
    pub metrics: Arc<Metrics>,
    pub fetchers: ReplicaFetchers,
    /// The throttles for bytes sent to, and fetched from, throttled replicas.
    pub leader_throttle: Throttle,
    pub follower_throttle: Throttle,
    pub quotas: ClientQuotas,
    /// The memory for requests and answers.
    pub memory: Memory,
    pub disconnects: Disconnects,
    /// Cancelled when the broker stops serving: requests that wait are answered now.
    pub stopping: CancellationToken,
    pub(crate) lifecycle: Lifecycle,
    /// A replica may have another standing than the metadata says.
    pub standing_changed: Notify,
    pub(crate) config: ArcSwap<BrokerConfig>,
    pub(crate) hot: ArcSwap<HotConfig>,
    /// Endpoints as clients must see them: listener name, host, port.
    pub(crate) advertised: Vec<Listener>,
}

impl BrokerContext {
    pub fn node_id(&self) -> i32 {
        self.settings.node_id
    }

    /// The effective broker configuration, dynamic changes included.
    pub fn config(&self) -> Arc<BrokerConfig> {
        self.config.load_full()
    }

    pub fn controller_context(&self) -> ControllerContext {
        ControllerContext {
            broker: BrokerConfig::clone(&self.config()),
            remote_enabled: self.tier.is_some(),
        }
    }

    /// The settings that requests and connections look at.
    pub fn hot(&self) -> Arc<HotConfig> {
        self.hot.load_full()
    }

    /// Takes over a changed configuration.
    pub fn set_config(&self, config: BrokerConfig) {
        self.hot.store(Arc::new(HotConfig::of(&config)));
        self.config.store(Arc::new(config));
    }

    pub fn max_request_bytes(&self) -> usize {
        self.hot.load().max_request_bytes
    }

    pub fn connections_max_idle(&self) -> Duration {
        self.hot.load().connections_max_idle
    }

    /// How many replicas the metadata gives a partition.
    pub fn replicas_of(&self, partition: &Partition) -> usize {
        let image = self.quorum.image();
        image
            .partition(partition.id())
            .map_or(0, |p| p.replicas.len())
    }

    pub fn is_in_sync(&self, partition: TopicIdPartition, replica: BrokerId) -> bool {
        let image = self.quorum.image();
        let state = image.partition(partition);
        state.is_some_and(|p| p.isr.contains(&replica))
    }

    /// The epoch of this broker's registration.
    pub fn broker_epoch(&self) -> BrokerEpoch {
        self.lifecycle.epoch()
    }

    /// The broker to which clients send administrative requests. Any broker forwards a command to the controller, so a
    /// controller that is no broker is never named.
    pub fn controller_for_clients(&self) -> i32 {
        let (leader, _) = self.quorum.leader();
        let image = self.quorum.image();
        let serves = |id: i32| image.live_brokers().any(|b| b.id.0 == id);
        if serves(leader) {
            leader
        } else {
            self.node_id()
        }
    }

    pub fn prefers_near_replicas(&self) -> bool {
        self.hot.load().prefers_near_replicas
    }

    /// Has a command decided and committed; with `validate_only`, only decided, here.
    pub async fn submit(
        &self,
        command: Command,
        validate_only: bool,
    ) -> Result<Change, SubmitError> {
        self.check_descriptors(&command).await?;
        if !validate_only {
            return self.quorum.submit(command).await;
        }
        let mut image = ClusterImage::clone(&self.quorum.image());
        let decision =
            decide(&image, &self.controller_context(), command).map_err(SubmitError::Refused)?;
        decision.records.into_iter().for_each(|r| image.apply(r));
        Ok(Change {
            image: Arc::new(image),
            answer: Answer::Done,
        })
    }

    /// Refuses a topic whose files would take the descriptors that connections need. The brokers of a cluster are taken to
    /// be alike; one with fewer descriptors does not open the replica.
    async fn check_descriptors(&self, command: &Command) -> Result<(), SubmitError> {
        let image = self.quorum.image();
        let own = BrokerId(self.node_id());
        let replicas = descriptors::new_replicas(command, &image, &self.config(), own);
        if replicas == 0 {
            return Ok(());
        }
        let assigned = image.topics().flat_map(|t| t.partitions.values());
        let assigned = assigned.filter(|p| p.replicas.contains(&own)).count();
        let on_their_way = assigned.saturating_sub(self.partitions.table().len()) as u64;
        let checking =
            tokio::task::spawn_blocking(move || descriptors::check(replicas, on_their_way));
        match checking.await {
            Ok(Err(reason)) => Err(SubmitError::Refused(Refusal::InvalidPartitions(reason))),
            _ => Ok(()),
        }
    }

    /// Host and port of a broker for clients of `listener`.
    pub fn advertised_endpoint(
        &self,
        broker: &BrokerImage,
        listener: &str,
    ) -> Option<(String, i32)> {
        let own = (broker.id.0 == self.node_id()).then_some(&self.advertised);
        let endpoint = own
            .unwrap_or(&broker.listeners)
            .iter()
            .find(|l| l.name == listener)?;
        Some((endpoint.host.clone(), i32::from(endpoint.port)))
    }

    /// `host:port` of the first listener, as clients must see it.
    pub fn address_for_clients(&self) -> Option<String> {
        let first = self.advertised.first()?;
        Some(format!("{}:{}", first.host, first.port))
    }

    /// Waits until partitions reflect everything that was committed before the call.
    pub async fn wait_until_applied(&self) {
        self.partitions
            .wait_until_applied(self.quorum.image().applied_index)
            .await;
    }
}
