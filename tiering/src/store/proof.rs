//! How a copy's bytes are proved before the only good ones go, by what this store can do (ADR 31).
//!
//! A store's abilities are probed, not assumed: each way to send a checksum is tried once with bytes that fit it and once,
//! over a connection that lies, with bytes that do not. A store proves a way by refusing the second. Where none is proved,
//! and as long as nothing is known, every copy is read back.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use object_store::ObjectStore;

/// The check of a copy beside comparing its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Nothing: the bytes never left this machine.
    Local,
    /// Nothing: the store has compared a checksum of this kind.
    Verified(&'static str),
    /// The object is read and its checksum compared.
    ReadBack,
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => write!(f, "none needed"),
            Self::Verified(name) => write!(f, "{name}, verified by the store"),
            Self::ReadBack => write!(f, "copies are read back"),
        }
    }
}

/// One way to send a checksum.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub name: &'static str,
    pub client: Arc<dyn ObjectStore>,
    /// The same, over a connection that lies.
    pub lying: Arc<dyn ObjectStore>,
}

const UNKNOWN: usize = usize::MAX;
const NO_WAY: usize = usize::MAX - 1;

/// The clients that copies may be sent with.
#[derive(Debug)]
pub struct Copies {
    plain: Arc<dyn ObjectStore>,
    is_local: bool,
    /// The cheapest first.
    pub(super) ways: Vec<Way>,
    chosen: AtomicUsize,
}

impl Copies {
    /// Of a store on this machine.
    pub(super) fn local(plain: Arc<dyn ObjectStore>) -> Self {
        Self {
            plain,
            is_local: true,
            ways: Vec::new(),
            chosen: AtomicUsize::new(NO_WAY),
        }
    }

    /// Of a store that is reached by network.
    pub(super) fn remote(plain: Arc<dyn ObjectStore>, ways: Vec<Way>) -> Self {
        let unknown = if ways.is_empty() { NO_WAY } else { UNKNOWN };
        Self {
            plain,
            is_local: false,
            ways,
            chosen: AtomicUsize::new(unknown),
        }
    }

    /// The client to send a copy with, and how the copy is proved.
    pub fn client(&self) -> (&Arc<dyn ObjectStore>, Proof) {
        if self.is_local {
            return (&self.plain, Proof::Local);
        }
        match self.ways.get(self.chosen.load(Ordering::Acquire)) {
            Some(way) => (&way.client, Proof::Verified(way.name)),
            None => (&self.plain, Proof::ReadBack),
        }
    }

    /// Whether a probe has found out what the store can do.
    pub fn is_known(&self) -> bool {
        self.chosen.load(Ordering::Acquire) != UNKNOWN
    }

    pub(super) fn choose(&self, way: Option<usize>) {
        self.chosen.store(way.unwrap_or(NO_WAY), Ordering::Release);
    }
}
