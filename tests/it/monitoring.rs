//! The metrics that dashboards and alerts query exist, and the lag of groups is right.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use strandline_client::{
    ClientOptions, Cluster, Consumer, ConsumerOptions, OffsetReset, commit_offsets,
};
use strandline_tests::{SharedTier, TestBroker, TestCluster, eventually};

use super::*;

/// Names of metrics in a text: words that begin as ours do.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let ours = |word: &&str| {
        let begins = ["kafka_", "strandline_", "process_"];
        begins.iter().any(|b| word.starts_with(b))
    };
    words.filter(ours).map(str::to_owned).collect()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|e| e.unwrap().path()).collect()
}

/// Every query of the dashboards and rules.
fn queries() -> Vec<(PathBuf, String)> {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    let mut found = Vec::new();
    for file in files(&config.join("grafana/dashboards")) {
        let text = std::fs::read_to_string(&file).unwrap();
        let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
        let targets = dashboard["panels"].as_array().unwrap().iter();
        let targets = targets.flat_map(|p| p["targets"].as_array().unwrap());
        for target in targets {
            found.push((file.clone(), target["expr"].as_str().unwrap().to_owned()));
        }
        let variables = dashboard["templating"]["list"].as_array().unwrap();
        for variable in variables.iter().filter_map(|v| v["definition"].as_str()) {
            found.push((file.clone(), variable.to_owned()));
        }
    }
    let rules = config.join("prometheus/rules.yml");
    let text = std::fs::read_to_string(&rules).unwrap();
    let expressions = text.split("expr: ").skip(1);
    found.extend(expressions.map(|e| {
        let end = e.find("\n        for:").or(e.find("\n        labels:"));
        (rules.clone(), e[..end.unwrap()].to_owned())
    }));
    found
}

