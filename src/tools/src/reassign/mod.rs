//! `kafka-reassign-partitions`

mod cancel;
mod current;
mod execute;
mod generate;
mod options;
mod plan;
mod requests;
mod throttles;
mod verify;

use std::ffi::OsString;

use strandline_client::{ClientError, Cluster};

use self::cancel::cancel;
use self::execute::execute;
use self::generate::generate;
use self::plan::{name, read_plan};
use self::verify::verify;
use crate::command::{Failure, Outcome, exactly_one, parse, told};
use crate::replica_moves::{self, joined};

pub(crate) use self::options::Options;

/// This tool prints its errors on standard output.
fn error(reason: impl std::fmt::Display) -> Failure {
    Failure {
        stdout: Some(format!("Error: {reason}")),
        stderr: None,
    }
}

fn of_client(failure: &ClientError) -> Failure {
    error(told(failure))
}

pub async fn run(tool: &'static str, arguments: Vec<OsString>) -> Outcome {
    let options: Options = parse(tool, arguments)?;
    let actions = [
        options.generate,
        options.execute,
        options.verify,
        options.cancel,
        options.list,
    ];
    exactly_one(
        &actions,
        "Command must include exactly one action: --generate, --execute, --verify, --cancel, --list",
    )?;
    let cluster = options.connect.cluster("reassign-partitions-tool")?;
    if options.list {
        return list(&cluster).await;
    }
    if options.generate {
        return generate(&cluster, &options).await;
    }
    let Some(path) = &options.reassignment_json_file else {
        return Err(Failure::stderr(
            "Missing required argument \"[reassignment-json-file]\"",
        ));
    };
    let plan = read_plan(path)?;
    if options.execute {
        execute(&cluster, &options, &plan).await
    } else if options.verify {
        verify(&cluster, &options, &plan).await
    } else {
        cancel(&cluster, &options, &plan).await
    }
}

async fn list(cluster: &Cluster) -> Outcome {
    let moves = replica_moves::list(cluster, None).await;
    let moves = moves.map_err(|e| of_client(&e))?;
    if moves.is_empty() {
        println!("No partition reassignments found.");
        return Ok(());
    }
    println!("Current partition reassignments:");
    for (key, one) in &moves {
        let mut line = format!("{}: replicas: {}.", name(key), joined(&one.replicas));
        if !one.adding.is_empty() {
            line.push_str(&format!(" adding: {}.", joined(&one.adding)));
        }
        if !one.removing.is_empty() {
            line.push_str(&format!(" removing: {}.", joined(&one.removing)));
        }
        println!("{line}");
    }
    Ok(())
}
