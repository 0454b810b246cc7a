//! `kafka-consumer-groups`

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::sync::Arc;

use kafka_protocol::messages as m;
use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use strandline_client::{
    ClientError, Cluster, CommittedOffset, check, committed, decode_assignment, list_offsets,
};
use strandline_wire::special_timestamp::LATEST;
use strandline_wire::{ErrorCode, text};

use crate::command::{Failure, Outcome, exactly_one, parse, told};
use crate::group_options::Options;
use crate::reset_offsets;
use crate::table;

/// Columns are at least this wide.
const LEAST: usize = 15;
const GROUP_COLUMN: usize = 32;
const COORDINATOR_COLUMN: usize = 25;
const STRATEGY_COLUMN: usize = 20;
const STATE_COLUMN: usize = 20;
const NOTHING: &str = "-";

pub async fn run(tool: &'static str, arguments: Vec<OsString>) -> Outcome {
    let options: Options = parse(tool, arguments)?;
    let actions = [
        options.list,
        options.describe,
        options.delete,
        options.reset_offsets,
        options.delete_offsets,
    ];
    exactly_one(
        &actions,
        "Command must include exactly one action: --list, --describe, --delete, --reset-offsets, --delete-offsets",
    )?;
    if !options.list && options.group.is_empty() && !options.all_groups {
        let action = if options.describe {
            "describe"
        } else if options.delete {
            "delete"
        } else if options.delete_offsets {
            "delete-offsets"
        } else {
            "reset-offsets"
        };
        return Err(Failure::stderr(format!(
            "Option [{action}] takes one of these options: [all-groups], [group]"
        )));
    }
    let mut connect = options.connect.clone();
    connect.bootstrap_server = Some(connect.address()?);
    let cluster = connect.cluster("adminclient-1")?;
    let done = if options.list {
        list(&cluster, &options).await
    } else if options.describe {
        describe(&cluster, &options).await
    } else if options.delete {
        delete(&cluster, &options).await
    } else if options.delete_offsets {
        delete_offsets(&cluster, &options).await
    } else {
        return reset_offsets::run(&cluster, &options).await;
    };
    // Kafka's tool says that it failed and ends as if it had not.
    if let Err(error) = done {
        println!(
            "\nError: Executing consumer group command failed due to {}",
            error.java()
        );
        eprintln!("java.util.concurrent.ExecutionException: {}", told(&error));
    }
    Ok(())
}

pub struct Listed {
    pub group: String,
    state: String,
    kind: String,
}

/// The groups of every broker.
pub async fn all_groups(cluster: &Cluster) -> Result<Vec<Listed>, ClientError> {
    cluster.metadata(Some(&[])).await?;
    let mut found: BTreeMap<String, Listed> = BTreeMap::new();
    for id in cluster.nodes().into_keys() {
        let answer = cluster
            .call_broker(id, &m::ListGroupsRequest::default())
            .await?;
        check("groups", answer.error_code, None)?;
        for group in &answer.groups {
            let consumer = group.protocol_type.is_empty() || &*group.protocol_type == "consumer";
            if !consumer {
                continue;
            }
            let listed = Listed {
                group: group.group_id.to_string(),
                state: group.group_state.to_string(),
                kind: if group.group_type.is_empty() {
                    "Classic".into()
                } else {
                    capitalized(&group.group_type)
                },
            };
            found.insert(listed.group.clone(), listed);
        }
    }
    Ok(found.into_values().collect())
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

async fn list(cluster: &Cluster, options: &Options) -> Result<(), ClientError> {
    let groups = all_groups(cluster).await?;
    let wanted = |given: &Option<String>, value: &str| {
        given.as_deref().is_none_or(|given| {
            let mut names = given.split(',').map(str::trim).filter(|n| !n.is_empty());
            given.is_empty() || names.any(|name| name.eq_ignore_ascii_case(value))
        })
    };
    let shown: Vec<&Listed> = groups
        .iter()
        .filter(|g| wanted(&options.state, &g.state) && wanted(&options.kind, &g.kind))
        .collect();
    if options.state.is_none() && options.kind.is_none() {
        for listed in shown {
            println!("{}", listed.group);
        }
        return Ok(());
    }
    let width = table::width(GROUP_COLUMN, shown.iter().map(|g| g.group.as_str()));
    let mut rows = vec![("GROUP", "TYPE", "STATE")];
    rows.extend(
        shown
            .iter()
            .map(|g| (g.group.as_str(), g.kind.as_str(), g.state.as_str())),
    );
    for (group, kind, state) in rows {
        let mut line = format!("{group:<width$}");
        if options.kind.is_some() {
            line.push_str(&format!(" {kind:<STATE_COLUMN$}"));
        }
        if options.state.is_some() {
            line.push_str(&format!(" {state:<STATE_COLUMN$}"));
        }
        println!("{line}");
    }
    Ok(())
}

pub async fn group_names(cluster: &Cluster, options: &Options) -> Result<Vec<String>, ClientError> {
    if options.all_groups {
        let groups = all_groups(cluster).await?;
        return Ok(groups.into_iter().map(|g| g.group).collect());
    }
    Ok(options.group.clone())
}

/// A group as its coordinator describes it.
async fn describe_group(cluster: &Cluster, group: &str) -> Result<DescribedGroup, ClientError> {
    let request = m::DescribeGroupsRequest::default().with_groups(vec![m::GroupId(text(group))]);
    let code =
        |answer: &m::DescribeGroupsResponse| answer.groups.first().map_or(0, |g| g.error_code);
    let answer = cluster.call_coordinator(group, &request, code).await?;
    let found = answer.groups.into_iter().next().unwrap_or_default();
    if found.error_code == ErrorCode::GroupIdNotFound.code() {
        return Err(not_found(group));
    }
    check(group, found.error_code, None)?;
    Ok(found)
}

/// The state of a group that has members: only its members may change its offsets.
pub async fn state_with_members(
    cluster: &Cluster,
    group: &str,
) -> Result<Option<String>, ClientError> {
    match describe_group(cluster, group).await {
        Ok(described) => {
            let state = described.group_state.to_string();
            Ok((!matches!(state.as_str(), "Empty" | "Dead")).then_some(state))
        }
        // An unknown group begins with the offsets that it is given.
        Err(error) if error.code().is_some() => Ok(None),
        Err(error) => Err(error),
    }
}

fn not_found(group: &str) -> ClientError {
    ClientError::Broker {
        what: group.to_owned(),
        code: ErrorCode::GroupIdNotFound,
        message: Some(format!("Group {group} not found.")),
    }
}

/// The member that reads a partition.
struct Assigned<'a> {
    consumer_id: &'a str,
    host: &'a str,
    client_id: &'a str,
}

