//! The broker at run time: listeners, one file per group of Kafka APIs, partition shards, group coordinators, the cold
//! tier's tasks, timers, metrics.
//!
//! Start with [`server`] (the order of start and stop), `stop` (the deadlines of a stop), then [`connection`] (a request's
//! way in and out), [`api`] (the handler of each request), [`partition`] (the owners of logs) and [`cluster`] (the work
//! between brokers).

pub mod api;
mod clock;
mod cluster;
mod connection;
mod disconnects;
mod endpoints;
mod fetch_session;
mod founding;
mod groups;
mod home;
mod http;
mod lag;
mod listener;
pub mod log_levels;
mod log_limit;
mod metadata_place;
mod metrics;
mod partition;
mod producer_ids;
mod quotas;
mod readiness;
mod request_meter;
mod retention;
mod server;
pub mod settings;
mod stop;
mod throttle;
mod tier;
mod timers;
mod topic_creation;

pub use founding::check_founding;
pub use server::{Server, StartError};
pub use tier::cluster_of;
pub use tier::status::PartitionTierStatus;
