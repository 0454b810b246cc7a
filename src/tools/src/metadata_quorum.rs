//! `kafka-metadata-quorum`

use std::ffi::OsString;

use kafka_protocol::messages as m;
use kafka_protocol::messages::add_raft_voter_request::Listener;
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::describe_quorum_response::ReplicaState;
use strandline_client::{Cluster, check};
use strandline_metadata::METADATA_TOPIC;
use strandline_types::{base64_id, parse_base64_id};
use strandline_wire::text;
use uuid::Uuid;

use crate::command::{Connect, Failure, Outcome, parse, properties_file};
use crate::properties::Properties;
use crate::time::now_ms;

#[derive(clap::Parser)]
pub(crate) struct Options {
    #[command(flatten)]
    connect: Connect,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// The leader, the followers, and how far they are.
    Describe {
        /// The leader, the voters, and their lag.
        #[arg(long)]
        status: bool,
        /// A line for each member.
        #[arg(long)]
        replication: bool,
        /// Times as durations.
        #[arg(long)]
        human_readable: bool,
    },
    /// Makes a voter of the controller whose properties file is --command-config.
    AddController {
        /// Change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Takes a controller's vote.
    RemoveController {
        /// The controller's `node.id`.
        #[arg(long)]
        controller_id: i32,
        /// The `directory.id` of the controller's metadata directory.
        #[arg(long, allow_hyphen_values = true)]
        controller_directory_id: String,
        /// Change nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

pub async fn run(tool: &'static str, arguments: Vec<OsString>) -> Outcome {
    let options: Options = parse(tool, arguments)?;
    let cluster = options.connect.cluster("adminclient-1")?;
    match &options.command {
        Command::Describe {
            status,
            replication,
            human_readable,
        } => match (status, replication) {
            (true, true) => Err(Failure::stderr(
                "Only one of --status or --replication should be specified with describe sub-command",
            )),
            (true, false) => status_of(&cluster).await,
            (false, true) => replication_of(&cluster, *human_readable).await,
            (false, false) => Err(Failure::stderr(
                "One of --status or --replication must be specified with describe sub-command",
            )),
        },
        Command::AddController { dry_run } => {
            let properties = properties_file(options.connect.command_config.as_deref())?;
            add(&cluster, &properties, *dry_run).await
        }
        Command::RemoveController {
            controller_id,
            controller_directory_id,
            dry_run,
        } => remove(&cluster, *controller_id, controller_directory_id, *dry_run).await,
    }
}

async fn describe(cluster: &Cluster) -> Result<m::DescribeQuorumResponse, Failure> {
    let partition = PartitionData::default().with_partition_index(0);
    let topic = TopicData::default()
        .with_topic_name(m::TopicName(text(METADATA_TOPIC)))
        .with_partitions(vec![partition]);
    let request = m::DescribeQuorumRequest::default().with_topics(vec![topic]);
    let asking = || async {
        let answer = cluster.call_any("describeMetadataQuorum", &request).await?;
        check("quorum", answer.error_code, answer.error_message.as_ref())?;
        let partition = answer.topics.iter().flat_map(|t| &t.partitions).next();
        check("quorum", partition.map_or(0, |p| p.error_code), None)?;
        Ok(answer)
    };
    Ok(cluster.retrying(asking).await?)
}

fn endpoints(answer: &m::DescribeQuorumResponse, id: i32) -> Option<String> {
    let node = answer.nodes.iter().find(|n| n.node_id.0 == id)?;
    let listeners: Vec<String> = node
        .listeners
        .iter()
        .map(|l| format!("\"{}://{}:{}\"", l.name.as_str(), l.host.as_str(), l.port))
        .collect();
    Some(listeners.join(", "))
}

fn members(answer: &m::DescribeQuorumResponse, replicas: &[ReplicaState], voters: bool) -> String {
    let told: Vec<String> = replicas
        .iter()
        .map(|replica| {
            let id = replica.replica_id.0;
            let mut told = format!("{{\"id\": {id}");
            if replica.replica_directory_id != Uuid::nil() {
                let directory = base64_id(replica.replica_directory_id);
                told.push_str(&format!(", \"directoryId\": \"{directory}\""));
            }
            if let Some(endpoints) = endpoints(answer, id).filter(|_| voters) {
                told.push_str(&format!(", \"endpoints\": [{endpoints}]"));
            }
            told.push('}');
            told
        })
        .collect();
    format!("[{}]", told.join(", "))
}

async fn status_of(cluster: &Cluster) -> Outcome {
    let answer = describe(cluster).await?;
    let metadata = cluster.metadata(Some(&[])).await?;
    let partition = answer.topics.iter().flat_map(|t| &t.partitions).next();
    let quorum = partition.cloned().unwrap_or_default();
    let leader = quorum
        .current_voters
        .iter()
        .find(|v| v.replica_id == quorum.leader_id);
    let end = leader.map_or(quorum.high_watermark, |l| l.log_end_offset);
    let followers = || {
        quorum
            .current_voters
            .iter()
            .filter(|v| v.replica_id != quorum.leader_id)
    };
    let slowest = followers().min_by_key(|v| v.log_end_offset);
    let lag = slowest.map_or(0, |f| end - f.log_end_offset);
    // How long ago the slowest was where the leader was.
    let lag_ms = match (slowest, leader) {
        (None, _) => 0,
        (Some(f), _) if f.last_caught_up_timestamp < 0 => -1,
        (Some(f), Some(l)) => (l.last_caught_up_timestamp - f.last_caught_up_timestamp).max(0),
        (Some(_), None) => -1,
    };
    let cluster_id = metadata.cluster_id.as_ref();
    for (name, value) in [
        (
            "ClusterId:",
            cluster_id.map_or(String::new(), ToString::to_string),
        ),
        ("LeaderId:", quorum.leader_id.0.to_string()),
        ("LeaderEpoch:", quorum.leader_epoch.to_string()),
        ("HighWatermark:", quorum.high_watermark.to_string()),
        ("MaxFollowerLag:", lag.to_string()),
        ("MaxFollowerLagTimeMs:", lag_ms.to_string()),
        (
            "CurrentVoters:",
            members(&answer, &quorum.current_voters, true),
        ),
        (
            "CurrentObservers:",
            members(&answer, &quorum.observers, false),
        ),
    ] {
        println!("{name:<23} {value}");
    }
    Ok(())
}

async fn replication_of(cluster: &Cluster, human_readable: bool) -> Outcome {
    let answer = describe(cluster).await?;
    let partition = answer.topics.iter().flat_map(|t| &t.partitions).next();
    let quorum = partition.cloned().unwrap_or_default();
    let leader = quorum
        .current_voters
        .iter()
        .find(|v| v.replica_id == quorum.leader_id);
    let end = leader.map_or(quorum.high_watermark, |l| l.log_end_offset);
    let now = now_ms();
    let time = |at: i64| match at {
        at if at < 0 => "-1".to_owned(),
        at if human_readable => format!("{} ms ago", (now - at).max(0)),
        at => at.to_string(),
    };
    let row = |replica: &ReplicaState, status: &str| {
        [
            replica.replica_id.0.to_string(),
            base64_id(replica.replica_directory_id),
            replica.log_end_offset.to_string(),
            (end - replica.log_end_offset).to_string(),
            time(replica.last_fetch_timestamp),
            time(replica.last_caught_up_timestamp),
            status.to_owned(),
        ]
    };
    let mut rows = vec![
        [
            "NodeId",
            "DirectoryId",
            "LogEndOffset",
            "Lag",
            "LastFetchTimestamp",
            "LastCaughtUpTimestamp",
            "Status",
        ]
        .map(str::to_owned),
    ];
    rows.extend(leader.map(|l| row(l, "Leader")));
    let followers = quorum
        .current_voters
        .iter()
        .filter(|v| v.replica_id != quorum.leader_id);
    rows.extend(followers.map(|f| row(f, "Follower")));
    rows.extend(quorum.observers.iter().map(|o| row(o, "Observer")));
    let widths: [usize; 7] =
        std::array::from_fn(|i| rows.iter().map(|r| r[i].len()).max().unwrap_or(0));
    for row in &rows {
        let line: String = row
            .iter()
            .zip(widths)
            .map(|(value, width)| format!("{value:<width$}\t"))
            .collect();
        println!("{line}");
    }
    Ok(())
}

/// Id, directory id and controller listeners from a controller's properties file.
fn controller(properties: &Properties) -> Result<(i32, Uuid, Vec<Listener>), Failure> {
    let id = properties
        .get("node.id")
        .and_then(|id| id.parse().ok())
        .ok_or_else(|| {
            Failure::stderr(
                "node.id not found in configuration file. Is this a valid controller configuration file?",
            )
        })?;
    let directory = properties
        .get("metadata.log.dir")
        .or_else(|| properties.get("log.dirs")?.split(',').next())
        .or_else(|| properties.get("log.dir"))
        .map(str::trim)
        .ok_or_else(|| Failure::stderr("neither metadata.log.dir nor log.dirs is set"))?;
    let meta = std::path::Path::new(directory).join("meta.properties");
    let meta = Properties::load(&meta)
        .map_err(|_| Failure::stderr(format!("Unable to read meta.properties from {directory}")))?;
    let directory_id = meta
        .get("directory.id")
        .and_then(parse_base64_id)
        .ok_or_else(|| Failure::stderr(format!("No directory id found in {directory}")))?;
    let names = properties
        .get("controller.listener.names")
        .unwrap_or_default();
    let names: Vec<&str> = names.split(',').map(str::trim).collect();
    let all = properties
        .get("advertised.listeners")
        .into_iter()
        .chain(properties.get("listeners"));
    let mut listeners: Vec<Listener> = Vec::new();
    for endpoint in all.flat_map(|list| list.split(',')) {
        let parsed = endpoint
            .trim()
            .split_once("://")
            .and_then(|(name, address)| {
                let (host, port) = address.rsplit_once(':')?;
                Some((name, host, port.parse().ok()?))
            });
        let Some((name, host, port)) = parsed else {
            continue;
        };
        let known = listeners.iter().any(|l| l.name.as_str() == name);
        if names.contains(&name) && !known {
            let host = if host.is_empty() { "localhost" } else { host };
            let listener = Listener::default()
                .with_name(text(name))
                .with_host(text(host))
                .with_port(port);
            listeners.push(listener);
        }
    }
    if listeners.is_empty() {
        return Err(Failure::stderr(
            "controller.listener.names names none of listeners",
        ));
    }
    Ok((id, directory_id, listeners))
}

async fn add(cluster: &Cluster, properties: &Properties, dry_run: bool) -> Outcome {
    let (id, directory_id, listeners) = controller(properties)?;
    let told: Vec<String> = listeners
        .iter()
        .map(|l| format!("{}://{}:{}", l.name.as_str(), l.host.as_str(), l.port))
        .collect();
    if !dry_run {
        let request = m::AddRaftVoterRequest::default()
            .with_cluster_id(None)
            .with_timeout_ms(cluster.options.request_timeout.as_millis() as i32)
            .with_voter_id(id)
            .with_voter_directory_id(directory_id)
            .with_listeners(listeners);
        let answer = cluster.call_any("addRaftVoter", &request).await?;
        check("voter", answer.error_code, answer.error_message.as_ref())?;
    }
    let did = if dry_run {
        "DRY RUN of adding"
    } else {
        "Added"
    };
    println!(
        "{did} controller {id} with directory id {} and endpoints: {}",
        base64_id(directory_id),
        told.join(", ")
    );
    Ok(())
}

async fn remove(cluster: &Cluster, id: i32, directory: &str, dry_run: bool) -> Outcome {
    let directory_id = parse_base64_id(directory).ok_or_else(|| {
        Failure::stderr(format!(
            "Failed to parse --controller-directory-id: {directory} is no id"
        ))
    })?;
    if !dry_run {
        let request = m::RemoveRaftVoterRequest::default()
            .with_cluster_id(None)
            .with_voter_id(id)
            .with_voter_directory_id(directory_id);
        let answer = cluster.call_any("removeRaftVoter", &request).await?;
        check("voter", answer.error_code, answer.error_message.as_ref())?;
    }
    let did = if dry_run {
        "DRY RUN of removing"
    } else {
        "Removed"
    };
    println!("{did} KRaft controller {id} with directory id {directory}");
    Ok(())
}
