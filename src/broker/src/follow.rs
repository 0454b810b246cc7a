//! Following the metadata: each image goes to the parts of the broker that act on it, in this order: configuration,
//! partitions, metrics, fetchers, coordinators. Nothing here waits for a coordinator, which may itself wait for the next
//! image.

use std::sync::Arc;
use std::time::Duration;

use strandline_metadata::config::BrokerConfig;
use strandline_metadata::controller::ControllerContext;
use strandline_metadata::{ClusterImage, ConfigResource};
use strandline_types::{BrokerId, OFFSETS_TOPIC};
use tokio_util::sync::CancellationToken;

use crate::context::BrokerContext;
use crate::quotas::QuotaWindows;

/// Applies every image as it comes.
pub(crate) async fn follow(context: Arc<BrokerContext>, stop: CancellationToken) {
    let mut images = context.quorum.subscribe();
    let mut before = images.borrow().clone();
    loop {
        let image = images.borrow_and_update().clone();
        follow_image(&context, image.clone()).await;
        for topic in before
            .topics()
            .filter(|t| image.topic_by_id(t.id).is_none())
        {
            context.groups.topic_deleted(&topic.name);
        }
        before = image;
        tokio::select! {
            () = stop.cancelled() => return,
            changed = images.changed() => if changed.is_err() { return },
        }
    }
}

pub(crate) async fn follow_image(context: &Arc<BrokerContext>, image: Arc<ClusterImage>) {
    let broker = ConfigResource::Broker(Some(BrokerId(context.node_id())));
    let config = BrokerConfig {
        file: context.settings.properties.clone(),
        dynamic: image.configs(&broker).clone(),
        dynamic_default: image.configs(&ConfigResource::Broker(None)).clone(),
    };
    context.set_config(config.clone());
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
    // A leader that has stepped aside, or still takes over, keeps its coordinators: they wait for it.
    let own = BrokerId(context.node_id());
    let led: Vec<_> = context
        .partitions
        .all()
        .into_iter()
        .filter(|p| &*p.topic_partition.topic == OFFSETS_TOPIC && p.role().leader == Some(own))
        .collect();
    context.groups.follow_partitions(&led, &config);
}

/// Bytes that stay free on the disks of log directories.
pub(crate) fn reserve_bytes(config: &BrokerConfig) -> u64 {
    let bytes = config.number("strandline.log.dir.reserved.bytes");
    u64::try_from(bytes).unwrap_or(0)
}
