//! Steps of the wall clock with no other fault: what stands still, and for how long. Every duration of a broker runs on its
//! monotonic clock, so nothing may.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use strandline_tests::Fault;

use crate::history::History;
use crate::measures::{begin_probing, print_times};
use crate::nemesis::{CLOCK_STEPS, Nemesis};
use crate::workload::{self, COMMITS, PARTITIONS, PROBE, TOPIC};
use crate::{Options, RECOVERY};

/// How long each position of the clock lasts: longer than the session of the group's members.
const LASTS: Duration = Duration::from_secs(7);
const SESSION_MS: &str = "6000";
/// Its coordinator is the leader of partition 0 of three of the offsets topic, which `Nemesis::ClockOfCoordinator` means.
const MEMBERS: &str = "clock-watchers";
/// The longest time that a partition, a commit or a group may stand still.
const LONGEST_STALL: Duration = Duration::from_secs(2);
/// Copies that fail before a step, so that partitions wait for their next attempt.
const FAILURES: usize = 6;
/// The longest back-off of the cold tier here is 2.4 s; then a segment is uploaded.
const LONGEST_COPY_PAUSE: Duration = Duration::from_secs(10);

/// Sets a node's clock and sets it back, `count` times.
pub async fn run(options: &Options, count: usize) -> Result<(), String> {
    let history = begin_probing(options, "clock-steps").await?;
    let group = Group::join(&history.cluster.bootstrap())?;
    let (mut stalls, mut copies) = (Vec::new(), Vec::new());
    for number in 0..count {
        history.cluster.wait_until_in_sync(RECOVERY).await?;
        let role = Nemesis::OF_CLOCKS[number % Nemesis::OF_CLOCKS.len()];
        let step = CLOCK_STEPS[number / Nemesis::OF_CLOCKS.len() % CLOCK_STEPS.len()];
        let victim = role.clock_owner(&history.cluster).await;
        let victim = victim.ok_or("nobody knows whose clock to set")?;
        for offset_ms in [step, 0] {
            let before = group.rebalances();
            let (stall, of) = step_clock(&history, victim, offset_ms, &mut copies).await?;
            let moved = group.rebalances() - before;
            println!(
                "  {role:?}, node {victim}, {offset_ms} ms: {} ms without {of}, copied again after {} ms, {moved} rebalances",
                stall.as_millis(),
                copies.last().copied().unwrap_or_default()
            );
            if moved > 0 {
                return Err(format!("{role:?}: a step of the clock ended a session"));
            }
            if stall > LONGEST_STALL {
                return Err(format!("{role:?}: {of} stood still for {stall:?}"));
            }
            stalls.push(stall.as_millis());
        }
    }
    group.leave();
    println!("a wall clock is set, and set back, {count} times:");
    print_times("longest stall of any partition, or of commits", stalls);
    print_times(
        "until a segment is copied after the store came back",
        copies,
    );
    history.end().await.map(|_| ())
}

/// Sets the clock while copies are in their back-off; returns the longest stall since, and of what.
async fn step_clock(
    history: &History,
    victim: i32,
    offset_ms: i64,
    copies: &mut Vec<u128>,
) -> Result<(Duration, String), String> {
    let refused = history.store.count("PUT", "") + history.store.count("POST", "");
    // The client of the store does not retry this fault, so the broker's own back-off begins.
    history.store.inject("PUT", "", u32::MAX, Fault::Forbidden);
    history.store.inject("POST", "", u32::MAX, Fault::Forbidden);
    let failures = || history.store.count("PUT", "") + history.store.count("POST", "") - refused;
    wait_until("copies fail", || failures() >= FAILURES).await?;
    let stepped = Instant::now();
    history.cluster.set_clock(victim, offset_ms)?;
    history.store.heal();
    let objects = history.store.keys().len();
    wait_until("a segment is copied", || {
        history.store.keys().len() > objects
    })
    .await?;
    let copied = stepped.elapsed();
    copies.push(copied.as_millis());
    if copied > LONGEST_COPY_PAUSE {
        return Err(format!(
            "node {victim}, {offset_ms} ms: copying stood still for {copied:?}"
        ));
    }
    tokio::time::sleep(LASTS.saturating_sub(stepped.elapsed())).await;
    let observed = (0..PARTITIONS).chain([PROBE, COMMITS]);
    let stall = |key: i32| (history.notes.gap_since(key, stepped), name_of(key));
    Ok(observed.map(stall).max().unwrap_or_default())
}

fn name_of(key: i32) -> String {
    match key {
        PROBE => "the probe".into(),
        COMMITS => "commits of offsets".into(),
        partition => format!("{TOPIC}-{partition}"),
    }
}

async fn wait_until(what: &str, mut holds: impl FnMut() -> bool) -> Result<(), String> {
    let began = Instant::now();
    while !holds() {
        if began.elapsed() > RECOVERY {
            return Err(format!("waited {RECOVERY:?} in vain: {what}"));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Counts the revocations of a group's members.
#[derive(Clone, Default)]
struct Revocations(Arc<AtomicU32>);

impl ClientContext for Revocations {}

impl ConsumerContext for Revocations {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if matches!(rebalance, Rebalance::Revoke(_)) {
            self.0.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// Two members of the group whose coordinator commits go to. One's heartbeat makes the coordinator look at the other's
/// session.
struct Group {
    revocations: Revocations,
    stop: Arc<AtomicBool>,
    members: Vec<JoinHandle<()>>,
}

impl Group {
    fn join(bootstrap: &str) -> Result<Self, String> {
        let (revocations, stop) = (Revocations::default(), Arc::new(AtomicBool::new(false)));
        let assigned = Arc::new(AtomicU32::new(0));
        let mut members = Vec::new();
        for _ in 0..2 {
            let consumer: BaseConsumer<Revocations> = workload::config(bootstrap)
                .set("group.id", MEMBERS)
                .set("session.timeout.ms", SESSION_MS)
                .set("heartbeat.interval.ms", "500")
                .create_with_context(revocations.clone())
                .map_err(|e| e.to_string())?;
            consumer.subscribe(&[TOPIC]).map_err(|e| e.to_string())?;
            let (stop, assigned) = (stop.clone(), assigned.clone());
            members.push(std::thread::spawn(move || {
                let mut counted = false;
                while !stop.load(Ordering::Acquire) {
                    let _ = consumer.poll(Duration::from_millis(100));
                    let has = consumer.assignment().is_ok_and(|a| a.count() > 0);
                    if has
                        && !counted
                        && consumer
                            .assignment()
                            .is_ok_and(|a| a.count() < PARTITIONS as usize)
                    {
                        counted = true;
                        assigned.fetch_add(1, Ordering::AcqRel);
                    }
                }
            }));
        }
        let began = Instant::now();
        while assigned.load(Ordering::Acquire) < 2 {
            if began.elapsed() > RECOVERY {
                return Err("the group never shared its partitions".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self {
            revocations,
            stop,
            members,
        })
    }

    fn rebalances(&self) -> u32 {
        self.revocations.0.load(Ordering::Acquire)
    }

    fn leave(self) {
        self.stop.store(true, Ordering::Release);
        for member in self.members {
            let _ = member.join();
        }
    }
}
