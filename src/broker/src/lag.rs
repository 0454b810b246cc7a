//! The lag of the groups that are coordinated here, for the metrics.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use strandline_client::{ClientOptions, Cluster, Key, list_offsets};
use strandline_types::TopicPartition;
use strandline_wire::special_timestamp::LATEST;

use crate::context::BrokerContext;

const PATIENCE: Duration = Duration::from_secs(2);

/// A group's position in one partition.
pub struct GroupLag {
    pub group: String,
    pub partition: TopicPartition,
    pub committed: i64,
    /// Records behind the position, in both tiers.
    pub lag: i64,
}

/// Leaves out partitions whose end offset cannot be learnt in time.
pub async fn group_lags(context: &BrokerContext) -> Vec<GroupLag> {
    let mut positions: BTreeMap<(String, TopicPartition), i64> = BTreeMap::new();
    for partition in context.groups.partitions() {
        let found = context.groups.query(partition, |coordinator| {
            let groups: Vec<String> = coordinator.list().map(|g| g.group).collect();
            let positions = groups.iter().flat_map(|group| {
                let offsets = coordinator.offsets(group);
                offsets.map(move |(tp, at)| ((group.clone(), tp.clone()), at.offset))
            });
            positions.collect::<Vec<_>>()
        });
        // A coordinator that has just moved away has no groups here.
        positions.extend(found.await.unwrap_or_default());
    }
    let wanted: BTreeSet<TopicPartition> = positions.keys().map(|(_, tp)| tp.clone()).collect();
    let ends = ends(context, wanted).await;
    let lags = positions
        .into_iter()
        .filter_map(|((group, partition), at)| {
            let end = ends.get(&partition)?;
            Some(GroupLag {
                group,
                committed: at,
                lag: (end - at).max(0),
                partition,
            })
        });
    lags.collect()
}

/// High watermarks: at once for partitions led here, for the rest from their leaders.
async fn ends(
    context: &BrokerContext,
    wanted: BTreeSet<TopicPartition>,
) -> HashMap<TopicPartition, i64> {
    let mut ends = HashMap::new();
    let mut elsewhere: BTreeSet<Key> = BTreeSet::new();
    for tp in wanted {
        let here = context.partitions.get(&tp.topic, tp.partition);
        match here.filter(|p| p.is_leader()) {
            Some(led) => {
                ends.insert(tp, led.view().high_watermark);
            }
            None => {
                elsewhere.insert((tp.topic.clone(), tp.partition));
            }
        }
    }
    if elsewhere.is_empty() {
        return ends;
    }
    let image = context.quorum.image();
    let listener = &context.settings.inter_broker_listener;
    let brokers = image.live_brokers();
    let addresses: Vec<String> = brokers.filter_map(|b| b.address(listener)).collect();
    let options = ClientOptions {
        client_id: "strandline-lag".into(),
        request_timeout: PATIENCE,
        api_timeout: PATIENCE,
        ..ClientOptions::default()
    };
    let cluster = Cluster::new(&addresses.join(","), options);
    let asked = list_offsets(&cluster, &elsewhere, LATEST);
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(found)) => {
            for ((topic, partition), (offset, _)) in found {
                ends.insert(TopicPartition::new(topic, partition), offset);
            }
        }
        Ok(Err(error)) => tracing::debug!(%error, "end offsets for the lag could not be read"),
        Err(_) => tracing::debug!("leaders did not report end offsets for the lag in time"),
    }
    ends
}
