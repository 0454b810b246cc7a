//! A cluster as a client sees it: brokers by id, leaders by partition, coordinators by group, and a channel to each.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kafka_protocol::messages as m;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::protocol::Request;
use strandline_wire::{ErrorCode, StrBytes};

use crate::channel::Channel;
use crate::client::create_topic_request;
use crate::error::{ClientError, check};

/// Between attempts; doubled up to the larger one.
const RETRY: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// A person who waits hears of trouble after this time.
const TROUBLE: Duration = Duration::from_millis(500);

/// Kafka's client settings that matter here.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// `client.id`
    pub client_id: String,
    /// `request.timeout.ms`
    pub request_timeout: Duration,
    /// `default.api.timeout.ms`
    pub api_timeout: Duration,
    /// Is told, once, that no broker could be reached yet and is tried again.
    pub on_trouble: fn(&str),
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            client_id: "strandline".into(),
            request_timeout: Duration::from_secs(30),
            api_timeout: Duration::from_secs(60),
            on_trouble: |_| {},
        }
    }
}

/// A broker's endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub id: i32,
    pub host: String,
    pub port: i32,
    pub rack: Option<String>,
}

impl Node {
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

#[derive(Default)]
struct State {
    channels: HashMap<String, Channel>,
    nodes: BTreeMap<i32, Node>,
    coordinators: HashMap<String, i32>,
}

/// The handle to a cluster.
pub struct Cluster {
    bootstrap: Vec<String>,
    pub options: ClientOptions,
    state: Mutex<State>,
}

impl Cluster {
    /// `bootstrap`: `host:port,host:port`. Nothing is connected yet.
    pub fn new(bootstrap: &str, options: ClientOptions) -> Arc<Self> {
        let addresses = bootstrap.split(',').map(str::trim);
        Arc::new(Self {
            bootstrap: addresses
                .filter(|a| !a.is_empty())
                .map(str::to_owned)
                .collect(),
            options,
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// A channel to an address, the one that is open if there is one.
    async fn channel(&self, address: &str) -> Result<Channel, ClientError> {
        let open = self.lock().channels.get(address).cloned();
        if let Some(channel) = open.filter(|c| !c.is_closed()) {
            return Ok(channel);
        }
        let channel = Channel::open(address, &self.options.client_id).await?;
        let mut state = self.lock();
        state.channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }

    /// A channel to the first of the known brokers that answers. `call` names the purpose.
    pub async fn any(&self, call: &str) -> Result<Channel, ClientError> {
        let began = Instant::now();
        let mut pause = RETRY;
        let mut last = String::from("no bootstrap address");
        let mut is_told = false;
        if self.lock().nodes.is_empty() {
            self.resolve().await?;
        }
        loop {
            let known: Vec<String> = self.lock().nodes.values().map(Node::address).collect();
            for address in known.iter().chain(&self.bootstrap) {
                match self.channel(address).await {
                    Ok(channel) => return Ok(channel),
                    Err(error) => last = error.to_string(),
                }
            }
            if began.elapsed() + pause > self.options.api_timeout {
                return Err(ClientError::Unreachable {
                    call: call.to_owned(),
                    waited: self.options.api_timeout,
                    last,
                });
            }
            if !is_told && began.elapsed() + pause > TROUBLE {
                is_told = true;
                let limit = self.options.api_timeout.as_secs();
                (self.options.on_trouble)(&format!("still trying, for {limit} s: {last}"));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    /// Fails if no bootstrap address can be resolved: waiting would not help.
    async fn resolve(&self) -> Result<(), ClientError> {
        let mut last = String::from("no address");
        for address in &self.bootstrap {
            let port = address
                .rsplit_once(':')
                .map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(_))) {
                last = format!("{address}: not HOST:PORT");
                continue;
            }
            match tokio::net::lookup_host(address).await {
                Ok(_) => return Ok(()),
                Err(error) => last = format!("{address}: {error}"),
            }
        }
        Err(ClientError::Unresolvable { last })
    }

    /// A channel to a broker by its id.
    pub async fn broker(&self, id: i32) -> Result<Channel, ClientError> {
        let known = self.lock().nodes.get(&id).cloned();
        let node = if let Some(node) = known {
            node
        } else {
            self.metadata(Some(&[])).await?;
            let known = self.lock().nodes.get(&id).cloned();
            known.ok_or_else(|| ClientError::Broker {
                what: format!("broker {id}"),
                code: ErrorCode::BrokerNotAvailable,
                message: None,
            })?
        };
        self.channel(&node.address()).await
    }

    /// Asks any broker.
    pub async fn call_any<R: Request>(
        &self,
        call: &str,
        request: &R,
    ) -> Result<R::Response, ClientError> {
        let channel = self.any(call).await?;
        channel.call(request, self.options.request_timeout).await
    }

    /// Creates a topic with the broker's default of replicas.
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Result<(), ClientError> {
        let request = create_topic_request(name, partitions, configs);
        let answer = self.call_any("createTopics", &request).await?;
        for topic in answer.topics {
            check(name, topic.error_code, topic.error_message.as_ref())?;
        }
        Ok(())
    }

    /// Asks one broker.
    pub async fn call_broker<R: Request>(
        &self,
        id: i32,
        request: &R,
    ) -> Result<R::Response, ClientError> {
        let channel = self.broker(id).await?;
        channel.call(request, self.options.request_timeout).await
    }

    /// The cluster, and these topics or all of them. An empty list asks for the cluster alone.
    pub async fn metadata(
        &self,
        topics: Option<&[String]>,
    ) -> Result<m::MetadataResponse, ClientError> {
        self.metadata_of(topics, false).await
    }

    /// As [`Self::metadata`], but the broker creates missing topics if it allows that.
    pub async fn metadata_creating(
        &self,
        topics: &[String],
    ) -> Result<m::MetadataResponse, ClientError> {
        self.metadata_of(Some(topics), true).await
    }

    async fn metadata_of(
        &self,
        topics: Option<&[String]>,
        creating: bool,
    ) -> Result<m::MetadataResponse, ClientError> {
        let named = topics.map(|topics| {
            let named = topics.iter().map(|name| {
                let name = m::TopicName(StrBytes::from_string(name.clone()));
                MetadataRequestTopic::default().with_name(Some(name))
            });
            named.collect()
        });
        let request = m::MetadataRequest::default()
            .with_topics(named)
            .with_allow_auto_topic_creation(creating);
        let response = self.call_any("metadata", &request).await?;
        let nodes = response.brokers.iter().map(|broker| {
            let node = Node {
                id: broker.node_id.0,
                host: broker.host.to_string(),
                port: broker.port,
                rack: broker.rack.as_ref().map(ToString::to_string),
            };
            (node.id, node)
        });
        self.lock().nodes = nodes.collect();
        Ok(response)
    }

    /// The brokers of the last metadata.
    pub fn nodes(&self) -> BTreeMap<i32, Node> {
        self.lock().nodes.clone()
    }

    /// The broker that coordinates a group.
    pub async fn coordinator(&self, group: &str) -> Result<i32, ClientError> {
        if let Some(id) = self.lock().coordinators.get(group) {
            return Ok(*id);
        }
        let finding = || async {
            let channel = self.any("findCoordinator").await?;
            let batched = channel.version_of::<m::FindCoordinatorRequest>()? >= 4;
            let key = StrBytes::from_string(group.to_owned());
            let request = if batched {
                m::FindCoordinatorRequest::default().with_coordinator_keys(vec![key])
            } else {
                m::FindCoordinatorRequest::default().with_key(key)
            };
            let answer = channel.call(&request, self.options.request_timeout).await?;
            let (code, message, id) = match answer.coordinators.first() {
                Some(found) => (
                    found.error_code,
                    found.error_message.clone(),
                    found.node_id.0,
                ),
                None => (
                    answer.error_code,
                    answer.error_message.clone(),
                    answer.node_id.0,
                ),
            };
            check(group, code, message.as_ref())?;
            Ok(id)
        };
        let id = self.retrying(finding).await?;
        self.lock().coordinators.insert(group.to_owned(), id);
        Ok(id)
    }

    /// The coordinator may have changed.
    pub fn forget_coordinator(&self, group: &str) {
        self.lock().coordinators.remove(group);
    }

    /// Asks a group's coordinator; again, where another one has taken over or it is still loading. `code` finds the
    /// error in an answer.
    pub async fn call_coordinator<R: Request>(
        &self,
        group: &str,
        request: &R,
        code: impl Fn(&R::Response) -> i16,
    ) -> Result<R::Response, ClientError> {
        let asking = || async {
            let id = self.coordinator(group).await?;
            let answered = self.call_broker(id, request).await;
            let moved = match &answered {
                Ok(response) => matches!(
                    ErrorCode::from_code(code(response)),
                    Some(
                        ErrorCode::NotCoordinator
                            | ErrorCode::CoordinatorNotAvailable
                            | ErrorCode::CoordinatorLoadInProgress
                    )
                ),
                Err(error) => error.is_retriable(),
            };
            if moved {
                self.forget_coordinator(group);
                if let Ok(response) = &answered {
                    check(group, code(response), None)?;
                }
            }
            answered
        };
        self.retrying(asking).await
    }

    /// Tries again for as long as an error is one that passes and the time-out has not.
    pub async fn retrying<T, F>(&self, attempt: impl Fn() -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let began = Instant::now();
        let mut pause = RETRY;
        loop {
            match attempt().await {
                Err(error)
                    if error.is_retriable()
                        && began.elapsed() + pause < self.options.api_timeout =>
                {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_MAX);
                }
                done => return done,
            }
        }
    }
}
