//! Deletes: many keys a request where the store takes such requests, else one request a key.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use object_store::ObjectStore;

/// The clients that objects are deleted with. The probe finds out which of them the store understands.
#[derive(Debug)]
pub struct Deletes {
    many: Arc<dyn ObjectStore>,
    /// One request a key; absent where the store has no other way than this anyway.
    single: Option<Arc<dyn ObjectStore>>,
    one_by_one: AtomicBool,
}

impl Deletes {
    pub(super) fn new(many: Arc<dyn ObjectStore>, single: Option<Arc<dyn ObjectStore>>) -> Self {
        Self {
            many,
            single,
            one_by_one: AtomicBool::new(false),
        }
    }

    pub fn client(&self) -> &Arc<dyn ObjectStore> {
        match &self.single {
            Some(single) if self.one_by_one.load(Ordering::Acquire) => single,
            _ => &self.many,
        }
    }

    /// Deletes one by one from now on; `false` if that is no other way.
    pub(super) fn go_on_one_by_one(&self) -> bool {
        self.single.is_some() && !self.one_by_one.swap(true, Ordering::AcqRel)
    }
}
