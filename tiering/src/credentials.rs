//! AWS's own credential chain (profiles, SSO, processes, web identity, instance role), cached until shortly before the
//! credentials expire. `object_store` asks for credentials on every request and does not cache those of a custom
//! provider.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use tokio::sync::Mutex;

use crate::address::check_header_value;

/// Credentials are renewed when less than this is left.
const RENEW_BEFORE_EXPIRY: Duration = Duration::from_secs(300);

pub(crate) struct CachedCredentials {
    provider: SharedCredentialsProvider,
    cached: Mutex<Option<(Arc<AwsCredential>, Option<Instant>)>>,
}

impl std::fmt::Debug for CachedCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CachedCredentials")
    }
}

impl CachedCredentials {
    /// `None` where the chain has no provider at all.
    pub async fn from_environment() -> Option<Self> {
        let config = aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await;
        Some(Self::new(config.credentials_provider()?))
    }

    fn new(provider: SharedCredentialsProvider) -> Self {
        Self {
            provider,
            cached: Mutex::new(None),
        }
    }
}

#[async_trait]
impl CredentialProvider for CachedCredentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        // The lock is held across the renewal on purpose: one renewal serves all callers that wait.
        let mut cached = self.cached.lock().await;
        let now = Instant::now();
        if let Some((credential, expiry)) = cached.as_ref()
            && expiry.is_none_or(|e| e > now + RENEW_BEFORE_EXPIRY)
        {
            return Ok(credential.clone());
        }
        match self.provider.provide_credentials().await {
            Ok(fresh) => {
                // The client would end the process where one of them is no part of a header.
                let parts = [Some(fresh.access_key_id()), fresh.session_token()];
                for part in parts.into_iter().flatten() {
                    check_header_value(part).map_err(|reason| object_store::Error::Generic {
                        store: "S3 credentials",
                        source: reason.into(),
                    })?;
                }
                let credential = Arc::new(AwsCredential {
                    key_id: fresh.access_key_id().to_owned(),
                    secret_key: fresh.secret_access_key().to_owned(),
                    token: fresh.session_token().map(str::to_owned),
                });
                let expiry = fresh
                    .expiry()
                    .and_then(|at| moment_of(at, SystemTime::now(), now));
                *cached = Some((credential.clone(), expiry));
                Ok(credential)
            }
            // A renewal that fails early leaves the old credentials good until they really expire.
            Err(error) => match cached.as_ref() {
                Some((credential, Some(expiry))) if *expiry > now => Ok(credential.clone()),
                _ => Err(object_store::Error::Generic {
                    store: "S3 credentials",
                    source: Box::new(error),
                }),
            },
        }
    }
}

/// The moment at which `expiry` is reached if the wall clock shows `wall` now; `None` if this is after the end of time.
/// Later steps of the wall clock change nothing: if the clock were set back, expired credentials would otherwise be
/// used until the clock has caught up.
fn moment_of(expiry: SystemTime, wall: SystemTime, now: Instant) -> Option<Instant> {
    let left = expiry.duration_since(wall).unwrap_or_default();
    now.checked_add(left)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use aws_credential_types::Credentials;
    use aws_credential_types::provider::future;

    use super::*;

    #[derive(Debug)]
    struct Counting {
        asked: Arc<AtomicUsize>,
        lifetime: Duration,
    }

    impl ProvideCredentials for Counting {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let n = self.asked.fetch_add(1, Ordering::SeqCst);
            let expiry = SystemTime::now() + self.lifetime;
            future::ProvideCredentials::ready(Ok(Credentials::new(
                format!("k{n}"),
                "s",
                None,
                Some(expiry),
                "test",
            )))
        }
    }

    const HOUR: Duration = Duration::from_secs(3600);

    async fn asked_for_two(lifetime: Duration) -> usize {
        let asked = Arc::new(AtomicUsize::new(0));
        let provider = Counting {
            asked: asked.clone(),
            lifetime,
        };
        let cached = CachedCredentials::new(SharedCredentialsProvider::new(provider));
        cached.get_credential().await.unwrap();
        cached.get_credential().await.unwrap();
        asked.load(Ordering::SeqCst)
    }

    #[tokio::test]
    async fn credentials_are_cached_and_renewed_before_they_expire() {
        assert_eq!(asked_for_two(Duration::from_secs(3600)).await, 1);
        assert_eq!(asked_for_two(Duration::from_secs(200)).await, 2);
    }

    #[test]
    fn the_moment_of_expiry_is_fixed_when_credentials_come() {
        let (wall, now) = (SystemTime::UNIX_EPOCH + HOUR, Instant::now());
        for (expiry, left) in [
            (wall + HOUR, HOUR),
            (wall, Duration::ZERO),
            (wall - HOUR, Duration::ZERO),
        ] {
            assert_eq!(moment_of(expiry, wall, now), Some(now + left));
        }
    }
}
