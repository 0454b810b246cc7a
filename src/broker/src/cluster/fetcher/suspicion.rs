//! A leader that leaves a fetch unanswered is suspected; the controller is told, and decides.

use std::sync::Arc;
use std::time::Duration;

use strandline_quorum::Quorum;
use strandline_types::BrokerId;

/// A leader that is later than this with an answer is suspected. Less than half of the shortest silence that fences.
pub(super) const LATE: Duration = Duration::from_millis(400);

/// One fetcher's suspicion of its leader. Ends with the fetcher.
pub(super) struct Suspicion {
    quorum: Arc<Quorum>,
    leader: BrokerId,
    is_raised: bool,
}

impl Suspicion {
    pub fn new(quorum: Arc<Quorum>, leader: BrokerId) -> Self {
        Self {
            quorum,
            leader,
            is_raised: false,
        }
    }

    pub fn raise(&mut self) {
        if !self.is_raised {
            self.is_raised = true;
            tracing::warn!(leader = %self.leader, "a leader does not answer a fetch; the controller is told");
            self.quorum.suspect(self.leader, true);
        }
    }

    pub fn dispel(&mut self) {
        if self.is_raised {
            self.is_raised = false;
            self.quorum.suspect(self.leader, false);
        }
    }
}

impl Drop for Suspicion {
    fn drop(&mut self) {
        self.dispel();
    }
}
