//! The common parts of the tools: options, the connection to a cluster, messages of failures.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use clap::error::ErrorKind;
use regex::Regex;
use strandline_client::{ClientError, ClientOptions, Cluster};

use crate::properties::Properties;

/// Replaces `--bootstrap-server` where the option is not given.
const BOOTSTRAP_VARIABLE: &str = "STRANDLINE_BOOTSTRAP_SERVER";

/// The failure of a tool: exit status 1, and messages that have not been printed yet.
#[derive(Debug, Default)]
pub struct Failure {
    pub stdout: Option<String>,
    pub stderr: Option<String>,
}

pub type Outcome = Result<(), Failure>;

impl Failure {
    /// A message on standard error.
    pub fn stderr(message: impl Into<String>) -> Self {
        Self {
            stderr: Some(message.into()),
            ..Self::default()
        }
    }

    /// Kafka's form: the reason for people on standard output, the exception on standard error.
    pub fn logged(reason: impl Into<String>, exception: &str, class: &str) -> Self {
        Self {
            stdout: Some(reason.into()),
            stderr: Some(format!(
                "[{}] ERROR {exception}\n ({class})",
                crate::time::log_stamp()
            )),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::stderr(told(&error))
    }
}

/// An error with, where no broker could be reached, the address and the time-out.
pub fn told(error: &ClientError) -> String {
    match error {
        ClientError::Unreachable { waited, last, .. } => {
            format!(
                "{}\n{last} (gave up after {} ms)",
                error.java(),
                waited.as_millis()
            )
        }
        other => other.java(),
    }
}

/// Prints the messages of a failure and returns the exit status.
pub fn finish(outcome: Outcome) -> ExitCode {
    let _ = std::io::stdout().flush();
    let Err(failure) = outcome else {
        return ExitCode::SUCCESS;
    };
    if let Some(text) = failure.stdout {
        println!("{text}");
    }
    if let Some(text) = failure.stderr {
        eprintln!("{text}");
    }
    ExitCode::FAILURE
}

/// Reads a tool's options. Long ones may be shortened as far as they stay unique, as in Kafka.
pub fn parse<T: Parser>(tool: &'static str, arguments: Vec<OsString>) -> Result<T, Failure> {
    if let Some(option) = replaced_option(&arguments) {
        return Err(Failure::stderr(option));
    }
    let command = described::<T>(tool);
    let all = std::iter::once(OsString::from(tool)).chain(arguments);
    let parsed = command
        .try_get_matches_from(all)
        .and_then(|mut matches| T::from_arg_matches_mut(&mut matches));
    parsed.map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            std::process::exit(0)
        }
        _ => Failure::stderr(error.to_string().trim_end().to_owned()),
    })
}

/// A tool's options under its name and with its purpose. Options that tools share would otherwise name the purpose.
pub fn described<T: Parser>(tool: &'static str) -> clap::Command {
    T::command()
        .name(tool)
        .bin_name(tool)
        .about(crate::purpose::purpose(tool))
        .long_about(None)
        .infer_long_args(true)
        .version(concat!("4.3 (strandline ", env!("CARGO_PKG_VERSION"), ")"))
}

/// Options that Kafka no longer has, with their replacements.
fn replaced_option(arguments: &[OsString]) -> Option<String> {
    let replacement = |name: &str| match name {
        "--zookeeper" => {
            Some("--bootstrap-server HOST:PORT of any broker (ZooKeeper is gone since Kafka 4.0)")
        }
        "--new-consumer" => Some("nothing: there is only one consumer"),
        _ => None,
    };
    arguments.iter().find_map(|argument| {
        let argument = argument.to_str()?;
        let name = argument.split('=').next()?;
        let instead = replacement(name)?;
        Some(format!("{name} is not an option any more: use {instead}"))
    })
}

/// How a tool reaches the cluster.
#[derive(Clone, Debug, clap::Args)]
pub struct Connect {
    /// The brokers to ask first: HOST:PORT, several separated by commas. Without it, the environment's
    /// STRANDLINE_BOOTSTRAP_SERVER.
    #[arg(long, value_name = "HOST:PORT")]
    pub bootstrap_server: Option<String>,
    /// A properties file with client settings.
    #[arg(long, value_name = "FILE")]
    pub command_config: Option<PathBuf>,
}

impl Connect {
    pub fn address(&self) -> Result<String, Failure> {
        let given = self.bootstrap_server.clone();
        given
            .or_else(|| std::env::var(BOOTSTRAP_VARIABLE).ok())
            .filter(|a| !a.is_empty())
            .ok_or_else(|| Failure::stderr("Missing required argument \"[bootstrap-server]\""))
    }

    /// The cluster, under a client id that names the purpose.
    pub fn cluster(&self, client_id: &str) -> Result<Arc<Cluster>, Failure> {
        let properties = properties_file(self.command_config.as_deref())?;
        Ok(Cluster::new(
            &self.address()?,
            options(&properties, client_id)?,
        ))
    }
}

pub fn properties_file(path: Option<&Path>) -> Result<Properties, Failure> {
    path.map_or_else(|| Ok(Properties::default()), Properties::load)
}

/// The client's settings of a properties file.
pub fn options(properties: &Properties, client_id: &str) -> Result<ClientOptions, Failure> {
    let defaults = ClientOptions::default();
    let protocol = properties.get("security.protocol").unwrap_or("PLAINTEXT");
    if protocol != "PLAINTEXT" {
        return Err(Failure::stderr(format!(
            "security.protocol: {protocol} is not supported yet, only PLAINTEXT"
        )));
    }
    Ok(ClientOptions {
        client_id: properties.get("client.id").unwrap_or(client_id).to_owned(),
        request_timeout: properties.millis("request.timeout.ms", defaults.request_timeout)?,
        api_timeout: properties.millis("default.api.timeout.ms", defaults.api_timeout)?,
        on_trouble: |trouble| eprintln!("{trouble}"),
    })
}

/// `TOPIC-PARTITION` as Kafka's tools print it.
pub fn partition_name(topic: &str, partition: i32) -> String {
    format!("{topic}-{partition}")
}

/// A JSON file of a kind.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))
}

/// Fails, in these words, unless exactly one of the choices was made.
pub fn exactly_one(choices: &[bool], otherwise: &str) -> Outcome {
    if choices.iter().filter(|made| **made).count() == 1 {
        Ok(())
    } else {
        Err(Failure::stderr(otherwise))
    }
}

/// Kafka's include list as a regular expression for whole names: commas separate alternatives. The error is Kafka's text.
pub fn include_pattern(given: &str) -> Result<Regex, String> {
    let alternatives = given.replace(',', "|");
    let whole = Regex::new(&format!("^(?:{alternatives})$"));
    whole.map_err(|_| format!("{alternatives} is an invalid regex."))
}

/// The topics that an include list means, in order.
pub async fn included_topics(cluster: &Cluster, given: &str) -> Result<Vec<String>, Failure> {
    let pattern = include_pattern(given).map_err(Failure::stderr)?;
    let metadata = cluster.metadata(None).await?;
    let names = metadata.topics.iter().filter_map(|t| t.name.as_ref());
    let mut names: Vec<String> = names
        .map(|name| name.to_string())
        .filter(|name| pattern.is_match(name))
        .collect();
    names.sort();
    Ok(names)
}

/// Returns when the process is asked to end: Ctrl+C, or SIGTERM.
pub async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut asked = signal(SignalKind::terminate()).expect("a handler can be installed");
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = asked.recv() => {}
    }
}

/// How long a poll of a consumer waits before its caller looks around.
pub const POLL: Duration = Duration::from_millis(100);
