//! A partition's leader and in-sync sets: how they change when replicas come, go or fall behind.
//!
//! Every change goes through [`PartitionChange::finish`], which ends reassignments whose targets are in sync, elects a
//! new leader where the old one cannot continue, and keeps the eligible leader replicas (KIP-966). A replica that left
//! the ISR while it was below `min.insync.replicas` has every committed record, because the high watermark did not move
//! from then on.

use serde::{Deserialize, Serialize};
use strandline_types::{
    BrokerEpoch, BrokerId, LeaderEpoch, PartitionId, TopicIdPartition, TopicPartition,
};

use super::{Answer, ControllerContext, Decision, Refusal};
use crate::config::TopicConfig;
use crate::image::{BrokerImage, ClusterImage, PartitionImage, TopicImage};
use crate::record::MetadataRecord;

/// The part of a topic's configuration that decides about leaders.
#[derive(Clone, Copy, Debug)]
pub(super) struct TopicRules {
    pub min_insync_replicas: usize,
    pub unclean_election: bool,
    /// Every replica flushes records before it vouches for them, so a killed process has lost nothing.
    pub flushed: bool,
}

impl TopicRules {
    pub fn of(image: &ClusterImage, context: &ControllerContext, topic: &TopicImage) -> Self {
        let config = TopicConfig::resolve(image.topic_configs(&topic.name), &context.broker);
        Self {
            min_insync_replicas: config.min_insync_replicas.max(1) as usize,
            unclean_election: config.unclean_leader_election_enable,
            flushed: config.flush_messages == 1,
        }
    }
}

/// A partition on its way to its next state.
pub(super) struct PartitionChange<'a> {
    pub state: PartitionImage,
    before: &'a PartitionImage,
    rules: TopicRules,
    is_active: &'a dyn Fn(BrokerId) -> bool,
    lost: Option<(BrokerId, Loss)>,
    /// Replicas that lost everything and have not been in sync since.
    emptied: &'a [BrokerId],
    prefers_first: bool,
}

/// The loss of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// The records that the replica had not flushed when its process or machine died.
    Unflushed,
    /// All records: its disk is another one.
    Everything,
}

impl<'a> PartitionChange<'a> {
    pub fn new(
        before: &'a PartitionImage,
        rules: TopicRules,
        is_active: &'a dyn Fn(BrokerId) -> bool,
        emptied: &'a [BrokerId],
    ) -> Self {
        Self {
            state: before.clone(),
            before,
            rules,
            is_active,
            lost: None,
            emptied,
            prefers_first: false,
        }
    }

    /// An operator wants a leader even at the price of data.
    pub fn electing_uncleanly(mut self) -> Self {
        self.rules.unclean_election = true;
        self
    }

    /// The preferred replica takes over from a leader that is well.
    pub fn electing_preferred(mut self) -> Self {
        self.prefers_first = true;
        self
    }

    /// Whether the replica may lead as far as its broker and disk are concerned.
    fn is_usable(&self, id: BrokerId) -> bool {
        (self.is_active)(id) && !self.state.offline_replicas.contains(&id)
    }

    /// Takes a replica out of the ISR; it stays eligible where the rules keep it so.
    pub fn leave_isr(&mut self, id: BrokerId) {
        self.state.isr.retain(|r| *r != id);
    }

    /// The replica has lost data, or may have: it is not eligible any more. A replica that lost unflushed records may
    /// still lead as the last known leader. A replica that lost everything leads only if an operator says so.
    pub fn forget(&mut self, id: BrokerId, loss: Loss) {
        self.leave_isr(id);
        self.state.eligible_leader_replicas.retain(|r| *r != id);
        self.lost = Some((id, loss));
    }

    /// The next state with its epochs; `None` where nothing changed.
    fn finish(mut self) -> Option<PartitionImage> {
        self.finish_reassignment();
        let replicas = &self.state.replicas;
        self.state.offline_replicas.retain(|r| replicas.contains(r));
        self.keep_eligible();
        self.elect();
        if self.state.leader != self.before.leader {
            self.state.leader_epoch = LeaderEpoch(self.before.leader_epoch.0 + 1);
        }
        if self.state == *self.before {
            return None;
        }
        self.state.partition_epoch = self.before.partition_epoch + 1;
        Some(self.state)
    }

