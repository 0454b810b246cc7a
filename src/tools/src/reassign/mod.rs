//! `kafka-reassign-partitions`

mod options;
mod plan;
mod throttles;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::time::{Duration, Instant};

use kafka_protocol::messages as m;
use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::alter_replica_log_dirs_request::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic,
};
use rand::Rng;
use serde::Deserialize;
use strandline_client::{ClientError, Cluster, check};
use strandline_wire::{ErrorCode, text};

pub(crate) use self::options::Options;
use self::plan::{
    ANY, Current, Key, LogDirMoves, PROPOSED, PlannedPartition, alternating, log_dir_moves, name,
    names, place, plan_json, read_plan,
};
use self::throttles::{clear_throttles, set_throttles};
use crate::command::{Failure, Outcome, exactly_one, parse, told};
use crate::log_dirs::directories;
use crate::replica_moves::{self, joined};

/// Between looks at whether replicas are there that are to move between directories.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

#[derive(Deserialize)]
struct TopicsToMove {
    version: i32,
    topics: Vec<TopicToMove>,
}

#[derive(Deserialize)]
struct TopicToMove {
    topic: String,
}

/// This tool prints its errors on standard output.
fn error(reason: impl std::fmt::Display) -> Failure {
    Failure {
        stdout: Some(format!("Error: {reason}")),
        stderr: None,
    }
}

fn of_client(failure: &ClientError) -> Failure {
    error(told(failure))
}

pub async fn run(tool: &'static str, arguments: Vec<OsString>) -> Outcome {
    let options: Options = parse(tool, arguments)?;
    let actions = [
        options.generate,
        options.execute,
        options.verify,
        options.cancel,
        options.list,
    ];
    exactly_one(
        &actions,
        "Command must include exactly one action: --generate, --execute, --verify, --cancel, --list",
    )?;
    let cluster = options.connect.cluster("reassign-partitions-tool")?;
    if options.list {
        return list(&cluster).await;
    }
    if options.generate {
        return generate(&cluster, &options).await;
    }
    let Some(path) = &options.reassignment_json_file else {
        return Err(Failure::stderr(
            "Missing required argument \"[reassignment-json-file]\"",
        ));
    };
    let plan = read_plan(path)?;
    if options.execute {
        execute(&cluster, &options, &plan).await
    } else if options.verify {
        verify(&cluster, &options, &plan).await
    } else {
        cancel(&cluster, &options, &plan).await
    }
}

async fn list(cluster: &Cluster) -> Outcome {
    let moves = replica_moves::list(cluster, None).await;
    let moves = moves.map_err(|e| of_client(&e))?;
    if moves.is_empty() {
        println!("No partition reassignments found.");
        return Ok(());
    }
    println!("Current partition reassignments:");
    for (key, one) in &moves {
        let mut line = format!("{}: replicas: {}.", name(key), joined(&one.replicas));
        if !one.adding.is_empty() {
            line.push_str(&format!(" adding: {}.", joined(&one.adding)));
        }
        if !one.removing.is_empty() {
            line.push_str(&format!(" removing: {}.", joined(&one.removing)));
        }
        println!("{line}");
    }
    Ok(())
}

/// The replicas of every partition of some topics.
async fn current(cluster: &Cluster, topics: &BTreeSet<String>) -> Result<Current, Failure> {
    let asked: Vec<String> = topics.iter().cloned().collect();
    let metadata = cluster.metadata(Some(&asked)).await;
    let metadata = metadata.map_err(|e| of_client(&e))?;
    let mut found = Current::new();
    for topic in &metadata.topics {
        let name = topic.name.as_ref().map_or("", |n| n.as_str());
        if topic.error_code == ErrorCode::UnknownTopicOrPartition.code() {
            return Err(error(format!(
                "org.apache.kafka.common.errors.UnknownTopicOrPartitionException: Topic {name} not found."
            )));
        }
        check(name, topic.error_code, None).map_err(|e| of_client(&e))?;
        for p in &topic.partitions {
            let replicas = p.replica_nodes.iter().map(|id| id.0).collect();
            found.insert((name.to_owned(), p.partition_index), replicas);
        }
    }
    Ok(found)
}

