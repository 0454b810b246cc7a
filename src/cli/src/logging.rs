//! Logs to standard error by `tracing`: text, or JSON with `--log-json`; levels by `STRANDLINE_LOG`.

use tracing_subscriber::EnvFilter;

const DEFAULT_LEVELS: &str = "info,openraft=warn";

pub fn start(json: bool) {
    let filter = EnvFilter::try_from_env("STRANDLINE_LOG")
        .unwrap_or_else(|_| EnvFilter::new(DEFAULT_LEVELS));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if json {
        builder.json().init();
    } else {
        builder.with_target(false).init();
    }
}
