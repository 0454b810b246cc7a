//! `OffsetCommit`, `OffsetFetch`, `OffsetDelete`.

use kafka_protocol::messages as m;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use strandline_coordinator::{CommitPartition, MemberIdentity, OffsetAndMetadata, Reply};
use strandline_metadata::{ClusterImage, TopicImage};
use strandline_types::{TopicId, TopicPartition};
use strandline_wire::by_topic_id::{BY_ID, id_of};
use strandline_wire::{ErrorCode, StrBytes};

use super::super::{Call, text};
use super::{ask, failure, home, optional, string};
use crate::clock::now_ms;

/// The topics of a request that names them, and since version 10 by their ids.
struct Topics<'a> {
    image: &'a ClusterImage,
    by_id: bool,
}

impl<'a> Topics<'a> {
    fn of(call: &Call, image: &'a ClusterImage) -> Self {
        let by_id = call.version >= BY_ID;
        Self { image, by_id }
    }

    fn find(&self, named: &str) -> Result<&'a TopicImage, ErrorCode> {
        if self.by_id {
            let found = self.image.topic_by_id(TopicId(id_of(named)));
            found.map(|t| &**t).ok_or(ErrorCode::UnknownTopicId)
        } else {
            let found = self.image.topic(named);
            found
                .map(|t| &**t)
                .ok_or(ErrorCode::UnknownTopicOrPartition)
        }
    }

    /// A topic as the answer names it; `None` where it has no id any more.
    fn named(&self, name: &str) -> Option<m::TopicName> {
        if !self.by_id {
            return Some(m::TopicName(text(name)));
        }
        let id = self.image.topic(name)?.id.0;
        Some(m::TopicName(text(id.to_string())))
    }
}

/// A partition, and its code where that is known without the coordinator.
type KnownCode = (i32, Option<ErrorCode>);

pub async fn offset_commit(
    call: &Call,
    request: m::OffsetCommitRequest,
) -> m::OffsetCommitResponse {
    let group = request.group_id.to_string();
    let member = MemberIdentity {
        member_id: string(&request.member_id),
        instance_id: optional(request.group_instance_id.as_ref()),
        generation: request.generation_id_or_member_epoch,
    };
    let image = call.context.quorum.image();
    let topics = Topics::of(call, &image);
    let now = now_ms();
    // Versions 2 to 4 may name a retention of their own.
    let retention_ms = request.retention_time_ms;
    let expires = (retention_ms >= 0).then(|| now.saturating_add(retention_ms));
    let mut commits = Vec::new();
    // One entry for each partition, in the order of the request: an error code that is known already, or `None` where
    // the coordinator decides.
    let mut known: Vec<(m::TopicName, Vec<KnownCode>)> = Vec::new();
    for topic in request.topics {
        let mut partitions = Vec::new();
        let found = topics.find(&topic.name);
        for p in topic.partitions {
            let here = found.and_then(|t| {
                let known = t.partitions.contains_key(&p.partition_index);
                known.then_some(t).ok_or(ErrorCode::UnknownTopicOrPartition)
            });
            partitions.push((p.partition_index, here.err()));
            if let Ok(found) = here {
                commits.push(CommitPartition {
                    topic: found.name.to_string(),
                    partition: p.partition_index,
                    offset: OffsetAndMetadata {
                        offset: p.committed_offset,
                        leader_epoch: p.committed_leader_epoch,
                        metadata: p
                            .committed_metadata
                            .as_ref()
                            .map(string)
                            .unwrap_or_default(),
                        commit_timestamp_ms: now,
                        expire_timestamp_ms: expires,
                    },
                });
            }
        }
        known.push((topic.name, partitions));
    }
    let count = commits.len();
    let asked = group.clone();
    // Before version 9, clients do not know that a group may be missing.
    let known_to_client = |code| match code {
        ErrorCode::GroupIdNotFound if call.version < 9 => ErrorCode::IllegalGeneration,
        other => other,
    };
    let mut decided = if count == 0 {
        Vec::new()
    } else {
        match ask(call, &group, move |c, token, now| {
            c.commit_offsets(token, &asked, &member, commits, now)
        })
        .await
        {
            Ok(Reply::OffsetCommit(codes)) => codes,
            other => vec![failure(other); count],
        }
    }
    .into_iter()
    .map(known_to_client);
    let topics = known.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, code)| {
            let code = code
                .or_else(|| decided.next())
                .unwrap_or(ErrorCode::UnknownServerError);
            OffsetCommitResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(code.code())
        });
        OffsetCommitResponseTopic::default()
            .with_name(name)
            .with_partitions(partitions.collect())
    });
    m::OffsetCommitResponse::default().with_topics(topics.collect())
}

