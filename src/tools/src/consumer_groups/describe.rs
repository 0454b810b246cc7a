//! `kafka-consumer-groups --describe`

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use strandline_client::{
    ClientError, Cluster, CommittedOffset, committed, decode_assignment, list_offsets,
};
use strandline_wire::special_timestamp::LATEST;

use super::group::{describe_group, not_found};
use super::listing::group_names;
use super::members::print_members;
use super::{COORDINATOR_COLUMN, LEAST, NOTHING, STATE_COLUMN, STRATEGY_COLUMN};
use crate::group_options::Options;
use crate::table;

/// The member that reads a partition.
struct Assigned<'a> {
    consumer_id: &'a str,
    host: &'a str,
    client_id: &'a str,
}

pub(super) async fn describe(cluster: &Cluster, options: &Options) -> Result<(), ClientError> {
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
