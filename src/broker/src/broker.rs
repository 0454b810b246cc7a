//! Starting and stopping a broker.
//!
//! Order of start: registration, cold tier, partitions, group coordinators, listeners, unfencing. Order of stop:
//! leaderships handed over, whoever waits answered, then the reverse: connections and coordinators, fetchers, cold tier,
//! partitions (flushed and marked clean).

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use strandline_metadata::config::BrokerConfig;
use strandline_quorum::Quorum;
use strandline_types::BrokerId;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::cluster::ReplicaFetchers;
use crate::cluster::{Lifecycle, forward_isr_requests, report_replicas, watch_directories};
use crate::context::BrokerContext;
use crate::coordinators::Groups;
use crate::disconnects::Disconnects;
use crate::endpoints::advertised;
use crate::fetch_session::FetchSessions;
use crate::follow::{follow, follow_image};
use crate::hot_config::HotConfig;
use crate::http::Pages;
use crate::listener::accept;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::partition::{LogDirs, PartitionManager};
use crate::producer_ids::ProducerIds;
use crate::quotas::ClientQuotas;
use crate::retention::retention;
use crate::settings::Settings;
use crate::start_error::StartError;
use crate::stop::{self, within};
use crate::throttle::Throttle;
use crate::tier::{TierManager, open_tier, take_over_partitions};
use crate::timers::{checkpoints, housekeeping};

/// A running broker.
pub(crate) struct Broker {
    context: Arc<BrokerContext>,
    pub addresses: Vec<SocketAddr>,
    /// Listeners and connections; `BrokerContext::stopping` ends them.
    serving: TaskTracker,
    /// Ends the tasks behind them.
    stop_tasks: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Broker {
    pub async fn start(
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
            groups: Groups::default(),
            producer_ids: ProducerIds::default(),
            fetch_sessions: FetchSessions::new(
                file.number("max.incremental.fetch.session.cache.slots"),
            ),
            tier,
            metrics: Arc::new(Metrics::default()),
            fetchers: ReplicaFetchers::default(),
            leader_throttle: Throttle::default(),
            follower_throttle: Throttle::default(),
            quotas: ClientQuotas::default(),
            memory: Memory::of(&file),
            disconnects: Disconnects::default(),
            stopping: CancellationToken::new(),
            lifecycle,
            standing_changed: Notify::new(),
            hot: ArcSwap::from_pointee(HotConfig::of(&file)),
            config: ArcSwap::from_pointee(file),
            advertised,
            settings,
        });
        pages.show_broker(context.clone());
        follow_image(&context, context.quorum.image()).await;
        let stop_tasks = CancellationToken::new();
        let metrics = context.metrics.clone();
        let isr = forward_isr_requests(quorum, node_id, metrics, isr_wishes, stop_tasks.clone());
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

    /// Returns when another process has this broker's id, with the reason.
    pub async fn registration_lost(&self) -> String {
        self.context.lifecycle.lost().await
    }

    pub async fn shutdown(self) {
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
