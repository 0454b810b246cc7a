//! Which APIs and versions this broker answers. An API is advertised only when it is complete.

use kafka_protocol::messages::ApiKey;

use crate::by_topic_id::{BY_ID, CORDONED};

/// One API and the versions that are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SupportedApi {
    pub key: ApiKey,
    pub min: i16,
    pub max: i16,
    /// Lowest version that ApiVersions names. Produce says 0 although 0 to 2 are refused: with a higher minimum,
    /// librdkafka switches compression off (KAFKA-18659).
    pub advertised_min: i16,
}

const fn api(key: ApiKey, min: i16, max: i16) -> SupportedApi {
    SupportedApi {
        key,
        min,
        max,
        advertised_min: min,
    }
}

/// Every API that is answered, by key.
pub const SUPPORTED: &[SupportedApi] = &[
    SupportedApi {
        key: ApiKey::Produce,
        min: 3,
        max: 13,
        advertised_min: 0,
    },
    api(ApiKey::Fetch, 4, 18),
    api(ApiKey::ListOffsets, 1, 11),
    api(ApiKey::Metadata, 0, 13),
    api(ApiKey::OffsetCommit, 2, 10),
    api(ApiKey::OffsetFetch, 1, 10),
    api(ApiKey::FindCoordinator, 0, 6),
    api(ApiKey::JoinGroup, 0, 9),
    api(ApiKey::Heartbeat, 0, 4),
    api(ApiKey::LeaveGroup, 0, 5),
    api(ApiKey::SyncGroup, 0, 5),
    api(ApiKey::DescribeGroups, 0, 6),
    api(ApiKey::ListGroups, 0, 5),
    api(ApiKey::ApiVersions, 0, 4),
    api(ApiKey::CreateTopics, 2, 7),
    api(ApiKey::DeleteTopics, 1, 6),
    api(ApiKey::DeleteRecords, 0, 2),
    api(ApiKey::InitProducerId, 0, 5),
    api(ApiKey::OffsetForLeaderEpoch, 2, 4),
    api(ApiKey::DescribeAcls, 1, 3),
    api(ApiKey::CreateAcls, 1, 3),
    api(ApiKey::DeleteAcls, 1, 3),
    api(ApiKey::DescribeConfigs, 1, 4),
    api(ApiKey::AlterConfigs, 0, 2),
    api(ApiKey::AlterReplicaLogDirs, 1, 2),
    api(ApiKey::DescribeLogDirs, 1, 5),
    api(ApiKey::CreatePartitions, 0, 3),
    api(ApiKey::DeleteGroups, 0, 2),
    api(ApiKey::ElectLeaders, 0, 2),
    api(ApiKey::IncrementalAlterConfigs, 0, 1),
    api(ApiKey::AlterPartitionReassignments, 0, 1),
    api(ApiKey::ListPartitionReassignments, 0, 0),
    api(ApiKey::OffsetDelete, 0, 0),
    api(ApiKey::DescribeClientQuotas, 0, 1),
    api(ApiKey::AlterClientQuotas, 0, 1),
    api(ApiKey::DescribeUserScramCredentials, 0, 0),
    api(ApiKey::DescribeQuorum, 0, 2),
    api(ApiKey::UpdateFeatures, 0, 2),
    api(ApiKey::DescribeCluster, 0, 2),
    api(ApiKey::DescribeProducers, 0, 0),
    api(ApiKey::UnregisterBroker, 0, 0),
    api(ApiKey::DescribeTransactions, 0, 0),
    api(ApiKey::ListTransactions, 0, 2),
    api(ApiKey::ListConfigResources, 0, 1),
    api(ApiKey::DescribeTopicPartitions, 0, 0),
    api(ApiKey::AddRaftVoter, 0, 0),
    api(ApiKey::RemoveRaftVoter, 0, 0),
];

/// The entry for a key from the wire, if that API is answered at all.
pub fn supported(api_key: i16) -> Option<SupportedApi> {
    SUPPORTED
        .iter()
        .copied()
        .find(|api| api.key as i16 == api_key)
}

/// The same, for a table that the compiler evaluates.
pub const fn served(key: ApiKey) -> Option<SupportedApi> {
    let mut left = SUPPORTED;
    while let [first, others @ ..] = left {
        if first.key as i16 == key as i16 {
            return Some(*first);
        }
        left = others;
    }
    None
}

/// The version whose layout `kafka-protocol` knows for `version`. `ListOffsets` 11 (Kafka 4.3) only gave a meaning to a
/// further special timestamp and has version 10's layout. Others are read and written by [`crate::by_topic_id`], as messages of
/// the version before.
pub fn codec_version(key: ApiKey, version: i16) -> i16 {
    match (key, version) {
        (ApiKey::ListOffsets, 11) => 10,
        (ApiKey::OffsetCommit | ApiKey::OffsetFetch, BY_ID) => BY_ID - 1,
        (ApiKey::DescribeLogDirs, CORDONED) => CORDONED - 1,
        _ => version,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_supported_version_has_a_codec() {
        for api in SUPPORTED {
            let range = api.key.valid_versions();
            assert!(api.min >= range.min, "{:?}", api.key);
            assert!(
                codec_version(api.key, api.max) <= range.max,
                "{:?}",
                api.key
            );
        }
    }
}
