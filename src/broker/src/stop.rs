//! The stop of a broker: other brokers take over its leaderships, waiting requests are answered, then everything ends.
//!
//! Each step has a deadline of its own, so neither a client, nor a controller that does not answer, nor an object store
//! delays a stop. A step that misses its deadline is abandoned with a line in the log; flushed records are durable by
//! then, and the next start checks the rest. Tasks that do not end are aborted, so none outlives the broker.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Deadline of the handover of leaderships, until the other brokers know the new leaders.
pub const HANDOVER: Duration = Duration::from_secs(4);
/// Time from the beginning of the stop until an append, a commit or a deletion that waits for followers is answered with a
/// retriable error.
pub const COMMITS: Duration = Duration::from_millis(500);
/// Time from the beginning of the stop until answers that a client has not taken are dropped with its connection.
pub const ANSWERS: Duration = Duration::from_secs(2);
/// The shortest time that a request waits for its records to be committed, whatever time-out it names. In Kafka an append on one
/// replica is committed when it is made, so a time-out of 0 succeeds; here the flush comes in between.
pub const LEAST_COMMIT_TIMEOUT: Duration = Duration::from_secs(1);
/// Deadline of connections and group coordinators, which end by themselves after [`ANSWERS`].
pub const SERVING: Duration = Duration::from_secs(4);
/// Deadline of background tasks: each ends at its next wait.
pub const TASKS: Duration = Duration::from_secs(3);
/// Deadline of running reads of the object store.
pub const COLD_READS: Duration = Duration::from_secs(1);
/// Deadline of flushing logs and marking them clean. Only a disk that hangs takes longer.
pub const LOGS: Duration = Duration::from_secs(60);
/// Deadline of the metadata log.
pub const QUORUM: Duration = Duration::from_secs(5);

/// Runs a step of the stop; `None` if the step missed its deadline.
pub async fn within<T>(limit: Duration, step: &str, work: impl Future<Output = T>) -> Option<T> {
    let done = tokio::time::timeout(limit, work).await.ok();
    if done.is_none() {
        tracing::error!(
            step,
            ?limit,
            "a step of the stop took too long and is given up"
        );
    }
    done
}

/// Waits for tasks that are stopping; aborts those that have not ended within [`TASKS`].
pub async fn join(tasks: Vec<JoinHandle<()>>) {
    let deadline = Instant::now() + TASKS;
    for mut task in tasks {
        if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
            tracing::error!(limit = ?TASKS, "a task did not stop and is aborted");
            task.abort();
        }
    }
}

/// How long a request with this time-out waits for its records to be committed.
pub fn commit_timeout(timeout_ms: i32) -> Duration {
    let asked = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
    asked.max(LEAST_COMMIT_TIMEOUT)
}

/// Ends at `deadline`, or a little after the stop begins.
pub async fn patience(stopping: &CancellationToken, deadline: Instant) {
    tokio::select! {
        () = tokio::time::sleep_until(deadline) => {}
        () = after(stopping, COMMITS) => {}
    }
}

/// Ends this long after the stop begins.
pub async fn after(stopping: &CancellationToken, grace: Duration) {
    stopping.cancelled().await;
    tokio::time::sleep(grace).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_step_that_never_ends_is_given_up() {
        assert_eq!(within(LOGS, "logs", async { 7 }).await, Some(7));
        let never = within(LOGS, "logs", std::future::pending::<()>());
        assert_eq!(never.await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_never_ends_is_aborted() {
        struct Ended(Option<tokio::sync::oneshot::Sender<()>>);
        impl Drop for Ended {
            fn drop(&mut self) {
                let _ = self.0.take().map(|ended| ended.send(()));
            }
        }
        let (sender, ended) = tokio::sync::oneshot::channel();
        let guard = Ended(Some(sender));
        let task = tokio::spawn(async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        });
        join(vec![task]).await;
        assert_eq!(ended.await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_followers_is_answered_when_the_broker_stops() {
        let stopping = CancellationToken::new();
        let began = Instant::now();
        let far = began + Duration::from_secs(1_000_000);
        stopping.cancel();
        patience(&stopping, far).await;
        assert_eq!(began.elapsed(), COMMITS);
    }
}
