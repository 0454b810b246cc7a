//! The raft log and vote on disk.
//!
//! `log`: a first frame with the id up to which entries were purged, then one frame an entry. `vote`: one frame. All
//! entries since the last purge are also in memory; snapshots bound them. A thread of its own writes, in the order of
//! the requests, so that a slow disk delays the writes and not the heartbeats; appends that gather meanwhile share a
//! flush.
//!
//! Crash consistency: an append is acknowledged after `fdatasync`. A torn tail is an entry that was never acknowledged,
//! and the next start truncates it. A damaged entry may have been acknowledged: nothing is truncated, and the node does
//! not start. A vote is durable before it is answered. A truncation is durable before anything is appended behind it. A
//! purge replaces the whole file.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::{Bound, RangeBounds};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, LogState, OptionalSend, RaftLogReader, StorageIOError};
use tokio::sync::oneshot;

use strandline_types::{Mutant, is_mutant};

use crate::storage_file::{frame, frames, is_torn, read, replace};
use crate::types::{Entry, LogId, StorageError, TypeConfig, Vote};

/// A handle; clones share the log.
#[derive(Clone, Debug)]
pub(crate) struct LogStore {
    inner: Arc<Mutex<Inner>>,
    writer: mpsc::Sender<WriteRequest>,
}

#[derive(Debug)]
struct Inner {
    vote_path: PathBuf,
    /// Entry and where its frame ends in the file.
    entries: BTreeMap<u64, (Entry, u64)>,
    purged: Option<LogId>,
    /// End of the frame that holds `purged`.
    header_end: u64,
    vote: Option<Vote>,
}

type Done = oneshot::Sender<io::Result<()>>;

/// A request to the writing thread.
enum WriteRequest {
    Append {
        at: u64,
        bytes: Vec<u8>,
        flushed: LogFlushed<TypeConfig>,
    },
    Truncate {
        at: u64,
        done: Done,
    },
    Replace {
        bytes: Vec<u8>,
        done: Done,
    },
}