    /// The next state as a record of the partition.
    pub fn finish_as_record(
        self,
        topic: &TopicImage,
        partition: PartitionId,
    ) -> Option<MetadataRecord> {
        let state = self.finish()?;
        Some(MetadataRecord::Partition {
            topic_id: topic.id,
            partition,
            state,
        })
    }

    /// A reassignment ends when every replica that is to stay is in sync.
    fn finish_reassignment(&mut self) {
        if !self.state.is_reassigning() {
            return;
        }
        let target = self.state.target_replicas();
        if target.is_empty() || !target.iter().all(|r| self.state.isr.contains(r)) {
            return;
        }
        self.state.isr.retain(|r| target.contains(r));
        self.state
            .eligible_leader_replicas
            .retain(|r| target.contains(r));
        self.state.replicas = target;
        self.state.adding_replicas.clear();
        self.state.removing_replicas.clear();
    }

    fn keep_eligible(&mut self) {
        let state = &mut self.state;
        let min = self.rules.min_insync_replicas.min(state.replicas.len());
        if state.isr.len() >= min {
            state.eligible_leader_replicas.clear();
            return;
        }
        for id in &self.before.isr {
            let left = !state.isr.contains(id) && state.replicas.contains(id);
            if left
                && self.lost.is_none_or(|(lost, _)| lost != *id)
                && !state.eligible_leader_replicas.contains(id)
            {
                state.eligible_leader_replicas.push(*id);
            }
        }
        let isr = &state.isr;
        state.eligible_leader_replicas.retain(|r| !isr.contains(r));
    }

    fn elect(&mut self) {
        let stays = self
            .state
            .leader
            .is_some_and(|l| self.state.isr.contains(&l) && self.is_usable(l));
        if stays && !self.prefers_first {
            return;
        }
        let order = self.state.target_replicas();
        let first = |set: &[BrokerId]| {
            order
                .iter()
                .chain(set)
                .find(|r| set.contains(r) && self.is_usable(**r))
                .copied()
        };
        if let Some(leader) = first(&self.state.isr) {
            self.state.leader = Some(leader);
        } else if let Some(leader) = first(&self.state.eligible_leader_replicas) {
            self.lead_alone(leader);
        } else if let Some(leader) = self
            .last_known()
            .or_else(|| self.any_of(&order).filter(|_| self.rules.unclean_election))
        {
            self.lead_alone(leader);
            self.state.leader_recovering = true;
        } else {
            // Recorded as soon as the partition has no leader: the replicas that are still eligible may be forgotten
            // one by one.
            let last = self.state.leader.or(self.state.last_known_leader);
            self.state.last_known_leader =
                last.filter(|l| self.lost != Some((*l, Loss::Everything)));
            self.state.leader = None;
        }
        if self.state.leader.is_some() {
            self.state.last_known_leader = None;
        }
    }

    /// The first replica that can lead, in sync or not. Replicas that lost everything come last.
    fn any_of(&self, order: &[BrokerId]) -> Option<BrokerId> {
        let is_empty =
            |r: BrokerId| self.emptied.contains(&r) || self.lost == Some((r, Loss::Everything));
        let usable = || order.iter().copied().filter(|r| self.is_usable(*r));
        usable().find(|r| !is_empty(*r)).or_else(|| usable().next())
    }

    /// The last leader, where no eligible replica is remembered.
    fn last_known(&self) -> Option<BrokerId> {
        let nobody = self.state.isr.is_empty() && self.state.eligible_leader_replicas.is_empty();
        self.state
            .last_known_leader
            .filter(|l| nobody && self.is_usable(*l) && self.state.replicas.contains(l))
    }

    fn lead_alone(&mut self, leader: BrokerId) {
        self.state.isr = vec![leader];
        self.state.eligible_leader_replicas.retain(|r| *r != leader);
        self.state.leader = Some(leader);
    }
}

/// The in-sync set that a leader asks for (`AlterPartition`).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IsrChange {
    pub partition: TopicIdPartition,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: i32,
    /// The new ISR, with the incarnation of each broker as the leader has seen it fetch.
    pub new_isr: Vec<(BrokerId, BrokerEpoch)>,
    /// The leader, elected uncleanly, is done recovering.
    pub recovered: bool,
}

