//! Decides which directory of a disk belongs to a replica. Pure: [`claim`] looks at all directories of one partition's
//! name and decides about each, before any of them is opened.
//!
//! Invariants: a directory is opened for the topic id that it names, and for no other. Where records of the wanted
//! replica are here, or may be, no empty log is created in their place: the replica stays offline instead. A directory
//! is removed only if the metadata or a finished move has replaced it; every other directory that is in the way is set
//! aside.
//!
//! Crash consistency: the caller first renames directories that are set aside or removed, then forgets checkpoints of
//! the name, then creates or opens. A crash between two steps leaves a state from which [`claim`] makes the same
//! decisions again.

use std::fmt;

use strandline_types::TopicId;

/// A directory with a partition's name, in one of the log directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundDirectory {
    /// `None`: `partition.metadata` is missing or cannot be read.
    pub topic_id: Option<TopicId>,
    pub stage: Stage,
    /// Records were appended to the log in this directory, or may have been.
    pub has_records: bool,
}

/// A directory's part in a move between log directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Current,
    /// The move to this directory has ended: the current one is older.
    Moved,
    /// The move to this directory has not ended: the copy is not complete.
    Future,
}

/// The decision about one directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Open,
    /// The unfinished copy stays while the move begins again.
    Move,
    /// Renamed out of the way and kept for a time.
    SetAside,
    /// Renamed out of the way and deleted.
    Remove,
    /// Not touched: the replica is offline.
    Leave,
}

/// The decision about the replica of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The metadata wants no replica of this name here.
    NotWanted,
    /// The directory at this index is opened.
    Open(usize),
    Create,
    Offline(Doubt),
}

/// Why a replica is offline although there are directories with its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// A directory with records names no topic.
    Unidentified,
    /// Two directories of the topic have records, and none says that it replaces the other.
    TwoLogs,
    /// There is a copy of an unfinished move, and the log that it was copied from is not here.
    OnlyACopy,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unidentified => {
                "a directory with records names no topic: repair its partition.metadata or move it away"
            }
            Self::TwoLogs => "two directories have records of the partition: move one of them away",
            Self::OnlyACopy => {
                "an unfinished copy is here and its source is not: bring that back or move the copy away"
            }
        })
    }
}

/// Decides over the directories of one name. `wanted` is the topic id that the metadata has for the name, if this broker has
/// a replica of it. The actions are in the order of `found`.
pub fn claim(found: &[FoundDirectory], wanted: Option<TopicId>) -> (Outcome, Vec<Action>) {
    let Some(wanted) = wanted else {
        return (Outcome::NotWanted, found.iter().map(unwanted).collect());
    };
    let outcome = outcome(found, wanted);
    let actions = found.iter().enumerate();
    let actions = actions.map(|(at, directory)| action(directory, at, wanted, outcome, found));
    (outcome, actions.collect())
}

fn outcome(found: &[FoundDirectory], wanted: TopicId) -> Outcome {
    let own = |stage: Stage| {
        let all = found.iter().enumerate();
        all.filter(move |(_, d)| d.topic_id == Some(wanted) && d.stage == stage)
    };
    let only = |mut some: Vec<usize>| some.pop().filter(|_| some.is_empty());
    // An unidentified directory of a finished move may be the newest log.
    let is_newest = |d: &FoundDirectory| may_be_the_log(d) && d.stage == Stage::Moved;
    if found.iter().any(is_newest) {
        return Outcome::Offline(Doubt::Unidentified);
    }
    if let Some(moved) = only(own(Stage::Moved).map(|(at, _)| at).collect()) {
        return Outcome::Open(moved);
    }
    let complete: Vec<_> = own(Stage::Current).chain(own(Stage::Moved)).collect();
    let with_records = complete.iter().filter(|(_, d)| d.has_records);
    match with_records.map(|(at, _)| *at).collect::<Vec<_>>()[..] {
        [at] => return Outcome::Open(at),
        [_, _, ..] => return Outcome::Offline(Doubt::TwoLogs),
        [] => {}
    }
    if found.iter().any(may_be_the_log) {
        Outcome::Offline(Doubt::Unidentified)
    } else if let Some((at, _)) = complete.first() {
        Outcome::Open(*at)
    } else if own(Stage::Future).any(|(_, d)| d.has_records) {
        Outcome::Offline(Doubt::OnlyACopy)
    } else {
        Outcome::Create
    }
}

fn may_be_the_log(directory: &FoundDirectory) -> bool {
    directory.topic_id.is_none() && directory.has_records && directory.stage != Stage::Future
}

