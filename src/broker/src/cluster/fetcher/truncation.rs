//! The truncation step of a round: logs that have diverged from their leaders' are truncated by leader epoch.

use strandline_client::Connection;
use strandline_log::LogError;
use strandline_replication::truncation_offset;
use strandline_types::{LeaderEpoch, Offset};

use super::answer::Asked;
use super::round::Fetcher;

/// The offset at which a log is truncated.
#[derive(Clone, Copy)]
pub(super) enum Cut {
    /// At the end of the last common epoch: the leader reports the epoch in which the logs diverge, and where it ends
    /// in its log.
    Diverging(LeaderEpoch, Offset),
    /// At the leader's end, where no epoch shows the divergence.
    Offset(Offset),
}

pub(super) struct Truncation {
    pub one: Asked,
    pub cut: Cut,
    pub leaders_log_start: Offset,
}

/// The outcome of a truncation.
enum Outcome {
    Nothing,
    Cut {
        from: Offset,
        to: Offset,
    },
    /// Truncation would remove all local records, and the leader has earlier ones: the log must begin where the
    /// leader's does.
    BeginAgain,
}

impl Fetcher {
    /// Truncates logs that have diverged from their leaders'; returns when the new recovery points are on disk.
    pub(super) async fn truncate(&self, truncations: Vec<Truncation>, open: &mut Connection) {
        if truncations.is_empty() {
            return;
        }
        for truncation in truncations {
            let (one, cut) = (&truncation.one, truncation.cut);
            let (partition, epoch) = (&one.partition, one.leader_epoch);
            let leaders_log_start = truncation.leaders_log_start;
            let outcome = partition
                .run(move |owned| {
                    if owned.handle.leader_epoch() != epoch || owned.handle.is_leader() {
                        return Ok(Outcome::Nothing);
                    }
                    let end = owned.log().log_end_offset();
                    let epochs = owned.log().epochs();
                    let to = match cut {
                        Cut::Diverging(epoch, at) => {
                            truncation_offset((epoch, at), end, |e| epochs.end_offset_for(e, end))
                        }
                        Cut::Offset(at) => at,
                    };
                    let keeps_nothing = to < end && to <= owned.log().local_log_start_offset();
                    if keeps_nothing && owned.log().log_start_offset().min(to) > leaders_log_start {
                        return Ok(Outcome::BeginAgain);
                    }
                    let cut = owned.change_log(|log| log.truncate(to))?;
                    Ok(if cut {
                        Outcome::Cut { from: end, to }
                    } else {
                        Outcome::Nothing
                    })
                })
                .await;
            let outcome: Result<Outcome, LogError> = outcome.unwrap_or(Ok(Outcome::Nothing));
            let result = match outcome {
                Ok(Outcome::Nothing) => Ok(()),
                Ok(Outcome::Cut { from, to }) => {
                    tracing::info!(partition = %partition.topic_partition, from, to, "the log was truncated to the leader's");
                    Ok(())
                }
                Ok(Outcome::BeginAgain) => {
                    self.begin_where_leader_begins(one, leaders_log_start, open)
                        .await
                }
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = result {
                tracing::error!(partition = %partition.topic_partition, %error, "the log could not be truncated");
            }
        }
        self.write_checkpoints().await;
    }

    pub(super) async fn write_checkpoints(&self) {
        let manager = self.context.partitions.clone();
        let _ = tokio::task::spawn_blocking(move || manager.write_checkpoints()).await;
    }
}