/// Decides about each change; the answer has a result for each, in order.
pub(super) fn alter_isr(
    image: &ClusterImage,
    context: &ControllerContext,
    broker: BrokerId,
    broker_epoch: BrokerEpoch,
    changes: &[IsrChange],
) -> Result<Decision, Refusal> {
    check_broker_epoch(image, broker, broker_epoch)?;
    let mut records = Vec::new();
    let results = changes
        .iter()
        .map(|change| {
            let next = alter_one(image, context, broker, change)?;
            records.extend(next);
            Ok(())
        })
        .collect();
    Ok(Decision {
        records,
        answer: Answer::Results(results),
    })
}

/// The broker, if the request comes from its registered incarnation.
pub(super) fn check_broker_epoch(
    image: &ClusterImage,
    id: BrokerId,
    epoch: BrokerEpoch,
) -> Result<&BrokerImage, Refusal> {
    let broker = image.brokers.get(&id).filter(|b| b.epoch == epoch);
    broker.ok_or(Refusal::StaleBrokerEpoch(id))
}

/// A partition with its topic, by name.
pub(super) fn find<'a>(
    image: &'a ClusterImage,
    tp: &TopicPartition,
) -> Result<(&'a TopicImage, &'a PartitionImage), Refusal> {
    let unknown = |what: String| Refusal::NoSuchPartition(format!("No such {what}"));
    let topic = image.topic(&tp.topic);
    let topic = topic.ok_or_else(|| unknown(format!("topic as {}", tp.topic)))?;
    let partition = topic.partitions.get(&tp.partition);
    let partition = partition.ok_or_else(|| unknown(format!("partition as {tp}")))?;
    Ok((topic, partition))
}

fn alter_one(
    image: &ClusterImage,
    context: &ControllerContext,
    broker: BrokerId,
    change: &IsrChange,
) -> Result<Option<MetadataRecord>, Refusal> {
    let tp = change.partition;
    let topic = image
        .topic_by_id(tp.topic_id)
        .ok_or(Refusal::UnknownTopicId)?;
    let partition = topic
        .partitions
        .get(&tp.partition)
        .ok_or(Refusal::UnknownTopic)?;
    let fenced = |what: &str| {
        Refusal::Fenced(format!(
            "{tp}: {what} of broker {broker} is not the current one"
        ))
    };
    if change.leader_epoch > partition.leader_epoch
        || change.partition_epoch > partition.partition_epoch
    {
        return Err(Refusal::NotController);
    }
    if change.leader_epoch < partition.leader_epoch {
        return Err(fenced("the leader epoch"));
    }
    if partition.leader != Some(broker) {
        return Err(Refusal::InvalidRequest(format!(
            "broker {broker} does not lead {tp}"
        )));
    }
    if change.partition_epoch < partition.partition_epoch {
        return Err(Refusal::InvalidUpdateVersion);
    }
    let isr: Vec<BrokerId> = change.new_isr.iter().map(|(id, _)| *id).collect();
    let known = isr.iter().all(|r| partition.replicas.contains(r));
    if !isr.contains(&broker) || !known {
        return Err(Refusal::InvalidRequest(format!(
            "{isr:?} is no in-sync set of {tp} under broker {broker}"
        )));
    }
    if partition.leader_recovering && !change.recovered && isr.len() > 1 {
        return Err(Refusal::InvalidRequest(
            "a recovering leader is the only one in sync".into(),
        ));
    }
    for (id, epoch) in &change.new_isr {
        let current = image.brokers.get(id).map(|b| b.epoch);
        let joins = !partition.isr.contains(id);
        let offline = partition.offline_replicas.contains(id);
        if current != Some(*epoch) || offline || joins && !image.is_active(*id) {
            return Err(Refusal::IneligibleReplica(*id));
        }
    }
    let is_active = |id| image.is_active(id);
    let rules = TopicRules::of(image, context, topic);
    let lost = image.lost_replicas(tp);
    let mut next = PartitionChange::new(partition, rules, &is_active, lost);
    next.state.isr = isr;
    if change.recovered {
        next.state.leader_recovering = false;
    }
    Ok(next.finish_as_record(topic, tp.partition))
}

