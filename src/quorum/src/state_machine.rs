//! The cluster image as openraft's state machine, and its snapshot file.
//!
//! `snapshot`: one frame with the snapshot's metadata, one with the image. The file is replaced atomically. A damaged
//! snapshot is an error at start, never an empty image: an image that forgets topics would call their data orphans. Behind the
//! image lies its addendum, which snapshots of older versions do not have.

use std::io::{self, Cursor};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openraft::storage::RaftStateMachine;
use openraft::{
    AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot, StorageIOError,
};
use strandline_metadata::ClusterImage;
use tokio::sync::watch;

use crate::storage_file::{frame, frames, read, replace};
use crate::types::{
    Applied, Entry, LogId, SnapshotMeta, StorageError, StoredMembership, TypeConfig,
};

#[derive(Debug)]
pub(crate) struct StateMachine {
    snapshot_path: PathBuf,
    last_applied: Option<LogId>,
    membership: StoredMembership,
    image: ClusterImage,
    published: watch::Sender<Arc<ClusterImage>>,
    snapshots_made: u64,
}

fn invalid(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

/// The file of the last snapshot.
pub(crate) const SNAPSHOT: &str = "snapshot";

impl StateMachine {
    pub fn open(directory: &Path, published: watch::Sender<Arc<ClusterImage>>) -> io::Result<Self> {
        let snapshot_path = directory.join(SNAPSHOT);
        let mut machine = Self {
            snapshot_path,
            last_applied: None,
            membership: StoredMembership::default(),
            image: ClusterImage::default(),
            published,
            snapshots_made: 0,
        };
        if let Some((meta, data)) = machine.read_snapshot()? {
            machine.restore(&meta, &data)?;
        }
        Ok(machine)
    }

    fn read_snapshot(&self) -> io::Result<Option<(SnapshotMeta, Vec<u8>)>> {
        let bytes = read(&self.snapshot_path)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let mut found = frames(&bytes);
        let (Some((meta, _)), Some((data, _))) = (found.next(), found.next()) else {
            return Err(invalid(format!(
                "{} is damaged",
                self.snapshot_path.display()
            )));
        };
        Ok(Some((
            postcard::from_bytes(meta).map_err(invalid)?,
            data.to_vec(),
        )))
    }

    fn restore(&mut self, meta: &SnapshotMeta, data: &[u8]) -> io::Result<()> {
        let (image, rest) = postcard::take_from_bytes(data).map_err(invalid)?;
        self.image = image;
        if !rest.is_empty() {
            self.image.add(postcard::from_bytes(rest).map_err(invalid)?);
        }
        self.last_applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.publish();
        Ok(())
    }

    fn publish(&self) {
        self.published.send_replace(Arc::new(self.image.clone()));
    }

    fn apply_entry(&mut self, entry: Entry) -> io::Result<Applied> {
        let mut applied = Applied::Done;
        match entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Normal(proposal)
                if proposal.based_on != self.image.changed_index
                    || !proposal.is_of(entry.log_id.leader_id.term) =>
            {
                applied = Applied::Stale;
            }
            EntryPayload::Normal(proposal) => {
                for record in proposal.records().map_err(invalid)? {
                    self.image.apply(record);
                }
                self.image.changed_index = entry.log_id.index;
            }
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
            }
        }
        self.last_applied = Some(entry.log_id);
        self.image.applied_index = entry.log_id.index;
        Ok(applied)
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        Ok((self.last_applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Applied>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut replies = Vec::new();
        for entry in entries {
            let id = entry.log_id;
            let applied = self.apply_entry(entry);
            replies.push(applied.map_err(|e| StorageIOError::apply(id, AnyError::new(&e)))?);
        }
        self.publish();
        Ok(replies)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        self.snapshots_made += 1;
        let id = self.last_applied.map_or(0, |l| l.index);
        SnapshotBuilder {
            path: self.snapshot_path.clone(),
            meta: SnapshotMeta {
                last_log_id: self.last_applied,
                last_membership: self.membership.clone(),
                snapshot_id: format!("{id}-{}", self.snapshots_made),
            },
            image: self.image.clone(),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::new(Cursor::new(Vec::new())))
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let data = snapshot.into_inner();
        write_snapshot(&self.snapshot_path, meta, &data)
            .and_then(|()| self.restore(meta, &data))
            .map_err(|e| {
                StorageIOError::write_snapshot(Some(meta.signature()), AnyError::new(&e)).into()
            })
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        let found = self
            .read_snapshot()
            .map_err(|e| StorageIOError::read_snapshot(None, AnyError::new(&e)))?;
        Ok(found.map(|(meta, data)| Snapshot {
            meta,
            snapshot: Box::new(Cursor::new(data)),
        }))
    }
}

fn write_snapshot(path: &Path, meta: &SnapshotMeta, data: &[u8]) -> io::Result<()> {
    let meta = postcard::to_stdvec(meta).map_err(invalid)?;
    replace(path, &[frame(&meta), frame(data)].concat())
}

/// Writes a snapshot of the image at the builder's creation.
pub(crate) struct SnapshotBuilder {
    path: PathBuf,
    meta: SnapshotMeta,
    image: ClusterImage,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        let failed = |e: io::Error| {
            StorageIOError::write_snapshot(Some(self.meta.signature()), AnyError::new(&e))
        };
        let encoded = postcard::to_stdvec(&self.image).and_then(|mut data| {
            data.extend(postcard::to_stdvec(&self.image.addendum())?);
            Ok(data)
        });
        let data = encoded.map_err(|e| failed(invalid(e)))?;
        write_snapshot(&self.path, &self.meta, &data).map_err(failed)?;
        Ok(Snapshot {
            meta: self.meta.clone(),
            snapshot: Box::new(Cursor::new(data)),
        })
    }
}
