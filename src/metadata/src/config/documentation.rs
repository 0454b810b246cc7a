//! The purpose of each key in a sentence: clients ask for the text (`DescribeConfigs`) and show it beside the value.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::without_effect::reason_without_effect;

static TEXTS: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| {
    let lines = include_str!("../../data/documentation.tsv").lines();
    lines.filter_map(|line| line.split_once('\t')).collect()
});

/// The text for a key. Of a key that changes nothing here, the reason.
pub fn documentation(key: &str) -> Option<String> {
    let text = TEXTS.get(key).map(|text| (*text).to_owned());
    text.or_else(|| reason_without_effect(key).map(|reason| format!("Has no effect: {reason}.")))
}

#[cfg(test)]
mod tests {
    use super::super::{broker_defs, client_metrics_defs, group_defs, topic_defs};
    use super::*;

    #[test]
    fn every_key_that_clients_see_has_a_text() {
        let mut texts = 0;
        let defs = broker_defs().chain(topic_defs());
        let defs = defs.chain(group_defs()).chain(client_metrics_defs());
        for def in defs.filter(|def| !def.internal) {
            let text = documentation(&def.name).unwrap_or_default();
            assert!((10..200).contains(&text.len()), "{}: {text}", def.name);
            texts += 1;
        }
        assert!(texts > 400, "{texts}");
        assert_eq!(documentation("no.such.key"), None);
    }
}