/// Changes every partition for which `change` has something to say.
pub(super) fn change_partitions(
    image: &ClusterImage,
    context: &ControllerContext,
    concerns: impl Fn(&PartitionImage) -> bool,
    is_active: &dyn Fn(BrokerId) -> bool,
    change: impl Fn(&TopicRules, &mut PartitionChange<'_>),
) -> Vec<MetadataRecord> {
    let mut records = Vec::new();
    for topic in image.topics() {
        let mut rules = None;
        for (number, partition) in topic.partitions.iter().filter(|(_, p)| concerns(p)) {
            let rules = *rules.get_or_insert_with(|| TopicRules::of(image, context, topic));
            let lost = image.lost_replicas(TopicIdPartition {
                topic_id: topic.id,
                partition: *number,
            });
            let mut next = PartitionChange::new(partition, rules, is_active, lost);
            change(&rules, &mut next);
            records.extend(next.finish_as_record(topic, *number));
        }
    }
    records
}

/// Which election an operator asks for (`ElectLeaders`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ElectionKind {
    Preferred,
    Unclean,
}

/// Elects leaders of the given partitions, of all where none is given. The answer names each with its result; without a
/// choice of partitions, those that needed no election are left out.
pub(super) fn elect_leaders(
    image: &ClusterImage,
    context: &ControllerContext,
    kind: ElectionKind,
    partitions: Option<&[TopicPartition]>,
) -> Decision {
    let all: Vec<TopicPartition>;
    let asked = if let Some(given) = partitions {
        given
    } else {
        let names = image.topics().flat_map(|t| {
            t.partitions
                .keys()
                .map(|p| TopicPartition::new(t.name.clone(), *p))
        });
        all = names.collect();
        &all
    };
    let mut records = Vec::new();
    let mut results = Vec::new();
    for tp in asked {
        let result = elect_one(image, context, kind, tp);
        let needless = matches!(result, Err(Refusal::ElectionNotNeeded));
        if partitions.is_none() && needless {
            continue;
        }
        results.push((tp.clone(), result.map(|record| records.push(record))));
    }
    Decision {
        records,
        answer: Answer::Elections(results),
    }
}

fn elect_one(
    image: &ClusterImage,
    context: &ControllerContext,
    kind: ElectionKind,
    tp: &TopicPartition,
) -> Result<MetadataRecord, Refusal> {
    let (topic, partition) = find(image, tp)?;
    let is_active = |id| image.is_active(id);
    let lost = image.lost_replicas(TopicIdPartition {
        topic_id: topic.id,
        partition: tp.partition,
    });
    let rules = TopicRules::of(image, context, topic);
    let change = PartitionChange::new(partition, rules, &is_active, lost);
    let change = match kind {
        ElectionKind::Preferred => {
            let preferred = partition.replicas.first().copied();
            if partition.leader == preferred {
                return Err(Refusal::ElectionNotNeeded);
            }
            if !preferred.is_some_and(|p| partition.isr.contains(&p) && change.is_usable(p)) {
                return Err(Refusal::PreferredLeaderNotAvailable);
            }
            change.electing_preferred()
        }
        ElectionKind::Unclean => {
            if partition.leader.is_some() {
                return Err(Refusal::ElectionNotNeeded);
            }
            change.electing_uncleanly()
        }
    };
    let elected = change.finish_as_record(topic, tp.partition);
    let leads = |r: &MetadataRecord| matches!(r, MetadataRecord::Partition { state, .. } if state.leader.is_some());
    elected
        .filter(leads)
        .ok_or(Refusal::EligibleLeadersNotAvailable)
}

/// Partitions that should be led by their preferred replica and are not, where a broker's share of those is above
/// `leader.imbalance.per.broker.percentage`.
pub fn imbalanced_partitions(image: &ClusterImage, most_percent: i64) -> Vec<TopicPartition> {
    use std::collections::BTreeMap;
    let mut preferred: BTreeMap<BrokerId, (i64, Vec<TopicPartition>)> = BTreeMap::new();
    for topic in image.topics() {
        for (number, partition) in &topic.partitions {
            let Some(first) = partition.replicas.first() else {
                continue;
            };
            let (count, elsewhere) = preferred.entry(*first).or_default();
            *count += 1;
            if partition.leader.is_some_and(|l| l != *first) {
                let usable = partition.isr.contains(first) && image.is_active(*first);
                if usable && !partition.offline_replicas.contains(first) {
                    elsewhere.push(TopicPartition::new(topic.name.clone(), *number));
                }
            }
        }
    }
    preferred
        .into_values()
        .filter(|(count, elsewhere)| elsewhere.len() as i64 * 100 > count * most_percent)
        .flat_map(|(_, elsewhere)| elsewhere)
        .collect()
}
