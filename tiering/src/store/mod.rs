//! Connecting to the object store: clients over one bucket (uploads patient, reads impatient, and those that copies are
//! sent with). Read next: [`probe`], which says what does not work before anything depends on it; [`proof`]; [`bucket`].

mod bucket;
mod config;
mod deletes;
mod lying;
mod probe;
mod proof;
mod said;
mod timeouts;

use std::fmt;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use thiserror::Error;

use crate::credentials::CachedCredentials;
use crate::keys::KeySpace;
use crate::meter::{Meter, MeteredStore};
use bucket::Bucket;
pub use bucket::OpenUpload;
pub use config::RemoteStoreConfig;
use config::{DEFAULT_REGION, check_environment, split_bucket, split_url};
use deletes::Deletes;
use lying::LyingConnector;
use proof::Way;
pub use proof::{Copies, Proof};
pub use said::{describe, one_line};
use timeouts::Timeouts;
pub(crate) use timeouts::limit_of;

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
    /// For what carries many bytes to the store: long time-outs, many retries.
    pub uploads: Arc<dyn ObjectStore>,
    /// For all else: short time-outs, few retries.
    pub reads: Arc<dyn ObjectStore>,
    /// The clients that segments are sent with.
    pub copies: Arc<Copies>,
    pub deletes: Arc<Deletes>,
    pub keys: KeySpace,
    pub meter: Arc<Meter>,
    place: String,
    /// Of S3.
    bucket: Option<Arc<Bucket>>,
    creates_bucket: bool,
}

#[cfg(not(all(feature = "gcp", feature = "azure")))]
fn unsupported(config: &RemoteStoreConfig, scheme: &str, feature: &'static str) -> StoreError {
    StoreError::Unsupported {
        url: config.url.clone(),
        scheme: scheme.into(),
        feature,
    }
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
        let uploads: Arc<dyn ObjectStore> = Arc::new(MeteredStore::new(uploads, meter.clone()));
        let reads: Arc<dyn ObjectStore> = Arc::new(MeteredStore::new(reads, meter.clone()));
        Self {
            copies: Arc::new(Copies::local(uploads.clone())),
            uploads,
            deletes: Arc::new(Deletes::new(reads.clone(), None)),
            reads,
            keys: KeySpace::new(prefix),
            meter,
            place,
            bucket: None,
            creates_bucket: false,
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
        let builder = |timeouts: &Timeouts| -> Result<AmazonS3Builder, StoreError> {
            let allow_http = config
                .endpoint
                .as_deref()
                .is_some_and(|e| e.starts_with("http://"));
            let mut builder = AmazonS3Builder::from_env()
                .with_bucket_name(bucket)
                .with_retry(timeouts.retry())
                .with_client_options(timeouts.client(allow_http))
                // Copies carry checksums of their own; hashing every payload again only costs CPU.
                .with_unsigned_payload(true);
            if let Some(region) = &config.region {
                builder = builder.with_region(region.clone());
            } else if builder
                .get_config_value(&AmazonS3ConfigKey::Region)
                .is_none()
            {
                builder = builder.with_region(DEFAULT_REGION);
            }
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
            Ok(builder)
        };
        let build = |builder: AmazonS3Builder| -> Result<AmazonS3, StoreError> {
            let built = builder.build();
            built.map_err(|e| StoreError::Url(format!("{}: {e}", config.url)))
        };
        let place = match &config.endpoint {
            Some(endpoint) => format!("{} ({endpoint})", config.url),
            None => config.url.clone(),
        };
        let patient = builder(&Timeouts::uploads())?;
        let region = patient.get_config_value(&AmazonS3ConfigKey::Region);
        let metered = |client: AmazonS3| -> Arc<dyn ObjectStore> {
            Arc::new(MeteredStore::new(Arc::new(client), meter.clone()))
        };
        let way = |name, sends: fn(AmazonS3Builder) -> AmazonS3Builder| {
            let liar = LyingConnector {
                instead: probe::DAMAGED,
            };
            let lying = sends(builder(&Timeouts::reads())?).with_http_connector(liar);
            Ok::<_, StoreError>(Way {
                name,
                client: metered(build(sends(patient.clone()))?),
                lying: metered(build(lying)?),
            })
        };
        let ways = vec![
            way("CRC-64/NVME", |builder| {
                builder.with_checksum_algorithm(Checksum::CRC64NVME)
            })?,
            // Part of the signature, so older stores compare it too; costs a SHA-256.
            way("SHA-256", |builder| builder.with_unsigned_payload(false))?,
        ];
        let uploads = build(patient.clone())?;
        let reads = build(builder(&Timeouts::reads())?)?;
        let single = builder(&Timeouts::reads())?.with_disable_bulk_delete(true);
        let single = metered(build(single)?);
        let bucket = Bucket {
            client: Arc::new(uploads.clone()),
            region,
            meter: meter.clone(),
        };
        let store = Self::over(Arc::new(uploads), Arc::new(reads), prefix, place, meter);
        Ok(Self {
            copies: Arc::new(Copies::remote(store.uploads.clone(), ways)),
            deletes: Arc::new(Deletes::new(store.reads.clone(), Some(single))),
            bucket: Some(Arc::new(bucket)),
            creates_bucket: config.create_bucket,
            ..store
        })
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
        let (uploads, reads) = (client(&Timeouts::uploads())?, client(&Timeouts::reads())?);
        let (uploads, reads) = (Arc::new(uploads), Arc::new(reads));
        let store = Self::over(uploads, reads, prefix, config.url.clone(), meter);
        Ok(Self {
            copies: Arc::new(Copies::remote(store.uploads.clone(), Vec::new())),
            ..store
        })
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
}

#[cfg(test)]
mod tests {
    use strandline_types::Secret;

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