/// Topics and partitions of one group in the order of the request; `None` asks for everything.
type Wanted = Option<Vec<(m::TopicName, Vec<i32>)>>;
type Committed = Vec<(m::TopicName, Vec<(i32, Option<OffsetAndMetadata>)>)>;

async fn committed(call: &Call, group: &str, wanted: Wanted) -> Result<Committed, ErrorCode> {
    let partition = home(call, group)?;
    let asked = group.to_owned();
    let query = move |c: &strandline_coordinator::GroupCoordinator| {
        if let Some(topics) = wanted {
            topics
                .into_iter()
                .map(|(name, partitions)| {
                    let found = partitions.into_iter().map(|p| {
                        (
                            p,
                            c.offset(&asked, &TopicPartition::new(name.as_str(), p))
                                .cloned(),
                        )
                    });
                    let found = found.collect();
                    (name, found)
                })
                .collect()
        } else {
            let mut all: Committed = Vec::new();
            for (tp, offset) in c.offsets(&asked) {
                let entry = (tp.partition, Some(offset.clone()));
                match all.last_mut() {
                    Some((name, partitions)) if name.as_str() == &*tp.topic => {
                        partitions.push(entry);
                    }
                    _ => all.push((m::TopicName(text(tp.topic.to_string())), vec![entry])),
                }
            }
            all
        }
    };
    call.context.groups.query(partition, query).await
}

pub async fn offset_fetch(call: &Call, request: m::OffsetFetchRequest) -> m::OffsetFetchResponse {
    if call.version >= 8 {
        let image = call.context.quorum.image();
        let known = Topics::of(call, &image);
        let mut groups = Vec::new();
        for asked in request.groups {
            // Topics whose ids nobody has are not asked for.
            let mut unknown = Vec::new();
            let wanted = asked.topics.map(|topics| {
                let mut wanted = Vec::new();
                for topic in topics {
                    match known.find(&topic.name) {
                        Err(code) if known.by_id => unknown.push((topic, code)),
                        Ok(found) if known.by_id => {
                            let name = m::TopicName(text(found.name.to_string()));
                            wanted.push((name, topic.partition_indexes));
                        }
                        _ => wanted.push((topic.name, topic.partition_indexes)),
                    }
                }
                wanted
            });
            let answer = OffsetFetchResponseGroup::default().with_group_id(asked.group_id.clone());
            groups.push(match committed(call, &asked.group_id, wanted).await {
                Ok(found) => {
                    let found = found.into_iter().filter_map(|(name, partitions)| {
                        let partitions = partitions.into_iter().map(|(index, offset)| {
                            let (offset, epoch, metadata) = parts(offset);
                            OffsetFetchResponsePartitions::default()
                                .with_partition_index(index)
                                .with_committed_offset(offset)
                                .with_committed_leader_epoch(epoch)
                                .with_metadata(Some(text(metadata)))
                        });
                        let topic = OffsetFetchResponseTopics::default()
                            .with_name(known.named(&name)?)
                            .with_partitions(partitions.collect());
                        Some(topic)
                    });
                    let unknown = unknown.into_iter().map(|(topic, code)| {
                        let partitions = topic.partition_indexes.into_iter().map(|index| {
                            OffsetFetchResponsePartitions::default()
                                .with_partition_index(index)
                                .with_committed_offset(-1)
                                .with_metadata(Some(StrBytes::default()))
                                .with_error_code(code.code())
                        });
                        OffsetFetchResponseTopics::default()
                            .with_name(topic.name)
                            .with_partitions(partitions.collect())
                    });
                    answer.with_topics(found.chain(unknown).collect())
                }
                Err(code) => answer.with_error_code(code.code()),
            });
        }
        return m::OffsetFetchResponse::default().with_groups(groups);
    }
    let wanted = request.topics.map(|topics| {
        topics
            .into_iter()
            .map(|t| (t.name, t.partition_indexes))
            .collect::<Vec<_>>()
    });
    match committed(call, &request.group_id, wanted.clone()).await {
        Ok(found) => {
            let topics = found.into_iter().map(|(name, partitions)| {
                let partitions = partitions.into_iter().map(|(index, offset)| {
                    let (offset, epoch, metadata) = parts(offset);
                    OffsetFetchResponsePartition::default()
                        .with_partition_index(index)
                        .with_committed_offset(offset)
                        .with_committed_leader_epoch(epoch)
                        .with_metadata(Some(text(metadata)))
                });
                OffsetFetchResponseTopic::default()
                    .with_name(name)
                    .with_partitions(partitions.collect())
            });
            m::OffsetFetchResponse::default().with_topics(topics.collect())
        }
        Err(code) if call.version >= 2 => {
            m::OffsetFetchResponse::default().with_error_code(code.code())
        }
        Err(code) => {
            // Version 1 has no error of its own; every partition carries it.
            let topics = wanted
                .unwrap_or_default()
                .into_iter()
                .map(|(name, partitions)| {
                    let partitions = partitions.into_iter().map(|index| {
                        OffsetFetchResponsePartition::default()
                            .with_partition_index(index)
                            .with_committed_offset(-1)
                            .with_metadata(Some(StrBytes::default()))
                            .with_error_code(code.code())
                    });
                    OffsetFetchResponseTopic::default()
                        .with_name(name)
                        .with_partitions(partitions.collect())
                });
            m::OffsetFetchResponse::default().with_topics(topics.collect())
        }
    }
}

