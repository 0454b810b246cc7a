//! Starting a process, the state that a broker's parts share, and stopping the process.
//!
//! Order of start: quorum, controller; log directories, registration, cold tier, partitions, group coordinators,
//! unfencing, listeners. Order of stop: leaderships handed over, whoever waits answered, then the reverse: connections and
//! coordinators, fetchers, cold tier, partitions (flushed and marked clean), controller, quorum. Deadlines: `stop.rs`.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use strandline_log::LogDirError;
use strandline_metadata::config::BrokerConfig;
use strandline_metadata::controller::{Answer, Command, ControllerContext, decide};
use strandline_metadata::{BrokerImage, ClusterImage, ConfigResource, Listener};
use strandline_quorum::{
    Change, ControllerListener, Quorum, QuorumError, QuorumOptions, SubmitError,
};
use strandline_tiering::cache::DiskCacheError;
use strandline_tiering::store::StoreError;
use strandline_types::{BrokerEpoch, BrokerId, OFFSETS_TOPIC, TopicIdPartition};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::cluster::{
    Lifecycle, LifecycleError, ReplicaFetchers, controller, forward_isr_requests, report_replicas,
    watch_directories,
};
use crate::disconnects::Disconnects;
use crate::endpoints::{advertised, bind_all, bind_controller, bind_http};
use crate::fetch_session::FetchSessions;
use crate::founding::{Founding, FoundingError, founding};
use crate::groups::Groups;
use crate::http::{self, Pages};
use crate::listener::accept;
use crate::metadata_place::{MetadataPlace, note_cluster_id};
use crate::metrics::Metrics;
use crate::partition::{LogDirs, Partition, PartitionManager};
use crate::producer_ids::ProducerIds;
use crate::quotas::{ClientQuotas, QuotaWindows};
use crate::retention::retention;
use crate::settings::Settings;
use crate::stop::{self, within};
use crate::throttle::Throttle;
use crate::tier::{OwnershipError, Tier, TierManager, open_tier, take_over_partitions};
use crate::timers::{checkpoints, housekeeping};

