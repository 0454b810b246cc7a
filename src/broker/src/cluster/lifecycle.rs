//! A broker's way into the cluster and out of it.
//!
//! In: the broker registers, fenced; reads the metadata up to its registration; the controller unfences it. Out: the
//! broker asks the controller to move its leaderships, waits until all brokers know the change, and only then stops.

use std::sync::Arc;
use std::time::{Duration, Instant};

use strandline_log::{LogDir, LogDirError};
use strandline_metadata::Listener;
use strandline_metadata::controller::{Command, Refusal, Registration};
use strandline_quorum::{Quorum, SubmitError};
use strandline_types::{BrokerEpoch, BrokerId};
use thiserror::Error;
use uuid::Uuid;

use crate::partition::LogDirs;
use crate::settings::Settings;

const RETRY: Duration = Duration::from_millis(200);
/// How often a waiting broker logs that it waits.
const COMPLAIN: Duration = Duration::from_secs(10);
/// How long a stopping broker waits for the others to learn of its shutdown.
const GOODBYE: Duration = Duration::from_secs(3);

#[derive(Debug, Error)]
pub enum LifecycleError {
    #[error("strandline.cluster.id: this directory belongs to cluster {found}, not to {wanted}")]
    Cluster { found: String, wanted: String },
    #[error("the broker could not register: {0}")]
    Register(String),
    #[error(transparent)]
    LogDir(#[from] LogDirError),
}

/// This broker's registration.
#[derive(Clone)]
pub struct Lifecycle {
    quorum: Arc<Quorum>,
    id: BrokerId,
    pub epoch: BrokerEpoch,
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
        let found = log_dirs.found_replicas();
        let mut complained = Instant::now();
        let image = loop {
            let command = Command::RegisterWithReplicas(registration.clone(), found.clone());
            match quorum.submit(command).await {
                Ok(change) => break change.image,
                Err(SubmitError::Refused(Refusal::InconsistentClusterId(found))) => {
                    if let Some(wanted) = known {
                        return Err(LifecycleError::Cluster { found, wanted });
                    }
                    registration.cluster_id = found;
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
        };
        let cluster_id = image.cluster_id.clone().unwrap_or_default();
        for dir in &log_dirs.dirs {
            dir.adopt_cluster_id(settings.node_id, &cluster_id)?;
        }
        let epoch = image
            .brokers
            .get(&id)
            .map_or(BrokerEpoch(-1), |broker| broker.epoch);
        Ok(Self { quorum, id, epoch })
    }

    /// Waits until the controller lets this broker lead.
    pub async fn wait_until_unfenced(&self) {
        let mut images = self.quorum.subscribe();
        loop {
            self.quorum.announce();
            let unfenced = images.wait_for(|image| {
                let broker = image.brokers.get(&self.id);
                broker.is_some_and(|b| b.epoch == self.epoch && !b.fenced)
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
            id: self.id,
            epoch: self.epoch,
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
