//! `kafka-get-offsets`

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::sync::Arc;

use regex::Regex;
use strandline_wire::special_timestamp::{
    EARLIEST, EARLIEST_LOCAL, EARLIEST_PENDING_UPLOAD, LATEST, LATEST_TIERED, MAX_TIMESTAMP,
};

use crate::command::{Connect, Failure, Outcome, include_pattern, parse, told};

#[derive(clap::Parser)]
pub(crate) struct Options {
    #[command(flatten)]
    connect: Connect,
    /// Topics as a regular expression; commas separate alternatives.
    #[arg(long, visible_alias = "topics")]
    topic: Option<String>,
    /// Numbers of partitions, separated by commas.
    #[arg(long)]
    partitions: Option<String>,
    /// Topic and partitions by patterns: topic:0-2,other:1-,third.
    #[arg(long)]
    topic_partitions: Option<String>,
    /// Milliseconds since 1970, or latest, earliest, max-timestamp, earliest-local, latest-tiered,
    /// earliest-pending-upload, or their numbers.
    #[arg(long, default_value = "latest", allow_hyphen_values = true)]
    time: String,
    /// Leave out internal topics.
    #[arg(long)]
    exclude_internal_topics: bool,
}

/// The timestamp that `ListOffsets` knows for a word.
fn timestamp(given: &str) -> Result<i64, Failure> {
    Ok(match given {
        "latest" => LATEST,
        "earliest" => EARLIEST,
        "max-timestamp" => MAX_TIMESTAMP,
        "earliest-local" => EARLIEST_LOCAL,
        "latest-tiered" => LATEST_TIERED,
        "earliest-pending-upload" => EARLIEST_PENDING_UPLOAD,
        number => number.parse().map_err(|_| {
            Failure::stderr(format!(
                "Error occurred: Malformed time argument {number}. Please use -1 or latest / -2 or earliest / -3 or max-timestamp / -4 or earliest-local / -5 or latest-tiered / -6 or earliest-pending-upload, or a specified long format timestamp"
            ))
        })?,
    })
}

/// One entry of `--topic-partitions`: topics, and partitions from one number up to another.
struct Filter {
    topics: Regex,
    from: i32,
    end: i32,
}

fn whole(pattern: &str) -> Result<Regex, Failure> {
    include_pattern(pattern).map_err(|e| Failure::stderr(format!("Error occurred: {e}")))
}

fn filters(options: &Options) -> Result<Vec<Filter>, Failure> {
    let bad = |what: &str| Failure::stderr(format!("Error occurred: Invalid rule: {what}"));
    if let Some(given) = &options.topic_partitions {
        if options.topic.is_some() || options.partitions.is_some() {
            return Err(Failure::stderr(
                "Error occurred: --topic-partitions cannot be used with --topic or --partitions",
            ));
        }
        let rules = given.split(',').map(|rule| {
            let (topic, range) = rule.split_once(':').unwrap_or((rule, ""));
            let number = |text: &str, default: i32| {
                if text.is_empty() {
                    Ok(default)
                } else {
                    text.parse().map_err(|_| bad(rule))
                }
            };
            let (from, end) = match range.split_once('-') {
                _ if range.is_empty() => (0, i32::MAX),
                None => {
                    let one = number(range, 0)?;
                    (one, one + 1)
                }
                Some((from, end)) => (number(from, 0)?, number(end, i32::MAX)?),
            };
            let topic = if topic.is_empty() { ".*" } else { topic };
            Ok(Filter {
                topics: whole(topic)?,
                from,
                end,
            })
        });
        return rules.collect();
    }
    let topics = options.topic.as_deref().unwrap_or(".*");
    let Some(given) = &options.partitions else {
        return Ok(vec![Filter {
            topics: whole(topics)?,
            from: 0,
            end: i32::MAX,
        }]);
    };
    let numbers = given.split(',').map(|n| {
        let from: i32 = n.trim().parse().map_err(|_| bad(given))?;
        Ok(Filter {
            topics: whole(topics)?,
            from,
            end: from + 1,
        })
    });
    numbers.collect()
}

pub async fn run(tool: &'static str, arguments: Vec<OsString>) -> Outcome {
    let options: Options = parse(tool, arguments)?;
    let timestamp = timestamp(&options.time)?;
    let filters = filters(&options)?;
    let cluster = options.connect.cluster("GetOffsetJavaTool")?;
    let failed = |e: strandline_client::ClientError| {
        Failure::stderr(format!("Error occurred: {}", told(&e)))
    };
    let metadata = cluster.metadata(None).await.map_err(failed)?;
    let mut wanted: BTreeSet<(Arc<str>, i32)> = BTreeSet::new();
    let mut leaderless = Vec::new();
    for topic in &metadata.topics {
        let name = topic.name.as_ref().map_or("", |n| n.as_str());
        if options.exclude_internal_topics && topic.is_internal {
            continue;
        }
        for p in &topic.partitions {
            let index = p.partition_index;
            let meant = |f: &Filter| f.topics.is_match(name) && (f.from..f.end).contains(&index);
            if filters.iter().any(meant) {
                if p.leader_id.0 < 0 {
                    leaderless.push(format!("{name}-{index}"));
                }
                wanted.insert((name.into(), index));
            }
        }
    }
    if wanted.is_empty() {
        return Err(Failure::stderr(
            "Error occurred: Could not match any topic-partitions with the specified filters",
        ));
    }
    for partition in leaderless {
        eprintln!(
            "Skip getting offsets for topic-partition {partition} since it has no leader right now."
        );
    }
    let found = strandline_client::list_offsets(&cluster, &wanted, timestamp).await;
    let found = found.map_err(failed)?;
    for (topic, partition) in wanted {
        let offset = found.get(&(topic.clone(), partition)).map(|(o, _)| *o);
        if let Some(offset) = offset.filter(|o| *o >= 0) {
            println!("{topic}:{partition}:{offset}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_numbers_are_times() {
        assert_eq!(timestamp("latest-tiered").ok(), Some(-5));
        assert_eq!(timestamp("-2").ok(), Some(-2));
        assert_eq!(timestamp("1700000000000").ok(), Some(1_700_000_000_000));
        assert!(timestamp("soon").is_err());
    }
}
