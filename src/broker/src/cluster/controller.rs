//! The duties of the active controller: brokers that are gone are fenced, brokers that are well are unfenced, leaders
//! go back to where they are preferred.
//!
//! A broker whose process dies is missed when its link ends, within a blink; silence is only for processes and networks
//! that hang. Fencing too early costs a change of leaders and never a record: the leader epoch protects.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use strandline_metadata::config::BrokerConfig;
use strandline_metadata::controller::{Command, ElectionKind, imbalanced_partitions};
use strandline_metadata::{BrokerImage, ClusterImage};
use strandline_quorum::{Presence, Quorum, SubmitError};
use tokio_util::sync::CancellationToken;

/// A link may end and come back this fast without the process having died.
const GONE_GRACE: Duration = Duration::from_millis(50);
/// Links that ended while this process was paused have this long to come back after it.
const GONE_GRACE_AFTER_PAUSE: Duration = Duration::from_millis(500);
/// A controller that looks at nothing for so long was paused, or its machine was.
const PAUSE: Duration = Duration::from_secs(1);
/// How often deadlines are looked at where nothing happens.
const TICK: Duration = Duration::from_millis(20);

/// The decision about a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Fence,
    Unfence,
    Leave,
}

/// Decides whether a broker is fenced. `in_office` is the time since this controller became the active one. Brokers
/// that have not connected to the new controller yet must get the time to do so. `awake` is the time since this process was
/// paused last. Brokers that spoke while it was paused must get the time to speak again.
fn judge(
    broker: &BrokerImage,
    presence: Option<&Presence>,
    session_timeout: Duration,
    in_office: Duration,
    awake: Duration,
) -> Verdict {
    let Some(presence) = presence else {
        return if in_office > session_timeout && !broker.fenced {
            Verdict::Fence
        } else {
            Verdict::Leave
        };
    };
    let same = presence.incarnation == broker.incarnation;
    let silent = presence.last_heard.elapsed().min(awake) > session_timeout;
    let gone = presence.gone_since.map(|since| since.elapsed());
    let gone = gone.filter(|_| awake > GONE_GRACE_AFTER_PAUSE);
    if !broker.fenced {
        let dead = !same || silent || gone.is_some_and(|gone| gone > GONE_GRACE);
        return if dead { Verdict::Fence } else { Verdict::Leave };
    }
    let caught_up = presence.applied_index as i64 >= broker.epoch.0;
    if same && !silent && gone.is_none() && caught_up {
        Verdict::Unfence
    } else {
        Verdict::Leave
    }
}

fn session_timeout(config: &BrokerConfig) -> Duration {
    let ms = config.number("broker.session.timeout.ms").max(1) as u64;
    Duration::from_millis(ms)
}

/// When this process was paused last, as far as its looks at the cluster tell.
#[derive(Clone, Copy, Debug)]
struct Attention {
    awake_since: Instant,
    looked_at: Instant,
}

impl Attention {
    fn look(self, now: Instant) -> Self {
        let paused = now.saturating_duration_since(self.looked_at) >= PAUSE;
        Self {
            awake_since: if paused { now } else { self.awake_since },
            looked_at: now,
        }
    }
}

/// How long this process has not been paused. Looks at the clock also while a decision is being committed.
struct Awake(Mutex<Attention>);

impl Awake {
    fn new() -> Self {
        let now = Instant::now();
        Self(Mutex::new(Attention {
            awake_since: now,
            looked_at: now,
        }))
    }

    fn time(&self) -> Duration {
        let mut attention = self.0.lock().expect("no holder panics");
        *attention = attention.look(Instant::now());
        attention.awake_since.elapsed()
    }

    async fn keep_looking(&self) {
        loop {
            self.time();
            tokio::time::sleep(PAUSE / 10).await;
        }
    }
}

/// Runs while the process does; acts while it leads the quorum. Each decision is bound to the term in which it was made.
pub async fn run(quorum: Arc<Quorum>, config: BrokerConfig, stop: CancellationToken) {
    let awake = Awake::new();
    tokio::select! {
        () = keep_watch(&quorum, &config, &stop, &awake) => {}
        () = awake.keep_looking() => {}
    }
}

