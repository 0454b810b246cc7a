//! Connecting to the object store: two clients over one bucket (uploads patient, reads impatient), and a probe that
//! says which call does not work before anything depends on it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::signer::Signer;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, ObjectStoreExt, RetryConfig};
use strandline_types::Secret;
use thiserror::Error;

use crate::address::{check_bucket, check_endpoint, check_header_value, check_region};
use crate::credentials::CachedCredentials;
use crate::keys::KeySpace;
use crate::meter::{Meter, MeteredStore};

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

/// A fault of the object store, with the property or call that shows it.
#[derive(Debug, Error)]
pub enum StoreError {
    #[error("strandline.remote.store.url: {0}")]
    Url(String),
    #[error("{property}: {reason}")]
    Property {
        property: &'static str,
        reason: String,
    },
    #[error(
        "strandline.remote.store.url: {url}: this build has no support for {scheme}:// (feature `{feature}`)"
    )]
    Unsupported {
        url: String,
        scheme: String,
        feature: &'static str,
    },
    #[error("{call} failed at {place}: {reason}")]
    Call {
        call: &'static str,
        place: String,
        reason: String,
        /// The store has not denied the call; a retry may succeed.
        transient: bool,
    },
}

impl StoreError {
    /// Whether it may pass by itself: the store does not answer, or not yet. Forbidden calls and wrong names do not.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Call {
                transient: true,
                ..
            }
        )
    }
}

/// The bucket, as the rest of this crate uses it.
#[derive(Clone, Debug)]
pub struct RemoteStore {
    /// Long time-outs, many retries.
    pub uploads: Arc<dyn ObjectStore>,
    /// A consumer waits: short time-outs, few retries.
    pub reads: Arc<dyn ObjectStore>,
    pub keys: KeySpace,
    pub meter: Arc<Meter>,
    place: String,
    /// Creates the bucket, where that is asked for.
    creator: Option<Arc<AmazonS3>>,
}

struct Timeouts {
    request: Duration,
    retries: usize,
    retry_for: Duration,
}

/// One part of an upload may take this long; a copy that makes no progress fails and begins again.
const UPLOADS: Timeouts = Timeouts {
    request: Duration::from_secs(120),
    retries: 6,
    retry_for: Duration::from_secs(240),
};
const READS: Timeouts = Timeouts {
    request: Duration::from_secs(15),
    retries: 3,
    retry_for: Duration::from_secs(10),
};

impl Timeouts {
    fn retry(&self) -> RetryConfig {
        RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(5),
                base: 2.0,
            },
            max_retries: self.retries,
            retry_timeout: self.retry_for,
        }
    }

    fn client(&self, allow_http: bool) -> ClientOptions {
        ClientOptions::new()
            .with_timeout(self.request)
            .with_connect_timeout(Duration::from_secs(5))
            .with_allow_http(allow_http)
    }
}

fn split_url(url: &str) -> Result<(&str, &str), StoreError> {
    url.split_once("://").ok_or_else(|| {
        StoreError::Url(format!(
            "{url} is no URL: use s3://bucket/prefix, file:///dir or memory://"
        ))
    })
}