async fn describe(cluster: &Cluster, options: &Options) -> Result<(), ClientError> {
    for group in group_names(cluster, options).await? {
        let described = describe_group(cluster, &group).await?;
        let state = described.group_state.to_string();
        // A group without members and without committed offsets does not exist.
        let offsets = committed(cluster, &group, None).await?;
        if state == "Dead" && offsets.is_empty() {
            return Err(not_found(&group));
        }
        if options.members {
            print_members(&group, &described, options.verbose);
        } else if options.state.is_some() {
            print_state(cluster, &group, &described, options.verbose).await?;
        } else {
            print_offsets(cluster, &group, &described, &offsets, options.verbose).await?;
        }
        match state.as_str() {
            "Empty" | "Dead" => {
                eprintln!("\nConsumer group '{group}' has no active members.");
            }
            "PreparingRebalance" | "CompletingRebalance" => {
                eprintln!("\nWarning: Consumer group '{group}' is rebalancing.");
            }
            _ => {}
        }
    }
    Ok(())
}

async fn print_offsets(
    cluster: &Cluster,
    group: &str,
    described: &DescribedGroup,
    offsets: &HashMap<(Arc<str>, i32), CommittedOffset>,
    verbose: bool,
) -> Result<(), ClientError> {
    let mut readers: BTreeMap<(Arc<str>, i32), Assigned<'_>> = BTreeMap::new();
    for member in &described.members {
        for (topic, partition) in decode_assignment(&member.member_assignment).unwrap_or_default() {
            let assigned = Assigned {
                consumer_id: &member.member_id,
                host: &member.client_host,
                client_id: &member.client_id,
            };
            readers.insert((topic.into(), partition), assigned);
        }
    }
    let keys: BTreeSet<(Arc<str>, i32)> = readers.keys().chain(offsets.keys()).cloned().collect();
    let ends = list_offsets(cluster, &keys, LATEST).await?;
    let mut rows: Vec<Vec<String>> = Vec::new();
    for key in &keys {
        let committed = offsets.get(key);
        let end = ends.get(key).map(|(offset, _)| *offset);
        let number = |n: Option<i64>| n.map_or_else(|| NOTHING.to_owned(), |n| n.to_string());
        let lag = committed.and_then(|c| Some((end? - c.offset).max(0)));
        let reader = readers.get(key);
        let mut row = vec![group.to_owned(), key.0.to_string(), key.1.to_string()];
        if verbose {
            let epoch = committed.map(|c| i64::from(c.leader_epoch));
            row.push(number(epoch.filter(|e| *e >= 0)));
        }
        row.extend([
            number(committed.map(|c| c.offset)),
            number(end),
            number(lag),
            reader.map_or(NOTHING, |r| r.consumer_id).to_owned(),
            reader.map_or(NOTHING, |r| r.host).to_owned(),
            reader.map_or(NOTHING, |r| r.client_id).to_owned(),
        ]);
        rows.push(row);
    }
    let mut header = vec!["GROUP", "TOPIC", "PARTITION"];
    let mut widths = vec![
        table::width(LEAST, std::iter::once(group)),
        table::width(LEAST, keys.iter().map(|(topic, _)| &**topic)),
        10,
    ];
    if verbose {
        header.push("LEADER-EPOCH");
        widths.push(15);
    }
    header.extend([
        "CURRENT-OFFSET",
        "LOG-END-OFFSET",
        "LAG",
        "CONSUMER-ID",
        "HOST",
        "CLIENT-ID",
    ]);
    widths.extend([
        15,
        15,
        15,
        table::width(LEAST, readers.values().map(|r| r.consumer_id)),
        table::width(LEAST, readers.values().map(|r| r.host)),
    ]);
    println!("\n{}", table::line(&header, &widths));
    for row in &rows {
        let row: Vec<&str> = row.iter().map(String::as_str).collect();
        println!("{}", table::line(&row, &widths));
    }
    Ok(())
}

