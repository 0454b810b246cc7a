//! A broker's way into the cluster and out of it.
//!
//! In: the broker registers, fenced; reads the metadata up to its registration; the controller unfences it. Out: the
//! broker asks the controller to move its leaderships, waits until all brokers know the change, and only then stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use strandline_log::{LogDir, LogDirError};
use strandline_metadata::controller::{Command, FoundReplica, Refusal, Registration};
use strandline_metadata::{BrokerImage, ClusterImage, Listener};
use strandline_quorum::{Quorum, SubmitError};
use strandline_types::{BrokerEpoch, BrokerId};
use thiserror::Error;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::partition::{LogDirs, PartitionManager};
use crate::settings::Settings;

const RETRY: Duration = Duration::from_millis(200);
/// How often a waiting broker logs that it waits.
const COMPLAIN: Duration = Duration::from_secs(10);
/// How long another process may seem to live that has this broker's `node.id`, before this one gives up.
const DUPLICATE: Duration = Duration::from_secs(6);
/// How long a stopping broker waits for the others to learn of its shutdown.
const GOODBYE: Duration = Duration::from_secs(3);

#[derive(Debug, Error)]
pub enum LifecycleError {
    #[error("strandline.cluster.id: this directory belongs to cluster {found}, not to {wanted}")]
    Cluster { found: String, wanted: String },
    #[error("the broker could not register: {0}")]
    Register(String),
    /// Another process that lives has the `node.id`.
    #[error("{0}")]
    Duplicate(String),
    #[error(transparent)]
    LogDir(#[from] LogDirError),
}

/// The metadata about this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Registered {
    Well,
    Fenced,
    /// There is no registration, or another process's.
    Not,
}

fn registered(broker: Option<&BrokerImage>, own: &Registration, epoch: BrokerEpoch) -> Registered {
    match broker {
        Some(broker) if broker.incarnation == own.incarnation => {
            if broker.fenced {
                Registered::Fenced
            } else {
                Registered::Well
            }
        }
        // This process has registered later than the image that it looks at.
        Some(broker) if broker.epoch < epoch => Registered::Fenced,
        _ => Registered::Not,
    }
}

fn epoch_in(image: &ClusterImage, id: BrokerId) -> BrokerEpoch {
    let broker = image.brokers.get(&id);
    broker.map_or(BrokerEpoch(-1), |broker| broker.epoch)
}

