//! The members of the quorum, and which of them vote.
//!
//! A process that is no member asks the leader to become one. The member votes if `controller.quorum.voters` names it
//! or an operator has added it, unless an operator has removed it. The operator's decision is a committed record, so
//! every later leader works towards the same voters. A new voter catches up before it votes, and takes the place of the
//! member that had its `node.id` before. A voter with an empty disk is a new member, so nobody relies on the promises
//! that it has forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::{ChangeMembers, ServerState};
use strandline_metadata::controller::Command;
use strandline_types::BrokerId;

use crate::node::Node;
use crate::rpc::{Request, Response, SubmitFailure, VoterChange, VoterRefusal};
use crate::types::{Member, NodeId};

/// How long a joining member may take to catch up before the attempt fails and is repeated.
const JOIN_TIMEOUT: Duration = Duration::from_secs(60);
const JOIN_RETRY: Duration = Duration::from_millis(200);
/// Between attempts to change the voters to the wanted ones.
const KEEP_RETRY: Duration = Duration::from_secs(1);

impl Node {
    fn should_vote(&self, member: &Member) -> bool {
        let image = self.image.borrow();
        let said = image.voters.get(&BrokerId(member.node_id)).copied();
        !member.address.is_empty()
            && said.unwrap_or_else(|| self.voters.contains_key(&member.node_id))
    }

    /// Makes a process a member, or updates the leader's record of a member. Only on the leader.
    pub async fn admit(&self, id: NodeId, member: Member) -> Result<(), String> {
        let _turn = self.joining.lock().await;
        if !self.leads_with_majority() {
            return Err("not the leader".into());
        }
        let membership = self.raft.metrics().borrow().membership_config.clone();
        let membership = membership.membership();
        let votes = self.should_vote(&member);
        let voters: BTreeSet<NodeId> = membership.voter_ids().collect();
        let failed = |e: &dyn std::fmt::Display| e.to_string();
        if let Some(known) = membership.get_node(&id) {
            if *known != member {
                let changed = ChangeMembers::SetNodes(BTreeMap::from([(id, member)]));
                self.raft
                    .change_membership(changed, true)
                    .await
                    .map_err(|e| failed(&e))?;
                return Ok(());
            }
            if voters.contains(&id) || !votes {
                return Ok(());
            }
        }
        let former: BTreeSet<NodeId> = membership
            .nodes()
            .filter(|(other, node)| **other != id && node.node_id == member.node_id)
            .map(|(other, _)| *other)
            .collect();
        if former.iter().any(|f| self.peers.link_to(*f).is_some()) {
            return Err(format!(
                "node.id {} is taken by a running process",
                member.node_id
            ));
        }
        let node_id = member.node_id;
        let adding = self.raft.add_learner(id, member, votes);
        tokio::time::timeout(JOIN_TIMEOUT, adding)
            .await
            .map_err(|e| failed(&e))?
            .map_err(|e| failed(&e))?;
        if votes {
            let mut next: BTreeSet<NodeId> = voters.difference(&former).copied().collect();
            next.insert(id);
            self.raft
                .change_membership(next, false)
                .await
                .map_err(|e| failed(&e))?;
            tracing::info!(node_id, replaced = ?former, "a voter has joined the quorum");
        }
        let left: BTreeSet<NodeId> = former.difference(&voters).copied().collect();
        if !left.is_empty() {
            self.raft
                .change_membership(ChangeMembers::RemoveNodes(left), false)
                .await
                .map_err(|e| failed(&e))?;
        }
        Ok(())
    }

