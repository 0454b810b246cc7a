//! `ApiVersions`, `DescribeCluster`.

use kafka_protocol::messages as m;
use kafka_protocol::messages::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::update_features_response::UpdatableFeatureResult;
use strandline_wire::api::{SUPPORTED, SupportedApi};
use strandline_wire::{ApiKey, ErrorCode, StrBytes};

use super::{Call, operations, text};

/// Kafka's features that this broker has, with the levels it knows: KIP-966's eligible leader replicas, KIP-853's voters
/// by name, the metadata of Kafka 4.3.
const FEATURES: [(&str, i16, i16); 3] = [
    ("eligible.leader.replicas.version", 1, 1),
    ("kraft.version", 1, 1),
    ("metadata.version", 30, 30),
];

fn advertise(api: SupportedApi) -> ApiVersion {
    ApiVersion::default()
        .with_api_key(api.key as i16)
        .with_min_version(api.advertised_min)
        .with_max_version(api.max)
}

pub async fn api_versions(call: &Call, request: m::ApiVersionsRequest) -> m::ApiVersionsResponse {
    let valid = |name: &str| {
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        edge(name.chars().next())
            && edge(name.chars().next_back())
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
    };
    let named = valid(&request.client_software_name) && valid(&request.client_software_version);
    if call.version >= 3 && !named {
        return m::ApiVersionsResponse::default().with_error_code(ErrorCode::InvalidRequest.code());
    }
    let response = m::ApiVersionsResponse::default()
        .with_api_keys(SUPPORTED.iter().copied().map(advertise).collect());
    if call.version < 3 {
        return response;
    }
    let supported = FEATURES.iter().map(|(name, min, max)| {
        SupportedFeatureKey::default()
            .with_name(StrBytes::from_static_str(name))
            .with_min_version(*min)
            .with_max_version(*max)
    });
    // All processes of a cluster run the same version, so every supported feature is in effect.
    let finalized = FEATURES.iter().map(|(name, _, max)| {
        FinalizedFeatureKey::default()
            .with_name(StrBytes::from_static_str(name))
            .with_min_version_level(*max)
            .with_max_version_level(*max)
    });
    response
        .with_supported_features(supported.collect())
        .with_finalized_features_epoch(call.context.quorum.image().applied_index as i64)
        .with_finalized_features(finalized.collect())
}

/// Every feature has one level here, so a request can only ask for the level that is in effect. As in Kafka, one
/// impossible update refuses the whole request.
pub async fn update_features(
    call: &Call,
    request: m::UpdateFeaturesRequest,
) -> m::UpdateFeaturesResponse {
    let failed = |reason: String| {
        let message = format!(
            "The update failed for all features since the following feature had an error: {reason}"
        );
        m::UpdateFeaturesResponse::default()
            .with_error_code(ErrorCode::InvalidUpdateVersion.code())
            .with_error_message(Some(text(message)))
    };
    let controller = call.context.quorum.leader().0;
    for wish in &request.feature_updates {
        let (name, level) = (wish.feature.as_str(), wish.max_version_level);
        let begins = format!("Invalid update version {level} for feature {name}.");
        match FEATURES.iter().find(|(known, _, _)| *known == name) {
            None => return failed(format!("{begins} Feature {name} not found.")),
            Some((_, min, max)) if !(*min..=*max).contains(&level) => {
                return failed(format!(
                    "{begins} Local controller {controller} only supports versions {min}-{max}"
                ));
            }
            Some(_) => {}
        }
    }
    let done = m::UpdateFeaturesResponse::default().with_error_message(None);
    if call.version >= 2 {
        return done;
    }
    let results = request.feature_updates.into_iter().map(|wish| {
        UpdatableFeatureResult::default()
            .with_feature(wish.feature)
            .with_error_message(Some(StrBytes::from_static_str("NONE")))
    });
    done.with_results(results.collect())
}

/// The answer to a version that is not known yet: error 35 and the range of `ApiVersions` itself, in version 0.
pub fn unsupported_api_versions() -> m::ApiVersionsResponse {
    let range = SUPPORTED
        .iter()
        .copied()
        .filter(|a| a.key == ApiKey::ApiVersions)
        .map(advertise)
        .collect();
    m::ApiVersionsResponse::default()
        .with_error_code(ErrorCode::UnsupportedVersion.code())
        .with_api_keys(range)
}

pub async fn describe_cluster(
    call: &Call,
    request: m::DescribeClusterRequest,
) -> m::DescribeClusterResponse {
    const BROKERS: i8 = 1;
    const CONTROLLERS: i8 = 2;
    let image = call.context.quorum.image();
    let response = m::DescribeClusterResponse::default()
        .with_endpoint_type(request.endpoint_type)
        .with_cluster_id(text(image.cluster_id.clone().unwrap_or_default()))
        .with_controller_id(m::BrokerId(call.context.controller_for_clients()))
        .with_cluster_authorized_operations(if request.include_cluster_authorized_operations {
            operations::CLUSTER
        } else {
            operations::NOT_ASKED
        });
    if call.version >= 1 && request.endpoint_type != BROKERS {
        let (code, reason) = if request.endpoint_type == CONTROLLERS {
            let reason = "The request was sent to an endpoint of the wrong type.";
            (ErrorCode::MismatchedEndpointType, reason)
        } else {
            let reason = "Unsupported endpoint type.";
            (ErrorCode::UnsupportedEndpointType, reason)
        };
        return m::DescribeClusterResponse::default()
            .with_error_code(code.code())
            .with_error_message(Some(text(reason)))
            .with_cluster_authorized_operations(operations::NOT_ASKED);
    }
    let shown = image
        .brokers
        .values()
        .filter(|b| !b.fenced || request.include_fenced_brokers);
    let brokers = shown.filter_map(|broker| {
        let (host, port) = call
            .context
            .advertised_endpoint(broker, &call.peer.listener)?;
        let described = DescribeClusterBroker::default()
            .with_broker_id(m::BrokerId(broker.id.0))
            .with_host(text(host))
            .with_port(port)
            .with_rack(broker.rack.clone().map(text));
        Some(if call.version >= 2 {
            described.with_is_fenced(broker.fenced)
        } else {
            described
        })
    });
    response.with_brokers(brokers.collect())
}
