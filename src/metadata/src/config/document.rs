//! `docs/CONFIG.md`, made from the definitions.

use std::fmt::Write;

use super::contradictions::rules;
use super::def::{ConfigDef, DynamicMode, broker_defs, topic_defs};
use super::without_effect::reason_without_effect;

/// The whole document.
pub fn document() -> String {
    let mut page = String::from(
        "# Configuration\n\n\
         Made from the code by `UPDATE_DOCS=1 cargo test -p strandline-metadata`; do not edit. Names, types, defaults, ranges\n\
         and whether a key may be changed at run time are Kafka 4.3's; keys that begin with `strandline.` are ours.\n\n\
         Where a value comes from, the first that gives one: a topic's own setting, the broker's at run time, all brokers' at\n\
         run time (`kafka-configs`), `--override`, the environment (`KAFKA_LOG_DIRS` is `log.dirs`), the properties file, the\n\
         default. A key that nobody knows is named at start, with the nearest that is known, and ignored.\n\n\
         *At run time*: **all** for one broker or all of them, **one** for one broker at a time, empty: only at start.\n\n\
         ## Brokers\n\n\
         | key | type | default | range | at run time |\n|---|---|---|---|---|\n",
    );
    let (without, with): (Vec<_>, Vec<_>) =
        broker_defs().partition(|def| reason_without_effect(&def.name).is_some());
    for def in with.iter().filter(|d| !d.internal) {
        let dynamic = match def.dynamic {
            DynamicMode::ClusterWide => "all",
            DynamicMode::PerBroker => "one",
            DynamicMode::ReadOnly => "",
        };
        let _ = writeln!(page, "| {} | {dynamic} |", cells(def));
    }
    page.push_str("\n## Topics\n\nAll may be changed at run time.\n\n| key | type | default | range | broker's key |\n|---|---|---|---|---|\n");
    for def in topic_defs().filter(|d| !d.internal) {
        let synonyms: Vec<String> = def
            .broker_synonyms
            .iter()
            .map(|s| format!("`{s}`"))
            .collect();
        let _ = writeln!(page, "| {} | {} |", cells(def), synonyms.join(", "));
    }
    page.push_str(
        "\n## Refused together\n\nA start, `strandline check` and a change at run time refuse:\n\n",
    );
    for rule in rules() {
        let _ = writeln!(page, "* {rule}");
    }
    page.push_str("\n## Without effect\n\nAccepted, checked and shown as Kafka does, so that its files work unchanged.\n\n| key | why |\n|---|---|\n");
    for def in without.iter().filter(|d| !d.internal) {
        let reason = reason_without_effect(&def.name).unwrap_or_default();
        let _ = writeln!(page, "| `{}` | {reason} |", def.name);
    }
    page.push_str(
        "\nSettings of groups and of client metrics are kept and shown; the groups and the telemetry that they are for are not\n\
         there yet.\n",
    );
    page
}

fn cells(def: &ConfigDef) -> String {
    let shown = |text: &str| text.replace('|', "\\|");
    let default = match def.default.as_deref() {
        None => "–".to_owned(),
        Some("") => "empty".to_owned(),
        Some(value) => format!("`{}`", shown(value)),
    };
    format!(
        "`{}` | {} | {default} | {}",
        def.name,
        format!("{:?}", def.type_).to_lowercase(),
        shown(def.valid_values())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_what_the_code_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/CONFIG.md");
        let made = document();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &made).expect("docs/ can be written");
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == made,
            "docs/CONFIG.md is old: UPDATE_DOCS=1 cargo test -p strandline-metadata"
        );
    }

    #[test]
    fn every_reason_is_about_a_key() {
        for key in [
            "transaction.max.timeout.ms",
            "ssl.protocol",
            "log.cleaner.threads",
        ] {
            assert!(reason_without_effect(key).is_some(), "{key}");
        }
        for key in [
            "log.retention.ms",
            "num.network.threads",
            "socket.send.buffer.bytes",
        ] {
            assert!(reason_without_effect(key).is_none(), "{key}");
        }
    }
}