/// The directories of replicas, by partition and broker; brokers that do not answer are missing.
async fn replica_directories(
    cluster: &Cluster,
    current: &Current,
) -> BTreeMap<(String, i32, i32), (String, Option<String>)> {
    let brokers: BTreeSet<i32> = current.values().flatten().copied().collect();
    let mut found: BTreeMap<(String, i32, i32), (String, Option<String>)> = BTreeMap::new();
    for broker in brokers {
        for (path, failed, replicas) in directories(cluster, broker).await.unwrap_or_default() {
            if failed.is_some() {
                continue;
            }
            for replica in replicas {
                let key = (replica.topic, replica.partition, broker);
                let entry = found.entry(key).or_default();
                if replica.is_future {
                    entry.1 = Some(path.clone());
                } else {
                    entry.0.clone_from(&path);
                }
            }
        }
    }
    found
}

/// An assignment as JSON, with the directories that replicas are in.
async fn as_json(cluster: &Cluster, current: &Current) -> String {
    let found = replica_directories(cluster, current).await;
    let partitions = current.iter().map(|((topic, partition), replicas)| {
        let log_dirs = replicas.iter().map(|broker| {
            let known = found.get(&(topic.clone(), *partition, *broker));
            known
                .map(|(path, _)| path.clone())
                .filter(|path| !path.is_empty())
                .unwrap_or_else(|| ANY.into())
        });
        PlannedPartition {
            topic: topic.clone(),
            partition: *partition,
            replicas: replicas.clone(),
            log_dirs: log_dirs.collect(),
        }
    });
    plan_json(partitions.collect())
}

async fn generate(cluster: &Cluster, options: &Options) -> Outcome {
    let (Some(path), Some(brokers)) = (&options.topics_to_move_json_file, &options.broker_list)
    else {
        return Err(Failure::stderr(
            "--generate needs --topics-to-move-json-file and --broker-list",
        ));
    };
    let given: TopicsToMove = crate::command::read_json(path).map_err(error)?;
    if given.version != 1 {
        return Err(error(format!(
            "Not supported version field value {}",
            given.version
        )));
    }
    let brokers: Result<Vec<i32>, _> = brokers.split(',').map(|id| id.trim().parse()).collect();
    let brokers = brokers.map_err(|_| error("--broker-list is not a list of broker ids"))?;
    let unique: BTreeSet<i32> = brokers.iter().copied().collect();
    if unique.len() < brokers.len() {
        return Err(error(format!(
            "Broker list contains duplicate entries: {}",
            joined(&brokers)
        )));
    }
    let topics: BTreeSet<String> = given.topics.into_iter().map(|t| t.topic).collect();
    let current = current(cluster, &topics).await?;
    let nodes = cluster.nodes();
    if let Some(unknown) = brokers.iter().find(|id| !nodes.contains_key(id)) {
        return Err(error(format!("Unknown broker id {unknown}")));
    }
    let racks: BTreeMap<i32, String> = brokers
        .iter()
        .map(|id| {
            let rack = nodes.get(id).and_then(|n| n.rack.clone());
            (
                *id,
                rack.filter(|_| !options.disable_rack_aware)
                    .unwrap_or_default(),
            )
        })
        .collect();
    let order = alternating(&racks);
    let mut proposed = Vec::new();
    for topic in &topics {
        let partitions: Vec<(&Key, &Vec<i32>)> =
            current.iter().filter(|((t, _), _)| t == topic).collect();
        let start = rand::rng().random_range(0..order.len());
        for (index, ((topic, partition), replicas)) in partitions.into_iter().enumerate() {
            if replicas.len() > order.len() {
                return Err(error(format!(
                    "Replication factor: {} larger than available brokers: {}",
                    replicas.len(),
                    order.len()
                )));
            }
            let shift = index / order.len();
            let chosen = place(&order, &racks, replicas.len(), start + index, shift);
            proposed.push(PlannedPartition {
                topic: topic.clone(),
                partition: *partition,
                log_dirs: vec![ANY.into(); chosen.len()],
                replicas: chosen,
            });
        }
    }
    println!(
        "Current partition replica assignment\n{}\n\n{PROPOSED}\n{}",
        as_json(cluster, &current).await,
        plan_json(proposed)
    );
    Ok(())
}

