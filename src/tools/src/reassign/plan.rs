//! Assignments as JSON: read, checked, proposed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error;
use crate::command::{Failure, partition_name};

pub(super) const ANY: &str = "any";
pub(super) const PROPOSED: &str = "Proposed partition reassignment configuration";

pub(super) type Key = (String, i32);
/// Replicas by partition, as the metadata says.
pub(super) type Current = BTreeMap<Key, Vec<i32>>;

#[derive(Serialize, Deserialize)]
pub(super) struct Plan {
    pub version: i32,
    pub partitions: Vec<PlannedPartition>,
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct PlannedPartition {
    pub topic: String,
    pub partition: i32,
    pub replicas: Vec<i32>,
    #[serde(default)]
    pub log_dirs: Vec<String>,
}

pub(super) fn name(key: &Key) -> String {
    partition_name(&key.0, key.1)
}

pub(super) fn names<'a>(keys: impl Iterator<Item = &'a Key>) -> String {
    let names: Vec<String> = keys.map(name).collect();
    names.join(",")
}

/// A plan from its file; of the output of `--generate`, the proposed plan.
pub(super) fn read_plan(path: &Path) -> Result<Vec<PlannedPartition>, Failure> {
    let given =
        std::fs::read_to_string(path).map_err(|e| error(format!("{}: {e}", path.display())))?;
    let json = match given.split_once(PROPOSED) {
        Some((_, proposed)) => {
            eprintln!(
                "{}: the proposed one of two assignments is taken",
                path.display()
            );
            proposed
        }
        None => &given,
    };
    parse_plan(json).map_err(error)
}

pub(super) fn parse_plan(json: &str) -> Result<Vec<PlannedPartition>, String> {
    let plan: Plan = serde_json::from_str(json.trim())
        .map_err(|e| format!("The input string is not a valid JSON reassignment: {e}"))?;
    if plan.version != 1 {
        return Err(format!(
            "Not supported version field value {}",
            plan.version
        ));
    }
    if plan.partitions.is_empty() {
        return Err("Partition reassignment list cannot be empty".into());
    }
    let mut seen = BTreeSet::new();
    let mut partitions = plan.partitions;
    for p in &mut partitions {
        let key = (p.topic.clone(), p.partition);
        let shown = name(&key);
        if !seen.insert(key) {
            return Err(format!(
                "Partition reassignment contains duplicate topic partitions: {shown}"
            ));
        }
        if p.replicas.is_empty() {
            return Err(format!(
                "Partition replica list cannot be empty for {shown}"
            ));
        }
        let unique: BTreeSet<i32> = p.replicas.iter().copied().collect();
        if unique.len() < p.replicas.len() {
            return Err(format!(
                "Partition replica lists may not contain duplicate entries: {shown} contains multiple entries"
            ));
        }
        if p.log_dirs.is_empty() {
            p.log_dirs = vec![ANY.into(); p.replicas.len()];
        }
        if p.log_dirs.len() != p.replicas.len() {
            return Err(format!(
                "Size of replicas list {} is different from size of log dirs list {} for partition {shown}",
                p.replicas.len(),
                p.log_dirs.len()
            ));
        }
    }
    Ok(partitions)
}

pub(super) fn plan_json(partitions: Vec<PlannedPartition>) -> String {
    let plan = Plan {
        version: 1,
        partitions,
    };
    serde_json::to_string(&plan).expect("a plan is plain data")
}

/// Brokers in turn from each rack.
pub(super) fn alternating(racks: &BTreeMap<i32, String>) -> Vec<i32> {
    let mut by_rack: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (id, rack) in racks {
        by_rack.entry(rack).or_default().push(*id);
    }
    let longest = by_rack.values().map(Vec::len).max().unwrap_or(0);
    let in_turn = (0..longest).flat_map(|round| {
        let mut of_round = Vec::new();
        for ids in by_rack.values() {
            of_round.extend(ids.get(round).copied());
        }
        of_round
    });
    in_turn.collect()
}

/// One partition's replicas: from `first` on, other racks before racks that have one already; `shift` varies the
/// followers from round to round.
pub(super) fn place(
    order: &[i32],
    racks: &BTreeMap<i32, String>,
    count: usize,
    first: usize,
    shift: usize,
) -> Vec<i32> {
    let leader = order[first % order.len()];
    let mut rest: Vec<i32> = (1..order.len())
        .map(|step| order[(first + 1 + (step - 1 + shift) % (order.len() - 1)) % order.len()])
        .collect();
    let mut chosen = vec![leader];
    while chosen.len() < count {
        let used: BTreeSet<&str> = chosen.iter().map(|id| racks[id].as_str()).collect();
        let fresh = rest
            .iter()
            .position(|id| !used.contains(racks[id].as_str()));
        chosen.push(rest.remove(fresh.unwrap_or(0)));
    }
    chosen
}

/// The replicas that one broker must move between its directories.
pub(super) type LogDirMoves = BTreeMap<(String, i32, i32), String>;

pub(super) fn log_dir_moves(plan: &[PlannedPartition]) -> LogDirMoves {
    let mut moves = LogDirMoves::new();
    for p in plan {
        for (broker, dir) in p.replicas.iter().zip(&p.log_dirs) {
            if dir != ANY {
                moves.insert((p.topic.clone(), p.partition, *broker), dir.clone());
            }
        }
    }
    moves
}

#[cfg(test)]
mod tests {
    use super::*;

    fn racks(pairs: &[(i32, &str)]) -> BTreeMap<i32, String> {
        pairs.iter().map(|(id, r)| (*id, (*r).to_owned())).collect()
    }

    #[test]
    fn replicas_are_spread_over_racks_and_leaders_over_brokers() {
        let racks = racks(&[(0, "a"), (1, "a"), (2, "b"), (3, "b"), (4, "c")]);
        let order = alternating(&racks);
        assert_eq!(order, [0, 2, 4, 1, 3]);
        let mut leaders = BTreeSet::new();
        for index in 0..10 {
            let replicas = place(&order, &racks, 3, index, index / 5);
            let used: BTreeSet<&str> = replicas.iter().map(|id| racks[id].as_str()).collect();
            assert_eq!(used.len(), 3, "{replicas:?}");
            leaders.insert(replicas[0]);
        }
        assert_eq!(leaders.len(), 5);
    }

    #[test]
    fn a_plan_that_cannot_be_meant_is_refused() {
        let refused = |json: &str| parse_plan(json).map(|_| ()).unwrap_err();
        assert!(refused("{").contains("not a valid JSON"));
        assert!(refused(r#"{"version":2,"partitions":[]}"#).contains("version"));
        let one = r#"{"topic":"t","partition":0,"replicas":[1]}"#;
        assert!(
            refused(&format!(r#"{{"version":1,"partitions":[{one},{one}]}}"#))
                .contains("duplicate")
        );
        let twice = r#"{"version":1,"partitions":[{"topic":"t","partition":0,"replicas":[1,1]}]}"#;
        assert!(refused(twice).contains("duplicate entries"));
        let dirs = r#"{"version":1,"partitions":[{"topic":"t","partition":0,"replicas":[1,2],"log_dirs":["any"]}]}"#;
        assert!(refused(dirs).contains("log dirs"));
        assert!(parse_plan(&format!(r#"{{"version":1,"partitions":[{one}]}}"#)).is_ok());
    }
}
