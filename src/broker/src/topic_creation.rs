//! Topics that a broker creates by itself: the one that groups are kept in, and those whose metadata a client asked for.

use std::collections::BTreeMap;

use strandline_metadata::controller::{Command, NewTopic, Refusal};
use strandline_quorum::SubmitError;
use strandline_types::{OFFSETS_TOPIC, TopicId, is_internal_topic};
use strandline_wire::ErrorCode;
use uuid::Uuid;

use crate::context::BrokerContext;
use crate::refusal_codes::submit_error;

impl BrokerContext {
    /// Creates a topic because a client asked for its metadata (`auto.create.topics.enable`).
    pub async fn create_automatically(&self, name: &str) -> Result<(), ErrorCode> {
        if name == OFFSETS_TOPIC {
            return self.ensure_offsets_topic().await;
        }
        if is_internal_topic(name) {
            // A topic with an ordinary configuration would lose records that a coordinator needs.
            return Err(ErrorCode::UnknownTopicOrPartition);
        }
        self.create(NewTopic {
            name: name.to_owned(),
            id: TopicId(Uuid::new_v4()),
            partitions: -1,
            replication_factor: -1,
            assignments: BTreeMap::new(),
            configs: BTreeMap::new(),
        })
        .await
    }

    /// Makes sure that groups have a home.
    pub async fn ensure_offsets_topic(&self) -> Result<(), ErrorCode> {
        let image = self.quorum.image();
        if image.topic(OFFSETS_TOPIC).is_some() {
            return Ok(());
        }
        let config = self.config();
        let wanted = config.number("offsets.topic.replication.factor") as usize;
        let configs = [
            ("cleanup.policy", "compact".to_owned()),
            ("compression.type", "producer".to_owned()),
            (
                "segment.bytes",
                config.number("offsets.topic.segment.bytes").to_string(),
            ),
        ];
        self.create(NewTopic {
            name: OFFSETS_TOPIC.to_owned(),
            id: TopicId(Uuid::new_v4()),
            partitions: config.number("offsets.topic.num.partitions") as i32,
            // A cluster smaller than the factor gets as many replicas as it has brokers.
            replication_factor: wanted.min(image.brokers.len()).max(1) as i16,
            assignments: BTreeMap::new(),
            configs: configs
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v))
                .collect(),
        })
        .await
    }

    async fn create(&self, new: NewTopic) -> Result<(), ErrorCode> {
        let name = new.name.clone();
        match self.submit(Command::CreateTopic(new), false).await {
            Ok(_) | Err(SubmitError::Refused(Refusal::TopicExists(_))) => {
                self.wait_until_applied().await;
                Ok(())
            }
            Err(error) => {
                tracing::warn!(topic = %name, %error, "a topic was not created");
                Err(submit_error(&error).0)
            }
        }
    }
}
