//! This broker among others: it registers, hands over at a stop, follows leaders, and reports in-sync replicas to the
//! controller. The process of the active controller also fences and unfences brokers and balances leaders.

mod attention;
pub mod controller;
mod fetcher;
mod isr;
mod lifecycle;
mod standing;
mod verdict;

pub use fetcher::ReplicaFetchers;
pub use isr::forward_isr_requests;
pub use lifecycle::{Lifecycle, LifecycleError};
pub use standing::{report_replicas, watch_directories};
