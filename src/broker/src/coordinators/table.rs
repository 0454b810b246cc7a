//! Which coordinators of one kind run here, and the way to them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use strandline_types::{LeaderEpoch, Now};
use strandline_wire::ErrorCode;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::machine::{Machine, Token, Turn};
use super::notices::Notices;
use super::serving::{Inputs, Message, Query};
use super::task::Task;
use crate::partition::Partition;

/// Requests that wait for one coordinator. The bytes of the requests count in `memory::RequestMemory`.
const MAILBOX: usize = 1024;
/// How long a request waits for a place in a full mailbox; then its client asks again.
const FULL_PATIENCE: Duration = Duration::from_secs(10);

/// A running coordinator. A new leader epoch gets a new coordinator, which reads the records that others wrote in
/// between.
struct Running<M: Machine> {
    leader_epoch: LeaderEpoch,
    sender: mpsc::Sender<Message<M>>,
    notices: Arc<Notices>,
}

/// The coordinators of one kind.
pub struct Coordinators<M: Machine> {
    running: Mutex<HashMap<i32, Running<M>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl<M: Machine> Default for Coordinators<M> {
    fn default() -> Self {
        Self {
            running: Mutex::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }
}

impl<M: Machine> Coordinators<M> {
    /// Starts coordinators for partitions that have come and ends those whose partition or epoch is gone. Does not wait.
    pub(super) fn follow(
        &self,
        led: &[Arc<Partition>],
        upkeep_interval: Duration,
        make: impl Fn() -> M + Clone + Send + 'static,
    ) {
        let mut running = self.running.lock().expect("no holder panics");
        let here = |number: i32, epoch: LeaderEpoch| {
            led.iter()
                .any(|p| p.topic_partition.partition == number && p.leader_epoch() == epoch)
        };
        running.retain(|number, c| here(*number, c.leader_epoch) && !c.sender.is_closed());
        for partition in led {
            let number = partition.topic_partition.partition;
            running.entry(number).or_insert_with(|| {
                let (sender, mailbox) = mpsc::channel(MAILBOX);
                let notices = Arc::<Notices>::default();
                let task = Task {
                    partition: partition.clone(),
                    inputs: Inputs {
                        mailbox,
                        notices: notices.clone(),
                        upkeep_interval,
                        stop: self.stop.clone(),
                    },
                    make: Box::new(make.clone()),
                };
                self.tasks.spawn(task.run());
                Running {
                    leader_epoch: partition.leader_epoch(),
                    sender,
                    notices,
                }
            });
        }
    }

    async fn send(&self, partition: i32, message: Message<M>) -> Result<(), ErrorCode> {
        let sender = {
            let running = self.running.lock().expect("no holder panics");
            let found = running.get(&partition).map(|c| c.sender.clone());
            found.ok_or(ErrorCode::NotCoordinator)?
        };
        let sent = sender.send_timeout(message, FULL_PATIENCE).await;
        sent.map_err(|error| match error {
            mpsc::error::SendTimeoutError::Timeout(_) => ErrorCode::CoordinatorNotAvailable,
            mpsc::error::SendTimeoutError::Closed(_) => ErrorCode::NotCoordinator,
        })
    }

    /// Runs a command on the coordinator of `partition` and waits for its answer, however long the command takes.
    pub(super) async fn command(
        &self,
        partition: i32,
        command: impl FnOnce(&mut M, Token, Now) -> Turn<M> + Send + 'static,
    ) -> Result<M::Reply, ErrorCode> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Command(Box::new(command), reply);
        self.send(partition, message).await?;
        answer.await.map_err(|_| ErrorCode::NotCoordinator)?
    }

    /// Looks at the coordinator of `partition`.
    pub async fn query<T: Send + 'static>(
        &self,
        partition: i32,
        query: impl FnOnce(&M) -> T + Send + 'static,
    ) -> Result<T, ErrorCode> {
        let (reply, answer) = oneshot::channel();
        let query: Query<M> = Box::new(move |machine| {
            let _ = reply.send(machine.map(query));
        });
        self.send(partition, Message::Query(query)).await?;
        answer.await.map_err(|_| ErrorCode::NotCoordinator)?
    }

    /// Tells every coordinator of a deleted topic. Does not wait.
    pub fn topic_deleted(&self, topic: &str) {
        let running = self.running.lock().expect("no holder panics");
        running.values().for_each(|c| c.notices.leave(topic));
    }

    /// Partitions whose coordinators run here.
    pub fn partitions(&self) -> Vec<i32> {
        let running = self.running.lock().expect("no holder panics");
        running.keys().copied().collect()
    }

    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.running.lock().expect("no holder panics").clear();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