/// `topic:0,1;other:2`
fn assignment_text(assignment: &[(String, i32)]) -> String {
    let mut by_topic: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
    for (topic, partition) in assignment {
        by_topic.entry(topic).or_default().insert(*partition);
    }
    let topics: Vec<String> = by_topic
        .into_iter()
        .map(|(topic, partitions)| {
            let partitions: Vec<String> = partitions.iter().map(ToString::to_string).collect();
            format!("{topic}:{}", partitions.join(","))
        })
        .collect();
    if topics.is_empty() {
        NOTHING.to_owned()
    } else {
        topics.join(";")
    }
}

fn print_members(group: &str, described: &DescribedGroup, verbose: bool) {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for member in &described.members {
        let assignment = decode_assignment(&member.member_assignment).unwrap_or_default();
        let mut row = vec![
            group.to_owned(),
            member.member_id.to_string(),
            member.client_host.to_string(),
            member.client_id.to_string(),
            assignment.len().to_string(),
        ];
        if verbose {
            let told = assignment_text(&assignment);
            row.extend([NOTHING.into(), told, NOTHING.into(), NOTHING.into()]);
        }
        rows.push(row);
    }
    let column = |index: usize, least| table::width(least, rows.iter().map(|r| r[index].as_str()));
    let mut header = vec!["GROUP", "CONSUMER-ID", "HOST", "CLIENT-ID", "#PARTITIONS"];
    let mut widths = vec![
        table::width(LEAST, std::iter::once(group)),
        column(1, LEAST),
        column(2, LEAST),
        column(3, LEAST),
        15,
    ];
    if verbose {
        header.extend([
            "CURRENT-EPOCH",
            "CURRENT-ASSIGNMENT",
            "TARGET-EPOCH",
            "TARGET-ASSIGNMENT",
        ]);
        widths.extend([15, column(6, 20), 15, 20]);
    }
    println!("\n{} ", table::line(&header, &widths));
    for row in &rows {
        let row: Vec<&str> = row.iter().map(String::as_str).collect();
        println!("{} ", table::line(&row, &widths));
    }
}

async fn print_state(
    cluster: &Cluster,
    group: &str,
    described: &DescribedGroup,
    verbose: bool,
) -> Result<(), ClientError> {
    let id = cluster.coordinator(group).await?;
    cluster.metadata(Some(&[])).await?;
    let node = cluster.nodes().remove(&id);
    let coordinator = node.map_or_else(
        || NOTHING.to_owned(),
        |node| format!("{}:{}  ({id})", node.host, node.port),
    );
    let strategy = if described.protocol_data.is_empty() {
        NOTHING
    } else {
        &described.protocol_data
    };
    let members = described.members.len().to_string();
    let mut widths = vec![
        table::width(LEAST, std::iter::once(group)),
        table::width(COORDINATOR_COLUMN, std::iter::once(coordinator.as_str())),
        STRATEGY_COLUMN,
        STATE_COLUMN,
    ];
    let mut header = vec!["GROUP", "COORDINATOR (ID)", "ASSIGNMENT-STRATEGY", "STATE"];
    let state: &str = &described.group_state;
    let mut row = vec![group, &coordinator, strategy, state];
    if verbose {
        header.extend(["GROUP-EPOCH", "TARGET-ASSIGNMENT-EPOCH"]);
        row.extend([NOTHING, NOTHING]);
        widths.extend([15, 25]);
    }
    header.push("#MEMBERS");
    row.push(&members);
    println!("\n{}", table::line(&header, &widths));
    println!("{}", table::line(&row, &widths));
    Ok(())
}

