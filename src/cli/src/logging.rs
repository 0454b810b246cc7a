//! Logs to standard error by `tracing`: text, or JSON with `--log-json`; levels by `STRANDLINE_LOG`.

use tracing_subscriber::EnvFilter;

// openraft calls every attempt to reach a member that is down an error; what matters of it is logged by the quorum.
const DEFAULT_LEVELS: &str = "info,openraft=off";

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
