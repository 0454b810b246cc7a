//! Handles the answer to a fetch: each partition appends, truncates, begins its log again, or backs off.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use futures::future::join_all;
use kafka_protocol::messages as m;
use strandline_client::Connection;
use strandline_types::{LeaderEpoch, TopicId, TopicIdPartition};
use strandline_wire::ErrorCode;

use super::append::append;
use super::positions::is_throttled;
use super::round::{BACKOFF, Fetcher};
use super::truncation::{Cut, Truncation};
use crate::partition::{Partition, PartitionError};

/// A partition that a round works on, and the leader epoch that its request named.
#[derive(Clone)]
pub(super) struct Asked {
    pub partition: Arc<Partition>,
    pub leader_epoch: LeaderEpoch,
}

impl Fetcher {
    pub(super) async fn take(&mut self, response: m::FetchResponse, open: &mut Connection) {
        let mut asked = Vec::new();
        for topic in response.responses {
            for answer in topic.partitions {
                let id = TopicIdPartition {
                    topic_id: TopicId(topic.topic_id),
                    partition: answer.partition_index,
                };
                let (Some(partition), Some(told)) =
                    (self.followed.get(&id), self.session.told.get(&id))
                else {
                    continue;
                };
                self.session.changed.insert(id);
                let one = Asked {
                    partition: partition.clone(),
                    leader_epoch: told.leader_epoch,
                };
                asked.push((one, answer));
            }
        }
        let mut appends = Vec::new();
        let mut truncations = Vec::new();
        for (one, answer) in asked {
            let code =
                ErrorCode::from_code(answer.error_code).unwrap_or(ErrorCode::UnknownServerError);
            let diverging = Some(&answer.diverging_epoch).filter(|d| d.epoch >= 0);
            match code {
                ErrorCode::None => {
                    if let Some(diverging) = diverging {
                        let epoch = LeaderEpoch(diverging.epoch);
                        truncations.push(Truncation {
                            one,
                            cut: Cut::Diverging(epoch, diverging.end_offset),
                            leaders_log_start: answer.log_start_offset,
                        });
                    } else {
                        let bytes = answer.records.as_ref().map_or(0, Bytes::len);
                        let counter = &self.context.metrics.replication_bytes_in;
                        counter.fetch_add(bytes as u64, Ordering::Relaxed);
                        if bytes > 0 && is_throttled(&self.context, &one.partition) {
                            self.context.follower_throttle.spend(bytes);
                        }
                        appends.push(append(one, answer));
                    }
                }
                ErrorCode::OffsetMovedToTieredStorage | ErrorCode::OffsetOutOfRange => {
                    let began = self.begin_again(&one, code, &answer, open).await;
                    if let Err(error) = began {
                        self.does_not_follow(&one, &error);
                    }
                }
                // The leader epoch changed since the request was sent; ignore the error.
                _ if one.partition.role().leader_epoch != one.leader_epoch => {}
                code => self.leave_alone(&one, &code.to_string()),
            }
        }
        let failed: Vec<(Asked, PartitionError)> = join_all(appends)
            .await
            .into_iter()
            .filter_map(|(one, result)| Some((one, result.err()?)))
            .collect();
        for (one, error) in failed {
            // A change of roles is no failure.
            if error.code() == ErrorCode::NotLeaderOrFollower {
                self.leave_alone(&one, &error.to_string());
            } else {
                self.does_not_follow(&one, &error.to_string());
            }
        }
        self.truncate(truncations, open).await;
    }

    /// A replica that cannot take its leader's records never gets in sync, so the log must report it.
    fn does_not_follow(&mut self, one: &Asked, reason: &str) {
        if let Some(untold) = self.refused.note(one.partition.id(), Instant::now()) {
            tracing::warn!(partition = %one.partition.topic_partition, leader = %self.leader, %reason, untold, "a replica cannot follow its leader");
        }
        self.leave_alone(one, reason);
    }

    fn leave_alone(&mut self, one: &Asked, reason: &str) {
        tracing::debug!(partition = %one.partition.topic_partition, leader = %self.leader, %reason, "the partition is fetched again after a back-off");
        self.backoff
            .insert(one.partition.id(), Instant::now() + BACKOFF);
    }
}
