//! `kafka-topics`

use std::collections::BTreeMap;
use std::ffi::OsString;

use kafka_protocol::messages as m;
use kafka_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::metadata_response::{
    MetadataResponsePartition, MetadataResponseTopic,
};
use strandline_client::{ClientError, Cluster, check};
use strandline_types::base64_id;
use strandline_wire::{ErrorCode, text};

use crate::command::{Connect, Failure, Outcome, exactly_one, include_pattern, parse, told};
use crate::configs::{TOPIC, describe_configs};
use crate::replica_moves;

const CLASS: &str = "org.apache.kafka.tools.TopicCommand";
/// The source of a value that is a default.
const DEFAULT_CONFIG: i8 = 5;

#[derive(clap::Parser)]
pub(crate) struct Options {
    #[command(flatten)]
    connect: Connect,
    /// Create a topic.
    #[arg(long)]
    create: bool,
    /// List topics.
    #[arg(long)]
    list: bool,
    /// Show partitions, leaders and replicas.
    #[arg(long)]
    describe: bool,
    /// Add partitions.
    #[arg(long)]
    alter: bool,
    /// Delete topics.
    #[arg(long)]
    delete: bool,
    /// A topic; to list, describe, alter and delete, a regular expression.
    #[arg(long)]
    topic: Option<String>,
    /// The id of a topic to describe.
    #[arg(long)]
    topic_id: Option<String>,
    /// The number of partitions.
    #[arg(long, allow_negative_numbers = true)]
    partitions: Option<i32>,
    /// The number of replicas of each partition.
    #[arg(long, allow_negative_numbers = true)]
    replication_factor: Option<i32>,
    /// Broker ids of each partition: 1:2,2:3.
    #[arg(long)]
    replica_assignment: Option<String>,
    /// A setting of a new topic.
    #[arg(long, value_name = "NAME=VALUE")]
    config: Vec<String>,
    /// Do nothing if the topic does not exist.
    #[arg(long)]
    if_exists: bool,
    /// Do nothing if the topic exists.
    #[arg(long)]
    if_not_exists: bool,
    /// Leave out internal topics.
    #[arg(long)]
    exclude_internal: bool,
    /// Only partitions with replicas that are not in sync.
    #[arg(long)]
    under_replicated_partitions: bool,
    /// Only partitions without a leader.
    #[arg(long)]
    unavailable_partitions: bool,
    /// Only partitions with fewer replicas in sync than min.insync.replicas.
    #[arg(long)]
    under_min_isr_partitions: bool,
    /// Only partitions with just min.insync.replicas replicas in sync.
    #[arg(long)]
    at_min_isr_partitions: bool,
    /// Only topics that have settings of their own.
    #[arg(long)]
    topics_with_overrides: bool,
}

/// A failure in this tool's words.
fn failed(reason: &str, exception: &str) -> Failure {
    let reason = format!("Error while executing topic command : {reason}");
    Failure::logged(reason, exception, CLASS)
}

fn of_client(error: &ClientError) -> Failure {
    failed(&error.reason(), &told(error))
}

fn illegal(reason: &str) -> Failure {
    failed(
        reason,
        &format!("java.lang.IllegalArgumentException: {reason}"),
    )
}

pub async fn run(tool: &'static str, arguments: Vec<OsString>) -> Outcome {
    let options: Options = parse(tool, arguments)?;
    let actions = [
        options.create,
        options.list,
        options.describe,
        options.alter,
        options.delete,
    ];
    exactly_one(
        &actions,
        "Command must include exactly one action: --list, --describe, --create, --alter or --delete",
    )?;
    let needs_topic = options.create || options.alter || options.delete;
    if needs_topic && options.topic.is_none() {
        return Err(Failure::stderr("Missing required argument \"[topic]\""));
    }
    let cluster = options.connect.cluster("adminclient-1")?;
    if options.create {
        create(&cluster, &options).await
    } else if options.list {
        list(&cluster, &options).await
    } else if options.describe {
        describe(&cluster, &options).await
    } else if options.alter {
        alter(&cluster, &options).await
    } else {
        delete(&cluster, &options).await
    }
}

