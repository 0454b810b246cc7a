//! `kafka-configs --alter`

use strandline_client::Cluster;

use super::Problem;
use super::entities::{Entity, resource_type};
use super::options::Options;
use super::resources::alter_resource;
use crate::properties::Properties;
use crate::quotas;

/// `key=value,key=[a,b]`: brackets keep commas together.
pub fn parse_added(given: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs: Vec<String> = Vec::new();
    let mut depth = 0;
    let mut current = String::new();
    for c in given.chars() {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            ',' if depth == 0 => {
                pairs.push(std::mem::take(&mut current));
                continue;
            }
            _ => {}
        }
        current.push(c);
    }
    pairs.push(current);
    let mut parsed = Vec::new();
    for pair in pairs.iter().map(|p| p.trim()).filter(|p| !p.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or(
            "requirement failed: Invalid entity config: all configs to be added must be in the format \"key=val\".",
        )?;
        let value = value.trim();
        let bare = value
            .strip_prefix('[')
            .and_then(|v| v.strip_suffix(']'))
            .unwrap_or(value);
        parsed.push((key.trim().to_owned(), bare.to_owned()));
    }
    Ok(parsed)
}

pub(super) async fn alter(
    cluster: &Cluster,
    options: &Options,
    entities: &[Entity],
) -> Result<(), Problem> {
    let mut added = Vec::new();
    if let Some(path) = &options.add_config_file {
        let file =
            Properties::load(path).map_err(|f| Problem::Usage(f.stderr.unwrap_or_default()))?;
        added.extend(file.iter().map(|(k, v)| (k.clone(), v.clone())));
    }
    if let Some(given) = &options.add_config {
        added.extend(parse_added(given).map_err(Problem::Usage)?);
    }
    let deleted: Vec<String> = options
        .delete_config
        .iter()
        .flat_map(|d| d.split(','))
        .map(|d| d.trim().to_owned())
        .filter(|d| !d.is_empty())
        .collect();
    if added.is_empty() && deleted.is_empty() {
        return Err(Problem::Usage(
            "At least one of --add-config, --add-config-file, or --delete-config must be specified with --alter".into(),
        ));
    }
    let first = &entities[0];
    if resource_type(&first.kind).is_none() {
        quotas::alter(cluster, entities, &added, &deleted).await?;
    } else {
        let kind = resource_type(&first.kind).expect("it was looked at");
        let name = first.name.as_deref().unwrap_or_default();
        let set = added.iter().map(|(k, v)| (k.as_str(), Some(v.clone())));
        let removed = deleted.iter().map(|k| (k.as_str(), None));
        alter_resource(cluster, (kind, name), set.chain(removed)).await?;
    }
    let kind = first.kind.trim_end_matches('s');
    let kind = if first.kind == "client-metrics" {
        "client-metric"
    } else {
        kind
    };
    match first.name.as_deref() {
        Some("") => println!(
            "Completed updating default config for {} in the cluster.",
            first.kind
        ),
        name => println!(
            "Completed updating config for {kind} {}.",
            name.unwrap_or_default()
        ),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_keep_lists_together() {
        let parsed = parse_added("a=1, cleanup.policy=[compact,delete],b=").unwrap();
        let pairs: Vec<(&str, &str)> = parsed
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        assert_eq!(
            pairs,
            [("a", "1"), ("cleanup.policy", "compact,delete"), ("b", "")]
        );
        assert!(parse_added("novalue").is_err());
    }
}
