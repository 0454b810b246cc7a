//! Kafka's error codes: number, name and whether a client may retry (Kafka 4.3.1's `Errors`).

macro_rules! error_codes {
    ($($name:ident = $code:literal $text:literal $exception:literal $retriable:literal,)*) => {
        /// A Kafka error code as it stands on the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(i16)]
        pub enum ErrorCode {
            $($name = $code,)*
        }

        impl ErrorCode {
            /// The number on the wire.
            pub fn code(self) -> i16 {
                self as i16
            }

            /// Kafka's name for it, such as `OFFSET_OUT_OF_RANGE`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// The class by which Kafka's Java tools show it, in `org.apache.kafka.common.errors`; empty for no error.
            pub fn exception(self) -> &'static str {
                match self {
                    $(Self::$name => $exception,)*
                }
            }

            /// Whether Kafka's clients may send the request again unchanged.
            pub fn is_retriable(self) -> bool {
                match self {
                    $(Self::$name => $retriable,)*
                }
            }

            /// The code for a number from the wire; `None` for numbers Kafka 4.3 does not know.
            pub fn from_code(code: i16) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

error_codes! {
    UnknownServerError = -1 "UNKNOWN_SERVER_ERROR" "UnknownServerException" false,
    None = 0 "NONE" "" false,
    OffsetOutOfRange = 1 "OFFSET_OUT_OF_RANGE" "OffsetOutOfRangeException" false,
    CorruptMessage = 2 "CORRUPT_MESSAGE" "CorruptRecordException" true,
    UnknownTopicOrPartition = 3 "UNKNOWN_TOPIC_OR_PARTITION" "UnknownTopicOrPartitionException" true,
    InvalidFetchSize = 4 "INVALID_FETCH_SIZE" "InvalidFetchSizeException" false,
    LeaderNotAvailable = 5 "LEADER_NOT_AVAILABLE" "LeaderNotAvailableException" true,
    NotLeaderOrFollower = 6 "NOT_LEADER_OR_FOLLOWER" "NotLeaderOrFollowerException" true,
    RequestTimedOut = 7 "REQUEST_TIMED_OUT" "TimeoutException" true,
    BrokerNotAvailable = 8 "BROKER_NOT_AVAILABLE" "BrokerNotAvailableException" false,
    ReplicaNotAvailable = 9 "REPLICA_NOT_AVAILABLE" "ReplicaNotAvailableException" true,
    MessageTooLarge = 10 "MESSAGE_TOO_LARGE" "RecordTooLargeException" false,
    StaleControllerEpoch = 11 "STALE_CONTROLLER_EPOCH" "ControllerMovedException" false,
    OffsetMetadataTooLarge = 12 "OFFSET_METADATA_TOO_LARGE" "OffsetMetadataTooLarge" false,
    NetworkException = 13 "NETWORK_EXCEPTION" "NetworkException" true,
    CoordinatorLoadInProgress = 14 "COORDINATOR_LOAD_IN_PROGRESS" "CoordinatorLoadInProgressException" true,
    CoordinatorNotAvailable = 15 "COORDINATOR_NOT_AVAILABLE" "CoordinatorNotAvailableException" true,
    NotCoordinator = 16 "NOT_COORDINATOR" "NotCoordinatorException" true,
    InvalidTopicException = 17 "INVALID_TOPIC_EXCEPTION" "InvalidTopicException" false,
    RecordListTooLarge = 18 "RECORD_LIST_TOO_LARGE" "RecordBatchTooLargeException" false,
    NotEnoughReplicas = 19 "NOT_ENOUGH_REPLICAS" "NotEnoughReplicasException" true,
    NotEnoughReplicasAfterAppend = 20 "NOT_ENOUGH_REPLICAS_AFTER_APPEND" "NotEnoughReplicasAfterAppendException" true,
    InvalidRequiredAcks = 21 "INVALID_REQUIRED_ACKS" "InvalidRequiredAcksException" false,
    IllegalGeneration = 22 "ILLEGAL_GENERATION" "IllegalGenerationException" false,
    InconsistentGroupProtocol = 23 "INCONSISTENT_GROUP_PROTOCOL" "InconsistentGroupProtocolException" false,
    InvalidGroupId = 24 "INVALID_GROUP_ID" "InvalidGroupIdException" false,
    UnknownMemberId = 25 "UNKNOWN_MEMBER_ID" "UnknownMemberIdException" false,
    InvalidSessionTimeout = 26 "INVALID_SESSION_TIMEOUT" "InvalidSessionTimeoutException" false,
    RebalanceInProgress = 27 "REBALANCE_IN_PROGRESS" "RebalanceInProgressException" false,
    InvalidCommitOffsetSize = 28 "INVALID_COMMIT_OFFSET_SIZE" "InvalidCommitOffsetSizeException" false,
    TopicAuthorizationFailed = 29 "TOPIC_AUTHORIZATION_FAILED" "TopicAuthorizationException" false,
    GroupAuthorizationFailed = 30 "GROUP_AUTHORIZATION_FAILED" "GroupAuthorizationException" false,
    ClusterAuthorizationFailed = 31 "CLUSTER_AUTHORIZATION_FAILED" "ClusterAuthorizationException" false,
    InvalidTimestamp = 32 "INVALID_TIMESTAMP" "InvalidTimestampException" false,
    UnsupportedSaslMechanism = 33 "UNSUPPORTED_SASL_MECHANISM" "UnsupportedSaslMechanismException" false,
    IllegalSaslState = 34 "ILLEGAL_SASL_STATE" "IllegalSaslStateException" false,
    UnsupportedVersion = 35 "UNSUPPORTED_VERSION" "UnsupportedVersionException" false,
    TopicAlreadyExists = 36 "TOPIC_ALREADY_EXISTS" "TopicExistsException" false,
    InvalidPartitions = 37 "INVALID_PARTITIONS" "InvalidPartitionsException" false,
    InvalidReplicationFactor = 38 "INVALID_REPLICATION_FACTOR" "InvalidReplicationFactorException" false,
    InvalidReplicaAssignment = 39 "INVALID_REPLICA_ASSIGNMENT" "InvalidReplicaAssignmentException" false,
    InvalidConfig = 40 "INVALID_CONFIG" "InvalidConfigurationException" false,
    NotController = 41 "NOT_CONTROLLER" "NotControllerException" true,
    InvalidRequest = 42 "INVALID_REQUEST" "InvalidRequestException" false,
    UnsupportedForMessageFormat = 43 "UNSUPPORTED_FOR_MESSAGE_FORMAT" "UnsupportedForMessageFormatException" false,
    PolicyViolation = 44 "POLICY_VIOLATION" "PolicyViolationException" false,
    OutOfOrderSequenceNumber = 45 "OUT_OF_ORDER_SEQUENCE_NUMBER" "OutOfOrderSequenceException" false,
    DuplicateSequenceNumber = 46 "DUPLICATE_SEQUENCE_NUMBER" "DuplicateSequenceException" false,
    InvalidProducerEpoch = 47 "INVALID_PRODUCER_EPOCH" "InvalidProducerEpochException" false,
    InvalidTxnState = 48 "INVALID_TXN_STATE" "InvalidTxnStateException" false,
    InvalidProducerIdMapping = 49 "INVALID_PRODUCER_ID_MAPPING" "InvalidPidMappingException" false,
    InvalidTransactionTimeout = 50 "INVALID_TRANSACTION_TIMEOUT" "InvalidTxnTimeoutException" false,
    ConcurrentTransactions = 51 "CONCURRENT_TRANSACTIONS" "ConcurrentTransactionsException" true,
    TransactionCoordinatorFenced = 52 "TRANSACTION_COORDINATOR_FENCED" "TransactionCoordinatorFencedException" false,
    TransactionalIdAuthorizationFailed = 53 "TRANSACTIONAL_ID_AUTHORIZATION_FAILED" "TransactionalIdAuthorizationException" false,
    SecurityDisabled = 54 "SECURITY_DISABLED" "SecurityDisabledException" false,
    OperationNotAttempted = 55 "OPERATION_NOT_ATTEMPTED" "OperationNotAttemptedException" false,
    KafkaStorageError = 56 "KAFKA_STORAGE_ERROR" "KafkaStorageException" true,
    LogDirNotFound = 57 "LOG_DIR_NOT_FOUND" "LogDirNotFoundException" false,
    SaslAuthenticationFailed = 58 "SASL_AUTHENTICATION_FAILED" "SaslAuthenticationException" false,
    UnknownProducerId = 59 "UNKNOWN_PRODUCER_ID" "UnknownProducerIdException" false,
    ReassignmentInProgress = 60 "REASSIGNMENT_IN_PROGRESS" "ReassignmentInProgressException" false,
    DelegationTokenAuthDisabled = 61 "DELEGATION_TOKEN_AUTH_DISABLED" "DelegationTokenDisabledException" false,
    DelegationTokenNotFound = 62 "DELEGATION_TOKEN_NOT_FOUND" "DelegationTokenNotFoundException" false,
    DelegationTokenOwnerMismatch = 63 "DELEGATION_TOKEN_OWNER_MISMATCH" "DelegationTokenOwnerMismatchException" false,
    DelegationTokenRequestNotAllowed = 64 "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED" "UnsupportedByAuthenticationException" false,
    DelegationTokenAuthorizationFailed = 65 "DELEGATION_TOKEN_AUTHORIZATION_FAILED" "DelegationTokenAuthorizationException" false,
    DelegationTokenExpired = 66 "DELEGATION_TOKEN_EXPIRED" "DelegationTokenExpiredException" false,
    InvalidPrincipalType = 67 "INVALID_PRINCIPAL_TYPE" "InvalidPrincipalTypeException" false,
    NonEmptyGroup = 68 "NON_EMPTY_GROUP" "GroupNotEmptyException" false,
    GroupIdNotFound = 69 "GROUP_ID_NOT_FOUND" "GroupIdNotFoundException" false,
    FetchSessionIdNotFound = 70 "FETCH_SESSION_ID_NOT_FOUND" "FetchSessionIdNotFoundException" true,
    InvalidFetchSessionEpoch = 71 "INVALID_FETCH_SESSION_EPOCH" "InvalidFetchSessionEpochException" true,
    ListenerNotFound = 72 "LISTENER_NOT_FOUND" "ListenerNotFoundException" true,
    TopicDeletionDisabled = 73 "TOPIC_DELETION_DISABLED" "TopicDeletionDisabledException" false,
    FencedLeaderEpoch = 74 "FENCED_LEADER_EPOCH" "FencedLeaderEpochException" true,
    UnknownLeaderEpoch = 75 "UNKNOWN_LEADER_EPOCH" "UnknownLeaderEpochException" true,
    UnsupportedCompressionType = 76 "UNSUPPORTED_COMPRESSION_TYPE" "UnsupportedCompressionTypeException" false,
    StaleBrokerEpoch = 77 "STALE_BROKER_EPOCH" "StaleBrokerEpochException" false,
    OffsetNotAvailable = 78 "OFFSET_NOT_AVAILABLE" "OffsetNotAvailableException" true,
    MemberIdRequired = 79 "MEMBER_ID_REQUIRED" "MemberIdRequiredException" false,
    PreferredLeaderNotAvailable = 80 "PREFERRED_LEADER_NOT_AVAILABLE" "PreferredLeaderNotAvailableException" true,
    GroupMaxSizeReached = 81 "GROUP_MAX_SIZE_REACHED" "GroupMaxSizeReachedException" false,
    FencedInstanceId = 82 "FENCED_INSTANCE_ID" "FencedInstanceIdException" false,
    EligibleLeadersNotAvailable = 83 "ELIGIBLE_LEADERS_NOT_AVAILABLE" "EligibleLeadersNotAvailableException" true,
    ElectionNotNeeded = 84 "ELECTION_NOT_NEEDED" "ElectionNotNeededException" true,
    NoReassignmentInProgress = 85 "NO_REASSIGNMENT_IN_PROGRESS" "NoReassignmentInProgressException" false,
    GroupSubscribedToTopic = 86 "GROUP_SUBSCRIBED_TO_TOPIC" "GroupSubscribedToTopicException" false,
    InvalidRecord = 87 "INVALID_RECORD" "InvalidRecordException" false,
    UnstableOffsetCommit = 88 "UNSTABLE_OFFSET_COMMIT" "UnstableOffsetCommitException" true,
    ThrottlingQuotaExceeded = 89 "THROTTLING_QUOTA_EXCEEDED" "ThrottlingQuotaExceededException" true,
    ProducerFenced = 90 "PRODUCER_FENCED" "ProducerFencedException" false,
    ResourceNotFound = 91 "RESOURCE_NOT_FOUND" "ResourceNotFoundException" false,
    DuplicateResource = 92 "DUPLICATE_RESOURCE" "DuplicateResourceException" false,
    UnacceptableCredential = 93 "UNACCEPTABLE_CREDENTIAL" "UnacceptableCredentialException" false,
    InconsistentVoterSet = 94 "INCONSISTENT_VOTER_SET" "InconsistentVoterSetException" false,
    InvalidUpdateVersion = 95 "INVALID_UPDATE_VERSION" "InvalidUpdateVersionException" false,
    FeatureUpdateFailed = 96 "FEATURE_UPDATE_FAILED" "FeatureUpdateFailedException" false,
    PrincipalDeserializationFailure = 97 "PRINCIPAL_DESERIALIZATION_FAILURE" "PrincipalDeserializationException" false,
    SnapshotNotFound = 98 "SNAPSHOT_NOT_FOUND" "SnapshotNotFoundException" false,
    PositionOutOfRange = 99 "POSITION_OUT_OF_RANGE" "PositionOutOfRangeException" false,
    UnknownTopicId = 100 "UNKNOWN_TOPIC_ID" "UnknownTopicIdException" true,
    DuplicateBrokerRegistration = 101 "DUPLICATE_BROKER_REGISTRATION" "DuplicateBrokerRegistrationException" false,
    BrokerIdNotRegistered = 102 "BROKER_ID_NOT_REGISTERED" "BrokerIdNotRegisteredException" false,
    InconsistentTopicId = 103 "INCONSISTENT_TOPIC_ID" "InconsistentTopicIdException" true,
    InconsistentClusterId = 104 "INCONSISTENT_CLUSTER_ID" "InconsistentClusterIdException" false,
    TransactionalIdNotFound = 105 "TRANSACTIONAL_ID_NOT_FOUND" "TransactionalIdNotFoundException" false,
    FetchSessionTopicIdError = 106 "FETCH_SESSION_TOPIC_ID_ERROR" "FetchSessionTopicIdException" true,
    IneligibleReplica = 107 "INELIGIBLE_REPLICA" "IneligibleReplicaException" false,
    NewLeaderElected = 108 "NEW_LEADER_ELECTED" "NewLeaderElectedException" false,
    OffsetMovedToTieredStorage = 109 "OFFSET_MOVED_TO_TIERED_STORAGE" "OffsetMovedToTieredStorageException" false,
    FencedMemberEpoch = 110 "FENCED_MEMBER_EPOCH" "FencedMemberEpochException" false,
    UnreleasedInstanceId = 111 "UNRELEASED_INSTANCE_ID" "UnreleasedInstanceIdException" false,
    UnsupportedAssignor = 112 "UNSUPPORTED_ASSIGNOR" "UnsupportedAssignorException" false,
    StaleMemberEpoch = 113 "STALE_MEMBER_EPOCH" "StaleMemberEpochException" false,
    MismatchedEndpointType = 114 "MISMATCHED_ENDPOINT_TYPE" "MismatchedEndpointTypeException" false,
    UnsupportedEndpointType = 115 "UNSUPPORTED_ENDPOINT_TYPE" "UnsupportedEndpointTypeException" false,
    UnknownControllerId = 116 "UNKNOWN_CONTROLLER_ID" "UnknownControllerIdException" false,
    UnknownSubscriptionId = 117 "UNKNOWN_SUBSCRIPTION_ID" "UnknownSubscriptionIdException" false,
    TelemetryTooLarge = 118 "TELEMETRY_TOO_LARGE" "TelemetryTooLargeException" false,
    InvalidRegistration = 119 "INVALID_REGISTRATION" "InvalidRegistrationException" false,
    TransactionAbortable = 120 "TRANSACTION_ABORTABLE" "TransactionAbortableException" false,
    InvalidRecordState = 121 "INVALID_RECORD_STATE" "InvalidRecordStateException" false,
    ShareSessionNotFound = 122 "SHARE_SESSION_NOT_FOUND" "ShareSessionNotFoundException" true,
    InvalidShareSessionEpoch = 123 "INVALID_SHARE_SESSION_EPOCH" "InvalidShareSessionEpochException" true,
    FencedStateEpoch = 124 "FENCED_STATE_EPOCH" "FencedStateEpochException" false,
    InvalidVoterKey = 125 "INVALID_VOTER_KEY" "InvalidVoterKeyException" false,
    DuplicateVoter = 126 "DUPLICATE_VOTER" "DuplicateVoterException" false,
    VoterNotFound = 127 "VOTER_NOT_FOUND" "VoterNotFoundException" false,
    InvalidRegularExpression = 128 "INVALID_REGULAR_EXPRESSION" "InvalidRegularExpression" false,
    RebootstrapRequired = 129 "REBOOTSTRAP_REQUIRED" "RebootstrapRequiredException" false,
    StreamsInvalidTopology = 130 "STREAMS_INVALID_TOPOLOGY" "StreamsInvalidTopologyException" false,
    StreamsInvalidTopologyEpoch = 131 "STREAMS_INVALID_TOPOLOGY_EPOCH" "StreamsInvalidTopologyEpochException" false,
    StreamsTopologyFenced = 132 "STREAMS_TOPOLOGY_FENCED" "StreamsTopologyFencedException" false,
    ShareSessionLimitReached = 133 "SHARE_SESSION_LIMIT_REACHED" "ShareSessionLimitReachedException" true,
}

impl ErrorCode {
    /// The text for answers that have no message of their own: Kafka's words where Kafka's tools show them.
    pub fn message(self) -> &'static str {
        match self {
            Self::OffsetOutOfRange => {
                "The requested offset is not within the range of offsets maintained by the server."
            }
            Self::UnknownTopicOrPartition => "This server does not host this topic-partition.",
            Self::LeaderNotAvailable => {
                "There is no leader for this topic-partition as we are in the middle of a leadership election."
            }
            Self::NotLeaderOrFollower => {
                "For requests intended only for the leader, this error indicates that the broker is not the current leader. \
                 For requests intended for any replica, this error indicates that the broker is not a replica of the topic partition."
            }
            Self::RequestTimedOut => "The request timed out.",
            Self::MessageTooLarge => {
                "The request included a message larger than the max message size the server will accept."
            }
            Self::CoordinatorNotAvailable => "The coordinator is not available.",
            Self::NotCoordinator => "This is not the correct coordinator.",
            Self::InvalidTopicException => {
                "The request attempted to perform an operation on an invalid topic."
            }
            Self::NotEnoughReplicas => {
                "Messages are rejected since there are fewer in-sync replicas than required."
            }
            Self::NotEnoughReplicasAfterAppend => {
                "Messages are written to the log, but to fewer in-sync replicas than required."
            }
            Self::UnknownMemberId => "The coordinator is not aware of this member.",
            Self::GroupIdNotFound => "The group id does not exist.",
            Self::NonEmptyGroup => "The group is not empty.",
            Self::GroupSubscribedToTopic => {
                "Deleting offsets of a topic is forbidden while the consumer group is actively subscribed to it."
            }
            Self::KafkaStorageError => "Disk error when trying to access log file on the disk.",
            Self::LogDirNotFound => {
                "The user-specified log directory is not found in the broker config."
            }
            Self::UnsupportedVersion => "The version of API is not supported.",
            Self::NoReassignmentInProgress => "No partition reassignment is in progress.",
            other => other.name(),
        }
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
