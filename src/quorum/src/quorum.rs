//! The handle that the rest of the broker holds.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use openraft::{BasicNode, Config, SnapshotPolicy};
use strandline_metadata::{ClusterImage, MetadataRecord, encode_records};
use strandline_types::BrokerId;
use thiserror::Error;
use tokio::sync::{Mutex, watch};

use crate::log_store::LogStore;
use crate::network::SingleVoter;
use crate::state_machine::StateMachine;
use crate::types::{NodeId, Proposal, Raft};

/// Entries between snapshots.
const SNAPSHOT_EVERY: u64 = 5000;
/// How long a start may take to lead and apply its log before it counts as failed.
const START_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Error)]
pub enum QuorumError {
    #[error("metadata log: {}: {source}", path.display())]
    Io {
        path: std::path::PathBuf,
        source: io::Error,
    },
    #[error("metadata quorum: {0}")]
    Raft(String),
}

/// Why a decision was not committed.
#[derive(Debug, Error)]
pub enum DecideError<E> {
    /// The decision itself refused; nothing was proposed.
    #[error("{0}")]
    Refused(E),
    /// Whether the records were committed is not known.
    #[error("metadata quorum: {0}")]
    Unavailable(String),
}

/// This process's member of the quorum.
pub struct Quorum {
    raft: Raft,
    node_id: NodeId,
    image: watch::Receiver<Arc<ClusterImage>>,
    /// Decisions are made one after the other, each against the image that the one before led to.
    deciding: Mutex<()>,
}

impl Quorum {
    /// Opens the metadata log in `directory`, replays it, and leads.
    pub async fn open(directory: &Path, node_id: BrokerId) -> Result<Self, QuorumError> {
        let io = |source| QuorumError::Io {
            path: directory.to_path_buf(),
            source,
        };
        let raft_error = |e: &dyn std::fmt::Display| QuorumError::Raft(e.to_string());
        std::fs::create_dir_all(directory).map_err(io)?;
        let config = Config {
            cluster_name: "strandline".into(),
            heartbeat_interval: 50,
            election_timeout_min: 150,
            election_timeout_max: 300,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_EVERY),
            max_in_snapshot_log_to_keep: 500,
            ..Config::default()
        };
        let config = Arc::new(config.validate().map_err(|e| raft_error(&e))?);
        let (published, image) = watch::channel(Arc::new(ClusterImage::default()));
        let log = LogStore::open(directory).map_err(io)?;
        let machine = StateMachine::open(directory, published).map_err(io)?;
        let id = node_id.0 as NodeId;
        let raft = Raft::new(id, config, SingleVoter, log, machine)
            .await
            .map_err(|e| raft_error(&e))?;
        if !raft.is_initialized().await.map_err(|e| raft_error(&e))? {
            let members = BTreeMap::from([(id, BasicNode::default())]);
            raft.initialize(members).await.map_err(|e| raft_error(&e))?;
        }
        let quorum = Self {
            raft,
            node_id: id,
            image,
            deciding: Mutex::new(()),
        };
        quorum.wait_until_leading().await?;
        Ok(quorum)
    }

    /// Waits until this node leads and everything in its log is applied.
    async fn wait_until_leading(&self) -> Result<(), QuorumError> {
        let wait = self.raft.wait(Some(START_TIMEOUT));
        let leads = wait.metrics(
            |m| {
                m.current_leader == Some(self.node_id)
                    && m.last_log_index.is_some()
                    && m.last_applied.map(|l| l.index) == m.last_log_index
            },
            "lead and apply the log",
        );
        leads
            .await
            .map(|_| ())
            .map_err(|e| QuorumError::Raft(e.to_string()))
    }

    /// What has been applied.
    pub fn image(&self) -> Arc<ClusterImage> {
        self.image.borrow().clone()
    }

    /// Follows the image: every change is seen, possibly several at once.
    pub fn subscribe(&self) -> watch::Receiver<Arc<ClusterImage>> {
        self.image.clone()
    }

    /// Runs `decision` against the applied image, commits its records as one entry, and returns the image after.
    /// No records is a decision too: nothing is written.
    ///
    /// Not cancel safe in effect: a caller that goes away may still have its records committed.
    pub async fn decide<E>(
        &self,
        decision: impl FnOnce(&ClusterImage) -> Result<Vec<MetadataRecord>, E>,
    ) -> Result<Arc<ClusterImage>, DecideError<E>> {
        let _turn = self.deciding.lock().await;
        let records = decision(&self.image()).map_err(DecideError::Refused)?;
        if !records.is_empty() {
            let proposal = Proposal(encode_records(&records));
            let written = self.raft.client_write(proposal).await;
            written.map_err(|e| DecideError::Unavailable(e.to_string()))?;
        }
        Ok(self.image())
    }

    /// (leader, epoch, high watermark) as `DescribeQuorum` reports them.
    pub fn status(&self) -> (i32, i32, i64) {
        let metrics = self.raft.metrics().borrow().clone();
        let leader = metrics.current_leader.map_or(-1, |id| id as i32);
        let applied = metrics.last_applied.map_or(0, |l| l.index as i64);
        (leader, metrics.current_term as i32, applied)
    }

    pub async fn shutdown(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "the quorum did not stop cleanly");
        }
    }
}