async fn keep_watch(
    quorum: &Quorum,
    config: &BrokerConfig,
    stop: &CancellationToken,
    awake: &Awake,
) {
    let timeout = session_timeout(config);
    let mut images = quorum.subscribe();
    let mut office: Option<(u64, Instant)> = None;
    let mut balanced = Instant::now();
    loop {
        if let Some(term) = quorum.office() {
            let (_, since) = *match &mut office {
                Some(same) if same.0 == term => same,
                other => {
                    tracing::info!(term, "this process is the active controller");
                    other.insert((term, Instant::now()))
                }
            };
            let duties = async {
                watch_brokers(quorum, term, timeout, since, awake).await;
                balance_leaders(quorum, term, config, &mut balanced).await;
            };
            if stop.run_until_cancelled(duties).await.is_none() {
                return;
            }
        } else {
            office = None;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = quorum.presences_changed() => {}
            changed = images.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

async fn watch_brokers(
    quorum: &Quorum,
    term: u64,
    timeout: Duration,
    since: Instant,
    awake: &Awake,
) {
    let image = quorum.image();
    let presences = quorum.presences();
    for broker in image.brokers.values() {
        let (id, epoch) = (broker.id, broker.epoch);
        let presence = presences.get(&id.0);
        let command = match judge(broker, presence, timeout, since.elapsed(), awake.time()) {
            Verdict::Fence => Command::FenceBroker { id, epoch },
            Verdict::Unfence => Command::UnfenceBroker { id, epoch },
            Verdict::Leave => continue,
        };
        tracing::info!(broker = %id, ?command, "fencing or unfencing a broker");
        match quorum.decide_in_office(term, command).await {
            Ok(_) => {}
            // The broker has registered again in between: the next tick looks at the new incarnation.
            Err(SubmitError::Refused(refusal)) => {
                tracing::debug!(broker = %id, %refusal, "the controller refused to fence or unfence a broker");
            }
            Err(error) => {
                tracing::warn!(broker = %id, %error, "a broker could not be fenced or unfenced");
                // The presences that were read before are old by now.
                return;
            }
        }
    }
}

async fn balance_leaders(quorum: &Quorum, term: u64, config: &BrokerConfig, last: &mut Instant) {
    let interval = config
        .number("leader.imbalance.check.interval.seconds")
        .max(1) as u64;
    if !config.boolean("auto.leader.rebalance.enable")
        || last.elapsed() < Duration::from_secs(interval)
    {
        return;
    }
    *last = Instant::now();
    let image: Arc<ClusterImage> = quorum.image();
    let most = config.number("leader.imbalance.per.broker.percentage");
    let partitions = imbalanced_partitions(&image, most);
    if partitions.is_empty() {
        return;
    }
    let count = partitions.len();
    let command = Command::ElectLeaders {
        kind: ElectionKind::Preferred,
        partitions: Some(partitions),
    };
    match quorum.decide_in_office(term, command).await {
        Ok(_) => tracing::info!(count, "preferred replicas were elected"),
        Err(error) => tracing::warn!(%error, "preferred replicas could not be elected"),
    }
}

#[cfg(test)]
mod tests {
    use strandline_types::{BrokerEpoch, BrokerId};
    use uuid::Uuid;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(9);

    fn broker(fenced: bool) -> BrokerImage {
        BrokerImage {
            id: BrokerId(1),
            incarnation: Uuid::from_u128(1),
            epoch: BrokerEpoch(10),
            rack: None,
            listeners: vec![],
            log_dirs: vec![],
            fenced,
            in_controlled_shutdown: false,
        }
    }

    fn presence() -> Presence {
        Presence {
            incarnation: Uuid::from_u128(1),
            applied_index: 10,
            last_heard: Instant::now(),
            gone_since: None,
        }
    }

    fn ago(time: Duration) -> Instant {
        Instant::now().checked_sub(time).unwrap()
    }

    #[test]
    fn a_broker_is_fenced_when_its_link_ended_it_is_silent_or_another_process_took_its_place() {
        let judge = |p: &Presence| {
            judge(
                &broker(false),
                Some(p),
                TIMEOUT,
                Duration::ZERO,
                TIMEOUT * 3,
            )
        };
        assert_eq!(judge(&presence()), Verdict::Leave);
        let just_gone = Presence {
            gone_since: Some(Instant::now()),
            ..presence()
        };
        assert_eq!(judge(&just_gone), Verdict::Leave);
        let gone = Presence {
            gone_since: Some(ago(GONE_GRACE * 2)),
            ..presence()
        };
        let silent = Presence {
            last_heard: ago(TIMEOUT * 2),
            ..presence()
        };
        let another = Presence {
            incarnation: Uuid::from_u128(2),
            ..presence()
        };
        for dead in [gone, silent, another] {
            assert_eq!(judge(&dead), Verdict::Fence, "{dead:?}");
        }
    }

    #[test]
    fn a_controller_that_was_paused_hears_brokers_again_before_it_fences_them() {
        let after =
            |p: &Presence, awake| judge(&broker(false), Some(p), TIMEOUT, TIMEOUT * 3, awake);
        let silent = Presence {
            last_heard: ago(TIMEOUT * 2),
            ..presence()
        };
        assert_eq!(after(&silent, TIMEOUT / 2), Verdict::Leave);
        assert_eq!(after(&silent, TIMEOUT * 2), Verdict::Fence);
        let gone = Presence {
            gone_since: Some(ago(GONE_GRACE * 2)),
            ..presence()
        };
        assert_eq!(after(&gone, Duration::from_millis(100)), Verdict::Leave);
        assert_eq!(after(&gone, GONE_GRACE_AFTER_PAUSE * 2), Verdict::Fence);
        let began = Instant::now();
        let attention = Attention {
            awake_since: began,
            looked_at: began,
        };
        let next = attention.look(began + PAUSE / 2);
        assert_eq!(next.awake_since, began);
        let woken = began + PAUSE * 2;
        assert_eq!(next.look(woken).awake_since, woken);
    }

    #[test]
    fn a_new_controller_waits_a_session_for_brokers_it_never_heard_of() {
        let after = |time| judge(&broker(false), None, TIMEOUT, time, time);
        assert_eq!(after(TIMEOUT / 2), Verdict::Leave);
        assert_eq!(after(TIMEOUT * 2), Verdict::Fence);
    }

    #[test]
    fn a_broker_is_unfenced_when_it_has_caught_up_with_its_registration() {
        let judge = |p| judge(&broker(true), Some(&p), TIMEOUT, Duration::ZERO, TIMEOUT);
        assert_eq!(judge(presence()), Verdict::Unfence);
        let behind = Presence {
            applied_index: 9,
            ..presence()
        };
        let another = Presence {
            incarnation: Uuid::from_u128(2),
            ..presence()
        };
        assert_eq!(judge(behind), Verdict::Leave);
        assert_eq!(judge(another), Verdict::Leave);
    }
}
