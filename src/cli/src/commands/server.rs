//! `strandline server CONFIG`

use std::path::Path;

use strandline_broker::Server;
use strandline_broker::settings::{Properties, Settings};

/// The numbers of threads in the properties; without them there is one for each processor.
pub struct Threads {
    /// `num.network.threads`: they read requests and answer them.
    pub network: Option<usize>,
    /// `num.io.threads`: these threads read bytes that are not in the page cache.
    pub io: Option<usize>,
}

pub fn threads(config: &Path, overrides: &[String]) -> Result<Threads, String> {
    let overrides = super::parse_overrides(overrides)?;
    let properties = Properties::load(Some(config), super::environment(), &overrides);
    let given = properties.map_err(|e| e.to_string())?.to_map();
    let number = |key: &str| given.get(key)?.parse().ok().filter(|n| *n > 0);
    Ok(Threads {
        network: number("num.network.threads"),
        io: number("num.io.threads"),
    })
}

pub async fn run(config: &Path, overrides: &[String]) -> Result<(), String> {
    let overrides = super::parse_overrides(overrides)?;
    let properties = Properties::load(Some(config), super::environment(), &overrides)
        .map_err(|e| e.to_string())?;
    let settings = Settings::resolve(&properties).map_err(|e| e.to_string())?;
    let node_id = settings.node_id;
    let started = Server::start(settings).await;
    // At the end of the start, where they are seen.
    super::tell_oddities(&properties);
    let broker = started.map_err(|e| e.to_string())?;
    tracing::info!(node_id, listeners = ?broker.addresses(), http = ?broker.http_address(), "started");
    super::serve(broker).await
}
