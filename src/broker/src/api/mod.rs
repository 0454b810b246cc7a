//! Kafka's APIs. [`begin`] checks a request's bytes, decodes it and hands it to the file that answers it.

mod acls;
mod by_timestamp;
mod cluster;
mod codec_threads;
mod configs;
mod deletion;
mod fetch;
mod groups;
mod internal_topics;
mod list_offsets;
mod log_dirs;
mod look_up;
mod metadata;
mod moves;
mod produce;
mod quorum;
mod quotas;
mod records;
mod topics;
mod transactions;
mod validation;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use kafka_protocol::messages as m;
use kafka_protocol::protocol::{Decodable, Encodable};
use strandline_wire::api::{codec_version, supported};
use strandline_wire::by_topic_id::{self, BY_ID, CORDONED};
use strandline_wire::frame::{RequestFrame, finish_response, start_response};
use strandline_wire::primitive::{DecodeError, Reader, Writer};
use strandline_wire::schema::check_request;
pub(crate) use strandline_wire::text;
use strandline_wire::{ApiKey, StrBytes};

use crate::answer::{Answer, PendingResponse};
use crate::context::BrokerContext;
use crate::disconnects::{Cause, Disconnect, RequestedApi};
use crate::peer::Peer;
use crate::quotas::QuotaKind;
use crate::refusal_codes::{refusal_code, submit_error};
use crate::request_meter::RequestMeter;

/// A request, with the context that its handler needs to answer.
#[derive(Clone)]
pub(crate) struct Call {
    pub context: Arc<BrokerContext>,
    pub peer: Peer,
    pub key: ApiKey,
    pub version: i16,
    pub correlation_id: i32,
    pub client_id: StrBytes,
    /// The meter for the request's time, if any client has a quota of time.
    pub meter: Option<Arc<RequestMeter>>,
}

impl Call {
    /// Counts the time that this request has taken against its client's quota; gives how long the client, which is not read
    /// from any more, has to wait.
    fn spend_time(&self) -> Duration {
        let Some(meter) = &self.meter else {
            return Duration::ZERO;
        };
        let spent = meter.spent().as_nanos() as usize;
        let quotas = &self.context.quotas;
        let wait = quotas.spend(QuotaKind::Request, &self.client_id, spent);
        self.peer.mute(wait);
        wait
    }

    /// An answer that can only be the end of the connection.
    fn close(&self, cause: Cause, reason: String) -> Answer {
        let api = RequestedApi {
            key: self.key as i16,
            version: self.version,
        };
        Answer::Close(Disconnect {
            cause,
            api: Some(api),
            reason,
        })
    }

    /// Encodes an answer by hand.
    fn respond_with(&self, encode: impl FnOnce(&mut Writer)) -> Answer {
        let mut writer = start_response(self.key, self.version, self.correlation_id);
        encode(&mut writer);
        Answer::Frame(finish_response(writer, Vec::new()))
    }

    /// Encodes an answer made of `kafka-protocol`'s types.
    fn respond(&self, response: &impl Encodable) -> Answer {
        let mut writer = start_response(self.key, self.version, self.correlation_id);
        let version = codec_version(self.key, self.version);
        if let Err(error) = response.encode(&mut writer.buffer, version) {
            // A field that this version cannot express was set: a defect of the handler, not of the request.
            tracing::error!(api = ?self.key, version, %error, "a response cannot be encoded");
            return self.close(Cause::Internal, "its response cannot be encoded".into());
        }
        Answer::Frame(finish_response(writer, Vec::new()))
    }
}

/// Begins a request: checks it and returns the future of its answer. Appends, which must happen in order of arrival,
/// are done when this function returns. `Err` closes the connection.
pub(crate) async fn begin(
    context: &Arc<BrokerContext>,
    peer: &Peer,
    frame: RequestFrame,
) -> Result<PendingResponse, DecodeError> {
    let started = Instant::now();
    let api = supported(frame.api_key).ok_or(DecodeError::Unsupported)?;
    let mut call = Call {
        context: context.clone(),
        peer: peer.clone(),
        key: api.key,
        version: frame.api_version,
        correlation_id: frame.correlation_id,
        client_id: text(frame.client_id_str()),
        meter: context.quotas.times_requests().then(Arc::default),
    };
    if !(api.min..=api.max).contains(&frame.api_version) {
        if api.key == ApiKey::ApiVersions {
            // A client newer than this broker learns the supported versions, in the layout that every client
            // understands.
            call.version = 0;
            let response = cluster::unsupported_api_versions();
            return Ok(async move { call.respond(&response) }.boxed());
        }
        return Err(DecodeError::Unsupported);
    }
    let (key, metrics) = (api.key, context.metrics.clone());
    let meter = call.meter.clone();
    let beginning = async {
        match key {
            ApiKey::Produce => produce::begin(call, frame.body).await,
            ApiKey::Fetch => fetch::begin(call, frame.body),
            _ => {
                check_request(frame.api_key, frame.api_version, &frame.body)?;
                begin_decoded(call, frame.body)
            }
        }
    };
    let pending = match meter {
        None => beginning.await?,
        Some(meter) => {
            let pending = meter.count(beginning).await?;
            async move { meter.count(pending).await }.boxed()
        }
    };
    Ok(pending
        .inspect(move |_| metrics.request_done(key, started.elapsed()))
        .boxed())
}

