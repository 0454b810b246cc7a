//! The loop of one coordinator: wait for the leadership, replay, serve; again, when the leadership was lost or the replay
//! has failed.

use std::sync::Arc;
use std::time::Duration;

use strandline_wire::ErrorCode;
use tokio::time::Instant;

use super::machine::Machine;
use super::pipeline::Append;
use super::replay::{committed_to_the_end, replay};
use super::serving::{End, Inputs, Serving};
use crate::partition::{Acks, Partition};

/// Requests wait so long for a replay; then they are refused, and their clients ask again.
const LOAD_PATIENCE: Duration = Duration::from_secs(1);
/// Between attempts to replay a partition that cannot be read.
const FIRST_BACK_OFF: Duration = Duration::from_millis(200);
const LAST_BACK_OFF: Duration = Duration::from_secs(30);

/// A task's own things.
pub(super) struct Task<M: Machine> {
    pub partition: Arc<Partition>,
    pub inputs: Inputs<M>,
    /// Makes an empty machine.
    pub make: Box<dyn Fn() -> M + Send>,
}

impl<M: Machine> Task<M> {
    pub async fn run(mut self) {
        let mut back_off = FIRST_BACK_OFF;
        loop {
            let Ok(loaded) = self.load().await else {
                return;
            };
            match loaded {
                Ok(machine) => {
                    back_off = FIRST_BACK_OFF;
                    let partition = self.partition.clone();
                    let serving = Serving::new(machine, log_of(partition.clone()));
                    let leads = || partition.is_leader() && !partition.is_offline();
                    if matches!(serving.run(&mut self.inputs, leads).await, End::Over) {
                        return;
                    }
                }
                Err(error) => {
                    let partition = &self.partition.topic_partition;
                    tracing::error!(%partition, %error, ?back_off, "a coordinator's state cannot be loaded; it is read again after a pause");
                    let pause = tokio::time::sleep(back_off);
                    if self.refusing(Duration::ZERO, pause).await.is_err() {
                        return;
                    }
                    back_off = (back_off * 2).min(LAST_BACK_OFF);
                }
            }
        }
    }

    /// Waits for the leadership and replays the partition. `Err` ends the task.
    async fn load(&mut self) -> Result<Result<M, String>, ()> {
        let mut machine = (self.make)();
        let partition = self.partition.clone();
        let loading = async move {
            committed_to_the_end(&partition).await;
            replay(&mut machine, &partition).await.map(|()| machine)
        };
        self.refusing(LOAD_PATIENCE, loading).await
    }

    /// Waits for `work`; refuses requests that come or wait meanwhile, after `patience`. `Err` ends the task.
    async fn refusing<T>(
        &mut self,
        patience: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, ()> {
        let mut work = std::pin::pin!(work);
        let patience = Instant::now() + patience;
        loop {
            // Without the leadership, clients learn at once that they should look elsewhere.
            let patience = if self.leads() {
                patience
            } else {
                Instant::now()
            };
            tokio::select! {
                biased;
                () = self.inputs.stop.cancelled() => return Err(()),
                done = &mut work => return Ok(done),
                message = async {
                    tokio::time::sleep_until(patience).await;
                    self.inputs.mailbox.recv().await
                } => match message {
                    None => return Err(()),
                    Some(message) => message.refuse(self.refusal()),
                },
            }
        }
    }

    fn leads(&self) -> bool {
        self.partition.is_leader() && !self.partition.is_offline()
    }

    fn refusal(&self) -> ErrorCode {
        if self.leads() {
            ErrorCode::CoordinatorLoadInProgress
        } else {
            ErrorCode::NotCoordinator
        }
    }
}

fn log_of(partition: Arc<Partition>) -> Append {
    Box::new(move |batch| {
        let partition = partition.clone();
        Box::pin(async move { partition.append(vec![batch], Acks::All).await })
    })
}
