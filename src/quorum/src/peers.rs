//! The processes that are connected, and the processes that have been heard of.
//!
//! Every process dials every controller and keeps that link; the controller sends its requests over the same link, so a
//! broker needs no listener for the quorum. A link that ends is the first sign that a process is gone: every controller
//! notices at the same moment, no matter which of them leads or becomes the leader.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use tokio::sync::Notify;
use uuid::Uuid;

use crate::link::Link;
use crate::rpc::{Alive, Hello};
use crate::types::NodeId;

/// The state of a process as a controller sees it through its link.
#[derive(Clone, Copy, Debug)]
pub struct Presence {
    pub incarnation: Uuid,
    pub applied_index: u64,
    pub last_heard: Instant,
    /// When the last link ended; `None` while one is open.
    pub gone_since: Option<Instant>,
}

#[derive(Default)]
struct State {
    /// Links by member: those this process dialled and those it accepted.
    dialled: HashMap<NodeId, Link>,
    accepted: HashMap<NodeId, (Link, u64)>,
    next_accepted: u64,
    /// Presences by `node.id`.
    presences: HashMap<i32, Presence>,
    /// Introductions of those that were dialled, by address.
    introduced: HashMap<String, Hello>,
}

#[derive(Default)]
pub(crate) struct Peers {
    state: Mutex<State>,
    /// A process connected, disconnected, or reported its applied index.
    pub changed: Notify,
}

impl Peers {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    pub fn link_to(&self, id: NodeId) -> Option<Link> {
        let state = self.lock();
        let dialled = state.dialled.get(&id);
        let accepted = state.accepted.get(&id).map(|(link, _)| link);
        dialled
            .into_iter()
            .chain(accepted)
            .find(|l| !l.is_closed())
            .cloned()
    }

    /// Whether this process keeps a link of its own to a member.
    pub fn dialled_to(&self, id: NodeId) -> bool {
        let state = self.lock();
        state.dialled.get(&id).is_some_and(|l| !l.is_closed())
    }

    pub fn links(&self) -> Vec<Link> {
        self.lock().dialled.values().cloned().collect()
    }

    /// The introduction of the process that answered at `address`, now or before.
    pub fn introduced(&self, address: &str) -> Option<Hello> {
        self.lock().introduced.get(address).cloned()
    }

    pub fn dialled(&self, address: &str, hello: Hello, link: Link) {
        let mut state = self.lock();
        state.dialled.insert(hello.id, link);
        state.introduced.insert(address.to_owned(), hello);
        drop(state);
        self.changed.notify_waiters();
    }

    /// Notes an accepted link; gives the number to end it by.
    pub fn accepted(&self, hello: &Hello, link: Link) -> u64 {
        let mut state = self.lock();
        state.next_accepted += 1;
        let number = state.next_accepted;
        state.accepted.insert(hello.id, (link, number));
        let presence = Presence {
            incarnation: hello.incarnation,
            applied_index: 0,
            last_heard: Instant::now(),
            gone_since: None,
        };
        let known = state
            .presences
            .entry(hello.member.node_id)
            .or_insert(presence);
        if known.incarnation == hello.incarnation {
            known.gone_since = None;
            known.last_heard = Instant::now();
        } else {
            *known = presence;
        }
        drop(state);
        self.changed.notify_waiters();
        number
    }

    /// An accepted link has ended. Only the newest one of a process says that it is gone.
    pub fn ended(&self, hello: &Hello, number: u64) {
        let mut state = self.lock();
        if state
            .accepted
            .get(&hello.id)
            .is_none_or(|(_, n)| *n != number)
        {
            return;
        }
        state.accepted.remove(&hello.id);
        if let Some(presence) = state.presences.get_mut(&hello.member.node_id)
            && presence.incarnation == hello.incarnation
        {
            presence.gone_since = Some(Instant::now());
        }
        drop(state);
        self.changed.notify_waiters();
    }

    pub fn heard(&self, alive: &Alive) {
        let mut state = self.lock();
        if let Some(presence) = state.presences.get_mut(&alive.node_id)
            && presence.incarnation == alive.incarnation
        {
            presence.last_heard = Instant::now();
            presence.applied_index = presence.applied_index.max(alive.applied_index);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    pub fn presences(&self) -> HashMap<i32, Presence> {
        self.lock().presences.clone()
    }

    /// Ends every link.
    pub fn close(&self) {
        let state = self.lock();
        state.dialled.values().for_each(Link::close);
        state.accepted.values().for_each(|(link, _)| link.close());
    }
}
