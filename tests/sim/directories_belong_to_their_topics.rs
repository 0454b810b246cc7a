//! A directory belongs to a topic id: no byte of a deleted topic is ever opened as a byte of its successor, no offset of one
//! is believed of the other, and the log of a live topic is never lost, deleted or shadowed by a shorter one.
//!
//! One partition's name on one broker with two log directories. Topics are deleted and made again while the broker is up,
//! down and on its way up; replicas move; `partition.metadata` is lost and repaired; the process dies between any two steps.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use strandline_replication::directories::{Action, FoundDirectory, Outcome, Stage, claim};
use strandline_types::TopicId;
use uuid::Uuid;

const LOG_DIRS: usize = 2;
const STEPS: usize = 80;

type Id = u128;
/// Log directory and topic of the log that is open.
type OpenLog = Option<(usize, Id)>;

/// The rule that decides at start which directory is the log of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Claim,
    /// The rule before [`claim`]: directories by topic id, and a new log in any directory that has the name.
    ByIdAndName,
    /// [`claim`], but checkpoints of a name outlive its topic.
    RememberCheckpoints,
    /// Among directories that name no topic, none may be the log.
    IgnoreUnidentified,
}

#[derive(Clone, Debug)]
struct Directory {
    /// The topic id in `partition.metadata`; `None` where the file is lost.
    id: Option<Id>,
    /// The topic id in `partition.metadata` before the file was lost.
    written_id: Option<Id>,
    stage: Stage,
    /// The topic that each record was appended for.
    records: Vec<Id>,
}

/// The process has died: the steps that would follow do not happen.
struct Crash;

struct World {
    random: StdRng,
    rule: Rule,
    /// The topic that has the name now.
    live: Option<Id>,
    next_id: Id,
    /// Records acknowledged for each topic.
    acknowledged: Vec<usize>,
    named: [Option<Directory>; LOG_DIRS],
    futures: [Option<Directory>; LOG_DIRS],
    aside: Vec<Directory>,
    /// The topic whose offsets a log directory's checkpoints have for the name.
    checkpoints: [Option<Id>; LOG_DIRS],
    broker: Broker,
}

/// The process, if it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broker {
    Down,
    Up {
        open: Option<(usize, Id)>,
        failed: Option<Id>,
    },
}

