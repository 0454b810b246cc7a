//! `strandline check CONFIG`: every effective value with its source, and whether the bucket answers.

use std::path::Path;

use strandline_broker::settings::{Properties, PropertySource, Settings};
use strandline_broker::{check_founding, cluster_of};
use strandline_metadata::config::{BrokerConfig, ConfigSource};
use strandline_tiering::cache::DiskCache;
use strandline_tiering::marker::read_marker;
use strandline_tiering::store::RemoteStore;

/// With `strict`, a property that has no effect is an error.
pub async fn run(config: &Path, overrides: &[String], strict: bool) -> Result<(), String> {
    let overrides = super::parse_overrides(overrides)?;
    let properties = Properties::load(Some(config), super::environment(), &overrides)
        .map_err(|e| e.to_string())?;
    let settings = Settings::resolve(&properties).map_err(|e| e.to_string())?;
    print_values(&properties);
    for directory in &settings.log_dirs {
        check_directory(directory)?;
    }
    check_founding(&settings)?;
    match &settings.remote {
        None => println!("cold tier: off (remote.log.storage.system.enable)"),
        Some(remote) => {
            if broker_config(&properties).number("strandline.remote.cache.bytes") > 0 {
                DiskCache::check(&settings.cache_dir).map_err(|e| e.to_string())?;
            }
            let store = RemoteStore::connect(remote)
                .await
                .map_err(|e| e.to_string())?;
            store.prepare().await.map_err(|e| e.to_string())?;
            println!(
                "cold tier: {} answers put, get, ranged get, list and delete",
                store.place()
            );
            check_owner(&store, &settings).await?;
        }
    }
    // At the end, where they are seen: there are hundreds of values.
    for warning in &properties.warnings {
        println!("warning: {warning}");
    }
    let count = properties.warnings.len();
    match count {
        0 => println!("ok"),
        _ if strict => return Err(format!("{count} properties have no effect (--strict)")),
        _ => println!("ok, but {count} properties have no effect"),
    }
    Ok(())
}

/// Reports the owner of the prefix, and whether the log directories belong to the same cluster.
async fn check_owner(store: &RemoteStore, settings: &Settings) -> Result<(), String> {
    let marker = read_marker(store).await.map_err(|e| e.to_string())?;
    let Some(marker) = marker else {
        println!("cold tier: no cluster has marked the prefix as its own yet");
        return Ok(());
    };
    match cluster_of(settings) {
        Some(own) if own != marker.cluster_id => Err(format!(
            "strandline.remote.store.url: {}: it belongs to cluster {}, not to {own}",
            store.place(),
            marker.cluster_id
        )),
        _ => {
            println!(
                "cold tier: the prefix belongs to cluster {} (store {})",
                marker.cluster_id, marker.store_id
            );
            Ok(())
        }
    }
}

fn broker_config(properties: &Properties) -> BrokerConfig {
    BrokerConfig {
        file: properties.to_map(),
        ..BrokerConfig::default()
    }
}

fn print_values(properties: &Properties) {
    for entry in broker_config(properties).describe_all() {
        let source = match properties.values.get(&entry.def.name) {
            Some((_, PropertySource::File)) => "file",
            Some((_, PropertySource::Environment)) => "environment",
            Some((_, PropertySource::Override)) => "override",
            None if entry.source == ConfigSource::StaticBroker => "file, by another key",
            None => "default",
        };
        let value = match entry.value {
            Some(_) if entry.def.sensitive => "[hidden]".to_owned(),
            Some(value) => value,
            None => "null".to_owned(),
        };
        println!("{}={value} ({source})", entry.def.name);
    }
}

/// A directory that can be written, or could be made.
fn check_directory(directory: &Path) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("log.dirs: {}: {e}", directory.display());
    let existing = directory
        .ancestors()
        .find(|d| d.exists())
        .unwrap_or(Path::new("/"));
    let probe = existing.join(format!(".strandline-check-{}", std::process::id()));
    std::fs::write(&probe, b"probe").map_err(failed)?;
    std::fs::remove_file(&probe).map_err(failed)?;
    println!("log directory: {} can be written", directory.display());
    Ok(())
}
