//! The faults that a history applies to a cluster, and how it undoes them.

use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use strandline_tests::{Fault, S3Server};

use crate::RECOVERY;
use crate::cluster::{Cluster, Network};
use crate::disks::DiskFault;
use crate::moves;
use crate::workload::{OFFSETS_TOPIC, TOPIC};

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nemesis {
    KillLeader,
    KillController,
    KillCoordinator,
    KillAny,
    KillAll,
    /// Kill all, and then the first that leads again.
    KillAllThenLeader,
    /// A follower that is cut off from the leader may be elected next.
    SplitThenKillLeader,
    Pause,
    /// One node and the others get no packets from each other.
    Isolate,
    /// The others get no packets from one node, but it gets theirs.
    Mute,
    /// Two nodes get no packets from each other; both get those of the third.
    Split,
    RollingRestart,
    StoreDown,
    StoreSlow,
    StoreAmbiguous,
    /// Bits are wrong on both ways, pages come in place of answers, and deletes are said to be done.
    StoreLies,
    SlowFlush,
    FailingFlush,
    DiskFull,
    /// One of a node's two log directories dies, becomes read-only, fills up or is unmounted.
    DirectoryDies,
    DirectoryReadOnly,
    DirectoryFull,
    DirectoryUnmounted,
    /// A broker is killed and begins again without anything of its own.
    WipeNode,
    /// A replica moves to another broker, where there are more brokers than replicas, or to its broker's other disk.
    MoveReplica,
    /// The wall clock of a node is set, and set back.
    ClockOfLeader,
    ClockOfFollower,
    ClockOfController,
    ClockOfCoordinator,
}

/// How far a wall clock is set, in milliseconds.
pub const CLOCK_STEPS: [i64; 4] = [600_000, -600_000, 86_400_000, -86_400_000];

impl Nemesis {
    pub const ALL: [Self; 29] = [
        Self::KillLeader,
        Self::KillController,
        Self::KillCoordinator,
        Self::KillAny,
        Self::KillAll,
        Self::KillAllThenLeader,
        Self::SplitThenKillLeader,
        Self::Pause,
        Self::Isolate,
        Self::Mute,
        Self::Split,
        Self::RollingRestart,
        Self::StoreDown,
        Self::StoreSlow,
        Self::StoreAmbiguous,
        Self::StoreLies,
        Self::SlowFlush,
        Self::FailingFlush,
        Self::DiskFull,
        Self::DirectoryDies,
        Self::DirectoryReadOnly,
        Self::DirectoryFull,
        Self::DirectoryUnmounted,
        Self::WipeNode,
        Self::MoveReplica,
        Self::ClockOfLeader,
        Self::ClockOfFollower,
        Self::ClockOfController,
        Self::ClockOfCoordinator,
    ];

    pub const OF_CLOCKS: [Self; 4] = [
        Self::ClockOfLeader,
        Self::ClockOfFollower,
        Self::ClockOfController,
        Self::ClockOfCoordinator,
    ];

    pub fn named(name: &str) -> Option<Self> {
        let wanted = name.replace('-', "").to_lowercase();
        Self::ALL
            .into_iter()
            .find(|n| format!("{n:?}").to_lowercase() == wanted)
    }

