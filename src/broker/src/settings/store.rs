//! `strandline.remote.store.*`: the place of the cold tier.

use std::path::Path;

use strandline_metadata::config::BrokerConfig;
use strandline_security::Secret;
use strandline_tiering::store::RemoteStoreConfig;

use super::{SettingsError, invalid};

const URL: &str = "strandline.remote.store.url";

/// The store's configuration, if the cold tier is switched on.
pub(super) fn remote_store(
    config: &BrokerConfig,
) -> Result<Option<RemoteStoreConfig>, SettingsError> {
    if !config.boolean("remote.log.storage.system.enable") {
        return Ok(None);
    }
    let text = |key: &str| config.get(key).filter(|v| !v.is_empty());
    let url = text(URL).ok_or_else(|| {
        let reason = "must be set where remote.log.storage.system.enable is true";
        invalid(URL, reason)
    })?;
    let secret = text("strandline.remote.store.secret.access.key").map(Secret::new);
    let store = RemoteStoreConfig {
        url,
        endpoint: text("strandline.remote.store.endpoint"),
        region: text("strandline.remote.store.region"),
        access_key_id: text("strandline.remote.store.access.key.id"),
        secret_access_key: secret,
        create_bucket: config.boolean("strandline.remote.store.create.bucket"),
    };
    store.check().map_err(|error| {
        let line = error.to_string();
        let (property, reason) = line.split_once(": ").unwrap_or((URL, &line));
        invalid(property, reason)
    })?;
    check_directory(&store.url)?;
    Ok(Some(store))
}

/// Refuses a relative directory, which would change with the directory in which the process starts.
fn check_directory(url: &str) -> Result<(), SettingsError> {
    match url.strip_prefix("file://") {
        Some(directory) if !Path::new(directory).is_absolute() => {
            let reason = format!("{url} is relative: use file:///directory");
            Err(invalid(URL, reason))
        }
        _ => Ok(()),
    }
}

/// Refuses memory as a server's store: local segments are deleted once they are copied, so copies must outlive the
/// process.
pub(super) fn check_durable(store: Option<&RemoteStoreConfig>) -> Result<(), SettingsError> {
    match store {
        Some(store) if store.url.starts_with("memory:") => {
            let reason = format!(
                "{} loses what is in the cold tier when the process ends: only `strandline dev` takes it",
                store.url
            );
            Err(invalid(URL, reason))
        }
        _ => Ok(()),
    }
}
