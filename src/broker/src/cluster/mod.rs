//! This broker among others: it registers and says goodbye, follows leaders, tells the controller who is in sync; and,
//! where its process is the active controller, it watches over the rest.

pub mod controller;
mod fetcher;
mod isr;
mod lifecycle;

pub use fetcher::ReplicaFetchers;
pub use isr::forward_isr_requests;
pub use lifecycle::{Lifecycle, LifecycleError};
