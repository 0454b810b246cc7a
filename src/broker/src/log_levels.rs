//! Levels of this process's loggers at run time (`broker-loggers`).
//!
//! A logger is a module path, as `tracing` names its targets; `root` is the level of all that have none of their own. The
//! process that has installed a subscriber says how a change reaches it; without one (in tests) changes are only noted.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock};

pub const ROOT: &str = "root";
const LEVELS: [&str; 6] = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "OFF"];
/// Modules that always have a line in a description.
const KNOWN: [&str; 8] = [
    "strandline_broker",
    "strandline_broker::api",
    "strandline_broker::cluster",
    "strandline_broker::partition",
    "strandline_broker::tier",
    "strandline_log",
    "strandline_quorum",
    "strandline_tiering",
];

type Install = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

struct Levels {
    set: BTreeMap<String, String>,
    install: Option<Install>,
}

fn shared() -> &'static Mutex<Levels> {
    static SHARED: OnceLock<Mutex<Levels>> = OnceLock::new();
    SHARED.get_or_init(|| {
        let set = BTreeMap::from([(ROOT.to_owned(), "INFO".to_owned())]);
        Mutex::new(Levels { set, install: None })
    })
}

/// Begins with the levels of a filter such as `info,openraft=off`; `install` takes a changed one into effect.
pub fn start(filter: &str, install: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static) {
    let mut levels = shared().lock().expect("no holder panics");
    for directive in filter.split(',').map(str::trim).filter(|d| !d.is_empty()) {
        let (name, level) = directive.split_once('=').unwrap_or((ROOT, directive));
        levels.set.insert(name.to_owned(), level.to_uppercase());
    }
    levels.install = Some(Box::new(install));
}

/// Every logger with its level in effect.
pub fn levels() -> BTreeMap<String, String> {
    let levels = shared().lock().expect("no holder panics");
    let mut all = levels.set.clone();
    for name in KNOWN {
        all.entry(name.to_owned())
            .or_insert_with(|| inherited(&levels.set, name));
    }
    all
}

/// The level of the closest module above that has one.
fn inherited(set: &BTreeMap<String, String>, name: &str) -> String {
    let mut above = name;
    while let Some((parent, _)) = above.rsplit_once("::") {
        if let Some(level) = set.get(parent) {
            return level.clone();
        }
        above = parent;
    }
    set.get(ROOT).cloned().unwrap_or_else(|| "INFO".into())
}

/// Whether changes (`None` takes a logger's own level away) could be made.
pub fn check(changes: &[(String, Option<String>)]) -> Result<(), String> {
    for (name, level) in changes {
        if name == ROOT && level.is_none() {
            return Err(format!(
                "Removing the log level of the {ROOT} logger is not allowed"
            ));
        }
        let legal = |l: &String| {
            LEVELS.contains(&l.to_uppercase().as_str()) || l.eq_ignore_ascii_case("FATAL")
        };
        if let Some(level) = level.as_ref().filter(|l| !legal(l)) {
            return Err(format!(
                "Cannot set the log level of {name} to {level} as it is not a supported log level. Valid log levels are {}",
                LEVELS.join(", ")
            ));
        }
        let path = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.' | '$' | '-');
        if name.is_empty() || !name.chars().all(path) {
            return Err(format!("Logger {name} does not exist!"));
        }
    }
    Ok(())
}

/// Makes changes; they are in effect when this returns.
pub fn change(changes: Vec<(String, Option<String>)>) -> Result<(), String> {
    check(&changes)?;
    let mut levels = shared().lock().expect("no holder panics");
    let mut next = levels.set.clone();
    for (name, level) in changes {
        match level {
            Some(level) => {
                let level = level.to_uppercase();
                let level = if level == "FATAL" {
                    "ERROR".into()
                } else {
                    level
                };
                next.insert(name, level);
            }
            None => {
                next.remove(&name);
            }
        }
    }
    if let Some(install) = &levels.install {
        let directives: Vec<String> = next
            .iter()
            .map(|(name, level)| {
                if name == ROOT {
                    level.to_lowercase()
                } else {
                    format!("{name}={}", level.to_lowercase())
                }
            })
            .collect();
        install(&directives.join(","))?;
    }
    levels.set = next;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_inherited_checked_and_taken_away() {
        let set = |name: &str, level: Option<&str>| {
            change(vec![(name.to_owned(), level.map(str::to_owned))])
        };
        assert_eq!(levels()["strandline_broker::tier"], "INFO");
        set("strandline_broker", Some("debug")).unwrap();
        assert_eq!(levels()["strandline_broker::tier"], "DEBUG");
        assert_eq!(levels()["strandline_log"], "INFO");
        assert!(set("strandline_broker", Some("LOUD")).is_err());
        assert!(set(ROOT, None).is_err());
        assert!(set("a b", Some("INFO")).is_err());
        set("strandline_broker", None).unwrap();
        assert_eq!(levels()["strandline_broker::tier"], "INFO");
    }
}