/// Every runbook that an alert names is a heading of the manual.
#[test]
fn every_runbook_of_an_alert_is_a_heading_of_the_operations_manual() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let rules = std::fs::read_to_string(root.join("config/prometheus/rules.yml")).unwrap();
    let manual = std::fs::read_to_string(root.join("docs/OPERATIONS.md")).unwrap();
    let runbooks: Vec<&str> = rules
        .lines()
        .filter_map(|l| l.trim().strip_prefix("runbook: "))
        .collect();
    assert_eq!(runbooks.len(), rules.matches("- alert: ").count());
    for runbook in runbooks {
        let heading = format!("## {runbook}");
        assert!(manual.lines().any(|l| l == heading), "{heading}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_of_the_dashboards_and_alerts_is_in_a_scrape() {
    let mut broker = TestBroker::start_tiered(&[]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &TIERED).await.unwrap();
    produce(&mut client, "t", 1000, 200).await;
    offloaded(&mut client, "t").await;
    let cluster = Cluster::new(&broker.address(), ClientOptions::default());
    let at = [((Arc::from("t"), 0), 400)].into_iter().collect();
    commit_offsets(&cluster, "g", ("", -1), &at).await.unwrap();
    let refused = client.list_offset("t", 7, LATEST).await;
    assert!(refused.is_err(), "there is no such partition");

    let page = broker.http_get("/metrics").await;
    let lag = r#"kafka_consumergroup_lag{group="g",topic="t",partition="0"} 600"#;
    assert!(page.contains(lag), "the group is in the cold tier: {page}");
    let samples = page.lines().filter(|l| !l.starts_with('#'));
    let served: BTreeSet<&str> = samples.filter_map(|l| l.split(['{', ' ']).next()).collect();
    let queries = queries();
    assert!(queries.len() > 40, "{} queries", queries.len());
    for (file, query) in queries {
        let asked = metrics_in(&query);
        assert!(
            !asked.is_empty() || query.starts_with("up{"),
            "{}: {query}",
            file.display()
        );
        for name in asked {
            assert!(served.contains(name.as_str()), "{}: {name}", file.display());
        }
    }
    broker.stop().await;
}

async fn produce_one(client: &mut Client, partition: i32) {
    let record = RecordToWrite::default();
    client
        .produce("t", partition, Compression::None, &[record])
        .await
        .unwrap();
}

/// The coordinator may lead none of the partitions that a group reads.
#[tokio::test(flavor = "multi_thread")]
async fn one_broker_tells_the_lag_of_a_group_wherever_its_partitions_are_led() {
    let cluster = TestCluster::start(3, &[]).await;
    let mut client = cluster.client(1).await;
    client.create_topic("t", 3, &[]).await.unwrap();
    let own = Cluster::new(&cluster.bootstrap(), ClientOptions::default());
    let options = ConsumerOptions {
        reset: OffsetReset::Earliest,
        ..ConsumerOptions::default()
    };
    for partition in 0..3 {
        let leader = cluster.partition("t", partition).await.unwrap().leader;
        let mut client = cluster.client(leader).await;
        produce_one(&mut client, partition).await;
    }
    let mut consumer = Consumer::subscribe(own, "g", &["t".to_owned()], options);
    let mut read = 0;
    while read < 3 {
        read += consumer.poll(Duration::from_secs(1)).await.unwrap().len();
    }
    consumer.close().await.unwrap();
    let leader = cluster.partition("t", 1).await.unwrap().leader;
    produce_one(&mut cluster.client(leader).await, 1).await;

    eventually("the lag is told once for each partition", || async {
        let mut told = Vec::new();
        for id in 1..=3 {
            let page = cluster.http_get(id, "/metrics").await;
            let lags = page
                .lines()
                .filter_map(|l| l.strip_prefix("kafka_consumergroup_lag"));
            told.extend(lags.map(str::to_owned));
        }
        told.sort();
        let of = |partition: i32, lag: i32| {
            format!(r#"{{group="g",topic="t",partition="{partition}"}} {lag}"#)
        };
        (told == [of(0, 0), of(1, 1), of(2, 0)]).then_some(())
    })
    .await;
}

/// The sum of the samples of a page that begin so.
fn sample(page: &str, begins: &str) -> u64 {
    let values = page.lines().filter_map(|line| line.strip_prefix(begins));
    values
        .filter_map(|rest| rest.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

const ERRORS: &str = r#"kafka_network_requestmetrics_errors_total{request="Produce",error="UNKNOWN_TOPIC_OR_PARTITION"}"#;
const FLUSHES: &str = "kafka_log_logflushstats_logflushrateandtimems_count";
const CONNECTIONS: &str = "kafka_server_socket_server_metrics_connection_count";
const EXPANDS: &str = "kafka_server_replicamanager_isrexpands_total";

#[tokio::test(flavor = "multi_thread")]
async fn errors_flushes_connections_and_changes_of_replicas_in_sync_are_counted() {
    let mut cluster = TestCluster::start(3, &[]).await;
    let mut client = cluster.client(1).await;
    client.create_topic("t", 1, &[]).await.unwrap();
    let state = cluster
        .wait_for("t", "all are in sync", |p| p.isr.len() == 3)
        .await;
    let leader = state.leader;
    let before = cluster.http_get(leader, "/metrics").await;
    let mut client = cluster.client(leader).await;
    let record = RecordToWrite::default();
    for partition in [0, 7] {
        let _ = client
            .produce(
                "t",
                partition,
                Compression::None,
                std::slice::from_ref(&record),
            )
            .await;
    }
    let after = cluster.http_get(leader, "/metrics").await;
    assert_eq!(sample(&before, ERRORS), 0);
    assert_eq!(sample(&after, ERRORS), 1, "{after}");
    assert!(sample(&after, FLUSHES) > sample(&before, FLUSHES));
    let open = sample(&after, CONNECTIONS);
    drop(client);
    eventually("a connection less", || async {
        let page = cluster.http_get(leader, "/metrics").await;
        (sample(&page, CONNECTIONS) < open).then_some(())
    })
    .await;
    let follower = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    cluster.stop(follower).await;
    cluster
        .wait_for("t", "the ISR shrinks", |p| p.isr.len() == 2)
        .await;
    cluster.resume(follower).await;
    cluster
        .wait_for("t", "the ISR grows", |p| p.isr.len() == 3)
        .await;
    let page = cluster.http_get(leader, "/metrics").await;
    assert!(sample(&page, EXPANDS) > sample(&before, EXPANDS), "{page}");
}

/// Bytes of the files below `directory` that are segments.
fn segment_bytes(directory: &Path) -> u64 {
    let mut bytes = 0;
    for path in files(directory) {
        if path.is_dir() {
            bytes += segment_bytes(&path);
        } else if path.extension().is_some_and(|e| e == "log") {
            bytes += std::fs::metadata(&path).unwrap().len();
        }
    }
    bytes
}

/// A broker tells what it leads, and there are more brokers than replicas.
#[tokio::test(flavor = "multi_thread")]
async fn the_sizes_that_brokers_tell_add_up_to_the_cold_tier() {
    let remote = SharedTier::default();
    let tiered = remote.properties(&[("default.replication.factor", "2")]);
    let cluster = TestCluster::start(4, &tiered).await;
    let configs = [
        ("remote.storage.enable", "true"),
        ("internal.segment.bytes", "1000"),
        ("retention.ms", "-1"),
    ];
    let mut client = cluster.client(1).await;
    client.create_topic("t", 8, &configs).await.unwrap();
    let mut leaders = BTreeSet::new();
    for partition in 0..8 {
        let leader = cluster.partition("t", partition).await.unwrap().leader;
        leaders.insert(leader);
        let mut client = cluster.client(leader).await;
        for _ in 0..40 {
            produce_one(&mut client, partition).await;
        }
    }
    assert!(
        leaders.len() > 2,
        "more than one topic's replicas: {leaders:?}"
    );
    eventually("the sum is the size", || async {
        let mut sum = 0;
        let mut tellers = 0;
        for id in 1..=4 {
            let page = cluster.http_get(id, "/metrics").await;
            let told = page
                .lines()
                .find_map(|l| l.strip_prefix(r#"strandline_remote_log_size_bytes{topic="t"} "#))
                .and_then(|bytes| bytes.parse::<f64>().ok())
                .unwrap_or_default() as u64;
            sum += told;
            tellers += usize::from(told > 0);
        }
        // Forty batches of 68 bytes make two sealed segments and an active one.
        let least = 8 * 2 * 900;
        (tellers == leaders.len() && sum >= least && sum == segment_bytes(remote.path()))
            .then_some(())
    })
    .await;
}
