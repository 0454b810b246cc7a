//! `DescribeAcls`, `CreateAcls`, `DeleteAcls` without an authorizer: as in Kafka, clients read that security is off rather than
//! that a request is unknown.

use kafka_protocol::messages as m;
use kafka_protocol::messages::create_acls_response::AclCreationResult;
use kafka_protocol::messages::delete_acls_response::DeleteAclsFilterResult;
use strandline_wire::{ErrorCode, StrBytes};

use super::Call;

const CODE: ErrorCode = ErrorCode::SecurityDisabled;

fn reason() -> StrBytes {
    StrBytes::from_static_str("No Authorizer is configured.")
}

pub async fn describe_acls(_: &Call, _: m::DescribeAclsRequest) -> m::DescribeAclsResponse {
    m::DescribeAclsResponse::default()
        .with_error_code(CODE.code())
        .with_error_message(Some(reason()))
}

pub async fn create_acls(_: &Call, request: m::CreateAclsRequest) -> m::CreateAclsResponse {
    let refused = AclCreationResult::default()
        .with_error_code(CODE.code())
        .with_error_message(Some(reason()));
    m::CreateAclsResponse::default().with_results(vec![refused; request.creations.len()])
}

pub async fn delete_acls(_: &Call, request: m::DeleteAclsRequest) -> m::DeleteAclsResponse {
    let refused = DeleteAclsFilterResult::default()
        .with_error_code(CODE.code())
        .with_error_message(Some(reason()));
    m::DeleteAclsResponse::default().with_filter_results(vec![refused; request.filters.len()])
}
