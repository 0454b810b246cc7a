//! `kafka-features`

use std::collections::BTreeMap;
use std::ffi::OsString;

use kafka_protocol::messages as m;
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use strandline_client::{Cluster, check};
use strandline_wire::StrBytes;

use crate::command::{Connect, Failure, Outcome, parse};

const METADATA: &str = "metadata.version";
/// Upgrade types of `UpdateFeatures`.
const UPGRADE: i8 = 1;
const SAFE_DOWNGRADE: i8 = 2;
const UNSAFE_DOWNGRADE: i8 = 3;
/// Kafka's names of the levels of `metadata.version` that brokers of 4.x begin with, from level 7 on.
const METADATA_LEVELS: [&str; 24] = [
    "3.3-IV3", "3.4-IV0", "3.5-IV0", "3.5-IV1", "3.5-IV2", "3.6-IV0", "3.6-IV1", "3.6-IV2",
    "3.7-IV0", "3.7-IV1", "3.7-IV2", "3.7-IV3", "3.7-IV4", "3.8-IV0", "3.9-IV0", "4.0-IV0",
    "4.0-IV1", "4.0-IV2", "4.0-IV3", "4.1-IV0", "4.1-IV1", "4.2-IV0", "4.2-IV1", "4.3-IV0",
];
const FIRST_METADATA_LEVEL: i16 = 7;

#[derive(clap::Parser)]
pub(crate) struct Options {
    #[command(flatten)]
    connect: Connect,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Features that the brokers support, and the levels in effect.
    Describe,
    /// Raises levels.
    Upgrade {
        /// NAME=LEVEL
        #[arg(long)]
        feature: Vec<String>,
        /// Change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Lowers levels.
    Downgrade {
        /// NAME=LEVEL
        #[arg(long)]
        feature: Vec<String>,
        /// Change nothing.
        #[arg(long)]
        dry_run: bool,
        /// Lower a level even if that loses metadata.
        #[arg(long = "unsafe")]
        is_unsafe: bool,
    },
    /// Sets levels to 0.
    Disable {
        /// The feature and its level: NAME=LEVEL.
        #[arg(long)]
        feature: Vec<String>,
        /// Change nothing.
        #[arg(long)]
        dry_run: bool,
        /// Lower a level even if that loses metadata.
        #[arg(long = "unsafe")]
        is_unsafe: bool,
    },
}

/// How Kafka writes a level.
fn level(feature: &str, level: i16) -> String {
    let named = (feature == METADATA)
        .then(|| METADATA_LEVELS.get(usize::try_from(level - FIRST_METADATA_LEVEL).ok()?))
        .flatten();
    named.map_or_else(|| level.to_string(), |name| (*name).to_owned())
}

pub async fn run(tool: &'static str, arguments: Vec<OsString>) -> Outcome {
    let options: Options = parse(tool, arguments)?;
    let cluster = options.connect.cluster("adminclient-1")?;
    match options.command {
        Command::Describe => describe(&cluster).await,
        Command::Upgrade { feature, dry_run } => {
            let changes = parse_levels(&feature)?;
            update(&cluster, "upgrade", UPGRADE, changes, dry_run).await
        }
        Command::Downgrade {
            feature,
            dry_run,
            is_unsafe,
        } => {
            let changes = parse_levels(&feature)?;
            let kind = if is_unsafe {
                UNSAFE_DOWNGRADE
            } else {
                SAFE_DOWNGRADE
            };
            update(&cluster, "downgrade", kind, changes, dry_run).await
        }
        Command::Disable {
            feature,
            dry_run,
            is_unsafe,
        } => {
            let changes = feature.into_iter().map(|name| (name, 0)).collect();
            let kind = if is_unsafe {
                UNSAFE_DOWNGRADE
            } else {
                SAFE_DOWNGRADE
            };
            update(&cluster, "disable", kind, changes, dry_run).await
        }
    }
}

fn parse_levels(given: &[String]) -> Result<Vec<(String, i16)>, Failure> {
    if given.is_empty() {
        return Err(Failure::stderr("You must specify at least one --feature"));
    }
    let parsed = given.iter().map(|one| {
        let bad = || {
            Failure::stderr(format!(
                "Can't parse feature=level string {one}: equals sign not found."
            ))
        };
        let (name, level) = one.split_once('=').ok_or_else(bad)?;
        let level = level.parse().map_err(|_| {
            Failure::stderr(format!(
                "Can't parse feature=level string {one}: unable to parse {level} as a short."
            ))
        })?;
        Ok((name.to_owned(), level))
    });
    parsed.collect()
}

async fn describe(cluster: &Cluster) -> Outcome {
    let channel = cluster.any("describeFeatures").await?;
    let request = m::ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("strandline"))
        .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
    let answer = channel
        .call(&request, cluster.options.request_timeout)
        .await?;
    check("features", answer.error_code, None)?;
    let finalized: BTreeMap<String, i16> = answer
        .finalized_features
        .iter()
        .map(|f| (f.name.to_string(), f.max_version_level))
        .collect();
    let mut supported: BTreeMap<String, (i16, i16)> = answer
        .supported_features
        .iter()
        .map(|f| (f.name.to_string(), (f.min_version, f.max_version)))
        .collect();
    let epoch = match answer.finalized_features_epoch {
        epoch if epoch < 0 => "-".to_owned(),
        epoch => epoch.to_string(),
    };
    for name in finalized.keys() {
        supported.entry(name.clone()).or_insert((0, 0));
    }
    for (name, (min, max)) in supported {
        let current = finalized.get(&name).copied().unwrap_or(0);
        println!(
            "Feature: {name:<41} SupportedMinVersion: {:<16} SupportedMaxVersion: {:<16} FinalizedVersionLevel: {:<16} Epoch: {epoch}",
            level(&name, min),
            level(&name, max),
            level(&name, current),
        );
    }
    Ok(())
}