/// `1:2,2:3` as lists of broker ids.
fn parse_assignment(given: &str) -> Result<Vec<Vec<i32>>, Failure> {
    let mut partitions: Vec<Vec<i32>> = Vec::new();
    for (index, one) in given.split(',').enumerate() {
        let ids: Result<Vec<i32>, _> = one.split(':').map(|id| id.trim().parse()).collect();
        let ids = ids.map_err(|_| illegal(&format!("{one} is not a list of broker ids")))?;
        let mut unique = ids.clone();
        unique.sort_unstable();
        unique.dedup();
        if unique.len() < ids.len() {
            let reason =
                format!("Partition replica lists may not contain duplicate entries: {one}");
            return Err(failed(
                &reason,
                &format!("org.apache.kafka.server.common.AdminCommandFailedException: {reason}"),
            ));
        }
        if partitions
            .first()
            .is_some_and(|first| first.len() != ids.len())
        {
            let reason = format!("Partition {index} has different replication factor: {one}");
            return Err(failed(
                &reason,
                &format!("org.apache.kafka.server.common.AdminOperationException: {reason}"),
            ));
        }
        partitions.push(ids);
    }
    Ok(partitions)
}

async fn create(cluster: &Cluster, options: &Options) -> Outcome {
    let name = options.topic.as_deref().unwrap_or_default();
    if name.contains(['.', '_']) {
        println!(
            "WARNING: Due to limitations in metric names, topics with a period ('.') or underscore ('_') could collide. \
             To avoid issues it is best to use either, but not both."
        );
    }
    if options.partitions.is_some_and(|p| p < 1) {
        return Err(illegal("The partitions must be greater than 0"));
    }
    if options
        .replication_factor
        .is_some_and(|r| !(1..=i32::from(i16::MAX)).contains(&r))
    {
        return Err(illegal(
            "The replication factor must be between 1 and 32767 inclusive",
        ));
    }
    let mut configs = Vec::new();
    for pair in &options.config {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            illegal("requirement failed: Invalid topic config: all configs to be added must be in the format \"key=val\".")
        })?;
        configs.push(
            CreatableTopicConfig::default()
                .with_name(text(key.trim()))
                .with_value(Some(text(value.trim()))),
        );
    }
    let mut topic = CreatableTopic::default()
        .with_name(m::TopicName(text(name)))
        .with_num_partitions(options.partitions.unwrap_or(-1))
        .with_replication_factor(options.replication_factor.unwrap_or(-1) as i16)
        .with_configs(configs);
    if let Some(given) = &options.replica_assignment {
        if options.partitions.is_some() || options.replication_factor.is_some() {
            return Err(Failure::stderr(
                "Option \"[replica-assignment]\" can't be used with option \"[partitions]\" or \"[replication-factor]\"",
            ));
        }
        let assignments = parse_assignment(given)?.into_iter().enumerate();
        let assignments = assignments.map(|(partition, ids)| {
            CreatableReplicaAssignment::default()
                .with_partition_index(partition as i32)
                .with_broker_ids(ids.into_iter().map(m::BrokerId).collect())
        });
        topic = topic.with_assignments(assignments.collect());
    }
    let request = m::CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(cluster.options.request_timeout.as_millis() as i32);
    let answer = cluster.call_any("createTopics", &request).await;
    let answer = answer.map_err(|e| of_client(&e))?;
    for topic in &answer.topics {
        if options.if_not_exists && topic.error_code == ErrorCode::TopicAlreadyExists.code() {
            return Ok(());
        }
        check(name, topic.error_code, topic.error_message.as_ref()).map_err(|e| of_client(&e))?;
    }
    println!("Created topic {name}.");
    Ok(())
}

/// The topics that an option's regular expression means, by name.
async fn matching(
    cluster: &Cluster,
    options: &Options,
) -> Result<BTreeMap<String, MetadataResponseTopic>, Failure> {
    let metadata = cluster.metadata(None).await.map_err(|e| of_client(&e))?;
    let given = options.topic.as_deref();
    let given = given.map(|t| t.trim().trim_matches(['"', '\'']).replace(' ', ""));
    let pattern = given.as_deref().map(include_pattern).transpose();
    let pattern = pattern.map_err(|e| illegal(&e))?;
    let mut found = BTreeMap::new();
    for topic in metadata.topics {
        let Some(name) = topic.name.as_ref().map(|n| n.to_string()) else {
            continue;
        };
        if options.exclude_internal && topic.is_internal {
            continue;
        }
        if pattern.as_ref().is_none_or(|p| p.is_match(&name)) {
            found.insert(name, topic);
        }
    }
    Ok(found)
}

fn ensure_found(
    options: &Options,
    found: &BTreeMap<String, MetadataResponseTopic>,
) -> Result<(), Failure> {
    match &options.topic {
        Some(name) if found.is_empty() && !options.if_exists => Err(illegal(&format!(
            "Topic '{name}' does not exist as expected"
        ))),
        _ => Ok(()),
    }
}