    /// Does it, lets it last, and undoes it.
    pub async fn strike(
        self,
        cluster: &mut Cluster,
        network: &Network,
        store: &S3Server,
        random: &mut StdRng,
    ) -> Result<(), String> {
        let ids = cluster.all_ids();
        let any = ids[random.random_range(0..ids.len())];
        let brokers = cluster.ids();
        let broker = brokers[random.random_range(0..brokers.len())];
        let (controller, leader) = cluster.controller_and_leader(TOPIC).await;
        let lasts = Duration::from_millis(random.random_range(1500..5000));
        match self {
            Self::KillLeader => kill(cluster, &[leader.unwrap_or(any)], lasts).await,
            Self::KillController => kill(cluster, &[controller.unwrap_or(any)], lasts).await,
            Self::KillCoordinator => {
                let (_, coordinator) = cluster.controller_and_leader(OFFSETS_TOPIC).await;
                kill(cluster, &[coordinator.unwrap_or(any)], lasts).await
            }
            Self::KillAny => kill(cluster, &[any], lasts).await,
            Self::KillAll => kill(cluster, &ids, lasts).await,
            Self::KillAllThenLeader => {
                kill(cluster, &ids, Duration::from_millis(100)).await?;
                let began = Instant::now();
                let leader = loop {
                    let (_, leader) = cluster.controller_and_leader(TOPIC).await;
                    if let Some(leader) = leader {
                        break leader;
                    }
                    if began.elapsed() > RECOVERY {
                        return Err(format!("nobody leads {RECOVERY:?} after all were killed"));
                    }
                    tokio::time::sleep(Duration::from_millis(2)).await;
                };
                kill(cluster, &[leader], lasts).await
            }
            Self::SplitThenKillLeader => {
                let leader = leader.unwrap_or(broker);
                let follower = brokers.iter().copied().find(|id| *id != leader);
                let follower = follower.unwrap_or(broker);
                network.cut(leader, follower)?;
                network.cut(follower, leader)?;
                tokio::time::sleep(lasts).await;
                cluster.kill(leader);
                network.heal()?;
                tokio::time::sleep(lasts).await;
                cluster.launch(leader)
            }
            Self::Pause => {
                // Longer than a broker's session, half of the times.
                let lasts = Duration::from_millis(random.random_range(1000..14_000));
                let victim = leader.filter(|_| random.random()).unwrap_or(any);
                cluster.pause(victim);
                tokio::time::sleep(lasts).await;
                cluster.resume(victim);
                Ok(())
            }
            Self::Isolate | Self::Mute | Self::Split => {
                let lasts = Duration::from_millis(random.random_range(3000..14_000));
                let victim = leader.filter(|_| random.random()).unwrap_or(any);
                let others = ids.iter().copied().filter(|id| *id != victim);
                let others: Vec<i32> = others.collect();
                for other in &others {
                    network.cut(victim, *other)?;
                    if self != Self::Mute {
                        network.cut(*other, victim)?;
                    }
                    if self == Self::Split {
                        break;
                    }
                }
                tokio::time::sleep(lasts).await;
                network.heal()
            }
            Self::RollingRestart => {
                for id in ids {
                    if !cluster.stop(id) {
                        return Err(format!("node {id} did not stop when it was asked to"));
                    }
                    cluster.launch(id)?;
                    cluster.wait_until_in_sync(Duration::from_secs(60)).await?;
                }
                Ok(())
            }
            Self::StoreDown => {
                for method in ["PUT", "GET", "POST", "DELETE"] {
                    store.inject(method, "", u32::MAX, Fault::SlowDown);
                }
                tokio::time::sleep(lasts).await;
                store.heal();
                Ok(())
            }
            Self::StoreSlow => {
                for method in ["PUT", "GET", "POST", "DELETE"] {
                    let delay = Duration::from_millis(random.random_range(200..3000));
                    store.inject(method, "", u32::MAX, Fault::SlowFirstByte(delay));
                }
                tokio::time::sleep(lasts).await;
                store.heal();
                Ok(())
            }
            Self::StoreAmbiguous => {
                store.inject("PUT", "", 20, Fault::DropAfter);
                store.inject("POST", "", 5, Fault::DropAfter);
                store.inject("GET", "", 20, Fault::TruncateBody);
                tokio::time::sleep(lasts).await;
                store.heal();
                Ok(())
            }
            Self::StoreLies => {
                let page = || Fault::Body(200, "<html>please log in</html>".into());
                store.inject("PUT", "segments", 10, Fault::FlipBitUp);
                store.inject("PUT", "segments", 5, page());
                store.inject("GET", "segments", 1, Fault::FlipBit);
                store.inject("GET", "segments", 1, Fault::Shorten);
                store.inject("GET", "segments", 1, page());
                store.inject("DELETE", "cold", 5, Fault::SayDone);
                tokio::time::sleep(lasts).await;
                store.heal();
                Ok(())
            }
            Self::SlowFlush => {
                cluster.disturb_flushes(any, "flush-slow", true);
                tokio::time::sleep(lasts).await;
                cluster.disturb_flushes(any, "flush-slow", false);
                Ok(())
            }
            Self::FailingFlush => {
                // The disk is bad: the process continues without it, or ends. A new process finds the disk well again.
                cluster.disturb_flushes(any, "flush-fails", true);
                tokio::time::sleep(lasts).await;
                cluster.kill(any);
                cluster.disturb_flushes(any, "flush-fails", false);
                cluster.launch(any)
            }
            Self::DiskFull => {
                let victim = leader.filter(|_| random.random()).unwrap_or(any);
                cluster.fill_disk(victim, true)?;
                tokio::time::sleep(lasts).await;
                cluster.fill_disk(victim, false)?;
                // A process that could not write its metadata has ended; a process that continued needs no help.
                cluster.launch(victim)
            }
            Self::DirectoryDies
            | Self::DirectoryReadOnly
            | Self::DirectoryFull
            | Self::DirectoryUnmounted => {
                let fault = self.of_disk();
                let victim = leader.filter(|_| random.random()).unwrap_or(broker);
                cluster.strike_disk(victim, fault)?;
                tokio::time::sleep(lasts).await;
                cluster.heal_disk(victim, fault)?;
                // The replicas of a lost disk come back before the next disk dies.
                cluster.wait_until_in_sync(RECOVERY).await.map(|_| ())
            }
            Self::WipeNode => {
                // With every replica in sync, the others have all that was acknowledged.
                cluster.wait_until_in_sync(RECOVERY).await?;
                let victim = leader.filter(|_| random.random()).unwrap_or(broker);
                cluster.kill(victim);
                cluster.wipe(victim)?;
                cluster.launch(victim)?;
                cluster.wait_until_in_sync(RECOVERY).await.map(|_| ())
            }
            Self::MoveReplica => moves::one(cluster, random).await,
            Self::ClockOfLeader
            | Self::ClockOfFollower
            | Self::ClockOfController
            | Self::ClockOfCoordinator => {
                let victim = self.clock_owner(cluster).await.unwrap_or(any);
                let step = CLOCK_STEPS[random.random_range(0..CLOCK_STEPS.len())];
                println!("          node {victim}: {step} ms");
                cluster.set_clock(victim, step)?;
                tokio::time::sleep(lasts).await;
                cluster.set_clock(victim, 0)
            }
        }
    }

    /// The fault of a disk that this is.
    pub fn of_disk(self) -> DiskFault {
        match self {
            Self::FailingFlush => DiskFault::Flush,
            Self::DirectoryReadOnly => DiskFault::ReadOnly,
            Self::DirectoryFull => DiskFault::Full,
            Self::DirectoryUnmounted => DiskFault::Unmounted,
            _ => DiskFault::Dies,
        }
    }

    /// The node whose clock is set, if any node knows it.
    pub async fn clock_owner(self, cluster: &Cluster) -> Option<i32> {
        let (controller, leader) = cluster.controller_and_leader(TOPIC).await;
        match self {
            Self::ClockOfController => controller,
            Self::ClockOfCoordinator => cluster.controller_and_leader(OFFSETS_TOPIC).await.1,
            Self::ClockOfFollower => {
                let leader = leader?;
                cluster.ids().into_iter().find(|id| *id != leader)
            }
            _ => leader,
        }
    }
}

async fn kill(cluster: &mut Cluster, victims: &[i32], lasts: Duration) -> Result<(), String> {
    for id in victims {
        cluster.kill(*id);
    }
    tokio::time::sleep(lasts).await;
    victims.iter().try_for_each(|id| cluster.launch(*id))
}