fn parts(offset: Option<OffsetAndMetadata>) -> (i64, i32, String) {
    offset.map_or((-1, -1, String::new()), |o| {
        (o.offset, o.leader_epoch, o.metadata)
    })
}

pub async fn offset_delete(
    call: &Call,
    request: m::OffsetDeleteRequest,
) -> m::OffsetDeleteResponse {
    let group = request.group_id.to_string();
    let refuse = |code: ErrorCode| m::OffsetDeleteResponse::default().with_error_code(code.code());
    if group.is_empty() {
        return refuse(ErrorCode::InvalidGroupId);
    }
    let image = call.context.quorum.image();
    let exists = |topic: &str, partition: i32| {
        let topic = image.topic(topic);
        topic.is_some_and(|t| t.partitions.contains_key(&partition))
    };
    let mut known = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let partition = partition.partition_index;
            if exists(&topic.name, partition) {
                known.push(TopicPartition::new(topic.name.as_str(), partition));
            }
        }
    }
    // As in Kafka, a group is not asked about partitions that do not exist.
    let codes = if known.is_empty() {
        Vec::new()
    } else {
        let asked = group.clone();
        let reply = ask(call, &group, move |c, token, _| {
            c.delete_offsets(token, &asked, &known)
        });
        match reply.await {
            Ok(Reply::OffsetDelete(ErrorCode::None, codes)) => codes,
            Ok(Reply::OffsetDelete(error, _)) => return refuse(error),
            other => return refuse(failure(other)),
        }
    };
    let mut codes = codes.into_iter();
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|p| {
            let code = if exists(&topic.name, p.partition_index) {
                codes.next().unwrap_or(ErrorCode::UnknownServerError)
            } else {
                ErrorCode::UnknownTopicOrPartition
            };
            OffsetDeleteResponsePartition::default()
                .with_partition_index(p.partition_index)
                .with_error_code(code.code())
        });
        let partitions = partitions.collect();
        OffsetDeleteResponseTopic::default()
            .with_name(topic.name)
            .with_partitions(partitions)
    });
    m::OffsetDeleteResponse::default().with_topics(topics.collect())
}
