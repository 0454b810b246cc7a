//! Waiting for a condition, never for a time.

use std::future::Future;
use std::time::Duration;

/// How long anything in a test may take before it counts as never.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again until `condition` answers; panics with `what` when it never does.
pub async fn eventually<T, F>(what: &str, mut condition: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
