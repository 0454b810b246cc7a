//! Opening the cold tier at start: the store, whose the prefix is, the cache.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use strandline_metadata::config::BrokerConfig;
use strandline_quorum::Quorum;
use strandline_tiering::cache::DiskCacheError;
use strandline_tiering::store::{RemoteStore, StoreError};
use thiserror::Error;

use super::ownership::{OwnershipError, own};
use super::{ColdThreads, Tier, switched_off};
use crate::settings::Settings;

/// The pause between attempts to reach an object store that does not answer at the first start.
const STORE_PAUSE: Duration = Duration::from_millis(500);

/// The reasons for which the cold tier does not open.
#[derive(Debug, Error)]
pub enum OpenTierError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Ownership(#[from] OwnershipError),
    #[error(transparent)]
    Cache(#[from] DiskCacheError),
    #[error("remote.log.storage.system.enable: {0}")]
    TieredTopics(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Opens the cold tier. While the tier has no data, the broker waits for a store that does not answer, and any other
/// error ends the start. Once the tier has data, the broker starts even without the store, because appends and hot
/// reads do not need it.
pub async fn open_tier(
    settings: &Settings,
    config: &BrokerConfig,
    quorum: &Arc<Quorum>,
) -> Result<Option<Arc<Tier>>, OpenTierError> {
    let Some(remote) = &settings.remote else {
        return match switched_off::refusal(&quorum.image()) {
            Some(reason) => Err(OpenTierError::TieredTopics(reason)),
            None => Ok(None),
        };
    };
    let threads = ColdThreads::start()?;
    let url = remote.url.clone();
    let remote = remote.clone();
    let patience = config.number("strandline.remote.store.startup.timeout.ms");
    let patience = Duration::from_millis(patience.max(0) as u64);
    let is_used = quorum.image().remote_logs().next().is_some();
    let quorum = quorum.clone();
    // Connections to the store belong to the threads that opened them.
    let opening = threads.handle().spawn(async move {
        let store = RemoteStore::connect(&remote).await?;
        let prepared = if is_used {
            store.prepare().await
        } else {
            first_answer(&store, patience).await
        };
        let owned = match &prepared {
            Ok(()) => Some(own(&store, &quorum, &remote.url).await),
            Err(_) => None,
        };
        Ok::<_, StoreError>((store, prepared, owned))
    });
    let opened = opening.await.map_err(io::Error::other)?;
    let (store, prepared, owned) = opened?;
    match prepared {
        Err(error) if is_used => {
            tracing::error!(%error, "the object store does not answer; cold reads will fail until it does");
        }
        other => other?,
    }
    let is_owned = match owned {
        Some(Err(error @ OwnershipError::Refused { .. })) => return Err(error.into()),
        Some(Err(error)) if !is_used => return Err(error.into()),
        Some(Err(error)) => {
            tracing::error!(%error, "the owner of the bucket prefix is not known yet; nothing is copied until then");
            false
        }
        Some(Ok(())) => true,
        None => false,
    };
    let tier = Tier::new(store, config, &settings.cache_dir, threads, url)?;
    tier.set_owned(is_owned);
    Ok(Some(Arc::new(tier)))
}

/// Prepares a store that may be started together with this broker.
async fn first_answer(store: &RemoteStore, patience: Duration) -> Result<(), StoreError> {
    let began = Instant::now();
    let mut told = false;
    loop {
        match store.prepare().await {
            Err(error) if error.is_transient() && began.elapsed() < patience => {
                if !told {
                    tracing::warn!(%error, ?patience, "waiting for the object store, which does not answer yet");
                    told = true;
                }
                tokio::time::sleep(STORE_PAUSE).await;
            }
            other => return other,
        }
    }
}