#[cfg(test)]
mod tests {
    use strandline_metadata::{ConfigResource, MetadataRecord};

    use super::*;

    fn set(key: &str, value: &str) -> Vec<MetadataRecord> {
        vec![MetadataRecord::Config {
            resource: ConfigResource::Broker(None),
            key: key.into(),
            value: Some(value.into()),
        }]
    }

    async fn write(quorum: &Quorum, key: &str, value: &str) {
        quorum
            .decide(|_| Ok::<_, ()>(set(key, value)))
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn what_was_decided_is_there_after_a_restart_and_after_a_torn_write() {
        let directory = tempfile::tempdir().unwrap();
        let quorum = Quorum::open(directory.path(), BrokerId(1)).await.unwrap();
        for i in 0..20 {
            write(&quorum, &format!("k{i}"), "v").await;
        }
        let refused = quorum.decide(|_| Err::<Vec<_>, _>("no")).await;
        assert!(matches!(refused, Err(DecideError::Refused("no"))));
        let before = quorum.image();
        quorum.shutdown().await;
        drop(quorum);

        let quorum = Quorum::open(directory.path(), BrokerId(1)).await.unwrap();
        let broker = ConfigResource::Broker(None);
        assert_eq!(quorum.image().configs(&broker), before.configs(&broker));
        write(&quorum, "k20", "v").await;
        quorum.shutdown().await;
        drop(quorum);

        let log = directory.path().join("log");
        let mut bytes = std::fs::read(&log).unwrap();
        bytes.extend_from_slice(&[9; 30]);
        std::fs::write(&log, bytes).unwrap();
        let quorum = Quorum::open(directory.path(), BrokerId(1)).await.unwrap();
        assert_eq!(quorum.image().configs(&broker).len(), 21);
        write(&quorum, "k21", "v").await;
        quorum.shutdown().await;
    }

    #[tokio::test]
    async fn a_snapshot_takes_the_place_of_the_log_behind_it() {
        let directory = tempfile::tempdir().unwrap();
        let quorum = Quorum::open(directory.path(), BrokerId(1)).await.unwrap();
        for i in 0..30 {
            write(&quorum, &format!("k{i}"), "v").await;
        }
        quorum.raft.trigger().snapshot().await.unwrap();
        let upto = quorum.image().applied_index;
        let made = quorum.raft.wait(Some(START_TIMEOUT));
        made.metrics(|m| m.snapshot.is_some_and(|s| s.index >= upto), "snapshot")
            .await
            .unwrap();
        quorum.raft.trigger().purge_log(upto).await.unwrap();
        let purged = quorum.raft.wait(Some(START_TIMEOUT));
        purged
            .metrics(|m| m.purged.is_some_and(|p| p.index >= upto), "purge")
            .await
            .unwrap();
        write(&quorum, "last", "v").await;
        quorum.shutdown().await;
        drop(quorum);
        let quorum = Quorum::open(directory.path(), BrokerId(1)).await.unwrap();
        assert_eq!(
            quorum.image().configs(&ConfigResource::Broker(None)).len(),
            31
        );
        quorum.shutdown().await;
        drop(quorum);
        let snapshot = directory.path().join("snapshot");
        let mut bytes = std::fs::read(&snapshot).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&snapshot, bytes).unwrap();
        assert!(
            Quorum::open(directory.path(), BrokerId(1)).await.is_err(),
            "never an empty image"
        );
    }
}
