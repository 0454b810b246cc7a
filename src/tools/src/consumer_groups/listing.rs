//! The groups of a cluster: `kafka-consumer-groups --list`, and the groups that other actions mean.

use std::collections::BTreeMap;

use kafka_protocol::messages as m;
use strandline_client::{ClientError, Cluster, check};

use super::{GROUP_COLUMN, STATE_COLUMN};
use crate::group_options::Options;
use crate::table;

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

pub(super) async fn list(cluster: &Cluster, options: &Options) -> Result<(), ClientError> {
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
