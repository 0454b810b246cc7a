//! Measurements of how long a partition is silent when a node dies or restarts.

use std::time::{Duration, Instant};

use crate::history::{History, PROBED};
use crate::workload::{self, PROBE};
use crate::{Options, RECOVERY};

/// Kills the leader of the first partition again and again; prints how long it acknowledges nothing.
pub async fn failovers(options: &Options, count: usize) -> Result<(), String> {
    let mut history = begin_probing(options, "failovers").await?;
    let mut silences = Vec::new();
    let mut heard_by_client = Vec::new();
    for _ in 0..count {
        history.cluster.wait_until_in_sync(RECOVERY).await?;
        let (controller, leader) = history.cluster.controller_and_leader(PROBED).await;
        let leader = leader.ok_or("the topic has no leader")?;
        let killed = Instant::now();
        history.cluster.kill(leader);
        // Answers that the old leader had sent may still arrive.
        let in_flight = killed + Duration::from_millis(30);
        let (next, next_of_client) = loop {
            let of = |partition| history.notes.next_acknowledged(partition, in_flight);
            if let (Some(probe), Some(client)) = (of(PROBE), of(0)) {
                break (probe, client);
            }
            if killed.elapsed() > RECOVERY {
                return Err("nothing was acknowledged after a leader was killed".into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let silence = (next - killed).as_millis();
        println!("  leader {leader}, controller {controller:?}: {silence} ms");
        silences.push(silence);
        heard_by_client.push((next_of_client - killed).as_millis());
        history.cluster.launch(leader)?;
    }
    println!("kill -9 of a leader to the next acknowledged record, {count} times:");
    print_times("probe", silences);
    print_times("librdkafka", heard_by_client);
    history.end().await.map(|_| ())
}

/// A cluster with clients, and with a probe that notes every acknowledgement.
pub async fn begin_probing(options: &Options, name: &str) -> Result<History, String> {
    begin_probing_patiently(options, name, workload::PROBE_TIMEOUT).await
}

/// The same; the probe turns to another node where one does not answer for so long.
pub async fn begin_probing_patiently(
    options: &Options,
    name: &str,
    patience: Duration,
) -> Result<History, String> {
    let mut history = History::begin(options, name).await?;
    history.wait_for_progress().await?;
    let addresses = history.cluster.addresses();
    let noting = history.notes.clone();
    let probing = async move { workload::probe(addresses, PROBED, noting, patience).await };
    history.clients.push(tokio::spawn(probing));
    Ok(history)
}

pub fn print_times(what: &str, mut times: Vec<u128>) {
    if times.is_empty() {
        return;
    }
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    println!(
        "  {what}: p50 {} ms, p90 {} ms, p99 {} ms, max {} ms",
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
}

/// Kills the active controller again and again, when it does not lead the probed partition.
pub async fn controller_kills(options: &Options, count: usize) -> Result<(), String> {
    let mut history = begin_probing(options, "controllers").await?;
    let (mut elections, mut gaps) = (Vec::new(), Vec::new());
    while elections.len() < count {
        history.cluster.wait_until_in_sync(RECOVERY).await?;
        let (controller, leader) = history.cluster.controller_and_leader(PROBED).await;
        let controller = controller.ok_or("there is no active controller")?;
        if Some(controller) == leader {
            // Another one leads the partition afterwards.
            history.cluster.stop(controller);
            history.cluster.launch(controller)?;
            continue;
        }
        let killed = Instant::now();
        history.cluster.kill(controller);
        loop {
            let (now, _) = history.cluster.controller_and_leader(PROBED).await;
            if now.is_some_and(|id| id != controller) {
                break;
            }
            if killed.elapsed() > RECOVERY {
                return Err("there is no other controller".into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        elections.push(killed.elapsed().as_millis());
        tokio::time::sleep(Duration::from_secs(1)).await;
        gaps.push(history.notes.gap_since(PROBE, killed).as_millis());
        history.cluster.launch(controller)?;
    }
    println!("kill -9 of the active controller, {count} times:");
    print_times("until another one is active", elections);
    print_times(
        "longest pause of a partition that another broker leads",
        gaps,
    );
    history.end().await.map(|_| ())
}

/// Stops and starts the leader again and again.
pub async fn restarts(options: &Options, count: usize) -> Result<(), String> {
    let mut history = begin_probing(options, "restarts").await?;
    let mut gaps = Vec::new();
    for _ in 0..count {
        history.cluster.wait_until_in_sync(RECOVERY).await?;
        let (_, leader) = history.cluster.controller_and_leader(PROBED).await;
        let leader = leader.ok_or("the topic has no leader")?;
        let asked = Instant::now();
        if !history.cluster.stop(leader) {
            return Err(format!("node {leader} did not stop when it was asked to"));
        }
        history.cluster.launch(leader)?;
        history.cluster.wait_until_in_sync(RECOVERY).await?;
        gaps.push(history.notes.gap_since(PROBE, asked).as_millis());
    }
    println!("a leader stops and starts, {count} times:");
    print_times("longest pause of its partition", gaps);
    history.end().await.map(|_| ())
}
