//! Whether the controllers let this process in. A controller refuses a process whose `node.id` another one has that lives.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// How long a process asks again before it gives up: its predecessor may have died without a sign, and counts as alive for
/// a while.
const PATIENCE: Duration = Duration::from_secs(6);

/// The refusals since a controller last let this process in.
pub(crate) struct Door(watch::Sender<Option<(Instant, String)>>);

impl Door {
    pub fn new() -> Self {
        Self(watch::channel(None).0)
    }

    pub fn opened(&self) {
        self.0.send_if_modified(|refusal| refusal.take().is_some());
    }

    pub fn refused(&self, reason: String) {
        self.0.send_if_modified(|refusal| {
            let first = refusal.is_none();
            if first {
                tracing::warn!(%reason, limit = ?PATIENCE, "a controller refuses this process, which asks again for a while");
            }
            let since = refusal.as_ref().map_or_else(Instant::now, |(since, _)| *since);
            *refusal = Some((since, reason));
            first
        });
    }

    /// Returns the reason when controllers have refused this process for too long.
    pub async fn shut(&self) -> String {
        let mut refusals = self.0.subscribe();
        loop {
            let refusal = refusals.borrow_and_update().clone();
            let gives_up = async {
                match &refusal {
                    Some((since, _)) => tokio::time::sleep_until(*since + PATIENCE).await,
                    None => std::future::pending().await,
                }
            };
            let changed = tokio::select! {
                () = gives_up => false,
                changed = refusals.changed() => changed.is_ok(),
            };
            if let (false, Some((_, reason))) = (changed, refusal) {
                return reason;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_process_gives_up_when_it_is_refused_for_too_long_without_a_break() {
        let door = Door::new();
        let began = Instant::now();
        let knocking = async {
            for number in 0..100 {
                door.refused(format!("refusal {number}"));
                if number == 20 {
                    door.opened();
                }
                tokio::time::sleep(PATIENCE / 30).await;
            }
            std::future::pending::<()>().await;
        };
        let reason = tokio::select! {
            reason = door.shut() => reason,
            () = knocking => unreachable!("knocks for ever"),
        };
        assert!(reason.starts_with("refusal"));
        let took = began.elapsed();
        assert!(took > PATIENCE && took < PATIENCE * 2, "{took:?}");
    }
}
