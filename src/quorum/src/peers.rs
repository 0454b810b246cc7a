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

use crate::alive::Alive;
use crate::link::Link;
use crate::presence::{Presence, Presences};
use crate::rpc::Hello;
use crate::types::NodeId;

#[derive(Default)]
struct State {
    /// Links by member: those this process dialled and those it accepted.
    dialled: HashMap<NodeId, Link>,
    accepted: HashMap<NodeId, (Link, u64)>,
    next_accepted: u64,
    presences: Presences,
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

    /// Whether this process keeps a link to the process that answered at `address`.
    pub fn is_connected(&self, address: &str) -> bool {
        let state = self.lock();
        let id = state.introduced.get(address).map(|hello| hello.id);
        let link = id.and_then(|id| state.dialled.get(&id));
        link.is_some_and(|l| !l.is_closed())
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
        let place = place(hello, &link);
        state.accepted.insert(hello.id, (link, number));
        let node_id = hello.member.node_id;
        state
            .presences
            .came(node_id, Presence::new(hello.incarnation, place));
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
        let known = state
            .presences
            .of_mut(hello.member.node_id, hello.incarnation);
        if let Some(presence) = known {
            presence.gone_since = Some(Instant::now());
        }
        drop(state);
        self.changed.notify_waiters();
    }

    pub fn heard(&self, alive: &Alive) {
        let mut state = self.lock();
        let known = state.presences.of_mut(alive.node_id, alive.incarnation);
        if known.is_some_and(|presence| presence.hear(alive)) {
            drop(state);
            self.changed.notify_waiters();
        }
    }

    pub fn presences(&self) -> Presences {
        self.lock().presences.clone()
    }

    /// The place of another process that lives and has this `node.id`.
    pub fn rival(&self, node_id: i32, incarnation: Uuid) -> Option<String> {
        let state = self.lock();
        let rival = state
            .presences
            .rival(node_id, incarnation, Instant::now())?;
        Some(rival.place.clone())
    }

    /// Ends every link.
    pub fn close(&self) {
        let state = self.lock();
        state.dialled.values().for_each(Link::close);
        state.accepted.values().for_each(|(link, _)| link.close());
    }
}

/// Where a process runs, for people.
fn place(hello: &Hello, link: &Link) -> String {
    match (&hello.member.address, link.peer()) {
        (address, _) if !address.is_empty() => format!("the controller at {address}"),
        (_, Some(peer)) => format!("the broker at {}", peer.ip()),
        (_, None) => "a broker".to_owned(),
    }
}
