//! `kafka-configs`

mod alter;
mod describe;
mod entities;
mod options;
mod resources;

use std::ffi::OsString;

use strandline_client::ClientError;

use self::alter::alter;
use self::describe::describe;
use self::entities::entities;
use crate::command::{Failure, Outcome, parse, told};

pub use self::entities::Entity;
pub(crate) use self::options::Options;
pub use self::resources::{BROKER, Entry, TOPIC, alter_resource, describe_configs};

pub async fn run(tool: &'static str, arguments: Vec<OsString>) -> Outcome {
    let line: Vec<String> = arguments
        .iter()
        .map(|a| a.to_string_lossy().into_owned())
        .collect();
    let options: Options = parse(tool, arguments)?;
    if options.alter == options.describe {
        return Err(Failure::stderr(
            "Command must include exactly one action: --describe, --alter",
        ));
    }
    let entities = entities(&options)?;
    let cluster = options.connect.cluster("adminclient-1")?;
    let done = if options.alter {
        alter(&cluster, &options, &entities).await
    } else {
        describe(&cluster, &options, &entities).await
    };
    done.map_err(|error| match error {
        Problem::Usage(message) => Failure::stderr(message),
        Problem::Client(error) => Failure::stderr(format!(
            "Error while executing config command with args '{}'\njava.util.concurrent.ExecutionException: {}",
            line.join(" "),
            told(&error)
        )),
    })
}

pub enum Problem {
    Usage(String),
    Client(ClientError),
}

impl From<ClientError> for Problem {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}
