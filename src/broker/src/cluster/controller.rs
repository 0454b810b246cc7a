//! The duties of the active controller: brokers that are gone are fenced, brokers that are well are unfenced, leaders
//! go back to where they are preferred.
//!
//! A broker whose process dies is missed when its link ends, within a blink; silence is for processes and networks that
//! hang. `verdict.rs` decides, `attention.rs` tells how well this process can judge.

use std::sync::Arc;
use std::time::{Duration, Instant};

use strandline_metadata::config::BrokerConfig;
use strandline_metadata::controller::{Command, ElectionKind, imbalanced_partitions};
use strandline_metadata::{BrokerImage, ClusterImage};
use strandline_quorum::{Presence, Presences, Quorum, SIGN_OF_LIFE, SubmitError};
use tokio_util::sync::CancellationToken;

use super::attention::Attention;
use super::verdict::{Limits, Senses, Signs, Verdict, judge};

/// How often deadlines are looked at where nothing happens.
const TICK: Duration = Duration::from_millis(20);

/// A broker was heard of within this time: this controller's own links work.
const JUST_HEARD: Duration = SIGN_OF_LIFE.saturating_mul(4);

fn limits(config: &BrokerConfig) -> Limits {
    let ms = |key| Duration::from_millis(u64::try_from(config.number(key)).unwrap_or(0));
    let silence = ms("strandline.broker.silence.timeout.ms");
    Limits {
        session: ms("broker.session.timeout.ms").max(Duration::from_millis(1)),
        silence: Some(silence).filter(|limit| !limit.is_zero()),
    }
}

/// The signs of a registered process. Suspicions count while their reporters live themselves.
fn signs(
    broker: &BrokerImage,
    presences: &Presences,
    speaks: &dyn Fn(&Presence) -> bool,
) -> Option<Signs> {
    let presence = presences.of(broker.id.0, broker.incarnation)?;
    let mut reporters = presences.iter().filter(|(id, _)| *id != broker.id.0);
    let is_suspected = reporters.any(|(_, p)| p.suspects.contains(&broker.id.0) && speaks(p));
    Some(Signs {
        silence: presence.last_heard.elapsed(),
        gone: presence.gone_since.map(|since| since.elapsed()),
        speaks_often: presence.speaks_every.is_some(),
        is_suspected,
        has_caught_up: presence.applied_index as i64 >= broker.epoch.0,
    })
}

/// Runs while the process does; acts while it leads the quorum. Each decision is bound to the term in which it was made.
pub async fn run(quorum: Arc<Quorum>, config: BrokerConfig, stop: CancellationToken) {
    let attention = Attention::new();
    tokio::select! {
        () = keep_watch(&quorum, &config, &stop, &attention) => {}
        () = attention.keep_looking() => {}
    }
}

async fn keep_watch(
    quorum: &Quorum,
    config: &BrokerConfig,
    stop: &CancellationToken,
    attention: &Attention,
) {
    let limits = limits(config);
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
                watch_brokers(quorum, term, limits, since, attention).await;
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
    limits: Limits,
    since: Instant,
    attention: &Attention,
) {
    let image = quorum.image();
    let mut presences = quorum.presences();
    for broker in image.brokers.values() {
        let (id, epoch) = (broker.id, broker.epoch);
        let speaks = |p: &Presence| p.gone_since.is_none() && p.last_heard.elapsed() < JUST_HEARD;
        let signs = signs(broker, &presences, &speaks);
        let mut others = image.brokers.values().filter(|other| other.id != id);
        let (awake, alert) = attention.times();
        let senses = Senses {
            in_office: since.elapsed(),
            awake,
            alert,
            hears_others: others.any(|o| presences.of(o.id.0, o.incarnation).is_some_and(speaks)),
        };
        let command = match judge(broker.fenced, signs, limits, senses) {
            Verdict::Fence => Command::FenceBroker { id, epoch },
            Verdict::Unfence => Command::UnfenceBroker { id, epoch },
            Verdict::Leave => continue,
        };
        tracing::info!(broker = %id, ?command, ?signs, "fencing or unfencing a broker");
        let decided = quorum.decide_in_office(term, command).await;
        // The decision took its time, in which others may have spoken.
        presences = quorum.presences();
        match decided {
            Ok(_) => {}
            // The broker has registered again in between: the next tick looks at the new incarnation.
            Err(SubmitError::Refused(refusal)) => {
                tracing::debug!(broker = %id, %refusal, "the controller refused to fence or unfence a broker");
            }
            Err(error) => {
                tracing::warn!(broker = %id, %error, "a broker could not be fenced or unfenced");
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