fn decode<T: Decodable>(call: &Call, mut body: Bytes) -> Result<T, DecodeError> {
    let version = codec_version(call.key, call.version);
    T::decode(&mut body, version).map_err(|_| DecodeError::InvalidUtf8)
}

fn begin_decoded(call: Call, body: Bytes) -> Result<PendingResponse, DecodeError> {
    macro_rules! handle {
        ($request:ty, $handler:path) => {{
            let request: $request = decode(&call, body)?;
            async move {
                let mut response = $handler(&call, request).await;
                let wait = call.spend_time().as_millis() as i32;
                response.throttle_time_ms = response.throttle_time_ms.max(wait);
                call.respond(&response)
            }
            .boxed()
        }};
    }
    macro_rules! handle_newest {
        ($decode:expr, $handler:path, $encode:path) => {{
            let request = $decode;
            async move {
                let mut response = $handler(&call, request).await;
                let wait = call.spend_time().as_millis() as i32;
                response.throttle_time_ms = response.throttle_time_ms.max(wait);
                call.respond_with(|writer| $encode(writer, &response))
            }
            .boxed()
        }};
    }
    Ok(match call.key {
        ApiKey::OffsetCommit if call.version == BY_ID => handle_newest!(
            by_topic_id::decode_offset_commit(&mut Reader::new(body))?,
            groups::offset_commit,
            by_topic_id::encode_offset_commit
        ),
        ApiKey::OffsetFetch if call.version == BY_ID => handle_newest!(
            by_topic_id::decode_offset_fetch(&mut Reader::new(body))?,
            groups::offset_fetch,
            by_topic_id::encode_offset_fetch
        ),
        ApiKey::DescribeLogDirs if call.version == CORDONED => handle_newest!(
            decode::<m::DescribeLogDirsRequest>(&call, body)?,
            log_dirs::describe_log_dirs,
            by_topic_id::encode_describe_log_dirs
        ),
        ApiKey::ApiVersions => handle!(m::ApiVersionsRequest, cluster::api_versions),
        ApiKey::Metadata => handle!(m::MetadataRequest, metadata::metadata),
        ApiKey::DescribeTopicPartitions => {
            handle!(
                m::DescribeTopicPartitionsRequest,
                metadata::describe_topic_partitions
            )
        }
        ApiKey::DescribeCluster => handle!(m::DescribeClusterRequest, cluster::describe_cluster),
        ApiKey::UpdateFeatures => handle!(m::UpdateFeaturesRequest, cluster::update_features),
        // The only answer without a throttle time.
        ApiKey::DescribeQuorum => {
            let request: m::DescribeQuorumRequest = decode(&call, body)?;
            async move {
                let response = quorum::describe_quorum(&call, request).await;
                call.spend_time();
                call.respond(&response)
            }
            .boxed()
        }
        ApiKey::DescribeClientQuotas => {
            handle!(
                m::DescribeClientQuotasRequest,
                quotas::describe_client_quotas
            )
        }
        ApiKey::AlterClientQuotas => {
            handle!(m::AlterClientQuotasRequest, quotas::alter_client_quotas)
        }
        ApiKey::DescribeUserScramCredentials => {
            handle!(
                m::DescribeUserScramCredentialsRequest,
                quotas::describe_user_scram_credentials
            )
        }
        ApiKey::AddRaftVoter => handle!(m::AddRaftVoterRequest, quorum::add_raft_voter),
        ApiKey::RemoveRaftVoter => handle!(m::RemoveRaftVoterRequest, quorum::remove_raft_voter),
        ApiKey::ListOffsets => handle!(m::ListOffsetsRequest, list_offsets::list_offsets),
        ApiKey::OffsetForLeaderEpoch => {
            handle!(
                m::OffsetForLeaderEpochRequest,
                list_offsets::offset_for_leader_epoch
            )
        }
        ApiKey::DeleteRecords => handle!(m::DeleteRecordsRequest, records::delete_records),
        ApiKey::InitProducerId => handle!(m::InitProducerIdRequest, records::init_producer_id),
        ApiKey::DescribeProducers => {
            handle!(
                m::DescribeProducersRequest,
                transactions::describe_producers
            )
        }
        ApiKey::ListTransactions => {
            handle!(m::ListTransactionsRequest, transactions::list_transactions)
        }
        ApiKey::DescribeTransactions => {
            handle!(
                m::DescribeTransactionsRequest,
                transactions::describe_transactions
            )
        }
        ApiKey::DescribeAcls => handle!(m::DescribeAclsRequest, acls::describe_acls),
        ApiKey::CreateAcls => handle!(m::CreateAclsRequest, acls::create_acls),
        ApiKey::DeleteAcls => handle!(m::DeleteAclsRequest, acls::delete_acls),
        ApiKey::CreateTopics => handle!(m::CreateTopicsRequest, topics::create_topics),
        ApiKey::DeleteTopics => handle!(m::DeleteTopicsRequest, topics::delete_topics),
        ApiKey::CreatePartitions => handle!(m::CreatePartitionsRequest, topics::create_partitions),
        ApiKey::DescribeConfigs => handle!(m::DescribeConfigsRequest, configs::describe_configs),
        ApiKey::AlterConfigs => handle!(m::AlterConfigsRequest, configs::alter_configs),
        ApiKey::IncrementalAlterConfigs => {
            handle!(
                m::IncrementalAlterConfigsRequest,
                configs::incremental_alter_configs
            )
        }
        ApiKey::ListConfigResources => {
            handle!(
                m::ListConfigResourcesRequest,
                configs::list_config_resources
            )
        }
        ApiKey::ElectLeaders => handle!(m::ElectLeadersRequest, moves::elect_leaders),
        ApiKey::AlterPartitionReassignments => {
            handle!(
                m::AlterPartitionReassignmentsRequest,
                moves::alter_partition_reassignments
            )
        }
        ApiKey::ListPartitionReassignments => {
            handle!(
                m::ListPartitionReassignmentsRequest,
                moves::list_partition_reassignments
            )
        }
        ApiKey::UnregisterBroker => handle!(m::UnregisterBrokerRequest, moves::unregister_broker),
        ApiKey::AlterReplicaLogDirs => {
            handle!(
                m::AlterReplicaLogDirsRequest,
                log_dirs::alter_replica_log_dirs
            )
        }
        ApiKey::DescribeLogDirs => handle!(m::DescribeLogDirsRequest, log_dirs::describe_log_dirs),
        ApiKey::FindCoordinator => handle!(m::FindCoordinatorRequest, groups::find_coordinator),
        ApiKey::JoinGroup => handle!(m::JoinGroupRequest, groups::join_group),
        ApiKey::SyncGroup => handle!(m::SyncGroupRequest, groups::sync_group),
        ApiKey::Heartbeat => handle!(m::HeartbeatRequest, groups::heartbeat),
        ApiKey::LeaveGroup => handle!(m::LeaveGroupRequest, groups::leave_group),
        ApiKey::OffsetCommit => handle!(m::OffsetCommitRequest, groups::offset_commit),
        ApiKey::OffsetFetch => handle!(m::OffsetFetchRequest, groups::offset_fetch),
        ApiKey::OffsetDelete => handle!(m::OffsetDeleteRequest, groups::offset_delete),
        ApiKey::DescribeGroups => handle!(m::DescribeGroupsRequest, groups::describe_groups),
        ApiKey::ListGroups => handle!(m::ListGroupsRequest, groups::list_groups),
        ApiKey::DeleteGroups => handle!(m::DeleteGroupsRequest, groups::delete_groups),
        _ => return Err(DecodeError::Unsupported),
    })
}

