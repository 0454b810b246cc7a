//! Following: one task for each leader that this broker follows fetches all its partitions from there, appends what
//! comes, and asks again from where the log then ends.
//!
//! A position that a fetch names is a promise: everything below is in the log, and on disk where the topic flushes
//! before it acknowledges. So a round ends when its appends are durable. Where the logs have parted, this one is cut by
//! leader epoch, and the recovery point is written before anything is appended behind the cut.
//!
//! The leader keeps a fetch session (KIP-227): after the first request only positions that have changed are named, so a
//! round costs what has moved, whatever the number of partitions.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use kafka_protocol::messages as m;
use kafka_protocol::messages::fetch_request::{
    FetchPartition, FetchTopic, ForgottenTopic, ReplicaState,
};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use strandline_client::{ClientError, Connection};
use strandline_log::{decode_leader_epochs, decode_snapshot};
use strandline_metadata::ClusterImage;
use strandline_replication::truncation_offset;
use strandline_types::{BrokerId, EpochStart, LeaderEpoch, Offset, TopicId, TopicIdPartition};
use strandline_wire::special_timestamp::EARLIEST_LOCAL;
use strandline_wire::{ApiKey, ErrorCode};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api::text;
use crate::partition::{FetchedRecords, Partition};
use crate::server::BrokerContext;

const FETCH_VERSION: i16 = 17;
/// First version that knows the special timestamp −4.
const LIST_OFFSETS_VERSION: i16 = 8;
/// Before a partition is asked for again whose leader refused, and before a leader that cannot be reached is tried again.
const BACKOFF: Duration = Duration::from_millis(50);
const RECONNECT: Duration = Duration::from_millis(100);
/// A leader that lives answers within `replica.fetch.wait.max.ms` and a little; one that does not is dialled again.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a fetch that others wait for may go on before newly followed partitions are asked for.
const PATIENCE: Duration = Duration::from_millis(10);

type Followed = Arc<Vec<Arc<Partition>>>;

/// All fetchers of this broker, by leader.
#[derive(Default)]
pub struct ReplicaFetchers {
    running: Mutex<HashMap<BrokerId, Running>>,
}

struct Running {
    followed: watch::Sender<Followed>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl ReplicaFetchers {
    /// Brings the fetchers in line with who leads what now.
    pub fn follow(&self, context: &Arc<BrokerContext>, image: &ClusterImage) {
        let own = BrokerId(context.node_id());
        let mut wanted: BTreeMap<BrokerId, Vec<Arc<Partition>>> = BTreeMap::new();
        for partition in context.partitions.all() {
            if let Some(leader) = partition.role().leader
                && leader != own
                && !partition.is_offline()
                && image.brokers.get(&leader).is_some_and(|b| !b.fenced)
            {
                wanted.entry(leader).or_default().push(partition);
            }
        }
        let mut running = self.running.lock().expect("no holder panics");
        running.retain(|leader, fetcher| {
            let stays = wanted.contains_key(leader);
            if !stays {
                fetcher.stop.cancel();
            }
            stays
        });
        for (leader, mut partitions) in wanted {
            partitions.sort_by_key(|p| p.key());
            let fetcher = running.entry(leader).or_insert_with(|| {
                let (followed, receiver) = watch::channel(Followed::default());
                let stop = CancellationToken::new();
                let fetcher = Fetcher {
                    context: context.clone(),
                    leader,
                    receiver,
                    followed: HashMap::new(),
                    backoff: HashMap::new(),
                    session: Session::default(),
                };
                let task = tokio::spawn(fetcher.run(stop.clone()));
                Running {
                    followed,
                    stop,
                    task,
                }
            });
            fetcher.followed.send_if_modified(|known| {
                let same = known.len() == partitions.len()
                    && known
                        .iter()
                        .zip(&partitions)
                        .all(|(a, b)| Arc::ptr_eq(a, b));
                if !same {
                    *known = Arc::new(partitions);
                }
                !same
            });
        }
    }

    pub async fn shutdown(&self) {
        let stopped: Vec<Running> = {
            let mut running = self.running.lock().expect("no holder panics");
            running.drain().map(|(_, fetcher)| fetcher).collect()
        };
        for fetcher in &stopped {
            fetcher.stop.cancel();
        }
        for fetcher in stopped {
            let _ = fetcher.task.await;
        }
    }
}

struct Fetcher {
    context: Arc<BrokerContext>,
    leader: BrokerId,
    receiver: watch::Receiver<Followed>,
    /// What was received last.
    followed: HashMap<TopicIdPartition, Arc<Partition>>,
    /// Partitions that are left alone until then.
    backoff: HashMap<TopicIdPartition, Instant>,
    session: Session,
}

/// What the leader has been told in this fetch session.
#[derive(Default)]
struct Session {
    id: i32,
    /// 0 begins a session.
    epoch: i32,
    told: HashMap<TopicIdPartition, Position>,
    /// Partitions whose positions may have changed since.
    changed: HashSet<TopicIdPartition>,
    /// So may all.
    all_changed: bool,
}

/// Where this replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    leader_epoch: LeaderEpoch,
    offset: Offset,
    last_epoch: Option<LeaderEpoch>,
    log_start: Offset,
}

