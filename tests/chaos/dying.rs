//! Measured instead of histories: how long a partition is silent when the disk of its leader dies, becomes read-only, fills
//! up, is unmounted, or does not flush; and that nothing is lost.

use std::time::{Duration, Instant};

use crate::disks::DiskFault;
use crate::history::PROBED;
use crate::measures::{begin_probing, print_times};
use crate::nemesis::Nemesis;
use crate::workload::PROBE;
use crate::{Options, RECOVERY};

/// Strikes the disk of the leader again and again, each fault in its turn. `--faults` names some of them.
pub async fn run(options: &Options, named: &[Nemesis], count: usize) -> Result<(), String> {
    let all = DiskFault::ALL.to_vec();
    let faults = match options.faults[..] {
        [] => all,
        _ => named.iter().map(|n| n.of_disk()).collect(),
    };
    let mut history = begin_probing(options, "directories").await?;
    let mut gaps = Vec::new();
    for number in 0..count {
        let fault = faults[number % faults.len()];
        history.cluster.wait_until_in_sync(RECOVERY).await?;
        let (_, leader) = history.cluster.controller_and_leader(PROBED).await;
        let leader = leader.ok_or("the topic has no leader")?;
        let struck = Instant::now();
        history.cluster.strike_disk(leader, fault)?;
        loop {
            let (_, next) = history.cluster.controller_and_leader(PROBED).await;
            // Answers of the old leader may still arrive.
            let in_flight = struck + Duration::from_millis(30);
            let goes_on = history.notes.next_acknowledged(PROBE, in_flight).is_some();
            if next.is_some_and(|id| id != leader) && goes_on {
                break;
            }
            if struck.elapsed() > RECOVERY {
                return Err(format!(
                    "{fault:?}: node {leader} still leads after {RECOVERY:?}"
                ));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Acknowledgements that come meanwhile show that the gap is over.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let gap = history.notes.gap_since(PROBE, struck).as_millis();
        println!("  {fault:?}: leader {leader}: {gap} ms");
        gaps.push(gap);
        history.cluster.heal_disk(leader, fault)?;
    }
    println!("the disk of a leader fails, {count} times:");
    print_times("longest pause of its partition", gaps);
    history.end().await.map(|_| ())
}