async fn execute(cluster: &Cluster, options: &Options, plan: &[PlannedPartition]) -> Outcome {
    let topics: BTreeSet<String> = plan.iter().map(|p| p.topic.clone()).collect();
    cluster
        .metadata(Some(&[]))
        .await
        .map_err(|e| of_client(&e))?;
    let nodes = cluster.nodes();
    let unknown = plan.iter().flat_map(|p| &p.replicas);
    if let Some(unknown) = unknown.copied().find(|id| !nodes.contains_key(id)) {
        return Err(error(format!("Unknown broker id {unknown}")));
    }
    let moving = replica_moves::list(cluster, None).await;
    let moving = moving.map_err(|e| of_client(&e))?;
    if !moving.is_empty() && !options.additional {
        return Err(Failure {
            stdout: Some(
                "Cannot execute because there is an existing partition assignment.  Use --additional to override this and create a new partition assignment in addition to the existing one. The --additional flag can also be used to change the throttle by resubmitting the current reassignment.".into(),
            ),
            stderr: None,
        });
    }
    let all = current(cluster, &topics).await?;
    let mut affected = Current::new();
    for p in plan {
        let key = (p.topic.clone(), p.partition);
        let replicas = all
            .get(&key)
            .ok_or_else(|| error(format!("Partition {} does not exist.", name(&key))))?;
        affected.insert(key, replicas.clone());
    }
    println!(
        "Current partition replica assignment\n\n{}\n\nSave this to use as the --reassignment-json-file option during rollback",
        as_json(cluster, &affected).await
    );
    set_throttles(cluster, options, plan, &affected, &moving).await?;
    reassign(cluster, options, plan).await?;
    let moves = log_dir_moves(plan);
    if !moves.is_empty() {
        move_between_directories(cluster, moves, Duration::from_millis(options.timeout)).await?;
    }
    Ok(())
}

/// Asks for new replicas; reports the reassignments that have begun.
async fn reassign(cluster: &Cluster, options: &Options, plan: &[PlannedPartition]) -> Outcome {
    let targets = plan.iter().map(|p| {
        let target = Some(p.replicas.as_slice());
        ((p.topic.clone(), p.partition), target)
    });
    let failures = alter_reassignments(cluster, targets, options).await?;
    if !failures.is_empty() {
        let told: Vec<String> = failures
            .iter()
            .map(|(key, e)| format!("{}: {}", name(key), e.reason()))
            .collect();
        return Err(error(format!(
            "Error reassigning partition(s):\n{}",
            told.join("\n")
        )));
    }
    let keys: BTreeSet<Key> = plan
        .iter()
        .map(|p| (p.topic.clone(), p.partition))
        .collect();
    let plural = if keys.len() == 1 { "" } else { "s" };
    println!(
        "Successfully started partition reassignment{plural} for {}",
        names(keys.iter())
    );
    Ok(())
}

