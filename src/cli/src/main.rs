//! The `strandline` binary: one file per command.

mod commands;
mod http_get;
mod logging;
mod service_manager;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use strandline_tools::migrate_groups::{self, MigrateGroups};

/// A Kafka-compatible broker with a cold tier in S3-compatible storage.
#[derive(Parser)]
#[command(name = "strandline", version = concat!(env!("CARGO_PKG_VERSION"), env!("STRANDLINE_OF_COMMIT")), about)]
struct Arguments {
    /// Log as JSON, one object a line.
    #[arg(long, global = true)]
    log_json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One broker with nothing to configure; the cold tier is a local directory.
    Dev {
        /// Address for Kafka clients.
        #[arg(long, default_value = "127.0.0.1:9092")]
        listen: String,
        /// Address for metrics and health.
        #[arg(long, default_value = "127.0.0.1:9644")]
        http: String,
        /// Where everything is kept.
        #[arg(long, default_value = ".strandline")]
        data: PathBuf,
        /// The cold tier: s3://bucket/prefix, file:///dir or memory://. Default: a directory in the data.
        #[arg(long)]
        remote: Option<String>,
    },
    /// A broker from a Kafka properties file.
    Server {
        /// The properties file.
        config: PathBuf,
        /// A property that beats file and environment.
        #[arg(long = "override", value_name = "KEY=VALUE")]
        overrides: Vec<String>,
    },
    /// Checks a properties file, and the bucket that it names, without starting anything.
    Check {
        /// The properties file.
        config: PathBuf,
        /// Exit with an error if a property has no effect.
        #[arg(long)]
        strict: bool,
        /// A property that beats file and environment.
        #[arg(long = "override", value_name = "KEY=VALUE")]
        overrides: Vec<String>,
    },
    /// Shows the whole loop on real records: produce, offload, read back, compare.
    Demo {
        /// Address for Kafka clients.
        #[arg(long, default_value = "127.0.0.1:9092")]
        bootstrap: String,
        /// Address of the broker's HTTP listener.
        #[arg(long, default_value = "127.0.0.1:9644")]
        http: String,
        /// Bytes of records to produce.
        #[arg(long, default_value_t = 64 << 20)]
        bytes: u64,
    },
    /// The cold tier.
    Tier {
        #[command(subcommand)]
        command: TierCommand,
    },
    /// Migrates from Kafka to Strandline.
    Migrate {
        #[command(subcommand)]
        command: MigrateCommand,
    },
    /// Kafka's tools under their own names.
    Tools {
        #[command(subcommand)]
        command: ToolsCommand,
    },
    /// Prints what a shell needs to complete commands and options, Kafka's tools included.
    Completions {
        /// bash, zsh, fish, elvish or powershell.
        shell: clap_complete::Shell,
    },
    /// Writes a manual page for every command and tool.
    ManPages {
        /// Where the pages go.
        directory: PathBuf,
    },
    /// Exits with status 0 when the broker is ready; otherwise says what is missing.
    Health {
        /// Address of the broker's HTTP listener.
        #[arg(long, default_value = "127.0.0.1:9644")]
        http: String,
    },
}

#[derive(Subcommand)]
enum MigrateCommand {
    /// Looks up, record by record, where each group of a mirrored cluster stands, and commits that here.
    Groups(MigrateGroups),
}

#[derive(Subcommand)]
enum ToolsCommand {
    /// Makes links to this binary under the names of Kafka's scripts: kafka-topics.sh, kafka-topics, …
    Install {
        /// Where the links go; a directory of the PATH.
        directory: PathBuf,
    },
    /// The tools that are built in.
    List,
}

#[derive(Subcommand)]
enum TierCommand {
    /// The state of each tiered partition: copied, waiting, failed.
    Status {
        /// Only this topic.
        #[arg(long)]
        topic: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Addresses of brokers' HTTP listeners, separated by commas: of all brokers for the whole cluster.
        #[arg(long, default_value = "127.0.0.1:9644")]
        http: String,
    },
    /// Objects in the bucket that nothing refers to, which the broker's next sweep would remove. Removes nothing.
    Orphans {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Address of the broker's HTTP listener.
        #[arg(long, default_value = "127.0.0.1:9644")]
        http: String,
    },
    /// Measures how fast the bucket of a properties file answers: parallel ranged GETs of the segments that are in it.
    Measure {
        /// The properties file.
        config: PathBuf,
        /// A property that beats file and environment.
        #[arg(long = "override", value_name = "KEY=VALUE")]
        overrides: Vec<String>,
        /// GETs at the same time.
        #[arg(long, default_value_t = 16)]
        concurrency: usize,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// How long the process waits for running blocking calls when everything else has stopped.
const THREADS_TO_END: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    if let Some((tool, arguments)) = kafka_tool(std::env::args_os().collect()) {
        return run_tool(tool, arguments);
    }
    let arguments = Arguments::parse();
    logging::start(arguments.log_json);
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .expect("no other provider was installed before");
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Command::Server { config, overrides } = &arguments.command {
        match commands::server::threads(config, overrides) {
            Ok(threads) => {
                threads.network.map(|n| builder.worker_threads(n));
                threads.io.map(|n| builder.max_blocking_threads(n));
            }
            Err(message) => return failed(&message),
        }
    }
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("no runtime: {error}")),
    };
    let result = runtime.block_on(run(arguments.command));
    // Only a thread that a disk or a name server blocks still runs; the process ends without that thread.
    runtime.shutdown_timeout(THREADS_TO_END);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => failed(&message),
    }
}

