//! The options of `kafka-consumer-groups`.

use std::path::PathBuf;

use crate::command::Connect;

#[derive(clap::Parser)]
pub struct Options {
    #[command(flatten)]
    pub connect: Connect,
    /// List groups.
    #[arg(long)]
    pub list: bool,
    /// Show the positions and the lag of groups.
    #[arg(long)]
    pub describe: bool,
    /// Delete groups that have no member.
    #[arg(long)]
    pub delete: bool,
    /// Set positions of groups that have no member.
    #[arg(long)]
    pub reset_offsets: bool,
    /// Delete positions.
    #[arg(long)]
    pub delete_offsets: bool,
    /// Only check a regular expression.
    #[arg(long)]
    pub validate_regex: Option<String>,
    /// The group; may be given several times.
    #[arg(long)]
    pub group: Vec<String>,
    /// Every group.
    #[arg(long)]
    pub all_groups: bool,
    /// A topic, or some of its partitions: topic:0,1.
    #[arg(long)]
    pub topic: Vec<String>,
    /// Every topic of the group.
    #[arg(long)]
    pub all_topics: bool,
    /// Show members instead of positions.
    #[arg(long)]
    pub members: bool,
    /// Show positions; the default.
    #[arg(long)]
    pub offsets: bool,
    /// With --describe: the group's state; with --list: only groups in these states.
    #[arg(long, num_args = 0..=1, default_missing_value = "")]
    pub state: Option<String>,
    /// List these types of groups, or show the types.
    #[arg(long = "type", num_args = 0..=1, default_missing_value = "")]
    pub kind: Option<String>,
    /// Show more columns.
    #[arg(long)]
    pub verbose: bool,
    /// Show what would be done; the default.
    #[arg(long)]
    pub dry_run: bool,
    /// Do it.
    #[arg(long)]
    pub execute: bool,
    /// Print the result as CSV.
    #[arg(long)]
    pub export: bool,
    /// To the oldest record.
    #[arg(long)]
    pub to_earliest: bool,
    /// To the end.
    #[arg(long)]
    pub to_latest: bool,
    /// To the position that is committed.
    #[arg(long)]
    pub to_current: bool,
    /// To this offset.
    #[arg(long, allow_negative_numbers = true)]
    pub to_offset: Option<i64>,
    /// By so many records, forward or back.
    #[arg(long, allow_negative_numbers = true)]
    pub shift_by: Option<i64>,
    /// YYYY-MM-DDTHH:mm:ss.sss
    #[arg(long)]
    pub to_datetime: Option<String>,
    /// PnDTnHnMnS
    #[arg(long)]
    pub by_duration: Option<String>,
    /// To the offsets of a CSV file.
    #[arg(long)]
    pub from_file: Option<PathBuf>,
    /// How long a call may take, in milliseconds.
    #[arg(long)]
    pub timeout: Option<u64>,
}