async fn list(cluster: &Cluster, options: &Options) -> Outcome {
    let found = matching(cluster, options).await?;
    for name in found.keys() {
        println!("{name}");
    }
    Ok(())
}

fn ids(list: &[m::BrokerId]) -> String {
    let ids: Vec<String> = list.iter().map(|id| id.0.to_string()).collect();
    ids.join(",")
}

/// Eligible replicas and last known leaders, which `Metadata` does not report (KIP-966).
struct Eligible {
    elr: Option<String>,
    last_known: Option<String>,
}

async fn eligible(
    cluster: &Cluster,
    topics: &[String],
) -> Result<Option<BTreeMap<(String, i32), Eligible>>, ClientError> {
    let channel = cluster.any("describeTopicPartitions").await?;
    if channel
        .version_of::<m::DescribeTopicPartitionsRequest>()
        .is_err()
    {
        return Ok(None);
    }
    let mut all = BTreeMap::new();
    let mut cursor = None;
    loop {
        let named = topics.iter().map(|name| {
            m::describe_topic_partitions_request::TopicRequest::default()
                .with_name(m::TopicName(text(name)))
        });
        let request = m::DescribeTopicPartitionsRequest::default()
            .with_topics(named.collect())
            .with_response_partition_limit(2000)
            .with_cursor(cursor);
        let answer = channel
            .call(&request, cluster.options.request_timeout)
            .await?;
        for topic in &answer.topics {
            let name = topic.name.as_ref().map(|n| n.to_string());
            for p in &topic.partitions {
                let one = Eligible {
                    elr: p.eligible_leader_replicas.as_deref().map(ids),
                    last_known: p.last_known_elr.as_deref().map(ids),
                };
                all.insert((name.clone().unwrap_or_default(), p.partition_index), one);
            }
        }
        match answer.next_cursor {
            None => return Ok(Some(all)),
            Some(next) => {
                let next = m::describe_topic_partitions_request::Cursor::default()
                    .with_topic_name(next.topic_name)
                    .with_partition_index(next.partition_index);
                cursor = Some(next);
            }
        }
    }
}

async fn describe(cluster: &Cluster, options: &Options) -> Outcome {
    let mut found = matching(cluster, options).await?;
    if let Some(id) = &options.topic_id {
        found.retain(|_, topic| base64_id(topic.topic_id) == *id);
        if found.is_empty() && !options.if_exists {
            return Err(illegal(&format!(
                "TopicId '{id}' does not exist as expected"
            )));
        }
    }
    ensure_found(options, &found)?;
    if found.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = found.keys().cloned().collect();
    let resources: Vec<(i8, String)> = names.iter().map(|n| (TOPIC, n.clone())).collect();
    let configs = describe_configs(cluster, &resources, false).await;
    let configs = configs.map_err(|e| of_client(&e))?;
    let moving = replica_moves::list(cluster, None).await;
    let moving = moving.map_err(|e| of_client(&e))?;
    let eligible = eligible(cluster, &names).await.map_err(|e| of_client(&e))?;
    let only_some = options.under_replicated_partitions
        || options.unavailable_partitions
        || options.under_min_isr_partitions
        || options.at_min_isr_partitions;
    for (name, topic) in &found {
        let of_topic = configs.get(&(TOPIC, name.clone()));
        let overridden: Vec<&crate::configs::Entry> = of_topic
            .into_iter()
            .flatten()
            .filter(|entry| entry.source != DEFAULT_CONFIG)
            .collect();
        let value = |key: &str| {
            let all = of_topic.into_iter().flatten();
            all.into_iter()
                .find(|e| e.name == key)
                .and_then(|e| e.value.clone())
        };
        let min_isr: usize = value("min.insync.replicas")
            .and_then(|v| v.parse().ok())
            .unwrap_or(1);
        let mut partitions: Vec<&MetadataResponsePartition> = topic.partitions.iter().collect();
        partitions.sort_by_key(|p| p.partition_index);
        if !only_some && (!options.topics_with_overrides || !overridden.is_empty()) {
            let told: Vec<String> = overridden
                .iter()
                .map(|e| format!("{}={}", e.name, e.value.as_deref().unwrap_or("null")))
                .collect();
            println!(
                "Topic: {name}\tTopicId: {}\tPartitionCount: {}\tReplicationFactor: {}\tConfigs: {}",
                base64_id(topic.topic_id),
                partitions.len(),
                partitions.first().map_or(0, |p| p.replica_nodes.len()),
                told.join(",")
            );
        }
        if options.topics_with_overrides {
            continue;
        }
        for p in partitions {
            let move_of = moving.get(&(name.clone(), p.partition_index));
            // During a reassignment, the target replicas count.
            let wanted = move_of.map_or(p.replica_nodes.len(), |m| {
                m.replicas.len() - m.removing.len()
            });
            let under_replicated = p.isr_nodes.len() < wanted;
            let unavailable = p.leader_id.0 < 0;
            let shown = !only_some
                || options.under_replicated_partitions && under_replicated
                || options.unavailable_partitions && unavailable
                || options.under_min_isr_partitions && p.isr_nodes.len() < min_isr
                || options.at_min_isr_partitions && p.isr_nodes.len() == min_isr;
            if !shown {
                continue;
            }
            let leader = if unavailable {
                "none".to_owned()
            } else {
                p.leader_id.0.to_string()
            };
            let mut line = format!(
                "\tTopic: {name}\tPartition: {}\tLeader: {leader}\tReplicas: {}\tIsr: {}",
                p.partition_index,
                ids(&p.replica_nodes),
                ids(&p.isr_nodes)
            );
            if let Some(m) = move_of {
                line.push_str(&format!(
                    "\tAdding Replicas: {}\tRemoving Replicas: {}",
                    replica_moves::joined(&m.adding),
                    replica_moves::joined(&m.removing)
                ));
            }
            let of_partition = eligible
                .as_ref()
                .and_then(|e| e.get(&(name.clone(), p.partition_index)));
            let (elr, last_known) = match (&eligible, of_partition) {
                (Some(_), Some(one)) => (
                    one.elr.clone().unwrap_or_default(),
                    one.last_known.clone().unwrap_or_default(),
                ),
                (Some(_), None) => (String::new(), String::new()),
                (None, _) => ("N/A".to_owned(), "N/A".to_owned()),
            };
            println!("{line}\tElr: {elr}\tLastKnownElr: {last_known}");
        }
    }
    Ok(())
}