async fn update(
    cluster: &Cluster,
    verb: &str,
    kind: i8,
    changes: Vec<(String, i16)>,
    dry_run: bool,
) -> Outcome {
    if changes.is_empty() {
        return Err(Failure::stderr("You must specify at least one --feature"));
    }
    let updates = changes.iter().map(|(name, level)| {
        FeatureUpdateKey::default()
            .with_feature(StrBytes::from_string(name.clone()))
            .with_max_version_level(*level)
            .with_upgrade_type(kind)
    });
    let request = m::UpdateFeaturesRequest::default()
        .with_timeout_ms(cluster.options.request_timeout.as_millis() as i32)
        .with_feature_updates(updates.collect())
        .with_validate_only(dry_run);
    let answer = cluster.call_any("updateFeatures", &request).await?;
    let whole = check("features", answer.error_code, answer.error_message.as_ref());
    let mut failures = 0;
    for (name, to) in &changes {
        let own = answer.results.iter().find(|r| r.feature.as_str() == name);
        let told = match (&whole, own) {
            (Err(error), _) => Err(error.reason()),
            (Ok(()), Some(r)) => {
                check(name, r.error_code, r.error_message.as_ref()).map_err(|e| e.reason())
            }
            (Ok(()), None) => Ok(()),
        };
        let target = if verb == "disable" {
            String::new()
        } else {
            format!(" to {to}")
        };
        match told {
            Ok(()) if dry_run => println!("{name} can be {verb}d{target}."),
            Ok(()) => println!("{name} was {verb}d{target}."),
            Err(reason) => {
                failures += 1;
                println!("Could not {verb} {name}{target}. {reason}");
            }
        }
    }
    if failures == 0 {
        return Ok(());
    }
    Err(Failure::stderr(format!(
        "{failures} out of {} operation(s) failed.",
        changes.len()
    )))
}