    /// Asks for membership as long as this process is no member, the recorded member differs from it, or it should vote
    /// and does not.
    pub async fn join(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(JOIN_RETRY) => {}
            }
            let membership = self.raft.metrics().borrow().membership_config.clone();
            let membership = membership.membership();
            let known = membership.get_node(&self.id) == Some(&self.member);
            let votes = membership.voter_ids().any(|v| v == self.id);
            if known && (votes || !self.should_vote(&self.member)) {
                continue;
            }
            if self.leads() {
                if let Err(reason) = self.admit(self.id, self.member.clone()).await {
                    tracing::debug!(%reason, "the quorum has not recorded this member yet");
                }
                continue;
            }
            for link in self.peers.links() {
                let request = Request::Join(self.id, self.member.clone());
                match link.call(request, JOIN_TIMEOUT).await {
                    Ok(Response::Join(Ok(()))) => break,
                    Ok(Response::Join(Err(reason))) => {
                        tracing::debug!(%reason, "the quorum has not admitted this member yet");
                    }
                    _ => {}
                }
            }
        }
    }

    /// Adds or removes a voter, as the leader.
    pub async fn change_voter(&self, change: VoterChange) -> Result<(), VoterRefusal> {
        if !self.leads_with_majority() {
            return Err(VoterRefusal::NotLeader);
        }
        let work = async {
            let _turn = self.changing_voter.lock().await;
            let (id, member) = if change.votes {
                self.wait_for_member(change).await?
            } else {
                self.voter_to_remove(change)?
            };
            let command = Command::SetVoter {
                node_id: BrokerId(change.node_id),
                votes: change.votes,
            };
            self.decide(command)
                .await
                .map_err(|failure| match failure {
                    SubmitFailure::NotLeader => VoterRefusal::NotLeader,
                    SubmitFailure::Refused(refusal) => VoterRefusal::Invalid(refusal.to_string()),
                    SubmitFailure::Unknown(reason) => VoterRefusal::TimedOut(reason),
                })?;
            let changed = if change.votes {
                self.admit(id, member).await
            } else {
                self.dismiss(BTreeSet::from([id])).await
            };
            changed.map_err(VoterRefusal::TimedOut)
        };
        let late = |_| {
            let reason = format!("not done within {} ms", change.timeout.as_millis());
            VoterRefusal::TimedOut(reason)
        };
        let done = tokio::time::timeout(change.timeout, work).await;
        done.map_err(late)?
    }

    /// The controller that is to vote, once it has come.
    async fn wait_for_member(&self, change: VoterChange) -> Result<(NodeId, Member), VoterRefusal> {
        let mut metrics = self.raft.metrics();
        let meant = |member: &Member| {
            member.node_id == change.node_id && member.directory_id == change.directory_id
        };
        let came =
            metrics.wait_for(|m| m.membership_config.nodes().any(|(_, member)| meant(member)));
        // The whole waits no longer than the caller does.
        let came = came.await.map_err(|_| VoterRefusal::NotLeader)?;
        let membership = came.membership_config.membership();
        let (id, member) = membership
            .nodes()
            .find(|(_, member)| meant(member))
            .expect("it was just seen");
        if membership.voter_ids().any(|v| v == *id) {
            return Err(VoterRefusal::Duplicate(format!(
                "The voter id for {} is already part of the set of voters.",
                change.node_id
            )));
        }
        if member.address.is_empty() {
            return Err(VoterRefusal::Invalid(format!(
                "{} has no controller listener.",
                change.node_id
            )));
        }
        Ok((*id, member.clone()))
    }

    fn voter_to_remove(&self, change: VoterChange) -> Result<(NodeId, Member), VoterRefusal> {
        let metrics = self.raft.metrics().borrow().clone();
        let membership = metrics.membership_config.membership();
        let voters: Vec<(NodeId, Member)> = membership
            .voter_ids()
            .filter_map(|id| Some((id, membership.get_node(&id)?.clone())))
            .collect();
        let found = voters.iter().find(|(_, member)| {
            member.node_id == change.node_id && member.directory_id == change.directory_id
        });
        let Some(found) = found else {
            return Err(VoterRefusal::NotFound(format!(
                "Cannot remove voter {} with directory id {} from the set of voters.",
                change.node_id, change.directory_id
            )));
        };
        if voters.len() == 1 {
            let reason = "The last voter cannot be removed.";
            return Err(VoterRefusal::Invalid(reason.into()));
        }
        Ok(found.clone())
    }

    /// Takes their votes from members. Members that are connected stay as learners. The leader itself leaves altogether
    /// and comes back as a learner: openraft lets a leader lead for as long as it is a member of any kind.
    async fn dismiss(&self, ids: BTreeSet<NodeId>) -> Result<(), String> {
        let _turn = self.joining.lock().await;
        let mut metrics = self.raft.metrics();
        let voters: BTreeSet<NodeId> = {
            let state = metrics.borrow();
            state.membership_config.membership().voter_ids().collect()
        };
        let present = |id: &NodeId| self.peers.link_to(*id).is_some();
        let voting = ids.into_iter().filter(|id| voters.contains(id));
        let (stay, go): (BTreeSet<NodeId>, BTreeSet<NodeId>) = voting.partition(present);
        let leaves = go.contains(&self.id);
        for (ids, retain) in [(stay, true), (go, false)] {
            if ids.is_empty() {
                continue;
            }
            tracing::info!(members = ?ids, "voters leave the quorum");
            self.raft
                .change_membership(ChangeMembers::RemoveVoters(ids), retain)
                .await
                .map_err(|e| e.to_string())?;
        }
        if leaves {
            // The leader must change no member again until it has stepped down.
            let stepped_down = metrics.wait_for(|m| m.state != ServerState::Leader).await;
            stepped_down.map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// On the leader: finishes removals that an earlier leader began. Removed members lose their vote.
    pub async fn keep_voters(self: Arc<Self>) {
        let mut images = self.image.clone();
        loop {
            let state = self.raft.metrics().borrow().clone();
            if state.state == ServerState::Leader {
                let said = images.borrow_and_update().voters.clone();
                let membership = state.membership_config.membership();
                let unwanted = |id: &NodeId| {
                    let member = membership.get_node(id);
                    member.is_some_and(|m| said.get(&BrokerId(m.node_id)) == Some(&false))
                };
                let unwanted: BTreeSet<NodeId> = membership.voter_ids().filter(unwanted).collect();
                if !unwanted.is_empty()
                    && unwanted.len() < membership.voter_ids().count()
                    && let Err(reason) = self.dismiss(unwanted).await
                {
                    tracing::debug!(%reason, "voters are not removed yet");
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                changed = images.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(KEEP_RETRY) => {}
            }
        }
    }
}
