//! The processes that a controller has heard of, each by its `node.id` and incarnation.
//!
//! Two processes with one `node.id` are a mistake of an operator. Each has a presence of its own, so the second one cannot
//! hide the first.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::alive::Alive;

/// A process that was heard of within this time lives. Processes of older versions say so every two seconds.
pub(crate) const LIVES: Duration = Duration::from_secs(3);
/// Incarnations that are remembered for each `node.id`.
const REMEMBERED: usize = 4;

/// The state of a process as a controller sees it through its link.
#[derive(Clone, Debug)]
pub struct Presence {
    pub incarnation: Uuid,
    pub applied_index: u64,
    pub last_heard: Instant,
    /// When the last link ended; `None` while one is open.
    pub gone_since: Option<Instant>,
    /// Leaders, by `node.id`, that do not answer this process.
    pub suspects: BTreeSet<i32>,
    /// The pause between two signs of life; `None` until the process has said so. Older versions never do.
    pub speaks_every: Option<Duration>,
    /// Where the process runs, for people.
    pub place: String,
}

impl Presence {
    pub fn new(incarnation: Uuid, place: String) -> Self {
        Self {
            incarnation,
            applied_index: 0,
            last_heard: Instant::now(),
            gone_since: None,
            suspects: BTreeSet::new(),
            speaks_every: None,
            place,
        }
    }

    /// Takes a sign of life; returns whether there is news in it beside the sign.
    pub(crate) fn hear(&mut self, alive: &Alive) -> bool {
        let now = Instant::now();
        let news = alive.applied_index > self.applied_index
            || alive.suspects != self.suspects
            || !self.lives(now);
        self.last_heard = now;
        self.applied_index = self.applied_index.max(alive.applied_index);
        self.suspects.clone_from(&alive.suspects);
        let every = Duration::from_millis(alive.every_ms.into());
        self.speaks_every = Some(every).filter(|every| !every.is_zero());
        news
    }

    fn lives(&self, now: Instant) -> bool {
        self.gone_since.is_none() && now.saturating_duration_since(self.last_heard) < LIVES
    }
}

/// All presences of one controller.
#[derive(Clone, Debug, Default)]
pub struct Presences(HashMap<i32, Vec<Presence>>);

impl Presences {
    pub fn of(&self, node_id: i32, incarnation: Uuid) -> Option<&Presence> {
        let all = self.0.get(&node_id)?;
        all.iter().find(|p| p.incarnation == incarnation)
    }

    /// The process that was heard of last.
    pub fn newest(&self, node_id: i32) -> Option<&Presence> {
        self.0.get(&node_id)?.iter().max_by_key(|p| p.last_heard)
    }

    pub fn iter(&self) -> impl Iterator<Item = (i32, &Presence)> {
        let all = self.0.iter();
        all.flat_map(|(id, known)| known.iter().map(move |p| (*id, p)))
    }

    pub(crate) fn of_mut(&mut self, node_id: i32, incarnation: Uuid) -> Option<&mut Presence> {
        let all = self.0.get_mut(&node_id)?;
        all.iter_mut().find(|p| p.incarnation == incarnation)
    }

    /// A process has connected, for the first time or again.
    pub(crate) fn came(&mut self, node_id: i32, presence: Presence) {
        if let Some(known) = self.of_mut(node_id, presence.incarnation) {
            known.gone_since = None;
            known.last_heard = presence.last_heard;
            known.place = presence.place;
            return;
        }
        let all = self.0.entry(node_id).or_default();
        all.push(presence);
        if all.len() > REMEMBERED {
            all.sort_by_key(|p| std::cmp::Reverse(p.last_heard));
            all.truncate(REMEMBERED);
        }
    }

    /// Notes a presence as it is.
    pub(crate) fn is(&mut self, node_id: i32, presence: Presence) {
        let all = self.0.entry(node_id).or_default();
        all.retain(|p| p.incarnation != presence.incarnation);
        all.push(presence);
    }

    /// Another process that lives and has this `node.id`.
    pub(crate) fn rival(&self, node_id: i32, incarnation: Uuid, now: Instant) -> Option<&Presence> {
        let all = self.0.get(&node_id)?;
        all.iter()
            .find(|p| p.incarnation != incarnation && p.lives(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(number: u128) -> Presence {
        Presence::new(Uuid::from_u128(number), "here".into())
    }

    #[test]
    fn a_second_process_hides_no_first_and_only_a_live_one_is_a_rival() {
        let mut all = Presences::default();
        let (first, second) = (process(1), process(2));
        let (old, new) = (first.incarnation, second.incarnation);
        let now = first.last_heard;
        all.came(7, first);
        assert!(all.rival(7, old, now).is_none());
        assert_eq!(all.rival(7, new, now).map(|p| p.incarnation), Some(old));
        all.came(7, second);
        assert!(all.of(7, old).is_some() && all.of(7, new).is_some());
        assert!(all.rival(8, new, now).is_none());
        assert!(all.rival(7, new, now + LIVES * 2).is_none());
        all.of_mut(7, old).unwrap().gone_since = Some(now);
        assert!(all.rival(7, new, now).is_none());
        all.came(7, process(1));
        assert!(all.of(7, old).unwrap().gone_since.is_none());
    }

    #[test]
    fn a_few_incarnations_are_remembered() {
        let mut all = Presences::default();
        for number in 0..100 {
            all.came(7, process(number));
        }
        assert_eq!(all.iter().count(), REMEMBERED);
        assert!(all.of(7, Uuid::from_u128(99)).is_some());
    }
}
