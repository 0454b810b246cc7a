//! Commands on their way to the active controller, and the decisions of this process as the active controller.

use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::ServerState;
use strandline_metadata::ClusterImage;
use strandline_metadata::controller::{Answer, Command, Refusal};
use thiserror::Error;

use super::Quorum;
use crate::link::CallError;
use crate::rpc::{Committed, Request, Response, SubmitFailure};
use crate::types::NodeId;

/// How long a command may wait for a leader, and its effect for being applied here.
pub(super) const SUBMIT_TIMEOUT: Duration = Duration::from_secs(15);
const RETRY: Duration = Duration::from_millis(20);
/// How long a controller that was replaced may still take to answer.
const LAST_ANSWER: Duration = Duration::from_millis(250);

/// Why a command was not committed.
#[derive(Debug, Error)]
pub enum SubmitError {
    /// The decision itself refused; nothing was proposed.
    #[error("{0}")]
    Refused(Refusal),
    /// Whether the records were committed is not known.
    #[error("metadata quorum: {0}")]
    Unavailable(String),
}

/// A committed command: the image that shows it, and the answer.
#[derive(Clone, Debug)]
pub struct Change {
    pub image: Arc<ClusterImage>,
    pub answer: Answer,
}

impl Quorum {
    /// Brings a command to the leader, wherever it is, and waits until its effect is applied here.
    ///
    /// Not cancel safe in effect: a caller that goes away may still have its command committed.
    pub async fn submit(&self, command: Command) -> Result<Change, SubmitError> {
        let deadline = Instant::now() + SUBMIT_TIMEOUT;
        loop {
            match self.submit_once(&command).await {
                Ok(committed) => return self.applied(committed, deadline).await,
                Err(SubmitFailure::Refused(refusal)) => return Err(SubmitError::Refused(refusal)),
                Err(SubmitFailure::Unknown(reason)) => {
                    return Err(SubmitError::Unavailable(reason));
                }
                Err(SubmitFailure::NotLeader) if Instant::now() >= deadline => {
                    let reason = "no controller leads the quorum".to_owned();
                    return Err(SubmitError::Unavailable(reason));
                }
                Err(SubmitFailure::NotLeader) => tokio::time::sleep(RETRY).await,
            }
        }
    }

    /// The term in which this process is the active controller, if it is.
    pub fn office(&self) -> Option<u64> {
        let metrics = self.node.raft.metrics().borrow().clone();
        (metrics.state == ServerState::Leader).then_some(metrics.current_term)
    }

    /// Commits a decision that this process has made as the active controller of `term`. Fails where it is that no longer:
    /// the decision is handed to nobody, because the next controller may know better.
    ///
    /// Not cancel safe in effect: a caller that goes away may still have its command committed.
    pub async fn decide_in_office(
        &self,
        term: u64,
        command: Command,
    ) -> Result<Change, SubmitError> {
        let deadline = Instant::now() + SUBMIT_TIMEOUT;
        match self.node.decide_in(Some(term), command).await {
            Ok(committed) => self.applied(committed, deadline).await,
            Err(SubmitFailure::Refused(refusal)) => Err(SubmitError::Refused(refusal)),
            Err(SubmitFailure::Unknown(reason)) => Err(SubmitError::Unavailable(reason)),
            Err(SubmitFailure::NotLeader) => {
                let reason = format!("this process is not the controller of term {term} any more");
                Err(SubmitError::Unavailable(reason))
            }
        }
    }

    async fn submit_once(&self, command: &Command) -> Result<Committed, SubmitFailure> {
        let leader = self.node.raft.metrics().borrow().current_leader;
        let leader = leader.ok_or(SubmitFailure::NotLeader)?;
        if leader == self.node.id {
            return self.node.decide(command.clone()).await;
        }
        let link = self.node.peers.link_to(leader);
        let link = link.ok_or(SubmitFailure::NotLeader)?;
        let request = Request::Submit(Box::new(command.clone()));
        // A controller that is silent is replaced. The next one does not know the request.
        let mut metrics = self.node.raft.metrics();
        let replaced = async {
            let another = |id: &NodeId| *id != leader;
            let waiting = metrics.wait_for(|m| m.current_leader.as_ref().is_some_and(another));
            if waiting.await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(LAST_ANSWER).await;
        };
        let answer = tokio::select! {
            answer = link.call(request, SUBMIT_TIMEOUT) => answer,
            () = replaced => Err(CallError::NoAnswer),
        };
        match answer {
            Ok(Response::Submit(result)) => result,
            Ok(_) => Err(SubmitFailure::Unknown("an answer of another kind".into())),
            Err(CallError::NotSent) => Err(SubmitFailure::NotLeader),
            Err(CallError::NoAnswer) => Err(SubmitFailure::Unknown(
                "the controller did not answer".into(),
            )),
        }
    }

    async fn applied(
        &self,
        committed: Committed,
        deadline: Instant,
    ) -> Result<Change, SubmitError> {
        let mut images = self.subscribe();
        let applied = images.wait_for(|image| image.applied_index >= committed.index);
        let left = deadline.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, applied).await {
            Ok(Ok(image)) => Ok(Change {
                image: image.clone(),
                answer: committed.answer,
            }),
            _ => Err(SubmitError::Unavailable(
                "committed, but not applied here yet".into(),
            )),
        }
    }
}