/// `None` as a target cancels a reassignment. Returns the refused reassignments.
async fn alter_reassignments<'a>(
    cluster: &Cluster,
    targets: impl Iterator<Item = (Key, Option<&'a [i32]>)>,
    options: &Options,
) -> Result<Vec<(Key, ClientError)>, Failure> {
    let mut topics: BTreeMap<String, Vec<ReassignablePartition>> = BTreeMap::new();
    for ((topic, partition), target) in targets {
        let replicas = target.map(|ids| ids.iter().copied().map(m::BrokerId).collect());
        let asked = ReassignablePartition::default()
            .with_partition_index(partition)
            .with_replicas(replicas);
        topics.entry(topic).or_default().push(asked);
    }
    let topics = topics.into_iter().map(|(topic, partitions)| {
        ReassignableTopic::default()
            .with_name(m::TopicName(text(&topic)))
            .with_partitions(partitions)
    });
    let mut request = m::AlterPartitionReassignmentsRequest::default()
        .with_timeout_ms(cluster.options.request_timeout.as_millis() as i32)
        .with_topics(topics.collect());
    if options.disallow_replication_factor_change {
        request = request.with_allow_replication_factor_change(false);
    }
    let answer = cluster
        .call_any("alterPartitionReassignments", &request)
        .await;
    let answer = answer.map_err(|e| of_client(&e))?;
    let whole = check(
        "reassignment",
        answer.error_code,
        answer.error_message.as_ref(),
    );
    whole.map_err(|e| of_client(&e))?;
    let mut failures = Vec::new();
    for topic in &answer.responses {
        for p in &topic.partitions {
            let key = (topic.name.to_string(), p.partition_index);
            if let Err(e) = check(&name(&key), p.error_code, p.error_message.as_ref()) {
                failures.push((key, e));
            }
        }
    }
    Ok(failures)
}

