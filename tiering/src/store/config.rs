//! The properties of the store, and whether their values are of a form that a store can have. Asks no store.

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use strandline_types::Secret;

use super::StoreError;
use crate::address::{check_bucket, check_endpoint, check_header_value, check_region};

/// `strandline.remote.store.*`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteStoreConfig {
    pub url: String,
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub access_key_id: Option<String>,
    pub secret_access_key: Option<Secret>,
    pub create_bucket: bool,
}

/// The region of a request where none is set.
pub(super) const DEFAULT_REGION: &str = "us-east-1";

pub(super) fn split_url(url: &str) -> Result<(&str, &str), StoreError> {
    url.split_once("://").ok_or_else(|| {
        StoreError::Url(format!(
            "{url} is no URL: use s3://bucket/prefix, file:///dir or memory://"
        ))
    })
}

/// Bucket and prefix.
pub(super) fn split_bucket(rest: &str) -> (&str, &str) {
    rest.split_once('/').unwrap_or((rest, ""))
}

impl RemoteStoreConfig {
    /// Whether the values are of a form that a store can have; asks no store.
    pub fn check(&self) -> Result<(), StoreError> {
        let property =
            |property: &'static str| move |reason| StoreError::Property { property, reason };
        let (scheme, rest) = split_url(&self.url)?;
        if matches!(scheme, "s3" | "s3a") {
            check_bucket(split_bucket(rest).0).map_err(StoreError::Url)?;
        }
        if let Some(endpoint) = &self.endpoint {
            check_endpoint(endpoint).map_err(property("strandline.remote.store.endpoint"))?;
        }
        if let Some(region) = &self.region {
            check_region(region).map_err(property("strandline.remote.store.region"))?;
        }
        if let Some(id) = &self.access_key_id {
            check_header_value(id).map_err(property("strandline.remote.store.access.key.id"))?;
        }
        if self.access_key_id.is_some() != self.secret_access_key.is_some() {
            let reason = "needs strandline.remote.store.secret.access.key, and the other way round";
            return Err(property("strandline.remote.store.access.key.id")(
                reason.into(),
            ));
        }
        Ok(())
    }
}

/// Checks the values that the client has taken from the environment.
pub(super) fn check_environment(builder: &AmazonS3Builder) -> Result<(), StoreError> {
    type Check = fn(&str) -> Result<(), String>;
    let checks: [(AmazonS3ConfigKey, &'static str, Check); 5] = [
        (
            AmazonS3ConfigKey::Endpoint,
            "AWS_ENDPOINT_URL",
            check_endpoint,
        ),
        (
            AmazonS3ConfigKey::S3Endpoint,
            "AWS_ENDPOINT_URL_S3",
            check_endpoint,
        ),
        (AmazonS3ConfigKey::Region, "AWS_REGION", check_region),
        (
            AmazonS3ConfigKey::AccessKeyId,
            "AWS_ACCESS_KEY_ID",
            check_header_value,
        ),
        (
            AmazonS3ConfigKey::Token,
            "AWS_SESSION_TOKEN",
            check_header_value,
        ),
    ];
    for (key, property, check) in checks {
        if let Some(value) = builder.get_config_value(&key) {
            check(&value).map_err(|reason| StoreError::Property { property, reason })?;
        }
    }
    Ok(())
}
