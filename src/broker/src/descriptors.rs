//! The file descriptors of the process (`RLIMIT_NOFILE`): raised to the hard limit at start, and shared out. A quarter is
//! kept for connections and links, so that a broker with many partitions can still be reached and can still leave.

use strandline_metadata::ClusterImage;
use strandline_metadata::config::BrokerConfig;
use strandline_metadata::controller::Command;
use strandline_types::BrokerId;

/// Descriptors that a new replica needs: its log and two indexes.
const PER_REPLICA: u64 = 3;
/// One part in so many is for connections and links.
const CONNECTIONS_SHARE: u64 = 4;

/// Raises the soft limit to the hard one.
pub fn raise() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limits = getrlimit(Resource::Nofile);
    if limits.current == limits.maximum {
        return;
    }
    limits.current = limits.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limits) {
        tracing::warn!(%error, "the limit of open files (RLIMIT_NOFILE) could not be raised");
    }
}

/// The descriptors that the process may have open.
pub fn limit() -> u64 {
    let limits = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limits.current.unwrap_or(u64::MAX)
}

/// Connections that may be open at once: they may take what the files leave, but for an eighth, which segments need that
/// are rolled.
pub fn connections() -> usize {
    let limit = limit();
    usize::try_from(limit - limit / 8).unwrap_or(usize::MAX)
}

/// Descriptors that are open now. Blocks for milliseconds where there are tens of thousands.
fn open() -> u64 {
    std::fs::read_dir("/proc/self/fd").map_or(0, |all| all.count() as u64)
}

/// Whether replicas may be opened without taking descriptors from connections; the error names the limit.
pub fn check(replicas: u64, on_their_way: u64) -> Result<(), String> {
    if replicas == 0 {
        return Ok(());
    }
    check_within(replicas, on_their_way, open(), limit())
}

fn check_within(replicas: u64, on_their_way: u64, open: u64, limit: u64) -> Result<(), String> {
    let needed = replicas.saturating_mul(PER_REPLICA);
    let promised = on_their_way.saturating_mul(PER_REPLICA);
    let for_files = limit - limit / CONNECTIONS_SHARE;
    let left = for_files.saturating_sub(open).saturating_sub(promised);
    if needed <= left {
        return Ok(());
    }
    Err(format!(
        "{replicas} more replicas need {needed} file descriptors, and {left} are left on this broker: the process may open \
         {limit} files (RLIMIT_NOFILE, LimitNOFILE of the unit), a quarter of them is kept for connections"
    ))
}

/// The replicas that a command would add to each broker, where all brokers take an equal part.
pub fn new_replicas(
    command: &Command,
    image: &ClusterImage,
    config: &BrokerConfig,
    own: BrokerId,
) -> u64 {
    let brokers = image.live_brokers().count().max(1) as u64;
    let spread = |partitions: i64, replicas: i64| {
        let all = partitions.max(0) as u64 * replicas.max(1) as u64;
        all.div_ceil(brokers)
    };
    match command {
        Command::CreateTopic(new) if !new.assignments.is_empty() => {
            let here = new.assignments.iter().filter(|(_, to)| to.contains(&own));
            here.count() as u64
        }
        Command::CreateTopic(new) => {
            let or = |given: i64, key: &str| match given {
                -1 => config.number(key),
                given => given,
            };
            spread(
                or(i64::from(new.partitions), "num.partitions"),
                or(
                    i64::from(new.replication_factor),
                    "default.replication.factor",
                ),
            )
        }
        Command::CreatePartitions { topic, count, .. } => {
            let known = image.topic(topic);
            let partitions = known.map_or(0, |t| t.partitions.len() as i64);
            let first = known.and_then(|t| t.partitions.values().next());
            let factor = first.map_or(1, |p| p.replicas.len() as i64);
            spread(i64::from(*count) - partitions, factor)
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_leave_a_quarter_of_the_descriptors_to_connections() {
        let cases = [
            // replicas, on their way, open, limit, left
            (100, 0, 200, 1024, None),
            (189, 0, 200, 1024, None),
            (190, 0, 200, 1024, Some("568 are left")),
            (150, 40, 200, 1024, Some("448 are left")),
            (1, 0, 768, 1024, Some("0 are left")),
            (1, 0, 5000, 1024, Some("0 are left")),
            (u64::MAX, 0, 0, u64::MAX, Some("RLIMIT_NOFILE")),
            (10_000, 0, 500, 1 << 20, None),
        ];
        for (replicas, on_their_way, open, limit, wanted) in cases {
            let found = check_within(replicas, on_their_way, open, limit);
            match wanted {
                None => assert_eq!(found, Ok(()), "{replicas}"),
                Some(text) => assert!(found.unwrap_err().contains(text), "{replicas}"),
            }
        }
    }
}
