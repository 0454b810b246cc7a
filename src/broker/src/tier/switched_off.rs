//! A broker without a cold tier while topics have one: it could neither read records in the tier nor copy segments.

use strandline_metadata::ClusterImage;

/// Largest number of topics that an error names; a cluster may have thousands.
const NAMED: usize = 10;

/// Kafka's refusal of a start with `remote.log.storage.system.enable=false`, if the cluster's topics forbid that: those
/// with `remote.storage.enable`, and those whose segments in the tier have not been deleted yet.
pub(super) fn refusal(image: &ClusterImage) -> Option<String> {
    let tiered = image.topics().filter(|topic| {
        let configs = image.topic_configs(&topic.name);
        let enabled = configs
            .get("remote.storage.enable")
            .is_some_and(|value| value.trim().eq_ignore_ascii_case("true"));
        let mut logs = image
            .remote_logs()
            .filter(|(id, _)| id.topic_id == topic.id);
        enabled || logs.any(|(_, log)| log.segments().next().is_some())
    });
    let names: Vec<String> = tiered.map(|topic| topic.name.to_string()).collect();
    if names.is_empty() {
        return None;
    }
    let shown = names.iter().take(NAMED).map(String::as_str);
    let mut shown = shown.collect::<Vec<_>>().join(", ");
    if names.len() > NAMED {
        shown = format!("{shown} and {} more", names.len() - NAMED);
    }
    Some(format!(
        "You have to delete all topics with the property remote.storage.enable=true before disabling tiered storage \
         cluster-wide. List of topics to delete: {shown}"
    ))
}