/// The reason why a broker did not start; each variant names the setting, file or address at fault.
#[derive(Debug, Error)]
pub enum StartError {
    #[error(transparent)]
    LogDir(#[from] LogDirError),
    #[error(transparent)]
    Quorum(#[from] QuorumError),
    #[error(transparent)]
    Founding(#[from] FoundingError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Ownership(#[from] OwnershipError),
    #[error(transparent)]
    Cache(#[from] DiskCacheError),
    #[error("{property}: {address}: {source}")]
    Bind {
        property: &'static str,
        address: String,
        source: io::Error,
    },
    #[error("remote.log.storage.system.enable: {0}")]
    TieredTopics(String),
    #[error("log.dirs: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Lifecycle(#[from] LifecycleError),
}

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
    pub disconnects: Disconnects,
    /// Cancelled when the broker stops serving: requests that wait are answered now.
    pub stopping: CancellationToken,
    lifecycle: Lifecycle,
    /// A replica may have another standing than the metadata says.
    pub standing_changed: Notify,
    config: ArcSwap<BrokerConfig>,
    /// Endpoints as clients must see them: listener name, host, port.
    advertised: Vec<Listener>,
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

    pub fn max_request_bytes(&self) -> usize {
        self.config.load().number("socket.request.max.bytes").max(0) as usize
    }

    pub fn connections_max_idle(&self) -> Duration {
        match self.config.load().number("connections.max.idle.ms") {
            n if n < 0 => Duration::from_secs(365 * 24 * 3600),
            n => Duration::from_millis(n as u64),
        }
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

    /// `replica.selector.class` names Kafka's rack-aware selector.
    pub fn prefers_near_replicas(&self) -> bool {
        let selector = self.config.load().get("replica.selector.class");
        selector.is_some_and(|class| class.ends_with("RackAwareReplicaSelector"))
    }

    /// Has a command decided and committed; with `validate_only`, only decided, here.
    pub async fn submit(
        &self,
        command: Command,
        validate_only: bool,
    ) -> Result<Change, SubmitError> {
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

/// The parts of a process that has started.
type Started = (
    Arc<Quorum>,
    Option<Broker>,
    MetadataPlace,
    Vec<JoinHandle<()>>,
);

/// A running process: a broker, a controller, or both.
pub struct Server {
    quorum: Arc<Quorum>,
    broker: Option<Broker>,
    http_address: Option<SocketAddr>,
    /// Where the metadata lies.
    metadata_dir: MetadataPlace,
    /// Ends what belongs to no broker.
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Server {
    /// Starts the process; returns when a broker accepts connections.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let file = BrokerConfig {
            file: settings.properties.clone(),
            ..BrokerConfig::default()
        };
        let founding = founding(&settings)??;
        // Bind first: a port that another process has taken is reported before anything is changed on disk.
        let listeners = bind_all(&settings, &file).await?;
        let http_listener = bind_http(&settings).await?;
        let http_address = http_listener
            .as_ref()
            .map(TcpListener::local_addr)
            .transpose()?;
        let stop = CancellationToken::new();
        let mut tasks = Vec::new();
        let pages = Pages::new(&settings);
        if let Some(listener) = http_listener {
            let serving = http::serve(pages.clone(), listener, stop.clone());
            tasks.push(tokio::spawn(serving));
        }
        let started = Self::start_behind_pages(settings, file, founding, listeners, &pages, &stop);
        match started.await {
            Ok((quorum, broker, metadata_dir, more)) => {
                tasks.extend(more);
                Ok(Self {
                    quorum,
                    broker,
                    http_address,
                    metadata_dir,
                    stop,
                    tasks,
                })
            }
            Err(error) => {
                stop.cancel();
                stop::join(tasks).await;
                Err(error)
            }
        }
    }

    /// The steps of the start behind the pages, which are served already.
    async fn start_behind_pages(
        settings: Settings,
        file: BrokerConfig,
        founding: Founding,
        listeners: Vec<(Arc<str>, TcpListener)>,
        pages: &Arc<Pages>,
        stop: &CancellationToken,
    ) -> Result<Started, StartError> {
        let log_dirs = if settings.roles.broker {
            let reserve = reserve_bytes(&file);
            let cluster_id = settings.cluster_id.as_deref();
            Some(LogDirs::open(
                &settings.log_dirs,
                settings.node_id,
                cluster_id,
                reserve,
                metadata_parent(&settings),
            )?)
        } else {
            None
        };
        let metadata_directory = metadata_parent(&settings).to_path_buf();
        let incarnation = Uuid::new_v4();
        let options = quorum_options(&settings, &file, incarnation, founding)?;
        let quorum = Arc::new(Quorum::open(options).await?);
        let metadata_dir = MetadataPlace::of(&metadata_directory)?;
        quorum.set_context(ControllerContext {
            broker: file.clone(),
            remote_enabled: settings.remote.is_some(),
        });
        pages.show_quorum(quorum.clone());
        let mut tasks = Vec::new();
        if settings.roles.controller {
            let duties = controller::run(quorum.clone(), file.clone(), stop.clone());
            tasks.push(quorum.threads().spawn(duties));
        }
        let broker = if let Some(log_dirs) = log_dirs {
            let starting = Broker::start(
                settings,
                file,
                incarnation,
                quorum.clone(),
                log_dirs,
                listeners,
                pages,
            );
            match starting.await {
                Ok(broker) => Some(broker),
                Err(error) => {
                    stop.cancel();
                    stop::join(tasks).await;
                    within(stop::QUORUM, "the metadata log", quorum.shutdown()).await;
                    return Err(error);
                }
            }
        } else {
            let directory = metadata_parent(&settings).to_path_buf();
            let noting = note_cluster_id(quorum.clone(), directory, settings.node_id);
            let noting = stop.clone().run_until_cancelled_owned(noting);
            tasks.push(tokio::spawn(async move {
                noting.await;
            }));
            None
        };
        Ok((quorum, broker, metadata_dir, tasks))
    }

    /// Addresses of the client listeners, in the order of `listeners`.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.broker.as_ref().map_or(&[], |b| &b.addresses)
    }

    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http_address
    }

    /// Returns the reason when the process cannot continue as a member of its cluster.
    pub async fn failed(&self) -> String {
        let registration = async {
            match &self.broker {
                Some(broker) => broker.context.lifecycle.lost().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            reason = self.quorum.failed() => reason,
            reason = self.metadata_dir.lost() => reason,
            reason = registration => reason,
        }
    }

    /// Stops cleanly: other brokers take over the leaderships, and no acknowledged record needs recovery at the next
    /// start.
    pub async fn shutdown(self) {
        if let Some(broker) = self.broker {
            broker.shutdown().await;
        }
        self.stop.cancel();
        stop::join(self.tasks).await;
        within(stop::QUORUM, "the metadata log", self.quorum.shutdown()).await;
    }
}

/// Bytes that stay free on the disks of log directories.
fn reserve_bytes(config: &BrokerConfig) -> u64 {
    let bytes = config.number("strandline.log.dir.reserved.bytes");
    u64::try_from(bytes).unwrap_or(0)
}

/// The log directory that holds the metadata.
fn metadata_parent(settings: &Settings) -> &Path {
    settings.metadata_dir.parent().unwrap_or(Path::new("."))
}

fn quorum_options(
    settings: &Settings,
    config: &BrokerConfig,
    incarnation: Uuid,
    founding: Founding,
) -> Result<QuorumOptions, StartError> {
    let controller = settings.controller_listener.as_ref();
    let listener = controller.map(|(endpoint, address)| {
        let listener = bind_controller(endpoint)?;
        Ok::<_, StartError>(ControllerListener {
            listener,
            address: address.clone(),
        })
    });
    let heartbeat = config.number("broker.heartbeat.interval.ms").max(1) as u64;
    let directory = metadata_parent(settings);
    std::fs::create_dir_all(directory)?;
    let directory_id = strandline_log::identify(directory, settings.node_id, None)?;
    if settings.roles.controller && !settings.founds_quorum {
        tracing::info!(
            node_id = settings.node_id,
            "this controller votes once it is added to the quorum (kafka-metadata-quorum add-controller)"
        );
    }
    Ok(QuorumOptions {
        directory: settings.metadata_dir.clone(),
        node_id: BrokerId(settings.node_id),
        incarnation,
        directory_id,
        founds: settings.founds_quorum,
        remembers: founding == Founding::OnlyJoin,
        listener: listener.transpose()?,
        voters: settings.voters.clone(),
        contacts: settings.controller_contacts.clone(),
        heartbeat_interval: Duration::from_millis(heartbeat),
    })
}

/// A running broker.
struct Broker {
    context: Arc<BrokerContext>,
    addresses: Vec<SocketAddr>,
    /// Listeners and connections; `BrokerContext::stopping` ends them.
    serving: TaskTracker,
    /// Ends the tasks behind them.
    stop_tasks: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Broker {
    async fn start(
        settings: Settings,
        file: BrokerConfig,
        incarnation: Uuid,
        quorum: Arc<Quorum>,
        log_dirs: LogDirs,
        listeners: Vec<(Arc<str>, TcpListener)>,
        pages: &Pages,
    ) -> Result<Self, StartError> {
        let node_id = BrokerId(settings.node_id);
        let advertised = advertised(&settings, &listeners);
        let lifecycle = Lifecycle::register(
            &settings,
            incarnation,
            quorum.clone(),
            &log_dirs,
            &advertised,
        )
        .await?;
        let tier = open_tier(&settings, &file, &quorum).await?;
        let shards = std::thread::available_parallelism()
            .map_or(2, usize::from)
            .clamp(1, 8);
        let (isr_requests, isr_wishes) = mpsc::unbounded_channel();
        let partitions = PartitionManager::new(node_id, log_dirs, shards, isr_requests)?;
        let context = Arc::new(BrokerContext {
            quorum: quorum.clone(),
            partitions: Arc::new(partitions),
            groups: Groups::new(),
            producer_ids: ProducerIds::default(),
            fetch_sessions: FetchSessions::default(),
            tier,
            metrics: Arc::new(Metrics::default()),
            fetchers: ReplicaFetchers::default(),
            leader_throttle: Throttle::default(),
            follower_throttle: Throttle::default(),
            quotas: ClientQuotas::default(),
            disconnects: Disconnects::default(),
            stopping: CancellationToken::new(),
            lifecycle,
            standing_changed: Notify::new(),
            config: ArcSwap::from_pointee(file),
            advertised,
            settings,
        });
        pages.show_broker(context.clone());
        follow_image(&context, context.quorum.image()).await;
        let stop_tasks = CancellationToken::new();
        let isr = forward_isr_requests(quorum, node_id, isr_wishes, stop_tasks.clone());
        let mut tasks = vec![
            tokio::spawn(isr),
            tokio::spawn(follow(context.clone(), stop_tasks.clone())),
            tokio::spawn(take_over_partitions(context.clone(), stop_tasks.clone())),
            tokio::spawn(watch_directories(context.clone(), stop_tasks.clone())),
            tokio::spawn(report_replicas(context.clone(), stop_tasks.clone())),
            tokio::spawn(keep_registered(context.clone(), stop_tasks.clone())),
            tokio::spawn(housekeeping(context.clone(), stop_tasks.clone())),
            tokio::spawn(checkpoints(context.clone(), stop_tasks.clone())),
            tokio::spawn(retention(context.clone(), stop_tasks.clone())),
        ];
        if let Some(tier) = &context.tier {
            let manager = Arc::new(TierManager::new(context.clone(), tier.clone()));
            tasks.push(tier.threads.handle().spawn(manager.run(stop_tasks.clone())));
        }
        let serving = TaskTracker::new();
        let mut addresses = Vec::new();
        for (name, listener) in listeners {
            addresses.push(listener.local_addr()?);
            let accepting = accept(
                context.clone(),
                listener,
                name,
                serving.clone(),
                context.stopping.clone(),
            );
            serving.spawn(accepting);
        }
        context.lifecycle.wait_until_unfenced().await;
        context.wait_until_applied().await;
        Ok(Self {
            context,
            addresses,
            serving,
            stop_tasks,
            tasks,
        })
    }

    async fn shutdown(self) {
        let context = &self.context;
        let handing_over = context.lifecycle.say_goodbye();
        within(stop::HANDOVER, "handing over leaderships", handing_over).await;
        context.stopping.cancel();
        self.serving.close();
        // A member that joins a group waits for its coordinator, so coordinators stop together with connections.
        let serving = async { tokio::join!(self.serving.wait(), context.groups.shutdown()) };
        within(stop::SERVING, "connections and group coordinators", serving).await;
        self.stop_tasks.cancel();
        stop::join(self.tasks).await;
        within(stop::TASKS, "replica fetchers", context.fetchers.shutdown()).await;
        if let Some(tier) = &context.tier {
            let reads = tier.reader.cache.shutdown();
            within(stop::COLD_READS, "cold reads", reads).await;
        }
        within(stop::LOGS, "logs", context.partitions.shutdown()).await;
    }
}

async fn keep_registered(context: Arc<BrokerContext>, stop: CancellationToken) {
    let partitions = &context.partitions;
    context.lifecycle.keep_registered(partitions, stop).await;
}

/// Applies every image as it comes.
async fn follow(context: Arc<BrokerContext>, stop: CancellationToken) {
    let mut images = context.quorum.subscribe();
    let mut before = images.borrow().clone();
    loop {
        let image = images.borrow_and_update().clone();
        follow_image(&context, image.clone()).await;
        for topic in before
            .topics()
            .filter(|t| image.topic_by_id(t.id).is_none())
        {
            context.groups.forget_topic(&topic.name).await;
        }
        before = image;
        tokio::select! {
            () = stop.cancelled() => return,
            changed = images.changed() => if changed.is_err() { return },
        }
    }
}

async fn follow_image(context: &Arc<BrokerContext>, image: Arc<ClusterImage>) {
    let broker = ConfigResource::Broker(Some(BrokerId(context.node_id())));
    let config = BrokerConfig {
        file: context.settings.properties.clone(),
        dynamic: image.configs(&broker).clone(),
        dynamic_default: image.configs(&ConfigResource::Broker(None)).clone(),
    };
    context.config.store(Arc::new(config.clone()));
    let windows = |prefix: &str| {
        let seconds = config.number(&format!("{prefix}.size.seconds")).max(1);
        let number = config.number(&format!("{prefix}.num")).clamp(1, 1000);
        (Duration::from_secs(seconds as u64), number as u32)
    };
    let windows = QuotaWindows {
        clients: windows("quota.window"),
        mutations: windows("controller.quota.window"),
    };
    context.quotas.follow(image.quotas(), windows);
    context
        .partitions
        .log_dirs
        .set_reserve(reserve_bytes(&config));
    let rate = |key: &str| config.number(key);
    let (leader, follower) = (&context.leader_throttle, &context.follower_throttle);
    leader.set_rate(rate("leader.replication.throttled.rate"));
    follower.set_rate(rate("follower.replication.throttled.rate"));
    context
        .partitions
        .apply(image.clone(), config.clone())
        .await;
    context
        .metrics
        .follow(image.topics().map(|t| (t.id.0, t.name.clone())));
    context.quorum.set_context(ControllerContext {
        broker: config.clone(),
        remote_enabled: context.tier.is_some(),
    });
    context.fetchers.follow(context, &image);
    let offsets: Vec<_> = context
        .partitions
        .all()
        .into_iter()
        .filter(|p| &*p.topic_partition.topic == OFFSETS_TOPIC && p.is_leader())
        .collect();
    context.groups.follow(&offsets, &config);
}