async fn alter(cluster: &Cluster, options: &Options) -> Outcome {
    let found = matching(cluster, options).await?;
    ensure_found(options, &found)?;
    let Some(count) = options.partitions else {
        return Err(Failure::stderr(
            "Missing required argument \"[partitions]\"",
        ));
    };
    let mut topics = Vec::new();
    for (name, topic) in &found {
        let mut asked = CreatePartitionsTopic::default()
            .with_name(m::TopicName(text(name)))
            .with_count(count)
            .with_assignments(None);
        if let Some(given) = &options.replica_assignment {
            let known = topic.partitions.len();
            let new = parse_assignment(given)?.into_iter().skip(known);
            let new = new.map(|ids| {
                CreatePartitionsAssignment::default()
                    .with_broker_ids(ids.into_iter().map(m::BrokerId).collect())
            });
            asked = asked.with_assignments(Some(new.collect()));
        }
        topics.push(asked);
    }
    if topics.is_empty() {
        return Ok(());
    }
    let request = m::CreatePartitionsRequest::default()
        .with_topics(topics)
        .with_timeout_ms(cluster.options.request_timeout.as_millis() as i32);
    let answer = cluster.call_any("createPartitions", &request).await;
    for result in &answer.map_err(|e| of_client(&e))?.results {
        let told = check(
            &result.name,
            result.error_code,
            result.error_message.as_ref(),
        );
        told.map_err(|e| of_client(&e))?;
    }
    Ok(())
}

async fn delete(cluster: &Cluster, options: &Options) -> Outcome {
    let found = matching(cluster, options).await?;
    ensure_found(options, &found)?;
    if found.is_empty() {
        return Ok(());
    }
    let names: Vec<m::TopicName> = found.keys().map(|n| m::TopicName(text(n))).collect();
    let channel = cluster
        .any("deleteTopics")
        .await
        .map_err(|e| of_client(&e))?;
    let version = channel.version_of::<m::DeleteTopicsRequest>();
    let version = version.map_err(|e| of_client(&e))?;
    let mut request = m::DeleteTopicsRequest::default()
        .with_timeout_ms(cluster.options.request_timeout.as_millis() as i32);
    if version >= 6 {
        let topics = names
            .into_iter()
            .map(|name| DeleteTopicState::default().with_name(Some(name)));
        request = request.with_topics(topics.collect());
    } else {
        request = request.with_topic_names(names);
    }
    let answer = channel
        .call(&request, cluster.options.request_timeout)
        .await;
    for result in &answer.map_err(|e| of_client(&e))?.responses {
        let name = result.name.as_ref().map_or("?", |n| n.as_str());
        let told = check(name, result.error_code, result.error_message.as_ref());
        told.map_err(|e| of_client(&e))?;
    }
    Ok(())
}