fn encode<T: serde::Serialize>(value: &T) -> io::Result<Vec<u8>> {
    postcard::to_stdvec(value).map_err(io::Error::other)
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    postcard::from_bytes(bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

/// The file of the last vote.
pub(crate) const VOTE: &str = "vote";

impl LogStore {
    pub fn open(directory: &Path) -> io::Result<Self> {
        let log_path = directory.join("log");
        let vote_path = directory.join(VOTE);
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
        let damaged = |at: usize| {
            let text = format!(
                "{}: the frame at byte {at} is damaged, and nothing may be cut there: this node may have acknowledged it. \
                 If other controllers have a quorum, set the directory aside and start again; the node joins anew",
                log_path.display()
            );
            io::Error::new(io::ErrorKind::InvalidData, text)
        };
        let (header, header_end) = found.next().ok_or_else(|| damaged(0))?;
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
            let is_entry = |payload: &[u8]| decode::<Entry>(payload).is_ok();
            if !is_torn(&bytes, end as usize, is_entry) {
                return Err(damaged(end as usize));
            }
            tracing::warn!(path = %log_path.display(), at = end, "truncating a torn tail of the quorum's log");
            file.set_len(end)?;
            file.sync_all()?;
        }
        let inner = Inner {
            vote_path,
            entries,
            purged,
            header_end: header_end as u64,
            vote,
        };
        let (writer, requests) = mpsc::channel();
        std::thread::Builder::new()
            .name("quorum-log".into())
            .spawn(move || write_all(file, &log_path, &requests))?;
        Ok(Self {
            inner: Arc::new(Mutex::new(inner)),
            writer,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of the log panics")
    }

    fn send(&self, request: WriteRequest) -> io::Result<()> {
        let gone = |_| io::Error::other("the thread that writes the log has ended");
        self.writer.send(request).map_err(gone)
    }

    async fn send_and_wait(&self, request: impl FnOnce(Done) -> WriteRequest) -> io::Result<()> {
        let (done, written) = oneshot::channel();
        self.send(request(done))?;
        written.await.map_err(io::Error::other)?
    }
}

/// The writing thread; ends with the last handle. After a failed write the thread writes nothing any more: the contents
/// of the disk are then unknown, and the next start reads them.
fn write_all(mut file: File, path: &Path, requests: &mpsc::Receiver<WriteRequest>) {
    let mut failed: Option<String> = None;
    let mut next = None;
    while let Some(request) = next.take().or_else(|| requests.recv().ok()) {
        let mut waiting = Vec::new();
        let mut result = match &failed {
            Some(reason) => Err(io::Error::other(reason.clone())),
            None => Ok(()),
        };
        match request {
            WriteRequest::Append { at, bytes, flushed } => {
                result = result.and_then(|()| file.write_all_at(&bytes, at));
                waiting.push(flushed);
                while let Ok(more) = requests.try_recv() {
                    let WriteRequest::Append { at, bytes, flushed } = more else {
                        next = Some(more);
                        break;
                    };
                    result = result.and_then(|()| file.write_all_at(&bytes, at));
                    waiting.push(flushed);
                }
                result = result.and_then(|()| file.sync_data());
            }
            WriteRequest::Truncate { at, done } => {
                result = result
                    .and_then(|()| file.set_len(at))
                    .and_then(|()| file.sync_all());
                let _ = done.send(copy(&result));
            }
            WriteRequest::Replace { bytes, done } => {
                result = result.and_then(|()| replace(path, &bytes)).and_then(|()| {
                    file = OpenOptions::new().read(true).write(true).open(path)?;
                    Ok(())
                });
                let _ = done.send(copy(&result));
            }
        }
        if let Err(error) = &result
            && failed.is_none()
        {
            tracing::error!(path = %path.display(), %error, "the quorum's log cannot be written");
            failed = Some(error.to_string());
        }
        for flushed in waiting {
            flushed.log_io_completed(copy(&result));
        }
    }
}

fn copy(result: &io::Result<()>) -> io::Result<()> {
    match result {
        Ok(()) => Ok(()),
        Err(e) => Err(io::Error::new(e.kind(), e.to_string())),
    }
}

impl Inner {
    fn end(&self) -> u64 {
        self.entries
            .last_key_value()
            .map_or(self.header_end, |(_, (_, end))| *end)
    }

    /// Adds entries to memory; gives where their bytes go.
    fn append(&mut self, entries: impl Iterator<Item = Entry>) -> io::Result<(u64, Vec<u8>)> {
        let at = self.end();
        let mut bytes = Vec::new();
        for entry in entries {
            bytes.extend(frame(&encode(&entry)?));
            let end = at + bytes.len() as u64;
            self.entries.insert(entry.log_id.index, (entry, end));
        }
        Ok((at, bytes))
    }

    /// Drops entries up to `upto` from memory; returns the new contents of the file.
    fn purge(&mut self, upto: LogId) -> io::Result<Vec<u8>> {
        let kept = self.entries.split_off(&(upto.index + 1));
        let mut bytes = frame(&encode(&Some(upto))?);
        let header_end = bytes.len() as u64;
        let mut entries = BTreeMap::new();
        for (index, (entry, _)) in kept {
            bytes.extend(frame(&encode(&entry)?));
            entries.insert(index, (entry, bytes.len() as u64));
        }
        (self.entries, self.purged, self.header_end) = (entries, Some(upto), header_end);
        Ok(bytes)
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<R>(&mut self, range: R) -> Result<Vec<Entry>, StorageError>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let start = range.start_bound().cloned();
        Ok(self
            .lock()
            .entries
            .range((start, Bound::Unbounded))
            .take_while(|(index, _)| range.contains(*index))
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
        if !is_mutant(Mutant::ForgetVote) {
            let write = encode(vote).and_then(|bytes| replace(&inner.vote_path, &frame(&bytes)));
            write.map_err(|e| StorageIOError::write_vote(AnyError::new(&e)))?;
        }
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
        let failed = |e: io::Error| StorageIOError::write_logs(AnyError::new(&e));
        // Sent under the lock, so that the file grows in the order of the positions.
        let mut inner = self.lock();
        let (at, bytes) = inner.append(entries.into_iter()).map_err(failed)?;
        let request = WriteRequest::Append {
            at,
            bytes,
            flushed: callback,
        };
        self.send(request).map_err(failed)?;
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let at = {
            let mut inner = self.lock();
            inner.entries.split_off(&log_id.index);
            inner.end()
        };
        let result = self
            .send_and_wait(|done| WriteRequest::Truncate { at, done })
            .await;
        result.map_err(|e| StorageIOError::write_logs(AnyError::new(&e)).into())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let bytes = self.lock().purge(log_id);
        let result = match bytes {
            Ok(bytes) => {
                self.send_and_wait(|done| WriteRequest::Replace { bytes, done })
                    .await
            }
            Err(e) => Err(e),
        };
        result.map_err(|e| StorageIOError::write_logs(AnyError::new(&e)).into())
    }
}
