//! The options of `kafka-topics`.

use crate::command::Connect;

#[derive(clap::Parser)]
pub(crate) struct Options {
    #[command(flatten)]
    pub connect: Connect,
    /// Create a topic.
    #[arg(long)]
    pub create: bool,
    /// List topics.
    #[arg(long)]
    pub list: bool,
    /// Show partitions, leaders and replicas.
    #[arg(long)]
    pub describe: bool,
    /// Add partitions.
    #[arg(long)]
    pub alter: bool,
    /// Delete topics.
    #[arg(long)]
    pub delete: bool,
    /// A topic; to list, describe, alter and delete, a regular expression.
    #[arg(long)]
    pub topic: Option<String>,
    /// The id of a topic to describe.
    #[arg(long)]
    pub topic_id: Option<String>,
    /// The number of partitions.
    #[arg(long, allow_negative_numbers = true)]
    pub partitions: Option<i32>,
    /// The number of replicas of each partition.
    #[arg(long, allow_negative_numbers = true)]
    pub replication_factor: Option<i32>,
    /// Broker ids of each partition: 1:2,2:3.
    #[arg(long)]
    pub replica_assignment: Option<String>,
    /// A setting of a new topic.
    #[arg(long, value_name = "NAME=VALUE")]
    pub config: Vec<String>,
    /// Do nothing if the topic does not exist.
    #[arg(long)]
    pub if_exists: bool,
    /// Do nothing if the topic exists.
    #[arg(long)]
    pub if_not_exists: bool,
    /// Leave out internal topics.
    #[arg(long)]
    pub exclude_internal: bool,
    /// Only partitions with replicas that are not in sync.
    #[arg(long)]
    pub under_replicated_partitions: bool,
    /// Only partitions without a leader.
    #[arg(long)]
    pub unavailable_partitions: bool,
    /// Only partitions with fewer replicas in sync than min.insync.replicas.
    #[arg(long)]
    pub under_min_isr_partitions: bool,
    /// Only partitions with just min.insync.replicas replicas in sync.
    #[arg(long)]
    pub at_min_isr_partitions: bool,
    /// Only topics that have settings of their own.
    #[arg(long)]
    pub topics_with_overrides: bool,
}