impl World {
    fn new(seed: u64, rule: Rule) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            rule,
            live: None,
            next_id: 1,
            acknowledged: vec![0],
            named: [None, None],
            futures: [None, None],
            aside: Vec::new(),
            checkpoints: [None; LOG_DIRS],
            broker: Broker::Down,
        }
    }

    fn step(&mut self) {
        let crashed = match self.random.random_range(0..13) {
            0 | 1 => {
                self.change_topic();
                Ok(())
            }
            2 | 3 => self.start(),
            4 | 5 => self.apply(),
            6..=8 => {
                self.append();
                Ok(())
            }
            9 => {
                self.write_checkpoints();
                Ok(())
            }
            10 => self.relocate(),
            11 => Err(Crash),
            _ => {
                self.touch_metadata();
                Ok(())
            }
        };
        if crashed.is_err() {
            self.broker = Broker::Down;
        }
        self.check_that_nothing_is_lost();
    }

    fn may_crash(&mut self) -> Result<(), Crash> {
        if self.random.random_range(0..12) == 0 {
            Err(Crash)
        } else {
            Ok(())
        }
    }

    fn change_topic(&mut self) {
        if self.live.take().is_none() {
            self.acknowledged.push(0);
            self.live = Some(self.next_id);
            self.next_id += 1;
        }
    }

    /// `partition.metadata` is lost, or repaired by an operator, while the broker is down.
    fn touch_metadata(&mut self) {
        if self.broker != Broker::Down {
            return;
        }
        let repair = self.random.random_range(0..2) == 0;
        let at = self.random.random_range(0..LOG_DIRS);
        if let Some(directory) = &mut self.named[at] {
            directory.id = directory.written_id.filter(|_| repair);
        }
    }

    fn start(&mut self) -> Result<(), Crash> {
        if self.broker != Broker::Down {
            return Ok(());
        }
        let (open, failed) = self.claim_found()?;
        self.broker = Broker::Up { open, failed };
        Ok(())
    }

    fn claim_found(&mut self) -> Result<(OpenLog, Option<Id>), Crash> {
        if self.rule == Rule::ByIdAndName {
            return self.claim_as_before();
        }
        let mut places = Vec::new();
        let mut found = Vec::new();
        for at in 0..LOG_DIRS {
            for is_future in [false, true] {
                let place = if is_future {
                    &self.futures
                } else {
                    &self.named
                };
                let Some(directory) = &place[at] else {
                    continue;
                };
                let ignored = self.rule == Rule::IgnoreUnidentified && directory.id.is_none();
                found.push(FoundDirectory {
                    topic_id: directory.id.map(|id| TopicId(Uuid::from_u128(id))),
                    stage: directory.stage,
                    has_records: !directory.records.is_empty() && !ignored,
                });
                places.push((at, is_future));
            }
        }
        let wanted = self.live.map(|id| TopicId(Uuid::from_u128(id)));
        let (outcome, actions) = claim(&found, wanted);
        for ((at, is_future), action) in places.iter().zip(&actions) {
            self.may_crash()?;
            let place = if *is_future {
                &mut self.futures[*at]
            } else {
                &mut self.named[*at]
            };
            match action {
                Action::SetAside => self.aside.extend(place.take()),
                Action::Remove => *place = None,
                Action::Open | Action::Move | Action::Leave => {}
            }
        }
        self.may_crash()?;
        let Some(live) = self.live else {
            assert_eq!(outcome, Outcome::NotWanted);
            return Ok((None, None));
        };
        match outcome {
            Outcome::NotWanted => panic!("the topic is live"),
            Outcome::Offline(_) => Ok((None, Some(live))),
            Outcome::Create => Ok((self.create(live)?, None)),
            Outcome::Open(at) => {
                let (at, _) = places[at];
                if let Some(directory) = &mut self.named[at] {
                    directory.stage = Stage::Current;
                }
                self.open(at, live);
                Ok((Some((at, live)), None))
            }
        }
    }

    /// Finds directories by topic id. Where there is none, makes a log in any directory that has the name. Sets
    /// unclaimed directories aside when all logs are open.
    fn claim_as_before(&mut self) -> Result<(OpenLog, Option<Id>), Crash> {
        self.futures = [None, None];
        let claimed = self.live.and_then(|live| {
            let own = |d: &Option<Directory>| d.as_ref().is_some_and(|d| d.id == Some(live));
            self.named.iter().position(own)
        });
        let Some(live) = self.live else {
            let strays: Vec<_> = self.named.iter_mut().filter_map(Option::take).collect();
            self.aside.extend(strays);
            return Ok((None, None));
        };
        let at = claimed.unwrap_or_else(|| self.random.random_range(0..LOG_DIRS));
        if claimed.is_none() {
            let made = self.named[at].get_or_insert(Directory {
                id: None,
                written_id: None,
                stage: Stage::Current,
                records: Vec::new(),
            });
            (made.id, made.written_id) = (Some(live), Some(live));
            self.checkpoints = [None; LOG_DIRS];
        }
        self.open(at, live);
        self.may_crash()?;
        for other in (0..LOG_DIRS).filter(|other| *other != at) {
            self.aside.extend(self.named[other].take());
        }
        Ok((Some((at, live)), None))
    }

    fn create(&mut self, live: Id) -> Result<Option<(usize, Id)>, Crash> {
        if self.rule != Rule::RememberCheckpoints {
            self.checkpoints = [None; LOG_DIRS];
        }
        self.may_crash()?;
        let at = self.random.random_range(0..LOG_DIRS);
        assert!(self.named[at].is_none(), "the name is taken");
        self.named[at] = Some(Directory {
            id: None,
            written_id: None,
            stage: Stage::Current,
            records: Vec::new(),
        });
        self.may_crash()?;
        if let Some(made) = &mut self.named[at] {
            (made.id, made.written_id) = (Some(live), Some(live));
        }
        self.open(at, live);
        Ok(Some((at, live)))
    }

    /// The invariant of a log that is opened for the topic `live`.
    fn open(&self, at: usize, live: Id) {
        let directory = self.named[at].as_ref().expect("it is there");
        let foreign = directory.records.iter().any(|record| *record != live);
        assert!(!foreign, "bytes of another topic are opened");
        let acknowledged = self.acknowledged[live as usize];
        assert!(
            directory.records.len() >= acknowledged,
            "the log of a live topic is shadowed by a shorter one"
        );
        let checkpoints = self.checkpoints[at].is_none_or(|id| id == live);
        assert!(checkpoints, "offsets of another topic are believed");
    }

    /// A running broker takes over the present image: deletion and creation may come in one.
    fn apply(&mut self) -> Result<(), Crash> {
        let Broker::Up { open, failed } = self.broker else {
            return Ok(());
        };
        let mut now = (open, failed);
        if let Some((at, id)) = open
            && self.live != Some(id)
        {
            self.named[at] = None;
            now.0 = None;
            self.may_crash()?;
        }
        if let Some(id) = failed
            && self.live != Some(id)
        {
            for at in 0..LOG_DIRS {
                self.aside.extend(self.named[at].take());
                self.may_crash()?;
            }
            now.1 = None;
        }
        if let (None, None, Some(live)) = (now.0, now.1, self.live) {
            now.0 = self.create(live)?;
        }
        self.broker = Broker::Up {
            open: now.0,
            failed: now.1,
        };
        Ok(())
    }

    fn append(&mut self) {
        if let Broker::Up {
            open: Some((at, id)),
            ..
        } = self.broker
            && let Some(directory) = &mut self.named[at]
        {
            directory.records.push(id);
            self.acknowledged[id as usize] += 1;
        }
    }

    fn write_checkpoints(&mut self) {
        if let Broker::Up { open, failed } = self.broker
            && failed.is_none()
        {
            self.checkpoints = [None; LOG_DIRS];
            if let Some((at, id)) = open {
                self.checkpoints[at] = Some(id);
            }
        }
    }

    /// The replica moves to the other log directory.
    fn relocate(&mut self) -> Result<(), Crash> {
        let Broker::Up {
            open: Some((from, id)),
            failed,
        } = self.broker
        else {
            return Ok(());
        };
        let to = LOG_DIRS - 1 - from;
        let Some(mut copy) = self.named[from].clone() else {
            return Ok(());
        };
        copy.stage = Stage::Future;
        self.futures[to] = Some(copy);
        self.append();
        self.may_crash()?;
        assert!(self.named[to].is_none(), "the name is taken");
        let mut moved = self.named[from].clone().expect("it is open");
        moved.stage = Stage::Moved;
        self.futures[to] = None;
        self.named[to] = Some(moved);
        self.broker = Broker::Up {
            open: Some((to, id)),
            failed,
        };
        self.may_crash()?;
        self.append();
        self.may_crash()?;
        self.named[from] = None;
        self.may_crash()?;
        if let Some(moved) = &mut self.named[to] {
            moved.stage = Stage::Current;
        }
        Ok(())
    }

    fn check_that_nothing_is_lost(&self) {
        let Some(live) = self.live else { return };
        let acknowledged = self.acknowledged[live as usize];
        let places = self.named.iter().flatten().chain(&self.aside);
        let is_whole = |d: &Directory| {
            let own = d.records.iter().filter(|record| **record == live);
            own.count() >= acknowledged
        };
        let kept = acknowledged == 0 || places.into_iter().any(is_whole);
        assert!(kept, "the log of a live topic is lost");
    }
}

fn run_directories(seed: u64, rule: Rule) {
    let mut world = World::new(seed, rule);
    for _ in 0..STEPS {
        world.step();
    }
}

#[test]
fn directories_belong_to_their_topics() {
    for seed in 0..crate::seeds() {
        let run = std::panic::catch_unwind(|| run_directories(seed, Rule::Claim));
        assert!(run.is_ok(), "seed {seed}");
    }
}

#[test]
fn what_was_done_before_and_what_is_left_out_are_caught() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let rules = [
        Rule::ByIdAndName,
        Rule::RememberCheckpoints,
        Rule::IgnoreUnidentified,
    ];
    let caught = rules.map(|rule| {
        let is_caught = |seed: &u64| std::panic::catch_unwind(|| run_directories(*seed, rule));
        (rule, (0..5000).find(|seed| is_caught(seed).is_err()))
    });
    std::panic::set_hook(hook);
    for (rule, seed) in caught {
        assert!(seed.is_some(), "{rule:?} is not caught");
    }
}
