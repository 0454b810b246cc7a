//! Kafka's APIs: for each the versions that are served and the handler that answers it.
//!
//! [`SUPPORTED`](strandline_wire::api::SUPPORTED) owns the versions, because the proofs of the codecs need them, too. A row
//! for an API without versions there is an error of the build.

use bytes::Bytes;
use futures::FutureExt;
use strandline_wire::ApiKey;
use strandline_wire::api::{SupportedApi, served};
use strandline_wire::by_topic_id::{self, BY_ID, CORDONED};
use strandline_wire::primitive::{DecodeError, Reader};

use super::call::Call;
use super::{
    acls, cluster, configs, groups, list_offsets, log_dirs, metadata, moves, quorum, quotas,
    records, topics, transactions,
};
use crate::answer::PendingResponse;

/// One API.
pub(super) struct Api {
    /// The key, and the versions.
    pub served: SupportedApi,
    pub handler: Handler,
}

/// The way to a request's answer.
#[derive(Clone, Copy)]
pub(super) enum Handler {
    /// `produce` checks the bytes itself and appends in order of arrival.
    Produce,
    /// `fetch` checks the bytes itself.
    Fetch,
    /// The bytes are checked against the schema of their version first.
    Message(fn(Call, Bytes) -> Result<PendingResponse, DecodeError>),
}

/// The row of a key from the wire, if that API is answered at all.
pub(super) fn find(api_key: i16) -> Option<&'static Api> {
    TABLE.iter().find(|api| api.served.key as i16 == api_key)
}

const fn api(key: ApiKey, handler: Handler) -> Api {
    let served = served(key).expect("an API without versions");
    Api { served, handler }
}

/// The future of the answer to `$request`, with the time that the request's client has to wait for its quota.
macro_rules! answer {
    ($call:ident, $request:expr, $handler:path, $respond:expr) => {{
        let request = $request?;
        async move {
            let mut response = $handler(&$call, request).await;
            let wait = $call.spend_time().as_millis() as i32;
            response.throttle_time_ms = response.throttle_time_ms.max(wait);
            $call.count_errors(&response);
            $respond(&$call, &response)
        }
        .boxed()
    }};
}

/// A handler of `kafka-protocol`'s types.
macro_rules! message {
    ($handler:path) => {
        Handler::Message(|call, body| Ok(answer!(call, call.decode(body), $handler, Call::respond)))
    };
}

/// The same, with one version that `kafka-protocol` does not know, and that is decoded and encoded by hand.
macro_rules! message_with {
    ($handler:path, $version:path, $decode:expr, $encode:path) => {
        Handler::Message(|call, body| {
            Ok(if call.version == $version {
                answer!(
                    call,
                    $decode(&call, body),
                    $handler,
                    |call: &Call, response| {
                        call.respond_with(|writer| $encode(writer, response))
                    }
                )
            } else {
                answer!(call, call.decode(body), $handler, Call::respond)
            })
        })
    };
}

