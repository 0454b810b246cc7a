//! The metadata, as this process of the quorum sees it.

use strandline_quorum::Quorum;

use super::page::Page;

pub(super) fn render(page: &mut Page, quorum: &Quorum) {
    let image = quorum.image();
    let partitions = || image.topics().flat_map(|t| t.partitions.values());
    for (name, help, value) in [
        (
            "strandline_metadata_applied_index",
            "Index of the last change of the metadata that this process has applied.",
            image.applied_index as usize,
        ),
        (
            "kafka_controller_kafkacontroller_activecontrollercount",
            "1 on the active controller.",
            usize::from(quorum.is_active_controller()),
        ),
        (
            "kafka_controller_kafkacontroller_activebrokercount",
            "Brokers that are registered and not fenced.",
            image.live_brokers().count(),
        ),
        (
            "kafka_controller_kafkacontroller_fencedbrokercount",
            "Brokers that are registered and fenced.",
            image.brokers.len() - image.live_brokers().count(),
        ),
        (
            "kafka_controller_kafkacontroller_offlinepartitionscount",
            "Partitions without a leader.",
            partitions().filter(|p| p.leader.is_none()).count(),
        ),
    ] {
        page.family(name, "gauge", help);
        page.sample(name, &[], value);
    }
}