async fn delete(cluster: &Cluster, options: &Options) -> Result<(), ClientError> {
    let groups = group_names(cluster, options).await?;
    let mut failures = Vec::new();
    let mut deleted = Vec::new();
    for group in &groups {
        let request =
            m::DeleteGroupsRequest::default().with_groups_names(vec![m::GroupId(text(group))]);
        let code =
            |answer: &m::DeleteGroupsResponse| answer.results.first().map_or(0, |r| r.error_code);
        let done = cluster.call_coordinator(group, &request, code).await;
        let done = done.and_then(|answer| check(group, code(&answer), None));
        match done {
            Ok(()) => deleted.push(format!("'{group}'")),
            Err(error) => failures.push((group, error)),
        }
    }
    if failures.is_empty() {
        println!(
            "Deletion of requested consumer groups ({}) was successful.",
            deleted.join(", ")
        );
        return Ok(());
    }
    println!("\nError: Deletion of some consumer groups failed:");
    for (group, error) in &failures {
        println!(
            "* Group '{group}' could not be deleted due to: {}",
            error.java()
        );
    }
    if !deleted.is_empty() {
        println!(
            "\nThese consumer groups were deleted successfully: {}",
            deleted.join(", ")
        );
    }
    Ok(())
}

async fn delete_offsets(cluster: &Cluster, options: &Options) -> Result<(), ClientError> {
    let group = options.group.first().cloned().unwrap_or_default();
    let partitions = named_partitions(cluster, &options.topic).await?;
    let mut topics: BTreeMap<&str, Vec<OffsetDeleteRequestPartition>> = BTreeMap::new();
    for (topic, partition) in &partitions {
        let one = OffsetDeleteRequestPartition::default().with_partition_index(*partition);
        topics.entry(topic).or_default().push(one);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        OffsetDeleteRequestTopic::default()
            .with_name(m::TopicName(text(name)))
            .with_partitions(partitions)
    });
    let request = m::OffsetDeleteRequest::default()
        .with_group_id(m::GroupId(text(&group)))
        .with_topics(topics.collect());
    let code = |answer: &m::OffsetDeleteResponse| answer.error_code;
    let answer = cluster.call_coordinator(&group, &request, code).await?;
    let whole = check(&group, answer.error_code, None);
    let failed = answer
        .topics
        .iter()
        .flat_map(|t| &t.partitions)
        .any(|p| p.error_code != 0);
    match (&whole, failed) {
        (Ok(()), false) => {
            println!("Request succeeded for deleting offsets from group {group}.");
        }
        (Ok(()), true) => {
            println!("\nError: Encountered some partition-level error, see the follow-up details.");
        }
        (Err(error), _) => println!("\nError: {}", error.reason()),
    }
    println!("\n{:<15} {:<10} {:<15}", "TOPIC", "PARTITION", "STATUS");
    for topic in &answer.topics {
        for p in &topic.partitions {
            let status = check(&topic.name, p.error_code, None).map_or_else(
                |e| format!("Error: {}", e.reason()),
                |()| "Successful".into(),
            );
            println!(
                "{:<15} {:<10} {status:<15}",
                topic.name.as_str(),
                p.partition_index
            );
        }
    }
    Ok(())
}

/// `topic` is all its partitions, `topic:0,1` these two.
pub async fn named_partitions(
    cluster: &Cluster,
    given: &[String],
) -> Result<BTreeSet<(Arc<str>, i32)>, ClientError> {
    let mut found = BTreeSet::new();
    let mut whole = Vec::new();
    for one in given {
        match one.split_once(':') {
            None => whole.push(one.clone()),
            Some((topic, indexes)) => {
                for index in indexes.split(',') {
                    let index = index.trim().parse().map_err(|_| ClientError::Broker {
                        what: one.clone(),
                        code: ErrorCode::InvalidPartitions,
                        message: Some(format!(
                            "Invalid partition '{index}' specified in topic arg '{one}'"
                        )),
                    })?;
                    found.insert((Arc::from(topic), index));
                }
            }
        }
    }
    if !whole.is_empty() {
        let metadata = cluster.metadata(Some(&whole)).await?;
        for topic in &metadata.topics {
            let name = topic.name.as_ref().map_or("", |n| n.as_str());
            check(name, topic.error_code, None)?;
            for p in &topic.partitions {
                found.insert((Arc::from(name), p.partition_index));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_are_told_by_topic() {
        let assignment = [
            ("b".to_owned(), 1),
            ("a".to_owned(), 2),
            ("b".to_owned(), 0),
        ];
        assert_eq!(assignment_text(&assignment), "a:2;b:0,1");
        assert_eq!(assignment_text(&[]), "-");
    }
}