/// What a round does with one partition.
struct Asked {
    partition: Arc<Partition>,
    leader_epoch: LeaderEpoch,
}

/// What one request tells the leader.
#[derive(Default)]
struct Telling {
    positions: Vec<(TopicIdPartition, Position)>,
    forgotten: Vec<TopicIdPartition>,
}

impl Fetcher {
    async fn run(mut self, stop: CancellationToken) {
        let mut connection = None;
        loop {
            let round = tokio::select! {
                () = stop.cancelled() => return,
                round = self.round(&mut connection) => round,
            };
            if let Err(error) = round {
                tracing::debug!(leader = %self.leader, %error, "a leader cannot be fetched from");
                connection = None;
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(RECONNECT) => {}
                }
            }
        }
    }

    /// One fetch and what follows from it.
    async fn round(&mut self, connection: &mut Option<Connection>) -> Result<(), ClientError> {
        if connection.is_none() {
            self.session = Session {
                all_changed: true,
                ..Session::default()
            };
        }
        if self.followed.is_empty() || self.receiver.has_changed().unwrap_or(false) {
            let followed = self.receiver.borrow_and_update().clone();
            self.followed = followed.iter().map(|p| (p.id(), p.clone())).collect();
            self.session.all_changed = true;
        }
        let telling = self.what_to_tell();
        if telling.positions.is_empty() && telling.forgotten.len() >= self.session.told.len() {
            *connection = None;
            // Everything is being flushed, or waits for its leader to hear that it leads.
            let mut changes = self.receiver.clone();
            let _ = tokio::time::timeout(BACKOFF, changes.changed()).await;
            return Ok(());
        }
        let mut open = match connection.take() {
            Some(open) => open,
            None => self.connect().await?,
        };
        let request = self.request(&telling);
        let mut changes = self.receiver.clone();
        let patience = async {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(PATIENCE).await;
        };
        let response: m::FetchResponse = tokio::select! {
            answered = open.call(ApiKey::Fetch, FETCH_VERSION, &request) => answered?,
            // Newly followed partitions do not wait for a fetch that waits for others; its connection is given up.
            () = patience => return Ok(()),
            () = tokio::time::sleep(CALL_TIMEOUT) => {
                return Err(ClientError::Io {
                    address: open.address().to_owned(),
                    source: std::io::ErrorKind::TimedOut.into(),
                });
            }
        };
        if let Some(refused) =
            ErrorCode::from_code(response.error_code).filter(|c| *c != ErrorCode::None)
        {
            // The session is gone, most likely; the next request begins another one.
            tracing::debug!(leader = %self.leader, %refused, "a fetch session ended");
            return Ok(());
        }
        self.session.note(telling, response.session_id);
        self.take(response, &mut open).await;
        *connection = Some(open);
        Ok(())
    }

    async fn connect(&self) -> Result<Connection, ClientError> {
        let image = self.context.quorum.image();
        let listener = &self.context.settings.inter_broker_listener;
        let leader = image.brokers.get(&self.leader);
        let Some(address) = leader.and_then(|b| b.address(listener)) else {
            return Err(ClientError::Io {
                address: format!("broker {}", self.leader),
                source: std::io::Error::new(
                    std::io::ErrorKind::NotFound,
                    format!("it has no listener {listener} (inter.broker.listener.name)"),
                ),
            });
        };
        // TCP itself tries ever more rarely.
        let opening = tokio::time::timeout(CONNECT_TIMEOUT, Connection::open(&address));
        opening.await.unwrap_or_else(|_| {
            Err(ClientError::Io {
                address,
                source: std::io::ErrorKind::TimedOut.into(),
            })
        })
    }

    /// Positions that the leader does not know yet, and partitions that it is to leave out for now.
    fn what_to_tell(&mut self) -> Telling {
        let now = Instant::now();
        let session = &mut self.session;
        self.backoff.retain(|id, until| {
            let waits = *until > now;
            if !waits {
                session.changed.insert(*id);
            }
            waits
        });
        let mut telling = Telling::default();
        let candidates: Vec<TopicIdPartition> = if session.all_changed {
            let known = session
                .told
                .keys()
                .filter(|id| !self.followed.contains_key(id));
            telling.forgotten.extend(known);
            self.followed.keys().copied().collect()
        } else {
            session.changed.iter().copied().collect()
        };
        session.all_changed = false;
        session.changed.clear();
        for id in candidates {
            let partition = self.followed.get(&id).filter(|p| !p.is_offline());
            let Some(partition) = partition.filter(|_| !self.backoff.contains_key(&id)) else {
                if session.told.contains_key(&id) {
                    telling.forgotten.push(id);
                }
                continue;
            };
            let throttle = &self.context.follower_throttle;
            if is_throttled(&self.context, partition)
                && let Some(wait) = throttle.wait(now)
            {
                self.backoff.insert(id, now + wait);
                if session.told.contains_key(&id) {
                    telling.forgotten.push(id);
                }
                continue;
            }
            match position(partition, self.leader) {
                Some(position) if session.told.get(&id) != Some(&position) => {
                    telling.positions.push((id, position));
                }
                Some(_) => {}
                None => {
                    session.changed.insert(id);
                }
            }
        }
        telling
    }

    fn request(&self, telling: &Telling) -> m::FetchRequest {
        let config = self.context.config();
        let max_bytes = config.number("replica.fetch.max.bytes") as i32;
        let mut topics: BTreeMap<TopicId, Vec<FetchPartition>> = BTreeMap::new();
        for (id, position) in &telling.positions {
            let wanted = FetchPartition::default()
                .with_partition(id.partition)
                .with_current_leader_epoch(position.leader_epoch.0)
                .with_fetch_offset(position.offset)
                .with_last_fetched_epoch(position.last_epoch.map_or(-1, |e| e.0))
                .with_log_start_offset(position.log_start)
                .with_partition_max_bytes(max_bytes);
            topics.entry(id.topic_id).or_default().push(wanted);
        }
        let topics = topics.into_iter().map(|(id, partitions)| {
            FetchTopic::default()
                .with_topic_id(id.0)
                .with_partitions(partitions)
        });
        let mut forgotten: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
        for id in &telling.forgotten {
            forgotten.entry(id.topic_id).or_default().push(id.partition);
        }
        let forgotten = forgotten.into_iter().map(|(id, partitions)| {
            ForgottenTopic::default()
                .with_topic_id(id.0)
                .with_partitions(partitions)
        });
        let replica = ReplicaState::default()
            .with_replica_id(m::BrokerId(self.context.node_id()))
            .with_replica_epoch(self.context.broker_epoch().0);
        // Whoever is left alone, or waits for its own disk, is looked at again soon.
        let waits_for_nobody = self.backoff.is_empty() && self.session.changed.is_empty();
        let max_wait = config.number("replica.fetch.wait.max.ms");
        let max_wait = if waits_for_nobody {
            max_wait
        } else {
            max_wait.min(BACKOFF.as_millis() as i64)
        };
        m::FetchRequest::default()
            .with_replica_state(replica)
            .with_max_wait_ms(max_wait as i32)
            .with_min_bytes(config.number("replica.fetch.min.bytes") as i32)
            .with_max_bytes(config.number("replica.fetch.response.max.bytes") as i32)
            .with_session_id(self.session.id)
            .with_session_epoch(self.session.epoch)
            .with_topics(topics.collect())
            .with_forgotten_topics_data(forgotten.collect())
    }

    async fn take(&mut self, response: m::FetchResponse, open: &mut Connection) {
        let mut asked = Vec::new();
        for topic in response.responses {
            for answer in topic.partitions {
                let id = TopicIdPartition {
                    topic_id: TopicId(topic.topic_id),
                    partition: answer.partition_index,
                };
                let (Some(partition), Some(told)) =
                    (self.followed.get(&id), self.session.told.get(&id))
                else {
                    continue;
                };
                self.session.changed.insert(id);
                let one = Asked {
                    partition: partition.clone(),
                    leader_epoch: told.leader_epoch,
                };
                asked.push((one, answer));
            }
        }
        let mut appends = Vec::new();
        let mut truncations = Vec::new();
        for (one, answer) in asked {
            let code =
                ErrorCode::from_code(answer.error_code).unwrap_or(ErrorCode::UnknownServerError);
            let diverging = Some(&answer.diverging_epoch).filter(|d| d.epoch >= 0);
            match code {
                ErrorCode::None => {
                    if let Some(diverging) = diverging {
                        truncations
                            .push((one, (LeaderEpoch(diverging.epoch), diverging.end_offset)));
                    } else {
                        let bytes = answer.records.as_ref().map_or(0, Bytes::len);
                        let counter = &self.context.metrics.replication_bytes_in;
                        counter.fetch_add(bytes as u64, Ordering::Relaxed);
                        if bytes > 0 && is_throttled(&self.context, &one.partition) {
                            self.context.follower_throttle.spend(bytes);
                        }
                        appends.push(append(one, answer));
                    }
                }
                ErrorCode::OffsetMovedToTieredStorage | ErrorCode::OffsetOutOfRange => {
                    let began = self.begin_again(&one, code, &answer, open).await;
                    if let Err(error) = began {
                        self.leave_alone(&one, &error);
                    }
                }
                // It was asked under an epoch that is over here as well.
                _ if one.partition.role().leader_epoch != one.leader_epoch => {}
                code => self.leave_alone(&one, &code.to_string()),
            }
        }
        let failed: Vec<(Asked, String)> = join_all(appends)
            .await
            .into_iter()
            .filter_map(|(one, result)| Some((one, result.err()?)))
            .collect();
        for (one, error) in failed {
            self.leave_alone(&one, &error);
        }
        self.truncate(truncations).await;
    }

    fn leave_alone(&mut self, one: &Asked, reason: &str) {
        tracing::debug!(partition = %one.partition.topic_partition, leader = %self.leader, %reason, "not fetched for a moment");
        self.backoff
            .insert(one.partition.id(), Instant::now() + BACKOFF);
    }

    /// Cuts logs that have parted from their leaders'; returns when the new recovery points are on disk.
    async fn truncate(&self, truncations: Vec<(Asked, (LeaderEpoch, Offset))>) {
        if truncations.is_empty() {
            return;
        }
        for (one, diverging) in truncations {
            let (partition, epoch) = (&one.partition, one.leader_epoch);
            let cut = partition
                .run(move |owned| {
                    if owned.handle.leader_epoch() != epoch || owned.handle.is_leader() {
                        return Ok(None);
                    }
                    let end = owned.log.log_end_offset();
                    let epochs = owned.log.epochs();
                    let to = truncation_offset(diverging, end, |e| epochs.end_offset_for(e, end));
                    owned.log.truncate(to).map(|cut| cut.then_some((end, to)))
                })
                .await;
            match cut {
                Ok(Ok(Some((from, to)))) => {
                    tracing::info!(partition = %partition.topic_partition, from, to, "the log was cut to the leader's");
                }
                Ok(Err(error)) => {
                    tracing::error!(partition = %partition.topic_partition, %error, "the log was not cut");
                }
                Ok(Ok(None)) | Err(_) => {}
            }
        }
        self.write_checkpoints().await;
    }

    async fn write_checkpoints(&self) {
        let manager = self.context.partitions.clone();
        let _ = tokio::task::spawn_blocking(move || manager.write_checkpoints()).await;
    }

    /// Begins where the leader's log begins, because this one ends before it: what lies in between is deleted, or in the
    /// cold tier, from which lineage and producer state then come.
    async fn begin_again(
        &self,
        one: &Asked,
        code: ErrorCode,
        answer: &PartitionData,
        open: &mut Connection,
    ) -> Result<(), String> {
        let partition = &one.partition;
        let (start, log_start, epochs, producers) = if code == ErrorCode::OffsetMovedToTieredStorage
        {
            let start = self.leaders_local_start(one, open).await?;
            let (epochs, producers) = self.cold_state(partition, start).await?;
            (start, answer.log_start_offset, epochs, producers)
        } else if partition.view().log_end_offset < answer.log_start_offset {
            let start = answer.log_start_offset;
            (
                start,
                start,
                Vec::new(),
                strandline_log::ProducerState::default(),
            )
        } else {
            return Err("the position is beyond the leader's log".into());
        };
        let epoch = one.leader_epoch;
        let begun = partition
            .run(move |owned| {
                if owned.handle.leader_epoch() != epoch || owned.handle.is_leader() {
                    return Ok(());
                }
                owned
                    .log
                    .start_behind_cold_tier(start, log_start, epochs, producers)
            })
            .await;
        begun
            .map_err(|e| e.to_string())?
            .map_err(|e| e.to_string())?;
        self.write_checkpoints().await;
        tracing::info!(partition = %partition.topic_partition, start, log_start, "the log begins behind the cold tier");
        Ok(())
    }

    async fn leaders_local_start(
        &self,
        one: &Asked,
        open: &mut Connection,
    ) -> Result<Offset, String> {
        let tp = &one.partition.topic_partition;
        let wanted = ListOffsetsPartition::default()
            .with_partition_index(tp.partition)
            .with_current_leader_epoch(one.leader_epoch.0)
            .with_timestamp(EARLIEST_LOCAL);
        let topic = ListOffsetsTopic::default()
            .with_name(m::TopicName(text(tp.topic.to_string())))
            .with_partitions(vec![wanted]);
        let request = m::ListOffsetsRequest::default()
            .with_replica_id(m::BrokerId(self.context.node_id()))
            .with_topics(vec![topic]);
        let response: m::ListOffsetsResponse = open
            .call(ApiKey::ListOffsets, LIST_OFFSETS_VERSION, &request)
            .await
            .map_err(|e| e.to_string())?;
        let answer = response.topics.iter().flat_map(|t| &t.partitions).next();
        match answer {
            Some(found) if found.error_code == 0 => Ok(found.offset),
            Some(refused) => Err(format!("local start: error {}", refused.error_code)),
            None => Err("local start: no answer".into()),
        }
    }

    /// Lineage and producers as of `offset`, from the side object of the segment that holds the offset before.
    async fn cold_state(
        &self,
        partition: &Arc<Partition>,
        offset: Offset,
    ) -> Result<(Vec<EpochStart>, strandline_log::ProducerState), String> {
        let tier = self
            .context
            .tier
            .clone()
            .ok_or("this broker has no cold tier (remote.log.storage.system.enable)")?;
        let image = self.context.quorum.image();
        let segment = image
            .remote_log(partition.id())
            .and_then(|log| log.segment_for(offset - 1).cloned())
            .ok_or_else(|| format!("no remote segment holds offset {}", offset - 1))?;
        let threads = tier.threads.handle().clone();
        let reading = threads.spawn(async move { tier.reader.state_at_end(&segment).await });
        let (lineage, snapshot) = reading
            .await
            .map_err(|e| e.to_string())?
            .map_err(|e| e.to_string())?;
        let epochs = decode_leader_epochs(&lineage).ok_or("the lineage cannot be read")?;
        // A segment without producers has no snapshot.
        let producers = decode_snapshot(&snapshot).unwrap_or_default();
        Ok((epochs, producers))
    }
}

