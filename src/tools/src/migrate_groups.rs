//! `strandline migrate groups`: offsets of groups from a Kafka cluster to the cluster that mirrors its topics.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use strandline_client::{
    ClientError, ClientOptions, Cluster, Key, Mirrored, commit_offsets, committed,
    mirrored_position,
};

use crate::command::{Failure, Outcome, told};
use crate::consumer_groups::{all_groups, state_with_members};
use crate::table::{line, width};

/// Partitions whose positions are looked up at the same time.
const CONCURRENCY: usize = 8;

/// Looks up where each group stands, record by record, and commits that in the mirror.
#[derive(Clone, Debug, clap::Args)]
pub struct MigrateGroups {
    /// The cluster that the groups leave: HOST:PORT, several separated by commas.
    #[arg(long, value_name = "HOST:PORT")]
    pub from: String,
    /// The cluster that has the same topics by mirroring.
    #[arg(long, value_name = "HOST:PORT")]
    pub to: String,
    /// A group; may be repeated. Without it, all groups of consumers.
    #[arg(long)]
    pub group: Vec<String>,
    /// The prefix that mirroring puts before the names of topics: `kafka.` with MirrorMaker's default policy; empty
    /// where names stay.
    #[arg(long, default_value = "")]
    pub prefix: String,
    /// Commits the offsets. Without it, they are only shown.
    #[arg(long)]
    pub execute: bool,
}

/// Where a group is in one partition, there and here.
struct Translated {
    key: Key,
    there: i64,
    here: Result<i64, String>,
}

pub async fn run(options: &MigrateGroups) -> Outcome {
    let cluster = |address: &str| {
        let client = ClientOptions {
            client_id: "strandline-migrate".into(),
            ..ClientOptions::default()
        };
        Cluster::new(address, client)
    };
    let (from, to) = (cluster(&options.from), cluster(&options.to));
    let groups = if options.group.is_empty() {
        let all = all_groups(&from).await?;
        all.into_iter().map(|g| g.group).collect()
    } else {
        options.group.clone()
    };
    let mut rows = vec![
        [
            "GROUP",
            "TOPIC",
            "PARTITION",
            "OFFSET",
            "NEW-OFFSET",
            "STATE",
        ]
        .map(String::from),
    ];
    let mut failed = 0;
    for group in &groups {
        let mut translated = translate(&from, &to, group, &options.prefix).await?;
        keep_what_is_further(&to, group, &mut translated).await?;
        let offsets: BTreeMap<Key, i64> = translated
            .iter()
            .filter_map(|t| Some((t.key.clone(), *t.here.as_ref().ok()?)))
            .collect();
        let state = match state_with_members(&to, group).await? {
            Some(state) => Err(format!("the group has members here ({state})")),
            None if !options.execute => Ok("found"),
            None if offsets.is_empty() => Ok("found"),
            None => match commit_offsets(&to, group, ("", -1), &offsets).await {
                Ok(()) => Ok("committed"),
                Err(error) => Err(told(&error)),
            },
        };
        for one in translated {
            let outcome = match (&one.here, &state) {
                (Err(reason), _) | (Ok(_), Err(reason)) => Err(reason.clone()),
                (Ok(_), Ok(state)) => Ok((*state).to_owned()),
            };
            failed += usize::from(outcome.is_err());
            rows.push([
                group.clone(),
                one.key.0.to_string(),
                one.key.1.to_string(),
                one.there.to_string(),
                one.here.map_or_else(|_| "-".into(), |o| o.to_string()),
                outcome.unwrap_or_else(|reason| reason),
            ]);
        }
    }
    let widths: Vec<usize> = (0..5)
        .map(|column| width(0, rows.iter().map(|row| row[column].as_str())))
        .collect();
    for row in &rows {
        println!("{}", line(&row.each_ref().map(String::as_str), &widths));
    }
    if failed > 0 {
        return Err(Failure::stderr(format!(
            "{failed} offsets were not migrated; the last column says why"
        )));
    }
    if !options.execute {
        eprintln!("Nothing is committed: --execute does that.");
    }
    Ok(())
}

/// Where a group that has committed in `from` continues in `to`.
async fn translate(
    from: &Arc<Cluster>,
    to: &Arc<Cluster>,
    group: &str,
    prefix: &str,
) -> Result<Vec<Translated>, ClientError> {
    let there: BTreeMap<Key, i64> = committed(from, group, None)
        .await?
        .into_iter()
        .map(|(key, committed)| (key, committed.offset))
        .collect();
    let looked_up = there.into_iter().map(|(key, there)| async move {
        let mirror: Key = (format!("{prefix}{}", key.0).into(), key.1);
        let here = match mirrored_position(from, &key, there, to, &mirror).await {
            Ok(Mirrored::At(offset)) => Ok(offset),
            Ok(Mirrored::NotThere) => Err("the record is not in the mirror, or not yet".to_owned()),
            Ok(Mirrored::NothingLeft) => Err(
                "the source has no record left to look it up by: set it by kafka-consumer-groups.sh --reset-offsets"
                    .to_owned(),
            ),
            // A topic that is not mirrored does not stop the others.
            Err(error) if error.code().is_some() => Err(told(&error)),
            Err(error) => return Err(error),
        };
        Ok(Translated {
            key: mirror,
            there,
            here,
        })
    });
    let looked_up: Vec<_> = looked_up.collect();
    stream::iter(looked_up)
        .buffered(CONCURRENCY)
        .try_collect()
        .await
}

/// A group that has moved and read on is not put back.
async fn keep_what_is_further(
    to: &Cluster,
    group: &str,
    translated: &mut [Translated],
) -> Result<(), ClientError> {
    let known = committed(to, group, None).await?;
    for one in translated {
        let known = known.get(&one.key).map(|c| c.offset);
        if let (Ok(found), Some(known)) = (&one.here, known)
            && known > *found
        {
            one.here = Err(format!("the group is further here, at {known}"));
        }
    }
    Ok(())
}
