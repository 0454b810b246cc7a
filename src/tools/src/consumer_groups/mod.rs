//! `kafka-consumer-groups`

mod delete;
mod describe;
mod group;
mod listing;
mod members;

use std::ffi::OsString;

use self::delete::{delete, delete_offsets};
use self::describe::describe;
use self::listing::list;
use crate::command::{Failure, Outcome, exactly_one, parse, told};
use crate::group_options::Options;
use crate::reset_offsets;

pub use self::delete::named_partitions;
pub use self::group::state_with_members;
pub use self::listing::{all_groups, group_names};

/// Columns are at least this wide.
const LEAST: usize = 15;
const GROUP_COLUMN: usize = 32;
const COORDINATOR_COLUMN: usize = 25;
const STRATEGY_COLUMN: usize = 20;
const STATE_COLUMN: usize = 20;
const NOTHING: &str = "-";

pub async fn run(tool: &'static str, arguments: Vec<OsString>) -> Outcome {
    let options: Options = parse(tool, arguments)?;
    let actions = [
        options.list,
        options.describe,
        options.delete,
        options.reset_offsets,
        options.delete_offsets,
    ];
    exactly_one(
        &actions,
        "Command must include exactly one action: --list, --describe, --delete, --reset-offsets, --delete-offsets",
    )?;
    if !options.list && options.group.is_empty() && !options.all_groups {
        let action = if options.describe {
            "describe"
        } else if options.delete {
            "delete"
        } else if options.delete_offsets {
            "delete-offsets"
        } else {
            "reset-offsets"
        };
        return Err(Failure::stderr(format!(
            "Option [{action}] takes one of these options: [all-groups], [group]"
        )));
    }
    let mut connect = options.connect.clone();
    connect.bootstrap_server = Some(connect.address()?);
    let cluster = connect.cluster("adminclient-1")?;
    let done = if options.list {
        list(&cluster, &options).await
    } else if options.describe {
        describe(&cluster, &options).await
    } else if options.delete {
        delete(&cluster, &options).await
    } else if options.delete_offsets {
        delete_offsets(&cluster, &options).await
    } else {
        return reset_offsets::run(&cluster, &options).await;
    };
    // Kafka's tool says that it failed and ends as if it had not.
    if let Err(error) = done {
        println!(
            "\nError: Executing consumer group command failed due to {}",
            error.java()
        );
        eprintln!("java.util.concurrent.ExecutionException: {}", told(&error));
    }
    Ok(())
}