impl Session {
    /// Takes over that the leader has answered what it was told.
    fn note(&mut self, telling: Telling, id: i32) {
        if self.epoch == 0 {
            self.id = id;
        }
        if self.id == 0 {
            // The leader keeps no session for us: everything is told every time.
            self.all_changed = true;
            self.told.clear();
            self.told.extend(telling.positions);
            return;
        }
        self.epoch = if self.epoch == i32::MAX {
            1
        } else {
            self.epoch + 1
        };
        for id in telling.forgotten {
            self.told.remove(&id);
        }
        self.told.extend(telling.positions);
    }
}

/// Named by `follower.replication.throttled.replicas`, and not in sync.
fn is_throttled(context: &BrokerContext, partition: &Partition) -> bool {
    let own = BrokerId(context.node_id());
    let number = partition.topic_partition.partition;
    let config = partition.config();
    let named = &config.follower_replication_throttled_replicas;
    named.contains(number, own) && !context.is_in_sync(partition.id(), own)
}

/// Where the replica is, if it can be asked for now: not while its end is on its way to the disk.
fn position(partition: &Partition, leader: BrokerId) -> Option<Position> {
    let role = partition.role();
    let view = partition.view();
    let flushes = partition.config().flush_messages == 1;
    let durable = !flushes || view.flushed_offset >= view.log_end_offset;
    (role.leader == Some(leader) && durable).then(|| Position {
        leader_epoch: role.leader_epoch,
        offset: view.log_end_offset,
        last_epoch: view.epochs.epoch_of(view.log_end_offset - 1),
        log_start: view.log_start_offset,
    })
}

/// Appends one answer; done when what came is durable.
fn append(one: Asked, answer: PartitionData) -> impl Future<Output = (Asked, Result<(), String>)> {
    let records = answer.records.unwrap_or_default();
    let view = one.partition.view();
    let news = !records.is_empty()
        || answer.high_watermark.min(view.log_end_offset) > view.high_watermark
        || answer.log_start_offset > view.log_start_offset;
    async move {
        if !news {
            return (one, Ok(()));
        }
        let fetched = FetchedRecords {
            leader_epoch: one.leader_epoch,
            records,
            high_watermark: answer.high_watermark,
            log_start_offset: answer.log_start_offset,
        };
        let appended = one.partition.append_fetched(fetched).await;
        (one, appended.map_err(|e| e.to_string()))
    }
}
