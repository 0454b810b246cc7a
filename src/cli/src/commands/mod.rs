//! One file per command.

pub mod check;
pub mod demo;
pub mod dev;
pub mod health;
pub mod help_files;
pub mod server;
pub mod tier_measure;
pub mod tier_orphans;
pub mod tier_status;
pub mod tools;

use std::ffi::OsString;

use strandline_broker::Server;
use strandline_broker::settings::Properties;
use tokio::signal::unix::{SignalKind, signal};

use crate::service_manager;

/// `KEY=VALUE` from the command line.
fn parse_overrides(overrides: &[String]) -> Result<Vec<(String, String)>, String> {
    overrides
        .iter()
        .map(|text| {
            let (key, value) = text
                .split_once('=')
                .ok_or_else(|| format!("--override {text}: not KEY=VALUE"))?;
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        })
        .collect()
}

/// The environment's variables; one that is no text sets no property.
fn environment() -> impl Iterator<Item = (String, String)> {
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text)
}

fn tell_oddities(properties: &Properties) {
    for warning in &properties.warnings {
        tracing::warn!("{warning}");
    }
}

/// Runs until SIGTERM or SIGINT, then stops cleanly; or until the process has lost its part in the cluster's metadata.
async fn serve(server: Server) -> Result<(), String> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| e.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| e.to_string())?;
    service_manager::tell("READY=1");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        reason = server.failed() => {
            // Do not wait for flushes: other brokers lead, and the next start recovers.
            return Err(reason);
        }
    }
    tracing::info!("stopping");
    service_manager::tell("STOPPING=1");
    server.shutdown().await;
    tracing::info!("stopped cleanly");
    Ok(())
}
