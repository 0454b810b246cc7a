//! Logs to standard error by `tracing`: text, or JSON with `--log-json`; levels by `STRANDLINE_LOG`, and at run time by
//! `kafka-configs --entity-type broker-loggers`.

use strandline_broker::log_levels;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt, reload};

// openraft logs every attempt to reach a member that is down as an error; the quorum logs the events that matter.
// The object store's client logs each attempt; its callers log the calls that fail in the end.
const DEFAULT_LEVELS: &str = "info,openraft=off,object_store=warn";

pub fn start(json: bool) {
    let wanted = std::env::var("STRANDLINE_LOG").unwrap_or_default();
    let levels = match EnvFilter::try_new(&wanted) {
        Ok(_) if !wanted.is_empty() => wanted,
        _ => DEFAULT_LEVELS.to_owned(),
    };
    let (filter, handle) = reload::Layer::new(EnvFilter::new(&levels));
    let registry = tracing_subscriber::registry().with(filter);
    let lines = fmt::layer().with_writer(std::io::stderr);
    if json {
        registry.with(lines.json()).init();
    } else {
        registry.with(lines.with_target(false)).init();
    }
    log_levels::start(&levels, move |changed| {
        let filter = EnvFilter::try_new(changed).map_err(|e| e.to_string())?;
        handle.reload(filter).map_err(|e| e.to_string())
    });
}
