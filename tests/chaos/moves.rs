//! Replicas that move while faults strike: to other brokers, and between the two disks of one.

use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::cluster::Cluster;
use crate::direct::{Direct, Refusal};
use crate::workload::{PARTITIONS, TOPIC};
use crate::{RECOVERY, REPLICAS};

/// Begins one move, which the next faults meet under way.
pub async fn one(cluster: &Cluster, random: &mut StdRng) -> Result<(), String> {
    let mut brokers = cluster.ids();
    brokers.shuffle(random);
    let partition = random.random_range(0..PARTITIONS);
    if brokers.len() > REPLICAS as usize {
        brokers.truncate(REPLICAS as usize);
        println!("          {TOPIC}-{partition} to {brokers:?}");
        let mut direct = Direct::new(cluster.addresses());
        return until_accepted(async || direct.reassign(TOPIC, partition, &brokers).await).await;
    }
    let Some(&broker) = brokers.first() else {
        return Err("there is no broker".into());
    };
    let directories = cluster.log_directories(broker);
    let directory = &directories[random.random_range(0..directories.len())];
    let directory = directory.display().to_string();
    println!("          {TOPIC}-{partition} of {broker} to {directory}");
    let mut direct = Direct::new(vec![cluster.address(broker)]);
    until_accepted(async || direct.move_to_directory(TOPIC, partition, &directory).await).await
}

/// Asks again while the cluster recovers from the fault before.
async fn until_accepted(
    mut asking: impl AsyncFnMut() -> Result<(), Refusal>,
) -> Result<(), String> {
    let began = Instant::now();
    loop {
        match asking().await {
            Ok(()) => return Ok(()),
            Err(refusal) if began.elapsed() > RECOVERY => {
                return Err(format!("no move after {RECOVERY:?}: {refusal:?}"));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}