fn action(
    directory: &FoundDirectory,
    at: usize,
    wanted: TopicId,
    outcome: Outcome,
    found: &[FoundDirectory],
) -> Action {
    let is_own = directory.topic_id == Some(wanted);
    match outcome {
        Outcome::Open(opened) if opened == at => Action::Open,
        Outcome::Open(opened) if is_own => {
            let replaced = found.get(opened).is_some_and(|d| d.stage == Stage::Moved);
            match directory.stage {
                Stage::Future => Action::Move,
                Stage::Current if replaced => Action::Remove,
                Stage::Current | Stage::Moved => Action::SetAside,
            }
        }
        Outcome::Offline(_) if is_own || may_be_the_log(directory) => Action::Leave,
        _ => unwanted(directory),
    }
}

/// A directory that is not the wanted replica's.
fn unwanted(directory: &FoundDirectory) -> Action {
    match directory.stage {
        Stage::Future => Action::Remove,
        Stage::Current | Stage::Moved => Action::SetAside,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: u128 = 1;
    const NEW: u128 = 2;

    fn topic(id: u128) -> TopicId {
        TopicId(uuid::Uuid::from_u128(id))
    }

    fn directory(id: u128, stage: Stage, has_records: bool) -> FoundDirectory {
        FoundDirectory {
            topic_id: (id > 0).then(|| topic(id)),
            stage,
            has_records,
        }
    }

    fn full(id: u128) -> FoundDirectory {
        directory(id, Stage::Current, true)
    }

    fn empty(id: u128) -> FoundDirectory {
        directory(id, Stage::Current, false)
    }

    fn moved(id: u128) -> FoundDirectory {
        directory(id, Stage::Moved, true)
    }

    fn future(id: u128) -> FoundDirectory {
        directory(id, Stage::Future, true)
    }

    /// Wanted is [`NEW`].
    #[test]
    fn a_directory_is_opened_for_the_topic_that_it_names_or_is_out_of_the_way() {
        use Action::{Leave, Move, Open, Remove, SetAside};
        use Outcome::{Create, Offline};
        let cases = [
            (vec![], Create, vec![]),
            (vec![full(NEW)], Outcome::Open(0), vec![Open]),
            (vec![empty(NEW)], Outcome::Open(0), vec![Open]),
            (vec![full(OLD)], Create, vec![SetAside]),
            (vec![moved(OLD), full(OLD)], Create, vec![SetAside; 2]),
            (
                vec![future(OLD), full(NEW)],
                Outcome::Open(1),
                vec![Remove, Open],
            ),
            (
                vec![full(OLD), full(NEW)],
                Outcome::Open(1),
                vec![SetAside, Open],
            ),
            // Moves.
            (
                vec![full(NEW), moved(NEW)],
                Outcome::Open(1),
                vec![Remove, Open],
            ),
            (
                vec![full(NEW), future(NEW)],
                Outcome::Open(0),
                vec![Open, Move],
            ),
            (vec![future(NEW)], Offline(Doubt::OnlyACopy), vec![Leave]),
            (
                vec![directory(NEW, Stage::Future, false)],
                Create,
                vec![Remove],
            ),
            // Two logs.
            (
                vec![empty(NEW), full(NEW)],
                Outcome::Open(1),
                vec![SetAside, Open],
            ),
            (
                vec![empty(NEW), empty(NEW)],
                Outcome::Open(0),
                vec![Open, SetAside],
            ),
            (
                vec![full(NEW), full(NEW)],
                Offline(Doubt::TwoLogs),
                vec![Leave; 2],
            ),
            (
                vec![moved(NEW), moved(NEW)],
                Offline(Doubt::TwoLogs),
                vec![Leave; 2],
            ),
            // Directories that name no topic.
            (vec![empty(0)], Create, vec![SetAside]),
            (vec![full(0)], Offline(Doubt::Unidentified), vec![Leave]),
            (
                vec![full(0), full(OLD)],
                Offline(Doubt::Unidentified),
                vec![Leave, SetAside],
            ),
            (
                vec![full(0), full(NEW)],
                Outcome::Open(1),
                vec![SetAside, Open],
            ),
            (vec![future(0)], Create, vec![Remove]),
            (
                vec![full(0), empty(NEW)],
                Offline(Doubt::Unidentified),
                vec![Leave; 2],
            ),
            (
                vec![moved(0), full(NEW)],
                Offline(Doubt::Unidentified),
                vec![Leave; 2],
            ),
            (
                vec![full(0), moved(NEW)],
                Outcome::Open(1),
                vec![SetAside, Open],
            ),
        ];
        for (found, outcome, actions) in cases {
            assert_eq!(
                claim(&found, Some(topic(NEW))),
                (outcome, actions),
                "{found:?}"
            );
        }
    }

    #[test]
    fn nothing_is_opened_or_deleted_for_a_name_that_is_not_wanted_here() {
        let found = [full(OLD), empty(0), full(0), moved(NEW), future(NEW)];
        let (outcome, actions) = claim(&found, None);
        assert_eq!(outcome, Outcome::NotWanted);
        let mut expected = [Action::SetAside; 5];
        expected[4] = Action::Remove;
        assert_eq!(actions, expected);
    }
}
