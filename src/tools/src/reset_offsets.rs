//! `kafka-consumer-groups --reset-offsets`: where a group is to begin next.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use strandline_client::{ClientError, Cluster, Key, commit_offsets, committed, list_offsets};
use strandline_wire::special_timestamp::{EARLIEST, LATEST};

use crate::command::{Failure, Outcome, told};
use crate::consumer_groups::{group_names, named_partitions, state_with_members};
use crate::group_options::Options;
use crate::table;
use crate::time::{now_ms, parse_date_time, parse_duration};

/// New offsets by group.
type Plan = BTreeMap<String, BTreeMap<Key, i64>>;

/// Where to.
enum Target {
    Earliest,
    Latest,
    Current,
    Offset(i64),
    Shift(i64),
    Time(i64),
    File(Plan),
}

fn target(options: &Options) -> Result<Target, Failure> {
    let usage = |message: &str| Failure::stderr(message);
    let mut targets = Vec::new();
    if options.to_earliest {
        targets.push(Target::Earliest);
    }
    if options.to_latest {
        targets.push(Target::Latest);
    }
    if options.to_current {
        targets.push(Target::Current);
    }
    if let Some(offset) = options.to_offset {
        targets.push(Target::Offset(offset));
    }
    if let Some(by) = options.shift_by {
        targets.push(Target::Shift(by));
    }
    if let Some(given) = &options.to_datetime {
        targets.push(Target::Time(parse_date_time(given).map_err(|e| usage(&e))?));
    }
    if let Some(given) = &options.by_duration {
        let back = parse_duration(given).map_err(|e| usage(&e))?;
        targets.push(Target::Time(now_ms() - back.as_millis() as i64));
    }
    if let Some(path) = &options.from_file {
        let csv = std::fs::read_to_string(path)
            .map_err(|e| usage(&format!("{}: {e}", path.display())))?;
        let plan = parse_file(
            &csv,
            options.group.first().filter(|_| options.group.len() == 1),
        );
        let plan = plan.map_err(|line| {
            usage(&format!(
                "{}: not topic,partition,offset, nor group,topic,partition,offset: {line}",
                path.display()
            ))
        })?;
        targets.push(Target::File(plan));
    }
    let target = targets.pop().filter(|_| targets.is_empty());
    target.ok_or_else(|| {
        usage(
            "Option \"reset-offsets\" needs exactly one of --to-offset, --shift-by, --to-datetime, --by-duration, --to-earliest, --to-latest, --to-current, --from-file",
        )
    })
}

/// The lines of an export; `Err` is the first that is none.
fn parse_file(csv: &str, group: Option<&String>) -> Result<Plan, String> {
    let mut plan = Plan::new();
    for line in csv.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let fields: Vec<&str> = line
            .split(',')
            .map(|f| f.trim().trim_matches('"'))
            .collect();
        let (group, topic, partition, offset) = match (fields.as_slice(), group) {
            ([topic, partition, offset], Some(group)) => (group.as_str(), topic, partition, offset),
            ([group, topic, partition, offset], _) => (*group, topic, partition, offset),
            _ => return Err(line.to_owned()),
        };
        let (Ok(partition), Ok(offset)) = (partition.parse(), offset.parse()) else {
            return Err(line.to_owned());
        };
        let of_group = plan.entry(group.to_owned()).or_default();
        of_group.insert((Arc::from(*topic), partition), offset);
    }
    Ok(plan)
}

pub async fn run(cluster: &Cluster, options: &Options) -> Outcome {
    let target = target(options)?;
    if options.dry_run && options.execute {
        return Err(Failure::stderr(
            "Option [dry-run] can't be used with option [execute]",
        ));
    }
    let scoped = options.all_topics || !options.topic.is_empty();
    if !scoped && !matches!(target, Target::File(_)) {
        return Err(Failure::stderr(
            "One of the reset scopes should be defined: --all-topics, --topic.",
        ));
    }
    if !options.execute && !options.dry_run {
        eprintln!(
            "WARN: No action will be performed as the --execute option is missing. \
             In version 5.0, this command will require either --dry-run or --execute to be specified. \
             You should add the --dry-run option explicitly if you are scripting this command and want to keep the current default behavior without prompting."
        );
    }
    let groups = group_names(cluster, options).await?;
    let mut plan = Plan::new();
    for group in &groups {
        match plan_group(cluster, options, group, &target).await {
            Ok(Some(offsets)) => {
                plan.insert(group.clone(), offsets);
            }
            Ok(None) => {
                plan.insert(group.clone(), BTreeMap::new());
            }
            Err(error) => {
                println!(
                    "\nError: Executing consumer group command failed due to {}",
                    error.java()
                );
                return Err(Failure::stderr(told(&error)));
            }
        }
    }
    if options.execute {
        for (group, offsets) in plan.iter().filter(|(_, offsets)| !offsets.is_empty()) {
            commit_offsets(cluster, group, ("", -1), offsets).await?;
        }
    }
    if options.export {
        export(&plan);
    } else {
        print(&plan);
    }
    Ok(())
}