/// One of Kafka's tools, if the name of the program or the first argument is one, and the tool's own arguments.
fn kafka_tool(mut words: Vec<OsString>) -> Option<(&'static str, Vec<OsString>)> {
    for named in 0..2 {
        let name = words.get(named)?.to_str()?;
        if let Some(tool) = strandline_tools::tool_of(name) {
            return Some((tool, words.split_off(named + 1)));
        }
    }
    None
}

fn run_tool(tool: &'static str, arguments: Vec<OsString>) -> ExitCode {
    end_quietly_without_reader();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => {
            let status = runtime.block_on(strandline_tools::run(tool, arguments));
            // A thread that still waits for standard input must not delay the exit.
            runtime.shutdown_background();
            status
        }
        Err(error) => failed(&format!("no runtime: {error}")),
    }
}

/// `kafka-topics --list | head` is no failure: when the reader of standard output is gone, the process ends as other
/// programs do.
fn end_quietly_without_reader() {
    const KILLED_BY_SIGPIPE: i32 = 128 + 13;
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let told = panic.payload_as_str().unwrap_or_default();
        if told.starts_with("failed printing to stdout") {
            std::process::exit(KILLED_BY_SIGPIPE);
        }
        report(panic);
    }));
}

fn failed(message: &str) -> ExitCode {
    eprintln!("strandline: {message}");
    ExitCode::FAILURE
}

async fn run(command: Command) -> Result<(), String> {
    match command {
        Command::Dev {
            listen,
            http,
            data,
            remote,
        } => commands::dev::run(&listen, &http, &data, remote).await,
        Command::Server { config, overrides } => commands::server::run(&config, &overrides).await,
        Command::Check {
            config,
            strict,
            overrides,
        } => commands::check::run(&config, &overrides, strict).await,
        Command::Demo {
            bootstrap,
            http,
            bytes,
        } => commands::demo::run(&bootstrap, &http, bytes).await,
        Command::Tier { command } => tier(command).await,
        Command::Migrate {
            command: MigrateCommand::Groups(options),
        } => {
            let outcome = migrate_groups::run(&options).await;
            outcome.map_err(|failure| failure.stderr.unwrap_or_default())
        }
        Command::Tools { command } => match command {
            ToolsCommand::Install { directory } => commands::tools::install(&directory),
            ToolsCommand::List => {
                commands::tools::list();
                Ok(())
            }
        },
        Command::Completions { shell } => {
            commands::help_files::completions(Arguments::command(), shell);
            Ok(())
        }
        Command::ManPages { directory } => {
            commands::help_files::man_pages(Arguments::command(), &directory)
        }
        Command::Health { http } => commands::health::run(&http).await,
    }
}

async fn tier(command: TierCommand) -> Result<(), String> {
    match command {
        TierCommand::Status { topic, json, http } => {
            commands::tier_status::run(&http, topic.as_deref(), json).await
        }
        TierCommand::Orphans { json, http } => commands::tier_orphans::run(&http, json).await,
        TierCommand::Measure {
            config,
            overrides,
            concurrency,
            json,
        } => commands::tier_measure::run(&config, &overrides, concurrency, json).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn undescribed(command: &clap::Command, found: &mut Vec<String>) {
        for argument in command.get_arguments() {
            let id = argument.get_id().as_str();
            if argument.get_help().is_none() && id != "help" && id != "version" {
                found.push(format!("{} {id}", command.get_name()));
            }
        }
        for inner in command.get_subcommands() {
            if inner.get_about().is_none() {
                found.push(inner.get_name().to_owned());
            }
            undescribed(inner, found);
        }
    }

    #[test]
    fn every_command_and_every_option_is_described() {
        let mut found = Vec::new();
        undescribed(&Arguments::command(), &mut found);
        assert!(found.is_empty(), "{found:?}");
    }
}
