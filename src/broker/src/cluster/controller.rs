//! The duties of the active controller: brokers that are gone are fenced, brokers that are well are unfenced, leaders
//! go back to where they are preferred.
//!
//! A broker whose process dies is missed when its link ends, within a blink; silence is only for processes and networks
//! that hang. Fencing too early costs a change of leaders and never a record: the leader epoch protects.

use std::sync::Arc;
use std::time::{Duration, Instant};

use strandline_metadata::config::BrokerConfig;
use strandline_metadata::controller::{Command, ElectionKind, imbalanced_partitions};
use strandline_metadata::{BrokerImage, ClusterImage};
use strandline_quorum::{Presence, Quorum, SubmitError};
use tokio_util::sync::CancellationToken;

/// A link may end and come back this fast without the process having died.
const GONE_GRACE: Duration = Duration::from_millis(50);
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
/// that have not connected to the new controller yet must get the time to do so.
fn judge(
    broker: &BrokerImage,
    presence: Option<&Presence>,
    session_timeout: Duration,
    in_office: Duration,
) -> Verdict {
    let Some(presence) = presence else {
        return if in_office > session_timeout && !broker.fenced {
            Verdict::Fence
        } else {
            Verdict::Leave
        };
    };
    let same = presence.incarnation == broker.incarnation;
    let silent = presence.last_heard.elapsed() > session_timeout;
    let gone = presence.gone_since.map(|since| since.elapsed());
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

/// Runs while the process does; acts while it leads the quorum.
pub async fn run(quorum: Arc<Quorum>, config: BrokerConfig, stop: CancellationToken) {
    let timeout = session_timeout(&config);
    let mut images = quorum.subscribe();
    let mut in_office: Option<Instant> = None;
    let mut balanced = Instant::now();
    loop {
        if quorum.is_active_controller() {
            let since = *in_office.get_or_insert_with(|| {
                tracing::info!("this process is the active controller");
                Instant::now()
            });
            let duties = async {
                watch_brokers(&quorum, timeout, since.elapsed()).await;
                balance_leaders(&quorum, &config, &mut balanced).await;
            };
            if stop.run_until_cancelled(duties).await.is_none() {
                return;
            }
        } else {
            in_office = None;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = quorum.presences_changed() => {}
            changed = images.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

async fn watch_brokers(quorum: &Quorum, timeout: Duration, in_office: Duration) {
    let image = quorum.image();
    let presences = quorum.presences();
    for broker in image.brokers.values() {
        let (id, epoch) = (broker.id, broker.epoch);
        let command = match judge(broker, presences.get(&id.0), timeout, in_office) {
            Verdict::Fence => Command::FenceBroker { id, epoch },
            Verdict::Unfence => Command::UnfenceBroker { id, epoch },
            Verdict::Leave => continue,
        };
        tracing::info!(broker = %id, ?command, "fencing or unfencing a broker");
        match quorum.submit(command).await {
            Ok(_) => {}
            // The broker has registered again in between: the next tick looks at the new incarnation.
            Err(SubmitError::Refused(refusal)) => {
                tracing::debug!(broker = %id, %refusal, "the controller refused to fence or unfence a broker");
            }
            Err(error) => {
                tracing::warn!(broker = %id, %error, "a broker could not be fenced or unfenced");
            }
        }
    }
}

async fn balance_leaders(quorum: &Quorum, config: &BrokerConfig, last: &mut Instant) {
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
    match quorum.submit(command).await {
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
        let judge = |p: &Presence| judge(&broker(false), Some(p), TIMEOUT, Duration::ZERO);
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
    fn a_new_controller_waits_a_session_for_brokers_it_never_heard_of() {
        let after = |time| judge(&broker(false), None, TIMEOUT, time);
        assert_eq!(after(TIMEOUT / 2), Verdict::Leave);
        assert_eq!(after(TIMEOUT * 2), Verdict::Fence);
    }

    #[test]
    fn a_broker_is_unfenced_when_it_has_caught_up_with_its_registration() {
        let judge = |p: Presence| judge(&broker(true), Some(&p), TIMEOUT, Duration::ZERO);
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
