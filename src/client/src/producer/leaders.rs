//! Finds the leaders of the partitions that the producer writes to.

use std::time::Instant;

use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use strandline_wire::ErrorCode;

use super::Shared;
use crate::error::{ClientError, check};

impl Shared {
    /// Learns a topic's partitions; one that is missing may be created by the broker.
    pub(super) async fn learn(&self, topic: &str) -> Result<(), ClientError> {
        let began = Instant::now();
        loop {
            let named = [topic.to_owned()];
            let answer = self.cluster.metadata_creating(&named).await?;
            let found = answer.topics.into_iter().next();
            if let Some(found) = found {
                let code = ErrorCode::from_code(found.error_code);
                if code == Some(ErrorCode::None) && !found.partitions.is_empty() {
                    self.lock().note_leaders(topic, &leaders(&found));
                    return Ok(());
                }
                if !code.unwrap_or(ErrorCode::UnknownServerError).is_retriable() {
                    return check(topic, found.error_code, None);
                }
            }
            if began.elapsed() > self.options.max_block {
                let waited = self.options.max_block.as_millis();
                return Err(ClientError::Broker {
                    what: topic.to_owned(),
                    code: ErrorCode::UnknownTopicOrPartition,
                    message: Some(format!(
                        "Topic {topic} not present in metadata after {waited} ms."
                    )),
                });
            }
            tokio::time::sleep(self.options.retry_backoff).await;
        }
    }

    /// Fetches the metadata again, to find the leaders.
    pub(super) async fn refresh(&self) {
        let names: Vec<String> = {
            let mut accumulator = self.lock();
            if !std::mem::take(&mut accumulator.stale) {
                return;
            }
            accumulator.topics().map(str::to_owned).collect()
        };
        match self.cluster.metadata(Some(&names)).await {
            Ok(answer) => {
                for topic in &answer.topics {
                    if let Some(name) = &topic.name
                        && topic.error_code == 0
                    {
                        self.lock().note_leaders(name.as_str(), &leaders(topic));
                    }
                }
            }
            Err(_) => self.lock().stale = true,
        }
    }
}

/// A topic's partitions with their leaders.
fn leaders(topic: &MetadataResponseTopic) -> Vec<(i32, i32)> {
    let partitions = topic.partitions.iter();
    partitions
        .map(|p| (p.partition_index, p.leader_id.0))
        .collect()
}