#[cfg(not(all(feature = "gcp", feature = "azure")))]
fn unsupported(config: &RemoteStoreConfig, scheme: &str, feature: &'static str) -> StoreError {
    StoreError::Unsupported {
        url: config.url.clone(),
        scheme: scheme.into(),
        feature,
    }
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
fn check_environment(builder: &AmazonS3Builder) -> Result<(), StoreError> {
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

/// Bucket and prefix.
fn split_bucket(rest: &str) -> (&str, &str) {
    rest.split_once('/').unwrap_or((rest, ""))
}

impl RemoteStore {
    /// Builds the clients. The store is not asked for anything yet; see [`RemoteStore::prepare`].
    pub async fn connect(config: &RemoteStoreConfig) -> Result<Self, StoreError> {
        config.check()?;
        let (scheme, rest) = split_url(&config.url)?;
        let meter = Arc::new(Meter::default());
        match scheme {
            "s3" | "s3a" => Self::connect_s3(config, rest, meter).await,
            "file" => {
                let directory = std::path::Path::new(rest);
                let failed =
                    |e: &dyn fmt::Display| StoreError::Url(format!("{}: {e}", directory.display()));
                std::fs::create_dir_all(directory).map_err(|e| failed(&e))?;
                let store = LocalFileSystem::new_with_prefix(directory).map_err(|e| failed(&e))?;
                let store: Arc<dyn ObjectStore> =
                    Arc::new(store.with_automatic_cleanup(true).with_fsync(true));
                Ok(Self::over(
                    store.clone(),
                    store,
                    "",
                    config.url.clone(),
                    meter,
                ))
            }
            "memory" => {
                let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
                Ok(Self::over(
                    store.clone(),
                    store,
                    rest,
                    config.url.clone(),
                    meter,
                ))
            }
            #[cfg(feature = "gcp")]
            "gs" => Self::connect_google(config, rest, meter),
            #[cfg(not(feature = "gcp"))]
            "gs" => Err(unsupported(config, "gs", "gcp")),
            #[cfg(feature = "azure")]
            "az" => Self::connect_azure(config, rest, meter),
            #[cfg(not(feature = "azure"))]
            "az" => Err(unsupported(config, "az", "azure")),
            other => Err(StoreError::Url(format!(
                "{}: unknown scheme {other}://",
                config.url
            ))),
        }
    }

    /// A store over given clients, for tests that inject faults.
    pub fn over(
        uploads: Arc<dyn ObjectStore>,
        reads: Arc<dyn ObjectStore>,
        prefix: &str,
        place: String,
        meter: Arc<Meter>,
    ) -> Self {
        Self {
            uploads: Arc::new(MeteredStore::new(uploads, meter.clone())),
            reads: Arc::new(MeteredStore::new(reads, meter.clone())),
            keys: KeySpace::new(prefix),
            meter,
            place,
            creator: None,
        }
    }

    async fn connect_s3(
        config: &RemoteStoreConfig,
        rest: &str,
        meter: Arc<Meter>,
    ) -> Result<Self, StoreError> {
        let (bucket, prefix) = split_bucket(rest);
        let credentials = match (&config.access_key_id, &config.secret_access_key) {
            (None, None) => CachedCredentials::from_environment().await.map(Arc::new),
            _ => None,
        };
        let client = |timeouts: &Timeouts| -> Result<AmazonS3, StoreError> {
            let allow_http = config
                .endpoint
                .as_deref()
                .is_some_and(|e| e.starts_with("http://"));
            let mut builder = AmazonS3Builder::from_env()
                .with_bucket_name(bucket)
                .with_region(config.region.clone().unwrap_or_else(|| "us-east-1".into()))
                .with_retry(timeouts.retry())
                .with_client_options(timeouts.client(allow_http))
                // Our own CRC-32C guards every byte; hashing plain-HTTP payloads again only costs CPU.
                .with_unsigned_payload(true);
            if let Some(endpoint) = &config.endpoint {
                builder = builder
                    .with_endpoint(endpoint)
                    .with_virtual_hosted_style_request(false);
            }
            if let (Some(id), Some(secret)) = (&config.access_key_id, &config.secret_access_key) {
                builder = builder
                    .with_access_key_id(id)
                    .with_secret_access_key(secret.expose());
            } else if let Some(credentials) = &credentials {
                builder = builder.with_credentials(credentials.clone());
            }
            check_environment(&builder)?;
            builder
                .build()
                .map_err(|e| StoreError::Url(format!("{}: {e}", config.url)))
        };
        let uploads = client(&UPLOADS)?;
        let place = match &config.endpoint {
            Some(endpoint) => format!("{} ({endpoint})", config.url),
            None => config.url.clone(),
        };
        let creator = config.create_bucket.then(|| Arc::new(uploads.clone()));
        let reads = client(&READS)?;
        let store = Self::over(Arc::new(uploads), Arc::new(reads), prefix, place, meter);
        Ok(Self { creator, ..store })
    }

    /// Two clients of one kind, made by `build` from a bucket and time-outs.
    #[cfg(any(feature = "gcp", feature = "azure"))]
    fn connect_with<S: ObjectStore>(
        config: &RemoteStoreConfig,
        rest: &str,
        meter: Arc<Meter>,
        build: impl Fn(&str, &Timeouts) -> object_store::Result<S>,
    ) -> Result<Self, StoreError> {
        let (bucket, prefix) = split_bucket(rest);
        let client = |timeouts: &Timeouts| {
            build(bucket, timeouts).map_err(|e| StoreError::Url(format!("{}: {e}", config.url)))
        };
        let (uploads, reads) = (client(&UPLOADS)?, client(&READS)?);
        Ok(Self::over(
            Arc::new(uploads),
            Arc::new(reads),
            prefix,
            config.url.clone(),
            meter,
        ))
    }

    #[cfg(feature = "gcp")]
    fn connect_google(
        config: &RemoteStoreConfig,
        rest: &str,
        meter: Arc<Meter>,
    ) -> Result<Self, StoreError> {
        Self::connect_with(config, rest, meter, |bucket, timeouts| {
            object_store::gcp::GoogleCloudStorageBuilder::from_env()
                .with_bucket_name(bucket)
                .with_retry(timeouts.retry())
                .with_client_options(timeouts.client(false))
                .build()
        })
    }

    #[cfg(feature = "azure")]
    fn connect_azure(
        config: &RemoteStoreConfig,
        rest: &str,
        meter: Arc<Meter>,
    ) -> Result<Self, StoreError> {
        Self::connect_with(config, rest, meter, |container, timeouts| {
            object_store::azure::MicrosoftAzureBuilder::from_env()
                .with_container_name(container)
                .with_retry(timeouts.retry())
                .with_client_options(timeouts.client(false))
                .build()
        })
    }

    /// URL and endpoint, for messages.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Creates the bucket where that is asked for, and probes it.
    pub async fn prepare(&self) -> Result<(), StoreError> {
        if let Some(creator) = &self.creator {
            create_bucket(creator, &self.place).await?;
        }
        self.probe().await
    }

    /// The error of a call that failed; where S3 forbids the call, with the permission that is missing.
    fn failed(&self, call: &'static str, error: &object_store::Error) -> StoreError {
        let reason = one_line(&error.to_string());
        let forbidden = matches!(
            error,
            object_store::Error::PermissionDenied { .. }
                | object_store::Error::Unauthenticated { .. }
        );
        StoreError::Call {
            call,
            place: self.place.clone(),
            reason: if forbidden && self.place.starts_with("s3://") {
                lacking(call, &reason)
            } else {
                reason
            },
            transient: matches!(error, object_store::Error::Generic { .. }),
        }
    }

    /// Puts, reads, reads a range of, lists and deletes one small object; the error names the call that failed.
    pub async fn probe(&self) -> Result<(), StoreError> {
        let key = self.keys.probe();
        let failed = |call: &'static str| move |e: object_store::Error| self.failed(call, &e);
        let mismatch = |call| StoreError::Call {
            call,
            place: self.place.clone(),
            reason: "other bytes came back than were written".into(),
            transient: false,
        };
        let body = bytes::Bytes::from_static(b"strandline probe");
        self.reads
            .put(&key, body.clone().into())
            .await
            .map_err(failed("put object"))?;
        let whole = self.reads.get(&key).await.map_err(failed("get object"))?;
        if whole.bytes().await.map_err(failed("get object"))? != body {
            return Err(mismatch("get object"));
        }
        let range = self
            .reads
            .get_range(&key, 2..5)
            .await
            .map_err(failed("get object range"))?;
        if range != body.slice(2..5) {
            return Err(mismatch("get object range"));
        }
        let mut listing = self.reads.list(Some(&key));
        while let Some(entry) = listing.next().await {
            entry.map_err(failed("list objects"))?;
        }
        self.reads
            .delete(&key)
            .await
            .map_err(failed("delete object"))
    }
}

/// The action of IAM that a call on S3 needs.
fn iam_action(call: &str) -> Option<&'static str> {
    Some(match call {
        "create bucket" => "s3:CreateBucket",
        "put object" => "s3:PutObject",
        "get object" | "get object range" => "s3:GetObject",
        "list objects" => "s3:ListBucket",
        "delete object" => "s3:DeleteObject",
        _ => return None,
    })
}

/// The reason why S3 forbids a call, with the permission that it needs.
fn lacking(call: &str, reason: &str) -> String {
    match iam_action(call) {
        Some(action) => format!("the credentials do not have {action} here: {reason}"),
        None => reason.to_owned(),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `CreateBucket` is not part of `object_store`; a presigned PUT on the bucket itself does it.
async fn create_bucket(store: &AmazonS3, place: &str) -> Result<(), StoreError> {
    const CALL: &str = "create bucket";
    let failed = |reason: String, transient: bool| StoreError::Call {
        call: CALL,
        place: place.to_owned(),
        reason,
        transient,
    };
    let root = object_store::path::Path::default();
    let url = store
        .signed_url(
            object_store::signer::Method::PUT,
            &root,
            Duration::from_secs(60),
        )
        .await
        .map_err(|e| failed(one_line(&e.to_string()), true))?;
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .build()
        .map_err(|e| failed(e.to_string(), false))?;
    let response = client.put(url.as_str()).send().await;
    // The URL carries a signature, so the error is shown without it.
    let response = response.map_err(|e| failed(e.without_url().to_string(), true))?;
    let status = response.status();
    // 409: it exists already.
    if status.is_success() || status.as_u16() == 409 {
        return Ok(());
    }
    let body = response.text().await.unwrap_or_default();
    let reason = format!(
        "{status} {}",
        one_line(&body.chars().take(300).collect::<String>())
    );
    Err(match status.as_u16() {
        403 => failed(lacking(CALL, &reason), false),
        429 | 500.. => failed(reason, true),
        _ => failed(reason, false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> RemoteStoreConfig {
        RemoteStoreConfig {
            url: url.into(),
            endpoint: None,
            region: None,
            access_key_id: None,
            secret_access_key: None,
            create_bucket: false,
        }
    }

    #[tokio::test]
    async fn bad_urls_name_the_property() {
        for url in ["nonsense", "ftp://x/y", "s3://"] {
            let error = RemoteStore::connect(&config(url))
                .await
                .unwrap_err()
                .to_string();
            assert!(error.contains("strandline.remote.store.url"), "{error}");
        }
        let secret = RemoteStoreConfig {
            secret_access_key: Some(Secret::new("do-not-print")),
            ..config("memory://")
        };
        assert!(!format!("{secret:?}").contains("do-not-print"));
    }

    /// An endpoint without its scheme ended the process at the first request.
    #[tokio::test]
    async fn an_address_that_is_none_is_an_error_with_its_property() {
        let s3 = |change: fn(&mut RemoteStoreConfig)| {
            let mut config = config("s3://bucket/prefix");
            config.endpoint = Some("http://127.0.0.1:1".into());
            change(&mut config);
            config
        };
        let cases = [
            (
                s3(|c| c.endpoint = Some("localhost:9000".into())),
                "endpoint",
            ),
            (
                s3(|c| c.endpoint = Some("http://256.256.256.256".into())),
                "endpoint",
            ),
            (s3(|c| c.region = Some("eu central".into())), "region"),
            (
                s3(|c| c.access_key_id = Some("schlüssel".into())),
                "access.key.id",
            ),
            (s3(|c| c.access_key_id = Some("id".into())), "access.key.id"),
            (s3(|c| c.url = "s3://bücket".into()), "url"),
        ];
        for (config, property) in cases {
            let connected = RemoteStore::connect(&config).await;
            let probed = match connected {
                Ok(store) => store.probe().await.map_err(|e| e.to_string()),
                Err(error) => Err(error.to_string()),
            };
            let wanted = format!("strandline.remote.store.{property}: ");
            let error = probed.unwrap_err();
            assert!(error.starts_with(&wanted), "{config:?}: {error}");
        }
    }

    #[tokio::test]
    async fn a_directory_and_memory_pass_the_probe() {
        let directory = tempfile::tempdir().unwrap();
        for url in [
            format!("file://{}/cold", directory.path().display()),
            "memory://".into(),
        ] {
            let store = RemoteStore::connect(&config(&url)).await.unwrap();
            store.probe().await.unwrap();
        }
    }
}
