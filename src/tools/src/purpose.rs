//! The purpose of each tool: the first sentence of its help.

/// The purpose of a tool of [`TOOLS`](super::TOOLS).
pub(crate) fn purpose(tool: &str) -> &'static str {
    match tool {
        "kafka-broker-api-versions" => "Shows the versions of every API that each broker knows.",
        "kafka-cluster" => {
            "Shows the cluster's id and its endpoints, and forgets brokers that are gone."
        }
        "kafka-configs" => {
            "Shows and changes settings of topics, brokers, loggers, groups and quotas of clients."
        }
        "kafka-console-consumer" => "Prints the records of a topic.",
        "kafka-console-producer" => "Writes each line of standard input to a topic as a record.",
        "kafka-consumer-groups" => {
            "Lists, describes and deletes consumer groups, and sets their positions."
        }
        "kafka-consumer-perf-test" => "Measures how fast the records of a topic are read.",
        "kafka-delete-records" => "Deletes the records of partitions below given offsets.",
        "kafka-features" => "Shows and changes the levels of the cluster's features.",
        "kafka-get-offsets" => {
            "Prints the offsets of partitions: the end, the start, or at a time."
        }
        "kafka-leader-election" => {
            "Lets preferred replicas lead, or a replica that is not in sync."
        }
        "kafka-log-dirs" => "Shows the log directories of brokers and the sizes of replicas.",
        "kafka-metadata-quorum" => {
            "Shows the metadata quorum; adds and removes voting controllers."
        }
        "kafka-preferred-replica-election" => "Lets preferred replicas lead (an older name).",
        "kafka-producer-perf-test" => "Measures how fast records are written to a topic.",
        "kafka-reassign-partitions" => {
            "Moves replicas between brokers and between log directories."
        }
        _ => "Creates, lists, describes, alters and deletes topics.",
    }
}
