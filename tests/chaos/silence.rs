//! Measured instead of histories: how long a partition is silent when the process of its leader is paused or cut off, and
//! that nobody is fenced while a machine is merely busy.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::history::{History, PROBED};
use crate::measures::{begin_probing_patiently, print_times};
use crate::workload::{PARTITIONS, PROBE};
use crate::{Options, RECOVERY};

/// The probe asks another node after this time.
const PATIENCE: Duration = Duration::from_millis(150);
/// A fault ends this long after another broker acknowledges: the old leader finds a cluster that works without it.
const LASTS_ON: Duration = Duration::from_secs(1);

/// Pauses and isolates the leader in turn; prints how long its partition acknowledges nothing. Every producer must
/// recover, also the one that waits for an answer of the silent node.
pub async fn run(options: &Options, count: usize) -> Result<(), String> {
    let history = begin_probing_patiently(options, "silence", PATIENCE).await?;
    let mut silences: BTreeMap<&str, Vec<u128>> = BTreeMap::new();
    let mut recoveries = Vec::new();
    for number in 0..count {
        history.cluster.wait_until_in_sync(RECOVERY).await?;
        let (controller, leader) = history.cluster.controller_and_leader(PROBED).await;
        let leader = leader.ok_or("the topic has no leader")?;
        let began = Instant::now();
        let fault = if number % 2 == 0 {
            "pause"
        } else {
            "isolation"
        };
        begin(&history, fault, leader)?;
        let next = acknowledged(&history, PROBE, began, fault).await?;
        let silence = (next - began).as_millis();
        println!("  {fault} of leader {leader}, controller {controller:?}: {silence} ms");
        silences.entry(fault).or_default().push(silence);
        tokio::time::sleep(LASTS_ON).await;
        let healed = Instant::now();
        end(&history, fault, leader)?;
        let mut slowest = Duration::ZERO;
        for partition in 0..PARTITIONS {
            let next = acknowledged(&history, partition, healed, fault).await?;
            slowest = slowest.max(next - healed);
        }
        recoveries.push(slowest.as_millis());
    }
    println!("silence of a leader to the next acknowledged record, {count} times:");
    let all = silences.values().flatten().copied().collect();
    for (fault, times) in silences {
        print_times(fault, times);
    }
    print_times("both", all);
    print_times("every librdkafka producer, after the fault", recoveries);
    history.end().await.map(|_| ())
}

fn begin(history: &History, fault: &str, leader: i32) -> Result<(), String> {
    if fault == "pause" {
        history.cluster.pause(leader);
        return Ok(());
    }
    for other in history.cluster.all_ids() {
        if other != leader {
            history.network.cut(leader, other)?;
            history.network.cut(other, leader)?;
        }
    }
    Ok(())
}

fn end(history: &History, fault: &str, leader: i32) -> Result<(), String> {
    if fault == "pause" {
        history.cluster.resume(leader);
        return Ok(());
    }
    history.network.heal()
}

/// The first acknowledgement of a partition after `since`, without answers that were on their way.
async fn acknowledged(
    history: &History,
    partition: i32,
    since: Instant,
    fault: &str,
) -> Result<Instant, String> {
    let in_flight = since + Duration::from_millis(50);
    loop {
        if let Some(next) = history.notes.next_acknowledged(partition, in_flight) {
            return Ok(next);
        }
        if since.elapsed() > RECOVERY {
            return Err(format!(
                "{fault}: partition {partition} acknowledges nothing for {RECOVERY:?}"
            ));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Between two pauses of the active controller.
const BETWEEN_PAUSES: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_secs(1);

/// Keeps every processor busy, pauses the active controller for a second now and then, and lets the flushes of one broker
/// hang; no broker may be fenced meanwhile.
pub async fn false_alarms(options: &Options, seconds: u64) -> Result<(), String> {
    let history = begin_probing_patiently(options, "false-alarms", RECOVERY).await?;
    history.cluster.wait_until_in_sync(RECOVERY).await?;
    let before = fenced(&history.cluster)?;
    let burners = std::thread::available_parallelism().map_or(4, usize::from) * 2;
    let mut burning = Vec::new();
    for _ in 0..burners {
        let child = std::process::Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .spawn();
        burning.push(child.map_err(|e| e.to_string())?);
    }
    let ends = Instant::now() + Duration::from_secs(seconds);
    let mut number = 0;
    while Instant::now() < ends {
        tokio::time::sleep(BETWEEN_PAUSES).await;
        let (controller, leader) = history.cluster.controller_and_leader(PROBED).await;
        number += 1;
        if let (0, Some(controller)) = (number % 2, controller) {
            history.cluster.pause(controller);
            tokio::time::sleep(PAUSE).await;
            history.cluster.resume(controller);
        } else if let Some(leader) = leader {
            history.cluster.disturb_flushes(leader, "flush-slow", true);
            tokio::time::sleep(PAUSE * 3).await;
            history.cluster.disturb_flushes(leader, "flush-slow", false);
        }
    }
    for mut child in burning {
        let _ = child.kill();
        let _ = child.wait();
    }
    let alarms = fenced(&history.cluster)? - before;
    println!(
        "{number} pauses and stalls in {seconds} s on {burners} busy loops: {alarms} brokers were fenced"
    );
    history.end().await?;
    if alarms > 0 {
        return Err(format!("{alarms} false alarms"));
    }
    Ok(())
}

/// How often a controller has fenced a broker, as the nodes' logs tell.
fn fenced(cluster: &Cluster) -> Result<usize, String> {
    let mut count = 0;
    for id in cluster.all_ids() {
        let log = cluster.node_directory(id).join("log");
        let text = std::fs::read_to_string(&log).map_err(|e| format!("{}: {e}", log.display()))?;
        count += text.matches("FenceBroker {").count();
    }
    Ok(count)
}