/// The operations that a broker without an authorizer allows everybody, as bits of Kafka's `AclOperation`.
pub(crate) mod operations {
    const READ: i32 = 1 << 3;
    const WRITE: i32 = 1 << 4;
    const CREATE: i32 = 1 << 5;
    const DELETE: i32 = 1 << 6;
    const ALTER: i32 = 1 << 7;
    const DESCRIBE: i32 = 1 << 8;
    const CLUSTER_ACTION: i32 = 1 << 9;
    const DESCRIBE_CONFIGS: i32 = 1 << 10;
    const ALTER_CONFIGS: i32 = 1 << 11;
    const IDEMPOTENT_WRITE: i32 = 1 << 12;

    pub const TOPIC: i32 =
        READ | WRITE | CREATE | DELETE | ALTER | DESCRIBE | DESCRIBE_CONFIGS | ALTER_CONFIGS;
    pub const CLUSTER: i32 = CREATE
        | ALTER
        | DESCRIBE
        | CLUSTER_ACTION
        | DESCRIBE_CONFIGS
        | ALTER_CONFIGS
        | IDEMPOTENT_WRITE;
    pub const GROUP: i32 = READ | DELETE | DESCRIBE | DESCRIBE_CONFIGS | ALTER_CONFIGS;
    /// The client did not ask.
    pub const NOT_ASKED: i32 = i32::MIN;
}
