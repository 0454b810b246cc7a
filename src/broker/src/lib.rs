//! The broker at run time: listeners, one file per group of Kafka APIs, partition shards, group coordinators, the cold
//! tier's tasks, timers, metrics.
//!
//! Start with [`server`] and `broker` (the order of start and stop), `stop` (the deadlines of a stop), then [`connection`] (a
//! request's way in and out), [`api`] (the handler of each request), [`partition`] (the owners of logs) and [`cluster`] (the work
//! between brokers).

mod answer;
pub mod api;
mod broker;
mod clock;
mod cluster;
mod connection;
mod context;
mod coordinators;
mod descriptors;
mod disconnects;
mod endpoints;
mod fetch_session;
mod follow;
mod founding;
mod home;
mod hot_config;
mod http;
mod lag;
mod latencies;
mod listener;
pub mod log_levels;
mod log_limit;
mod memory;
mod metadata_place;
mod metrics;
mod partition;
mod peer;
mod producer_ids;
mod quorum_options;
mod quotas;
mod readiness;
mod refusal_codes;
mod request_meter;
mod retention;
mod server;
pub mod settings;
mod start_error;
mod stop;
mod throttle;
mod tier;
mod timers;
mod topic_creation;

pub use founding::check_founding;
pub use server::Server;
pub use start_error::StartError;
pub use tier::cluster_of;
pub use tier::status::PartitionTierStatus;