/// Registers; waits for a controller as long as it takes. Takes the cluster's id where none is `known`.
async fn submit_registration(
    quorum: &Quorum,
    registration: &mut Registration,
    found: &[FoundReplica],
    known: Option<&str>,
) -> Result<Arc<ClusterImage>, LifecycleError> {
    let mut complained = Instant::now();
    let mut duplicate_since: Option<Instant> = None;
    loop {
        let command = Command::RegisterWithReplicas(registration.clone(), found.to_vec());
        let submitted = tokio::select! {
            submitted = quorum.submit(command) => submitted,
            reason = quorum.refused() => return Err(LifecycleError::Duplicate(reason)),
        };
        match submitted {
            Ok(change) => return Ok(change.image),
            Err(SubmitError::Refused(Refusal::InconsistentClusterId(found))) => {
                if let Some(wanted) = known {
                    let wanted = wanted.to_owned();
                    return Err(LifecycleError::Cluster { found, wanted });
                }
                registration.cluster_id = found;
            }
            Err(SubmitError::Refused(Refusal::DuplicateBroker(reason))) => {
                // The predecessor may have died without a sign.
                if duplicate_since.get_or_insert_with(Instant::now).elapsed() > DUPLICATE {
                    return Err(LifecycleError::Duplicate(reason));
                }
                tokio::time::sleep(RETRY).await;
            }
            Err(SubmitError::Refused(refusal)) => {
                return Err(LifecycleError::Register(refusal.to_string()));
            }
            Err(SubmitError::Unavailable(reason)) => {
                if complained.elapsed() > COMPLAIN {
                    complained = Instant::now();
                    tracing::warn!(%reason, "waiting for the controllers (controller.quorum.voters)");
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// This broker's registration.
pub struct Lifecycle {
    quorum: Arc<Quorum>,
    registration: Registration,
    epoch: AtomicI64,
    /// Why this process cannot be the broker any more.
    lost: watch::Sender<Option<String>>,
}

impl Lifecycle {
    /// Registers; waits for a controller as long as it takes.
    pub async fn register(
        settings: &Settings,
        incarnation: Uuid,
        quorum: Arc<Quorum>,
        log_dirs: &LogDirs,
        listeners: &[Listener],
    ) -> Result<Self, LifecycleError> {
        let id = BrokerId(settings.node_id);
        let stored = settings
            .log_dirs
            .iter()
            .find_map(|p| LogDir::stored_cluster_id(p));
        let known = settings.cluster_id.clone().or(stored);
        let mut registration = Registration {
            id,
            incarnation,
            rack: settings.rack.clone(),
            listeners: listeners.to_vec(),
            log_dirs: log_dirs.dirs.iter().map(|d| d.directory_id).collect(),
            // Kafka's form: a random id in URL-safe base 64.
            cluster_id: known
                .clone()
                .unwrap_or_else(|| strandline_types::base64_id(Uuid::new_v4())),
            clean_start: log_dirs.dirs.iter().all(|d| d.clean),
        };
        let image = submit_registration(
            &quorum,
            &mut registration,
            &log_dirs.found_replicas(),
            known.as_deref(),
        )
        .await?;
        let cluster_id = image.cluster_id.clone().unwrap_or_default();
        for dir in &log_dirs.dirs {
            dir.adopt_cluster_id(settings.node_id, &cluster_id)?;
        }
        let epoch = epoch_in(&image, id);
        registration.cluster_id = cluster_id;
        Ok(Self {
            quorum,
            registration,
            epoch: AtomicI64::new(epoch.0),
            lost: watch::channel(None).0,
        })
    }

    /// The epoch of the last registration.
    pub fn epoch(&self) -> BrokerEpoch {
        BrokerEpoch(self.epoch.load(Ordering::Acquire))
    }

    /// Follows this broker's registration until `stop`: registers again when the registration is gone or belongs to another
    /// process that does not live. If another process lives that has the `node.id`, this broker is lost.
    pub async fn keep_registered(&self, partitions: &PartitionManager, stop: CancellationToken) {
        let mut images = self.quorum.subscribe();
        let mut before = Registered::Fenced;
        loop {
            let now = {
                let image = images.borrow_and_update();
                let broker = image.brokers.get(&self.registration.id);
                registered(broker, &self.registration, self.epoch())
            };
            match (before, now) {
                (Registered::Well, Registered::Fenced) => tracing::warn!(
                    "this broker is fenced: the controller did not hear from it, and other brokers lead its partitions; it is \
                     unfenced when the controller hears from it again"
                ),
                (Registered::Fenced, Registered::Well) => {
                    tracing::info!("this broker is unfenced: it may lead and follow partitions");
                }
                _ => {}
            }
            before = now;
            let again = async {
                if now == Registered::Not {
                    tracing::warn!("this broker's registration is gone; it registers again");
                    Some(self.register_again(partitions).await)
                } else if images.changed().await.is_err() {
                    std::future::pending().await
                } else {
                    None
                }
            };
            match stop.run_until_cancelled(again).await {
                None => return,
                Some(Some(Err(error))) => {
                    self.lost.send_replace(Some(error.to_string()));
                    return;
                }
                Some(_) => {}
            }
        }
    }

    /// Returns the reason when this process cannot be the broker any more.
    pub async fn lost(&self) -> String {
        let mut lost = self.lost.subscribe();
        let reason = lost.wait_for(Option::is_some).await;
        let reason = reason.ok().and_then(|reason| reason.clone());
        match reason {
            Some(reason) => reason,
            None => std::future::pending().await,
        }
    }

    async fn register_again(&self, partitions: &PartitionManager) -> Result<(), LifecycleError> {
        let here = partitions.all().into_iter().filter(|p| !p.is_offline());
        let found: Vec<FoundReplica> = here
            .map(|p| FoundReplica {
                partition: p.id(),
                has_records: true,
            })
            .collect();
        let mut registration = self.registration.clone();
        let known = registration.cluster_id.clone();
        let quorum = &self.quorum;
        let image = submit_registration(quorum, &mut registration, &found, Some(&known)).await?;
        let epoch = epoch_in(&image, registration.id);
        self.epoch.store(epoch.0, Ordering::Release);
        tracing::info!(epoch = epoch.0, "this broker has registered again");
        Ok(())
    }

    /// Waits until the controller lets this broker lead.
    pub async fn wait_until_unfenced(&self) {
        let mut images = self.quorum.subscribe();
        loop {
            self.quorum.announce();
            let unfenced = images.wait_for(|image| {
                let broker = image.brokers.get(&self.registration.id);
                broker.is_some_and(|b| b.epoch == self.epoch() && !b.fenced)
            });
            if tokio::time::timeout(COMPLAIN, unfenced).await.is_ok() {
                return;
            }
            tracing::warn!("waiting for the controller to unfence this broker");
        }
    }

    /// Hands over the leaderships that others can take. Returns when all live brokers have the change, or when no
    /// controller answers.
    pub async fn say_goodbye(&self) {
        let command = Command::ShutDownBroker {
            id: self.registration.id,
            epoch: self.epoch(),
        };
        let submitted = tokio::time::timeout(GOODBYE, self.quorum.submit(command)).await;
        let index = match submitted {
            Ok(Ok(change)) => change.image.applied_index as i64,
            Ok(Err(error)) => {
                tracing::warn!(%error, "leaderships were not handed over");
                return;
            }
            Err(_) => {
                tracing::warn!("leaderships were not handed over: no controller answers");
                return;
            }
        };
        let deadline = Instant::now() + GOODBYE;
        while Instant::now() < deadline {
            let Some(quorum) = self.quorum.describe().await else {
                return;
            };
            let image = self.quorum.image();
            let lives = |node_id: i32| {
                let broker = image.brokers.get(&BrokerId(node_id));
                broker.is_some_and(|b| !b.fenced)
            };
            let members = quorum.voters.iter().chain(&quorum.observers);
            if members
                .filter(|m| lives(m.node_id))
                .all(|m| m.log_end_offset > index)
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_registers_again_when_its_registration_is_gone_or_another_process_has_it() {
        let own = Registration {
            id: BrokerId(1),
            incarnation: Uuid::from_u128(1),
            rack: None,
            listeners: vec![],
            log_dirs: vec![],
            cluster_id: String::new(),
            clean_start: true,
        };
        let broker = |incarnation, epoch, fenced| BrokerImage {
            id: BrokerId(1),
            incarnation: Uuid::from_u128(incarnation),
            epoch: BrokerEpoch(epoch),
            rack: None,
            listeners: vec![],
            log_dirs: vec![],
            fenced,
            in_controlled_shutdown: false,
        };
        for (image, expected) in [
            (Some(broker(1, 10, false)), Registered::Well),
            (Some(broker(1, 10, true)), Registered::Fenced),
            (Some(broker(2, 11, false)), Registered::Not),
            (Some(broker(2, 11, true)), Registered::Not),
            // An older image, in which the predecessor is still registered.
            (Some(broker(2, 9, false)), Registered::Fenced),
            (None, Registered::Not),
        ] {
            let found = registered(image.as_ref(), &own, BrokerEpoch(10));
            assert_eq!(found, expected, "{image:?}");
        }
    }
}
