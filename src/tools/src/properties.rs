//! `key=value` settings: from a file, from options, the later ones first.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use strandline_metadata::config::parse_properties;

use crate::command::Failure;

#[derive(Clone, Debug, Default)]
pub struct Properties(BTreeMap<String, String>);

impl Properties {
    pub fn load(path: &Path) -> Result<Self, Failure> {
        let failed = |e: String| Failure::stderr(format!("{}: {e}", path.display()));
        let bytes = std::fs::read(path).map_err(|e| failed(e.to_string()))?;
        let pairs = parse_properties(&bytes).map_err(|e| failed(e.to_string()))?;
        let trimmed = pairs
            .into_iter()
            .map(|(key, value)| (key, value.trim().to_owned()));
        Ok(Self(trimmed.collect()))
    }

    /// Adds `key=value` pairs as options give them.
    pub fn add(&mut self, pairs: &[String]) -> Result<(), Failure> {
        for pair in pairs {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| Failure::stderr(format!("Invalid property: {pair}")))?;
            self.0.insert(key.trim().to_owned(), value.to_owned());
        }
        Ok(())
    }

    pub fn set(&mut self, key: &str, value: &str) {
        self.0.insert(key.to_owned(), value.to_owned());
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&String, &String)> {
        self.0.iter()
    }

    pub fn is_true(&self, key: &str) -> bool {
        self.get(key)
            .is_some_and(|v| v.trim().eq_ignore_ascii_case("true"))
    }

    pub fn number<T: std::str::FromStr>(&self, key: &str, default: T) -> Result<T, Failure> {
        let Some(value) = self.get(key) else {
            return Ok(default);
        };
        value.parse().map_err(|_| {
            Failure::stderr(format!(
                "Invalid value {value} for configuration {key}: not a number of its type"
            ))
        })
    }

    pub fn millis(&self, key: &str, default: Duration) -> Result<Duration, Failure> {
        let ms = self.number(key, default.as_millis() as u64)?;
        Ok(Duration::from_millis(ms))
    }
}