/// Moves replicas between directories of their brokers, as soon as the brokers have them.
async fn move_between_directories(
    cluster: &Cluster,
    mut pending: LogDirMoves,
    limit: Duration,
) -> Outcome {
    let began = Instant::now();
    let mut started = LogDirMoves::new();
    loop {
        for ((topic, partition, broker), dir) in pending.clone() {
            let one = AlterReplicaLogDirTopic::default()
                .with_name(m::TopicName(text(&topic)))
                .with_partitions(vec![partition]);
            let to = AlterReplicaLogDir::default()
                .with_path(text(&dir))
                .with_topics(vec![one]);
            let request = m::AlterReplicaLogDirsRequest::default().with_dirs(vec![to]);
            let answer = cluster.call_broker(broker, &request).await;
            let answer = answer.map_err(|e| of_client(&e))?;
            let code = answer
                .results
                .iter()
                .flat_map(|t| &t.partitions)
                .map(|p| p.error_code)
                .next();
            match check(&topic, code.unwrap_or(0), None) {
                Ok(()) => {
                    let key = (topic, partition, broker);
                    pending.remove(&key);
                    started.insert(key, dir);
                }
                // The request is still on its way to the broker.
                Err(e) if e.code() == Some(ErrorCode::ReplicaNotAvailable) => {}
                Err(e) => return Err(of_client(&e)),
            }
        }
        if pending.is_empty() || began.elapsed() > limit {
            break;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    for ((topic, partition, broker), dir) in &started {
        println!(
            "Successfully started moving log directory to {dir} for replica {topic}-{partition} with broker {broker} "
        );
    }
    if pending.is_empty() {
        return Ok(());
    }
    let left: Vec<String> = pending
        .keys()
        .map(|(topic, partition, broker)| format!("{topic}-{partition}-{broker}"))
        .collect();
    Err(error(format!(
        "Timed out waiting for log directory moves to start: {}",
        left.join(",")
    )))
}

async fn verify(cluster: &Cluster, options: &Options, plan: &[PlannedPartition]) -> Outcome {
    let topics: BTreeSet<String> = plan.iter().map(|p| p.topic.clone()).collect();
    let moving = replica_moves::list(cluster, None).await;
    let moving = moving.map_err(|e| of_client(&e))?;
    let current = current(cluster, &topics).await?;
    println!("Status of partition reassignment:");
    let mut goes_on = false;
    for p in plan {
        let key = (p.topic.clone(), p.partition);
        let shown = name(&key);
        if moving.contains_key(&key) {
            goes_on = true;
            println!("Reassignment of partition {shown} is still in progress.");
            continue;
        }
        match current.get(&key) {
            Some(replicas) if *replicas == p.replicas => {
                println!("Reassignment of partition {shown} is completed.");
            }
            Some(replicas) => println!(
                "There is no active reassignment of partition {shown}, but replica set is {} rather than {}.",
                joined(replicas),
                joined(&p.replicas)
            ),
            None => println!("Partition {shown} does not exist."),
        }
    }
    let wished = log_dir_moves(plan);
    let found = if wished.is_empty() {
        BTreeMap::new()
    } else {
        replica_directories(cluster, &current).await
    };
    let mut lines = Vec::new();
    for ((topic, partition, broker), dir) in &wished {
        let replica = format!("{topic}-{partition}-{broker}");
        let line = match found.get(&(topic.clone(), *partition, *broker)) {
            None => format!(
                "Replica {replica} cannot be found in any live log directory on broker {broker}."
            ),
            Some((_, Some(future))) if future == dir => {
                goes_on = true;
                format!("Reassignment of replica {replica} is still in progress.")
            }
            Some((_, Some(future))) => format!(
                "Partition {topic}-{partition} on broker {broker} is being moved to log dir {future} instead of {dir}."
            ),
            Some((path, None)) if path == dir => {
                format!("Reassignment of replica {replica} completed successfully.")
            }
            Some((path, None)) => format!(
                "Partition {topic}-{partition} on broker {broker} is not being moved from log dir {path} to {dir}."
            ),
        };
        lines.push(line);
    }
    println!("{}", lines.join("\n"));
    if goes_on || !moving.is_empty() || options.preserve_throttles {
        return Ok(());
    }
    clear_throttles(cluster, plan).await
}

async fn cancel(cluster: &Cluster, options: &Options, plan: &[PlannedPartition]) -> Outcome {
    let moving = replica_moves::list(cluster, None).await;
    let moving = moving.map_err(|e| of_client(&e))?;
    let meant: BTreeSet<Key> = plan
        .iter()
        .map(|p| (p.topic.clone(), p.partition))
        .filter(|key| moving.contains_key(key))
        .collect();
    if meant.is_empty() {
        println!("None of the specified partition reassignments are active.");
    } else {
        let targets = meant.iter().map(|key| (key.clone(), None));
        let failures = alter_reassignments(cluster, targets, options).await?;
        if let Some((key, e)) = failures.first() {
            return Err(error(format!(
                "Error cancelling partition reassignment for {}: {}",
                name(key),
                e.reason()
            )));
        }
        let plural = if meant.len() == 1 { "" } else { "s" };
        println!(
            "Successfully cancelled partition reassignment{plural} for: {}",
            names(meant.iter())
        );
    }
    let topics: BTreeSet<String> = plan.iter().map(|p| p.topic.clone()).collect();
    let current = current(cluster, &topics).await?;
    let wished = log_dir_moves(plan);
    let found = if wished.is_empty() {
        BTreeMap::new()
    } else {
        replica_directories(cluster, &current).await
    };
    // A move to where the replica is calls it off.
    let mut back = LogDirMoves::new();
    for key in wished.keys() {
        if let Some((path, Some(_))) = found.get(key) {
            back.insert(key.clone(), path.clone());
        }
    }
    if back.is_empty() {
        print!("None of the specified partition moves are active.");
    } else {
        let moves: Vec<String> = back
            .keys()
            .map(|(t, p, b)| format!("{t}-{p}-{b}"))
            .collect();
        move_between_directories(cluster, back, Duration::from_millis(options.timeout)).await?;
        println!("Successfully cancelled moves for: {}", moves.join(","));
    }
    if options.preserve_throttles {
        println!();
        return Ok(());
    }
    clear_throttles(cluster, plan).await
}
