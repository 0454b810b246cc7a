//! The error codes in answers, for the metrics.

use kafka_protocol::messages as m;

/// An answer with error codes: its own, and one for each part.
pub(super) trait ErrorCodes {
    /// Calls `note` with every code, 0 included.
    fn each_code(&self, note: &mut dyn FnMut(i16));
}

macro_rules! codes {
    ($($response:ident: |$answer:ident, $note:ident| $body:expr;)*) => {
        $(impl ErrorCodes for m::$response {
            fn each_code(&self, $note: &mut dyn FnMut(i16)) {
                let $answer = self;
                $body
            }
        })*
    };
}

/// Calls `note` with the code of each part of a list.
macro_rules! each {
    ($note:ident, $list:expr) => {
        $list.iter().for_each(|part| $note(part.error_code))
    };
    ($note:ident, $list:expr, $parts:ident) => {
        $list
            .iter()
            .flat_map(|part| &part.$parts)
            .for_each(|part| $note(part.error_code))
    };
}

codes! {
    AddRaftVoterResponse: |answer, note| note(answer.error_code);
    AlterClientQuotasResponse: |answer, note| each!(note, answer.entries);
    AlterConfigsResponse: |answer, note| each!(note, answer.responses);
    AlterPartitionReassignmentsResponse: |answer, note| {
        note(answer.error_code);
        each!(note, answer.responses, partitions);
    };
    AlterReplicaLogDirsResponse: |answer, note| each!(note, answer.results, partitions);
    ApiVersionsResponse: |answer, note| note(answer.error_code);
    CreateAclsResponse: |answer, note| each!(note, answer.results);
    CreatePartitionsResponse: |answer, note| each!(note, answer.results);
    CreateTopicsResponse: |answer, note| each!(note, answer.topics);
    DeleteAclsResponse: |answer, note| each!(note, answer.filter_results);
    DeleteGroupsResponse: |answer, note| each!(note, answer.results);
    DeleteRecordsResponse: |answer, note| each!(note, answer.topics, partitions);
    DeleteTopicsResponse: |answer, note| each!(note, answer.responses);
    DescribeAclsResponse: |answer, note| note(answer.error_code);
    DescribeClientQuotasResponse: |answer, note| note(answer.error_code);
    DescribeClusterResponse: |answer, note| note(answer.error_code);
    DescribeConfigsResponse: |answer, note| each!(note, answer.results);
    DescribeGroupsResponse: |answer, note| each!(note, answer.groups);
    DescribeLogDirsResponse: |answer, note| {
        note(answer.error_code);
        each!(note, answer.results);
    };
    DescribeProducersResponse: |answer, note| each!(note, answer.topics, partitions);
    DescribeQuorumResponse: |answer, note| {
        note(answer.error_code);
        each!(note, answer.topics, partitions);
    };
    DescribeTopicPartitionsResponse: |answer, note| {
        each!(note, answer.topics);
        each!(note, answer.topics, partitions);
    };
    DescribeTransactionsResponse: |answer, note| each!(note, answer.transaction_states);
    DescribeUserScramCredentialsResponse: |answer, note| {
        note(answer.error_code);
        each!(note, answer.results);
    };
    ElectLeadersResponse: |answer, note| {
        note(answer.error_code);
        each!(note, answer.replica_election_results, partition_result);
    };
    FindCoordinatorResponse: |answer, note| {
        note(answer.error_code);
        each!(note, answer.coordinators);
    };
    HeartbeatResponse: |answer, note| note(answer.error_code);
    IncrementalAlterConfigsResponse: |answer, note| each!(note, answer.responses);
    InitProducerIdResponse: |answer, note| note(answer.error_code);
    JoinGroupResponse: |answer, note| note(answer.error_code);
    LeaveGroupResponse: |answer, note| {
        note(answer.error_code);
        each!(note, answer.members);
    };
    ListConfigResourcesResponse: |answer, note| note(answer.error_code);
    ListGroupsResponse: |answer, note| note(answer.error_code);
    ListOffsetsResponse: |answer, note| each!(note, answer.topics, partitions);
    ListPartitionReassignmentsResponse: |answer, note| note(answer.error_code);
    ListTransactionsResponse: |answer, note| note(answer.error_code);
    MetadataResponse: |answer, note| {
        each!(note, answer.topics);
        each!(note, answer.topics, partitions);
    };
    OffsetCommitResponse: |answer, note| each!(note, answer.topics, partitions);
    OffsetDeleteResponse: |answer, note| {
        note(answer.error_code);
        each!(note, answer.topics, partitions);
    };
    OffsetFetchResponse: |answer, note| {
        note(answer.error_code);
        each!(note, answer.topics, partitions);
        each!(note, answer.groups);
        answer
            .groups
            .iter()
            .for_each(|group| each!(note, group.topics, partitions));
    };
    OffsetForLeaderEpochResponse: |answer, note| each!(note, answer.topics, partitions);
    RemoveRaftVoterResponse: |answer, note| note(answer.error_code);
    SyncGroupResponse: |answer, note| note(answer.error_code);
    UnregisterBrokerResponse: |answer, note| note(answer.error_code);
    UpdateFeaturesResponse: |answer, note| note(answer.error_code);
}
