//! Logs to standard error by `tracing`: text, or JSON with `--log-json`; levels by `STRANDLINE_LOG`, and at run time by
//! `kafka-configs --entity-type broker-loggers`.

use std::io::IsTerminal;

use strandline_broker::log_levels;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt, reload};

// openraft logs every attempt to reach a member that is down as an error; the quorum logs the events that matter.
// The object store's client logs each attempt; its callers log the calls that fail in the end.
const DEFAULT_LEVELS: &str = "info,openraft=off,object_store=warn";

/// Parts of this program that a level can be given to.
const PARTS: &[&str] = &[
    "strandline",
    "openraft",
    "object_store",
    "aws",
    "hyper",
    "rustls",
    "tokio",
];

pub fn start(json: bool) {
    let wanted = std::env::var("STRANDLINE_LOG").unwrap_or_default();
    let levels = match mistake(&wanted) {
        None if !wanted.is_empty() => wanted,
        None => DEFAULT_LEVELS.to_owned(),
        Some(mistake) => {
            eprintln!("strandline: {mistake}; {DEFAULT_LEVELS} is used");
            DEFAULT_LEVELS.to_owned()
        }
    };
    let (filter, handle) = reload::Layer::new(EnvFilter::new(&levels));
    let registry = tracing_subscriber::registry().with(filter);
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(colours);
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

/// The mistake in levels that were asked for. A word that is no level would mean a module of that name, and log
/// nothing.
fn mistake(levels: &str) -> Option<String> {
    let wrong = |part: &str, reason: &str| Some(format!("STRANDLINE_LOG: {part}: {reason}"));
    for part in levels.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let (module, level) = match part.split_once('=') {
            Some((module, level)) => (Some(module), Some(level)),
            None if part.parse::<LevelFilter>().is_ok() => (None, Some(part)),
            None => (Some(part), None),
        };
        let known = |module: &str| PARTS.iter().any(|known| module.starts_with(known));
        if level.is_some_and(|level| level.parse::<LevelFilter>().is_err()) {
            return wrong(part, "a level is trace, debug, info, warn, error or off");
        }
        if module.is_some_and(|module| !module.starts_with('[') && !known(module)) {
            return wrong(
                part,
                "neither a level (trace, debug, info, warn, error, off) nor a module of this program (strandline_broker, \
                 openraft)",
            );
        }
    }
    let parsed = EnvFilter::try_new(levels);
    parsed.err().map(|e| format!("STRANDLINE_LOG: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_or_module_with_a_typo_is_named() {
        for well in [
            "",
            "info",
            "WARN",
            "debug,openraft=off",
            "strandline_broker::cluster=debug",
            "strandline_broker",
            DEFAULT_LEVELS,
        ] {
            assert_eq!(mistake(well), None, "{well}");
        }
        for (typo, part) in [
            ("inof", "inof"),
            ("info,strandline_broker=debgu", "strandline_broker=debgu"),
            ("info,strandlin_broker=debug", "strandlin_broker=debug"),
        ] {
            let told = mistake(typo).unwrap();
            assert!(
                told.starts_with(&format!("STRANDLINE_LOG: {part}: ")),
                "{told}"
            );
        }
    }
}