/// The new offsets of one group; `None` while it has members.
async fn plan_group(
    cluster: &Cluster,
    options: &Options,
    group: &str,
    target: &Target,
) -> Result<Option<BTreeMap<Key, i64>>, ClientError> {
    if let Some(state) = state_with_members(cluster, group).await? {
        println!(
            "\nError: Assignments can only be reset if the group '{group}' is inactive, but the current state is {state}."
        );
        return Ok(None);
    }
    let known = committed(cluster, group, None).await?;
    let known: HashMap<Key, i64> = known.into_iter().map(|(k, c)| (k, c.offset)).collect();
    let partitions: BTreeSet<Key> = if let Target::File(plan) = target {
        plan.get(group)
            .into_iter()
            .flat_map(BTreeMap::keys)
            .cloned()
            .collect()
    } else if options.all_topics {
        known.keys().cloned().collect()
    } else {
        named_partitions(cluster, &options.topic).await?
    };
    let at = async |timestamp: i64| -> Result<BTreeMap<Key, i64>, ClientError> {
        let found = list_offsets(cluster, &partitions, timestamp).await?;
        Ok(found
            .into_iter()
            .map(|(k, (offset, _))| (k, offset))
            .collect())
    };
    let wished: BTreeMap<Key, i64> = match target {
        Target::Earliest => return at(EARLIEST).await.map(Some),
        Target::Latest => return at(LATEST).await.map(Some),
        Target::Time(ms) => {
            // Behind the last record, the end offset is the answer.
            let ends = at(LATEST).await?;
            let found = at(*ms).await?;
            let found = ends.into_iter().map(|(key, end)| {
                let offset = found.get(&key).copied().filter(|o| *o >= 0);
                (key, offset.unwrap_or(end))
            });
            return Ok(Some(found.collect()));
        }
        Target::Current => {
            let ends = at(LATEST).await?;
            let current = ends.into_iter().map(|(key, end)| {
                let offset = known.get(&key).copied().unwrap_or(end);
                (key, offset)
            });
            return Ok(Some(current.collect()));
        }
        Target::Offset(offset) => partitions.iter().map(|k| (k.clone(), *offset)).collect(),
        Target::Shift(by) => {
            let missing = partitions.iter().find(|k| !known.contains_key(*k));
            if let Some((topic, partition)) = missing {
                return Err(ClientError::Broker {
                    what: group.to_owned(),
                    code: strandline_wire::ErrorCode::InvalidRequest,
                    message: Some(format!(
                        "Cannot shift offset for partition {topic}-{partition} since there is no current committed offset"
                    )),
                });
            }
            let moved = partitions
                .iter()
                .map(|k| (k.clone(), known[k].saturating_add(*by)));
            moved.collect()
        }
        Target::File(plan) => plan.get(group).cloned().unwrap_or_default(),
    };
    // Clamp to the offsets that exist.
    let (starts, ends) = (at(EARLIEST).await?, at(LATEST).await?);
    let mut fitted = BTreeMap::new();
    for (key, offset) in wished {
        let (Some(start), Some(end)) = (starts.get(&key), ends.get(&key)) else {
            continue;
        };
        let name = format!("{}-{}", key.0, key.1);
        let fit = if offset > *end {
            eprintln!(
                "WARN New offset ({offset}) is higher than latest offset for topic partition {name}. Value will be set to {end}"
            );
            *end
        } else if offset < *start {
            eprintln!(
                "WARN New offset ({offset}) is lower than earliest offset for topic partition {name}. Value will be set to {start}"
            );
            *start
        } else {
            offset
        };
        fitted.insert(key, fit);
    }
    Ok(Some(fitted))
}

fn export(plan: &Plan) {
    for (group, offsets) in plan {
        for ((topic, partition), offset) in offsets {
            if plan.len() == 1 {
                println!("{topic},{partition},{offset}");
            } else {
                println!("{group},{topic},{partition},{offset}");
            }
        }
    }
    println!();
}

fn print(plan: &Plan) {
    let topics = plan.values().flat_map(BTreeMap::keys).map(|(t, _)| &**t);
    let widths = [
        table::width(15, plan.keys().map(String::as_str)),
        table::width(15, topics),
        10,
    ];
    let header = ["GROUP", "TOPIC", "PARTITION", "NEW-OFFSET"];
    println!("\n{}", table::line(&header, &widths));
    for (group, offsets) in plan {
        for ((topic, partition), offset) in offsets {
            let row = [
                group.as_str(),
                topic,
                &partition.to_string(),
                &offset.to_string(),
            ];
            println!("{}", table::line(&row, &widths));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_is_read_back() {
        let group = "g".to_owned();
        let plan = parse_file("orders,0,2\norders,1,4\n\n", Some(&group)).unwrap();
        assert_eq!(plan["g"][&(Arc::from("orders"), 1)], 4);
        let plan = parse_file("g1,orders,0,2\ng2,orders,0,3\n", None).unwrap();
        assert_eq!(plan["g2"][&(Arc::from("orders"), 0)], 3);
        assert!(parse_file("orders,0", Some(&group)).is_err());
        assert!(parse_file("orders,x,1", Some(&group)).is_err());
    }
}
