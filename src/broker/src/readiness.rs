//! Whether clients can be served, and if not, everything that is missing and what helps.
//!
//! The object store does not count: appends and hot reads work without it. Partitions whose other replicas are missing do not
//! count either: a machine that starts one broker after the other would wait for ever.

use strandline_types::BrokerId;

use crate::context::BrokerContext;

/// Partitions that a reason names; of more, it says how many.
const NAMED: usize = 3;

/// A broker's knowledge of itself.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub is_stopping: bool,
    pub has_quorum: bool,
    /// Voters of the metadata quorum that are not connected, with their addresses.
    pub missing_voters: Vec<String>,
    pub is_fenced: bool,
    pub directories: Vec<(String, Trouble)>,
    /// Replicas that are offline here, and partitions that are led here and not open.
    pub offline: Vec<String>,
    /// Partitions without a leader that this broker could lead.
    pub leaderless: Vec<String>,
}

/// Why a log directory does not serve.
#[derive(Clone, Debug)]
pub(crate) enum Trouble {
    Absent(String),
    Failed(String),
    Full,
}

/// Everything that is missing; empty when clients can be served.
pub(crate) fn reasons(facts: &Facts) -> Vec<String> {
    let mut all = Vec::new();
    if facts.is_stopping {
        all.push("the process is stopping".to_owned());
    }
    if !facts.has_quorum {
        all.push(no_leader(&facts.missing_voters));
    }
    if facts.is_fenced {
        all.push(
            "this broker is fenced: the active controller does not hear from it, or it has not caught up yet".to_owned(),
        );
    }
    for (path, trouble) in &facts.directories {
        all.push(match trouble {
            Trouble::Absent(reason) => reason.clone(),
            Trouble::Failed(reason) => format!(
                "log directory {path} has failed: {reason}; replace the disk, or repair it, and start again"
            ),
            Trouble::Full => format!(
                "log directory {path} is full: make room on its file system (strandline.log.dir.reserved.bytes stay free)"
            ),
        });
    }
    if !facts.offline.is_empty() {
        all.push(format!("replicas are offline: {}", some_of(&facts.offline)));
    }
    if !facts.leaderless.is_empty() {
        all.push(format!(
            "partitions have no leader: {}",
            some_of(&facts.leaderless)
        ));
    }
    all
}

/// The reason of a process whose metadata quorum has no leader.
pub(crate) fn no_leader(missing_voters: &[String]) -> String {
    let no_leader = "the metadata quorum has no leader";
    if missing_voters.is_empty() {
        return no_leader.to_owned();
    }
    let missing = missing_voters.join(", ");
    format!("{no_leader}; not connected: {missing} (controller.quorum.voters)")
}

fn some_of(partitions: &[String]) -> String {
    let named = partitions.iter().take(NAMED).cloned().collect::<Vec<_>>();
    let named = named.join(", ");
    match partitions.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// The knowledge of `context` now.
pub(crate) fn facts(context: &BrokerContext) -> Facts {
    let image = context.quorum.image();
    let own = BrokerId(context.node_id());
    let log_dirs = &context.partitions.log_dirs;
    let mut directories: Vec<(String, Trouble)> = Vec::new();
    for absent in &log_dirs.absent {
        directories.push((String::new(), Trouble::Absent(absent.reason.clone())));
    }
    for (index, dir) in log_dirs.dirs.iter().enumerate() {
        let path = dir.path.display().to_string();
        if log_dirs.is_failed(index) {
            let reason = log_dirs.health.failure(index).unwrap_or_default();
            directories.push((path, Trouble::Failed(reason)));
        } else if log_dirs.health.is_full(index) {
            directories.push((path, Trouble::Full));
        }
    }
    let open = context.partitions.table();
    let (mut offline, mut leaderless) = (Vec::new(), Vec::new());
    for topic in image.topics() {
        for (number, state) in &topic.partitions {
            if !state.replicas.contains(&own) {
                continue;
            }
            let name = || format!("{}-{number}", topic.name);
            let here = open.get(&topic.name, *number);
            let leads = state.leader == Some(own);
            if here.is_none_or(|p| p.is_offline() || (leads && !p.is_leader())) {
                offline.push(name());
            } else if state.leader.is_none()
                && (state.isr.contains(&own) || state.eligible_leader_replicas.contains(&own))
            {
                leaderless.push(name());
            }
        }
    }
    let registered = image.brokers.get(&own);
    Facts {
        is_stopping: context.stopping.is_cancelled(),
        has_quorum: context.quorum.leader().0 >= 0,
        missing_voters: context.quorum.missing_voters(),
        is_fenced: registered.is_none_or(|b| b.fenced || b.epoch != context.broker_epoch()),
        directories,
        offline,
        leaderless,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well() -> Facts {
        Facts {
            has_quorum: true,
            ..Facts::default()
        }
    }

    #[test]
    fn everything_that_is_missing_is_named_with_its_place_and_what_helps() {
        assert!(reasons(&well()).is_empty());
        let path = "/data/a".to_owned();
        for (facts, expected) in [
            (
                Facts {
                    is_stopping: true,
                    ..well()
                },
                vec!["stopping"],
            ),
            (
                Facts {
                    missing_voters: vec!["2 at b:9093".into(), "3 at c:9093".into()],
                    ..Facts::default()
                },
                vec![
                    "no leader",
                    "2 at b:9093, 3 at c:9093",
                    "controller.quorum.voters",
                ],
            ),
            (
                Facts {
                    is_fenced: true,
                    ..well()
                },
                vec!["fenced", "does not hear"],
            ),
            (
                Facts {
                    directories: vec![(path.clone(), Trouble::Failed("EIO".into()))],
                    ..well()
                },
                vec!["/data/a", "EIO", "replace the disk"],
            ),
            (
                Facts {
                    directories: vec![(path, Trouble::Full)],
                    ..well()
                },
                vec![
                    "/data/a",
                    "full",
                    "make room",
                    "strandline.log.dir.reserved.bytes",
                ],
            ),
            (
                Facts {
                    offline: (0..5).map(|n| format!("t-{n}")).collect(),
                    ..well()
                },
                vec!["offline", "t-0, t-1, t-2 and 2 more"],
            ),
            (
                Facts {
                    leaderless: vec!["t-0".into()],
                    ..well()
                },
                vec!["no leader", "t-0"],
            ),
        ] {
            let told = reasons(&facts);
            assert_eq!(told.len(), 1, "{facts:?}: {told:?}");
            for part in expected {
                assert!(told[0].contains(part), "{part}: {told:?}");
            }
        }
    }

    #[test]
    fn several_reasons_are_all_told() {
        let facts = Facts {
            is_fenced: true,
            offline: vec!["t-0".into()],
            ..Facts::default()
        };
        assert_eq!(reasons(&facts).len(), 3);
    }
}
