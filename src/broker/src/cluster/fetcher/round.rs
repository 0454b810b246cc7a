//! The life of a fetcher: connects to its leader, and makes one fetch after the other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::messages as m;
use strandline_client::{ClientError, Connection};
use strandline_types::{BrokerId, TopicIdPartition};
use strandline_wire::{ApiKey, ErrorCode};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Followed;
use super::refused::RefusedBatches;
use super::session::Session;
use super::suspicion::{LATE, Suspicion};
use crate::context::BrokerContext;
use crate::partition::Partition;

const FETCH_VERSION: i16 = 17;
/// Before a partition is asked for again whose leader refused, and before a leader that cannot be reached is tried again.
pub(super) const BACKOFF: Duration = Duration::from_millis(50);
const RECONNECT: Duration = Duration::from_millis(100);
/// A live leader answers soon after `replica.fetch.wait.max.ms`. After this time the fetcher connects again.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a fetch on which other partitions wait may take before newly followed partitions are requested.
const PATIENCE: Duration = Duration::from_millis(10);

pub(super) struct Fetcher {
    pub context: Arc<BrokerContext>,
    pub leader: BrokerId,
    pub receiver: watch::Receiver<Followed>,
    /// The partitions that the receiver named last.
    pub followed: HashMap<TopicIdPartition, Arc<Partition>>,
    /// Partitions that are left alone until then.
    pub backoff: HashMap<TopicIdPartition, Instant>,
    pub session: Session,
    pub refused: RefusedBatches,
    pub suspicion: Suspicion,
}

impl Fetcher {
    pub(super) async fn run(mut self, stop: CancellationToken) {
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

    /// Sends one fetch and handles its answer.
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
            // Every partition is being flushed, or its leader has not yet learnt that it leads.
            let mut changes = self.receiver.clone();
            let _ = tokio::time::timeout(BACKOFF, changes.changed()).await;
            return Ok(());
        }
        let mut open = match connection.take() {
            Some(open) => open,
            None => match self.connect().await {
                Ok(open) => open,
                Err(error) => {
                    let timed_out = |e: &std::io::Error| e.kind() == std::io::ErrorKind::TimedOut;
                    if matches!(&error, ClientError::Io { source, .. } if timed_out(source)) {
                        self.suspicion.raise();
                    }
                    return Err(error);
                }
            },
        };
        let request = self.request(&telling);
        let mut changes = self.receiver.clone();
        let patience = async {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(PATIENCE).await;
        };
        let (suspicion, address) = (&mut self.suspicion, open.address().to_owned());
        let late = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)) + LATE;
        let too_late = async {
            tokio::time::sleep(late).await;
            suspicion.raise();
            tokio::time::sleep(CALL_TIMEOUT.saturating_sub(late)).await;
        };
        let response: m::FetchResponse = tokio::select! {
            answered = open.call(ApiKey::Fetch, FETCH_VERSION, &request) => answered?,
            // Newly followed partitions do not wait for a long poll of the others: close its connection.
            () = patience => return Ok(()),
            () = too_late => {
                let source = std::io::ErrorKind::TimedOut.into();
                return Err(ClientError::Io { address, source });
            }
        };
        self.suspicion.dispel();
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
        // TCP's own retries come ever more rarely.
        let opening = tokio::time::timeout(CONNECT_TIMEOUT, Connection::open(&address));
        opening.await.unwrap_or_else(|_| {
            Err(ClientError::Io {
                address,
                source: std::io::ErrorKind::TimedOut.into(),
            })
        })
    }
}
