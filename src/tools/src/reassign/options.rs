//! The options of `kafka-reassign-partitions`.

use std::path::PathBuf;

use crate::command::Connect;

#[derive(clap::Parser)]
pub(crate) struct Options {
    #[command(flatten)]
    pub connect: Connect,
    /// Propose where replicas may go.
    #[arg(long)]
    pub generate: bool,
    /// Begin to move replicas.
    #[arg(long)]
    pub execute: bool,
    /// Show how far moves are; ends throttles of moves that are done.
    #[arg(long)]
    pub verify: bool,
    /// Stop moves and go back.
    #[arg(long)]
    pub cancel: bool,
    /// List the moves that are under way.
    #[arg(long)]
    pub list: bool,
    /// The wanted assignment, as JSON; the output of --generate is accepted.
    #[arg(long)]
    pub reassignment_json_file: Option<PathBuf>,
    /// {"version": 1, "topics": [{"topic": "t"}]}
    #[arg(long)]
    pub topics_to_move_json_file: Option<PathBuf>,
    /// The brokers that get the replicas: 0,1,2
    #[arg(long)]
    pub broker_list: Option<String>,
    /// Do not spread replicas over racks.
    #[arg(long)]
    pub disable_rack_aware: bool,
    /// Bytes per second between brokers.
    #[arg(long, allow_negative_numbers = true)]
    pub throttle: Option<i64>,
    /// Bytes per second between log directories.
    #[arg(long, allow_negative_numbers = true)]
    pub replica_alter_log_dirs_throttle: Option<i64>,
    /// Leave throttles as they are.
    #[arg(long)]
    pub preserve_throttles: bool,
    /// Begin these moves beside those that are under way.
    #[arg(long)]
    pub additional: bool,
    /// Refuse moves that change the number of replicas.
    #[arg(long)]
    pub disallow_replication_factor_change: bool,
    /// Milliseconds that replicas may take to appear before they move between directories.
    #[arg(long, default_value_t = 10_000)]
    pub timeout: u64,
}
