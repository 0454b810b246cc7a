//! The raft log and vote on disk.
//!
//! `log`: a first frame with the id up to which entries were purged, then one frame an entry. `vote`: one frame. All
//! entries since the last purge are also in memory; snapshots bound them.
//!
//! Crash consistency: an append is acknowledged after `fdatasync`; a torn tail is an entry that nobody was told about
//! and is cut at the next start. A vote is durable before it is answered. Truncation is durable before anything is
//! appended behind it. A purge replaces the whole file.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::{Bound, RangeBounds};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, LogState, OptionalSend, RaftLogReader, StorageIOError};

use crate::storage_file::{frame, frames, read, replace};
use crate::types::{Entry, LogId, StorageError, TypeConfig, Vote};

/// A handle; clones share the log.
#[derive(Clone, Debug)]
pub(crate) struct LogStore {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    log_path: PathBuf,
    vote_path: PathBuf,
    file: File,
    /// Entry and where its frame ends in the file.
    entries: BTreeMap<u64, (Entry, u64)>,
    purged: Option<LogId>,
    /// End of the frame that holds `purged`.
    header_end: u64,
    vote: Option<Vote>,
}

fn encode<T: serde::Serialize>(value: &T) -> io::Result<Vec<u8>> {
    postcard::to_stdvec(value).map_err(io::Error::other)
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    postcard::from_bytes(bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

impl LogStore {
    pub fn open(directory: &Path) -> io::Result<Self> {
        let log_path = directory.join("log");
        let vote_path = directory.join("vote");
        let vote_bytes = read(&vote_path)?;
        let vote = match frames(&vote_bytes).next() {
            Some((payload, _)) => Some(decode(payload)?),
            None if vote_bytes.is_empty() => None,
            None => {
                let text = format!(
                    "{} is damaged; this node may have voted",
                    vote_path.display()
                );
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        };
        if read(&log_path)?.is_empty() {
            replace(&log_path, &frame(&encode(&None::<LogId>)?))?;
        }
        let bytes = read(&log_path)?;
        let mut found = frames(&bytes);
        let damaged = || {
            let text = format!("{}: the first frame is damaged", log_path.display());
            io::Error::new(io::ErrorKind::InvalidData, text)
        };
        let (header, header_end) = found.next().ok_or_else(damaged)?;
        let purged: Option<LogId> = decode(header)?;
        let mut entries = BTreeMap::new();
        let mut end = header_end as u64;
        for (payload, frame_end) in found {
            let entry: Entry = decode(payload)?;
            end = frame_end as u64;
            entries.insert(entry.log_id.index, (entry, end));
        }
        let file = OpenOptions::new().read(true).write(true).open(&log_path)?;
        if end < bytes.len() as u64 {
            tracing::warn!(path = %log_path.display(), at = end, "cutting a torn tail of the quorum's log");
            file.set_len(end)?;
            file.sync_all()?;
        }
        let header_end = header_end as u64;
        let inner = Inner {
            log_path,
            vote_path,
            file,
            entries,
            purged,
            header_end,
            vote,
        };
        Ok(Self {
            inner: Arc::new(Mutex::new(inner)),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of the log panics")
    }
}

impl Inner {
    fn end(&self) -> u64 {
        self.entries
            .last_key_value()
            .map_or(self.header_end, |(_, (_, end))| *end)
    }

    fn append(&mut self, entries: impl Iterator<Item = Entry>) -> io::Result<()> {
        let start = self.end();
        let mut bytes = Vec::new();
        for entry in entries {
            bytes.extend(frame(&encode(&entry)?));
            let end = start + bytes.len() as u64;
            self.entries.insert(entry.log_id.index, (entry, end));
        }
        self.file.write_all_at(&bytes, start)?;
        self.file.sync_data()
    }

    fn truncate(&mut self, from: u64) -> io::Result<()> {
        self.entries.split_off(&from);
        self.file.set_len(self.end())?;
        self.file.sync_all()
    }

    fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let kept = self.entries.split_off(&(upto.index + 1));
        let mut bytes = frame(&encode(&Some(upto))?);
        let header_end = bytes.len() as u64;
        let mut entries = BTreeMap::new();
        for (index, (entry, _)) in kept {
            bytes.extend(frame(&encode(&entry)?));
            entries.insert(index, (entry, bytes.len() as u64));
        }
        replace(&self.log_path, &bytes)?;
        self.file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&self.log_path)?;
        (self.entries, self.purged, self.header_end) = (entries, Some(upto), header_end);
        Ok(())
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<R>(&mut self, range: R) -> Result<Vec<Entry>, StorageError>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let start = range.start_bound().cloned();
        let end: Bound<u64> = range.end_bound().cloned();
        Ok(self
            .lock()
            .entries
            .range((start, end))
            .map(|(_, (e, _))| e.clone())
            .collect())
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let inner = self.lock();
        let last = inner.entries.last_key_value().map(|(_, (e, _))| e.log_id);
        Ok(LogState {
            last_purged_log_id: inner.purged,
            last_log_id: last.or(inner.purged),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let mut inner = self.lock();
        let write = encode(vote).and_then(|bytes| replace(&inner.vote_path, &frame(&bytes)));
        write.map_err(|e| StorageIOError::write_vote(AnyError::new(&e)))?;
        inner.vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.lock().vote)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<TypeConfig>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let written = self.lock().append(entries.into_iter());
        match written {
            Ok(()) => {
                callback.log_io_completed(Ok(()));
                Ok(())
            }
            Err(error) => Err(StorageIOError::write_logs(AnyError::new(&error)).into()),
        }
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let result = self.lock().truncate(log_id.index);
        result.map_err(|e| StorageIOError::write_logs(AnyError::new(&e)).into())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let result = self.lock().purge(log_id);
        result.map_err(|e| StorageIOError::write_logs(AnyError::new(&e)).into())
    }
}