static TABLE: &[Api] = &[
    api(ApiKey::Produce, Handler::Produce),
    api(ApiKey::Fetch, Handler::Fetch),
    api(ApiKey::ListOffsets, message!(list_offsets::list_offsets)),
    api(ApiKey::Metadata, message!(metadata::metadata)),
    api(
        ApiKey::OffsetCommit,
        message_with!(
            groups::offset_commit,
            BY_ID,
            |_: &Call, body| by_topic_id::decode_offset_commit(&mut Reader::new(body)),
            by_topic_id::encode_offset_commit
        ),
    ),
    api(
        ApiKey::OffsetFetch,
        message_with!(
            groups::offset_fetch,
            BY_ID,
            |_: &Call, body| by_topic_id::decode_offset_fetch(&mut Reader::new(body)),
            by_topic_id::encode_offset_fetch
        ),
    ),
    api(ApiKey::FindCoordinator, message!(groups::find_coordinator)),
    api(ApiKey::JoinGroup, message!(groups::join_group)),
    api(ApiKey::Heartbeat, message!(groups::heartbeat)),
    api(ApiKey::LeaveGroup, message!(groups::leave_group)),
    api(ApiKey::SyncGroup, message!(groups::sync_group)),
    api(ApiKey::DescribeGroups, message!(groups::describe_groups)),
    api(ApiKey::ListGroups, message!(groups::list_groups)),
    api(ApiKey::ApiVersions, message!(cluster::api_versions)),
    api(ApiKey::CreateTopics, message!(topics::create_topics)),
    api(ApiKey::DeleteTopics, message!(topics::delete_topics)),
    api(ApiKey::DeleteRecords, message!(records::delete_records)),
    api(ApiKey::InitProducerId, message!(records::init_producer_id)),
    api(
        ApiKey::OffsetForLeaderEpoch,
        message!(list_offsets::offset_for_leader_epoch),
    ),
    api(ApiKey::DescribeAcls, message!(acls::describe_acls)),
    api(ApiKey::CreateAcls, message!(acls::create_acls)),
    api(ApiKey::DeleteAcls, message!(acls::delete_acls)),
    api(ApiKey::DescribeConfigs, message!(configs::describe_configs)),
    api(ApiKey::AlterConfigs, message!(configs::alter_configs)),
    api(
        ApiKey::AlterReplicaLogDirs,
        message!(log_dirs::alter_replica_log_dirs),
    ),
    api(
        ApiKey::DescribeLogDirs,
        message_with!(
            log_dirs::describe_log_dirs,
            CORDONED,
            Call::decode,
            by_topic_id::encode_describe_log_dirs
        ),
    ),
    api(
        ApiKey::CreatePartitions,
        message!(topics::create_partitions),
    ),
    api(ApiKey::DeleteGroups, message!(groups::delete_groups)),
    api(ApiKey::ElectLeaders, message!(moves::elect_leaders)),
    api(
        ApiKey::IncrementalAlterConfigs,
        message!(configs::incremental_alter_configs),
    ),
    api(
        ApiKey::AlterPartitionReassignments,
        message!(moves::alter_partition_reassignments),
    ),
    api(
        ApiKey::ListPartitionReassignments,
        message!(moves::list_partition_reassignments),
    ),
    api(ApiKey::OffsetDelete, message!(groups::offset_delete)),
    api(
        ApiKey::DescribeClientQuotas,
        message!(quotas::describe_client_quotas),
    ),
    api(
        ApiKey::AlterClientQuotas,
        message!(quotas::alter_client_quotas),
    ),
    api(
        ApiKey::DescribeUserScramCredentials,
        message!(quotas::describe_user_scram_credentials),
    ),
    api(ApiKey::DescribeQuorum, Handler::Message(describe_quorum)),
    api(ApiKey::UpdateFeatures, message!(cluster::update_features)),
    api(ApiKey::DescribeCluster, message!(cluster::describe_cluster)),
    api(
        ApiKey::DescribeProducers,
        message!(transactions::describe_producers),
    ),
    api(ApiKey::UnregisterBroker, message!(moves::unregister_broker)),
    api(
        ApiKey::DescribeTransactions,
        message!(transactions::describe_transactions),
    ),
    api(
        ApiKey::ListTransactions,
        message!(transactions::list_transactions),
    ),
    api(
        ApiKey::ListConfigResources,
        message!(configs::list_config_resources),
    ),
    api(
        ApiKey::DescribeTopicPartitions,
        message!(metadata::describe_topic_partitions),
    ),
    api(ApiKey::AddRaftVoter, message!(quorum::add_raft_voter)),
    api(ApiKey::RemoveRaftVoter, message!(quorum::remove_raft_voter)),
];

/// The only answer without a throttle time.
fn describe_quorum(call: Call, body: Bytes) -> Result<PendingResponse, DecodeError> {
    let request = call.decode(body)?;
    Ok(async move {
        let response = quorum::describe_quorum(&call, request).await;
        call.spend_time();
        call.count_errors(&response);
        call.respond(&response)
    }
    .boxed())
}

#[cfg(test)]
mod tests {
    use strandline_wire::api::SUPPORTED;

    use super::*;

    #[test]
    fn every_api_with_versions_has_one_row_in_the_same_order() {
        let rows: Vec<ApiKey> = TABLE.iter().map(|api| api.served.key).collect();
        let versions: Vec<ApiKey> = SUPPORTED.iter().map(|api| api.key).collect();
        assert_eq!(rows, versions);
    }

    #[test]
    fn a_row_is_found_by_its_key_alone() {
        let found = find(ApiKey::Heartbeat as i16).map(|api| api.served.max);
        assert_eq!(found, Some(4));
        assert!(find(ApiKey::SaslHandshake as i16).is_none());
        assert!(find(-1).is_none());
    }
}
