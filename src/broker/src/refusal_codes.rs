//! Kafka's codes for commands that the controller has refused or that were not committed.

use strandline_metadata::controller::Refusal;
use strandline_quorum::SubmitError;
use strandline_wire::ErrorCode;

/// Kafka's code for a controller's refusal.
pub(crate) fn refusal_code(refusal: &Refusal) -> ErrorCode {
    match refusal {
        Refusal::InvalidTopic(_) => ErrorCode::InvalidTopicException,
        Refusal::TopicExists(_) => ErrorCode::TopicAlreadyExists,
        Refusal::UnknownTopic | Refusal::NoSuchTopic(_) | Refusal::NoSuchPartition(_) => {
            ErrorCode::UnknownTopicOrPartition
        }
        Refusal::UnknownTopicId => ErrorCode::UnknownTopicId,
        Refusal::InvalidPartitions(_) => ErrorCode::InvalidPartitions,
        Refusal::InvalidReplicationFactor(_) => ErrorCode::InvalidReplicationFactor,
        Refusal::InvalidReplicaAssignment(_) => ErrorCode::InvalidReplicaAssignment,
        Refusal::InvalidConfig(_) => ErrorCode::InvalidConfig,
        Refusal::InvalidRequest(_) => ErrorCode::InvalidRequest,
        Refusal::Fenced(_) => ErrorCode::FencedLeaderEpoch,
        Refusal::NotController => ErrorCode::NotController,
        Refusal::InvalidUpdateVersion => ErrorCode::InvalidUpdateVersion,
        Refusal::StaleBrokerEpoch(_) => ErrorCode::StaleBrokerEpoch,
        Refusal::IneligibleReplica(_) => ErrorCode::IneligibleReplica,
        Refusal::InconsistentClusterId(_) => ErrorCode::InconsistentClusterId,
        Refusal::BrokerIdNotRegistered(_) => ErrorCode::BrokerIdNotRegistered,
        Refusal::ElectionNotNeeded => ErrorCode::ElectionNotNeeded,
        Refusal::PreferredLeaderNotAvailable => ErrorCode::PreferredLeaderNotAvailable,
        Refusal::EligibleLeadersNotAvailable => ErrorCode::EligibleLeadersNotAvailable,
        Refusal::NoReassignmentInProgress => ErrorCode::NoReassignmentInProgress,
        Refusal::DuplicateBroker(_) => ErrorCode::DuplicateBrokerRegistration,
    }
}

/// Code and text for a command that was not committed.
pub(crate) fn submit_error(error: &SubmitError) -> (ErrorCode, String) {
    match error {
        SubmitError::Refused(refusal) => (refusal_code(refusal), refusal.to_string()),
        SubmitError::Unavailable(reason) => (ErrorCode::RequestTimedOut, reason.clone()),
    }
}
