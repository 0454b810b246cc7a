//! `strandline server CONFIG`

use std::path::Path;

use strandline_broker::Server;
use strandline_broker::settings::Properties;

pub async fn run(config: &Path, overrides: &[String]) -> Result<(), String> {
    let overrides = super::parse_overrides(overrides)?;
    let properties =
        Properties::load(Some(config), std::env::vars(), &overrides).map_err(|e| e.to_string())?;
    let settings = super::resolve(&properties)?;
    let node_id = settings.node_id;
    let broker = Server::start(settings).await.map_err(|e| e.to_string())?;
    tracing::info!(node_id, listeners = ?broker.addresses(), http = ?broker.http_address(), "started");
    super::serve(broker).await
}
