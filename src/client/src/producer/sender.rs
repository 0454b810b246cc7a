//! Sends what the accumulator has ready, and hands the answers back to it.
//!
//! Requests to one broker are begun one after the other, each broker in a lane of its own, so that none waits for another
//! broker; their answers are awaited at the same time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use kafka_protocol::messages as m;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use strandline_wire::StrBytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::batch::Outgoing;
use super::numbering::Identity;
use super::options::Acks;
use super::{Finished, Shared};
use crate::error::{ClientError, check};

/// Newest version that names topics, not ids.
const PRODUCE_VERSION: i16 = 12;

/// The answer to a request under way; `None` where the broker gives none.
type Begun = BoxFuture<'static, Result<Option<m::ProduceResponse>, ClientError>>;

/// Sends until the task is aborted.
pub(super) async fn send_all(shared: Arc<Shared>) {
    let mut lanes: HashMap<i32, mpsc::UnboundedSender<Outgoing>> = HashMap::new();
    let mut running = JoinSet::new();
    loop {
        shared.refresh().await;
        let expired = shared.lock().expire(Instant::now());
        shared.deliver(expired);
        let work = shared.work.notified();
        let (requests, next) = shared.lock().take_ready(Instant::now());
        for request in requests {
            let lane = lanes.entry(request.leader).or_insert_with(|| {
                // The queue never holds more than the batches in flight.
                let (lane, queue) = mpsc::unbounded_channel();
                running.spawn(send_in_order(shared.clone(), queue));
                lane
            });
            let sent = lane.send(request);
            sent.unwrap_or_else(|_| unreachable!("a lane lives as long as its producer"));
        }
        let pause = next.map_or(Duration::from_secs(1), |at| {
            at.saturating_duration_since(Instant::now())
        });
        tokio::select! {
            () = work => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn send_in_order(shared: Arc<Shared>, mut queue: mpsc::UnboundedReceiver<Outgoing>) {
    let mut answers = JoinSet::new();
    while let Some(mut request) = queue.recv().await {
        match shared.begin_request(&mut request).await {
            Err(error) => shared.finish_request(request, Err(error)),
            Ok(answer) => {
                let shared = shared.clone();
                answers.spawn(async move {
                    let answer = answer.await;
                    shared.finish_request(request, answer);
                });
            }
        }
        while answers.try_join_next().is_some() {}
    }
}

impl Shared {
    /// Sends a request; returns the answer to come.
    async fn begin_request(&self, outgoing: &mut Outgoing) -> Result<Begun, ClientError> {
        if self.options.idempotent && self.options.acks == Acks::All {
            for sending in &mut outgoing.batches {
                let numbered = self.lock().number(sending, None);
                if !numbered {
                    let fresh = self.identity().await?;
                    self.lock().number(sending, Some(fresh));
                }
            }
        }
        let mut topics: BTreeMap<Arc<str>, Vec<PartitionProduceData>> = BTreeMap::new();
        for sending in &mut outgoing.batches {
            sending.batch.sent = true;
            let data = PartitionProduceData::default()
                .with_index(sending.partition)
                .with_records(Some(sending.batch.builder.build()));
            topics.entry(sending.topic.clone()).or_default().push(data);
        }
        let topics = topics.into_iter().map(|(name, partitions)| {
            TopicProduceData::default()
                .with_name(m::TopicName(StrBytes::from_string(name.to_string())))
                .with_partition_data(partitions)
        });
        let acks = match self.options.acks {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        };
        let limit = self.cluster.options.request_timeout;
        let request = m::ProduceRequest::default()
            .with_acks(acks)
            .with_timeout_ms(limit.as_millis() as i32)
            .with_topic_data(topics.collect());
        let channel = self.cluster.broker(outgoing.leader).await?;
        let version = channel
            .version_of::<m::ProduceRequest>()?
            .min(PRODUCE_VERSION);
        if acks == 0 {
            channel.tell_version(&request, version).await?;
            return Ok(Box::pin(async { Ok(None) }));
        }
        let answer = channel.begin(&request, version).await?;
        Ok(Box::pin(async move {
            let answered = tokio::time::timeout(limit, answer).await;
            let late = |_| channel.late::<m::ProduceRequest>(limit);
            answered.map_err(late)?.map(Some)
        }))
    }

    /// Asks the cluster for a producer id.
    async fn identity(&self) -> Result<Identity, ClientError> {
        let asking = || async {
            let request = m::InitProducerIdRequest::default()
                .with_transactional_id(None)
                .with_transaction_timeout_ms(i32::MAX)
                .with_producer_id(m::ProducerId(-1))
                .with_producer_epoch(-1);
            let answer = self.cluster.call_any("initProducerId", &request).await?;
            check("InitProducerId", answer.error_code, None)?;
            Ok(Identity {
                producer_id: answer.producer_id.0,
                epoch: answer.producer_epoch,
            })
        };
        self.cluster.retrying(asking).await
    }

    /// Takes the answer to a request apart.
    fn finish_request(
        &self,
        outgoing: Outgoing,
        answer: Result<Option<m::ProduceResponse>, ClientError>,
    ) {
        let leader = outgoing.leader;
        let mut results: HashMap<(String, i32), Result<i64, ClientError>> = HashMap::new();
        let mut failure = None;
        match answer {
            Ok(Some(response)) => {
                for topic in &response.responses {
                    for p in &topic.partition_responses {
                        let what = format!("{}-{}", topic.name.as_str(), p.index);
                        let told = check(&what, p.error_code, p.error_message.as_ref());
                        let key = (topic.name.to_string(), p.index);
                        results.insert(key, told.map(|()| p.base_offset));
                    }
                }
            }
            Ok(None) => {}
            Err(error) => failure = Some(error),
        }
        let unasked = self.options.acks == Acks::None && failure.is_none();
        let finished: Vec<Finished> = {
            let now = Instant::now();
            let mut accumulator = self.lock();
            accumulator.end_request(leader);
            let settled = outgoing.batches.into_iter().filter_map(|sending| {
                let key = (sending.topic.to_string(), sending.partition);
                let result = match (&failure, results.remove(&key)) {
                    (Some(error), _) => Err(again(error)),
                    (None, Some(result)) => result,
                    (None, None) if unasked => Ok(-1),
                    (None, None) => Err(ClientError::Decode {
                        address: leader.to_string(),
                        reason: "a partition is missing in the answer".into(),
                    }),
                };
                accumulator.settle(sending, result, now)
            });
            settled.collect()
        };
        self.deliver(finished);
        self.work.notify_one();
    }
}

/// The same error for another batch of the same request.
fn again(error: &ClientError) -> ClientError {
    match error {
        ClientError::Broker {
            what,
            code,
            message,
        } => ClientError::Broker {
            what: what.clone(),
            code: *code,
            message: message.clone(),
        },
        ClientError::Io { address, source } => ClientError::Io {
            address: address.clone(),
            source: source.kind().into(),
        },
        other => ClientError::Closed {
            address: other.to_string(),
        },
    }
}
