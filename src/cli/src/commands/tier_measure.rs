//! `strandline tier measure CONFIG`: how fast the bucket gives, without a broker. Reads the segments that are there by
//! parallel ranged GETs of a chunk each and drops the bytes: the most that a cold read can reach on this machine.

use std::path::Path;
use std::time::Instant;

use futures::{StreamExt, TryStreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use object_store::ObjectStoreExt;
use strandline_broker::settings::{Properties, Settings};
use strandline_metadata::config::BrokerConfig;
use strandline_tiering::keys::ObjectKind;
use strandline_tiering::store::RemoteStore;

pub async fn run(
    config: &Path,
    overrides: &[String],
    concurrency: usize,
    json: bool,
) -> Result<(), String> {
    let overrides = super::parse_overrides(overrides)?;
    let properties = Properties::load(Some(config), super::environment(), &overrides)
        .map_err(|e| e.to_string())?;
    let settings = Settings::resolve(&properties).map_err(|e| e.to_string())?;
    let remote = settings
        .remote
        .ok_or("no cold tier is configured (remote.log.storage.system.enable)")?;
    let values = BrokerConfig {
        file: properties.to_map(),
        ..BrokerConfig::default()
    };
    let chunk_bytes = values.number("strandline.remote.chunk.bytes").max(1) as u64;
    let store = RemoteStore::connect(&remote)
        .await
        .map_err(|e| e.to_string())?;
    let objects: Vec<_> = store
        .reads
        .list(Some(&store.keys.all_segments()))
        .try_filter(|object| {
            let key = store.keys.parse(&object.location);
            std::future::ready(key.is_some_and(|k| k.kind == ObjectKind::Log))
        })
        .try_collect()
        .await
        .map_err(|e| e.to_string())?;
    let total: u64 = objects.iter().map(|o| o.size).sum();
    if total == 0 {
        return Err(format!("{} holds no segments", store.place()));
    }
    let style =
        ProgressStyle::with_template("{msg:<28} {bar:32} {bytes}/{total_bytes} {bytes_per_sec}")
            .expect("the template is valid");
    let progress = ProgressBar::new(total)
        .with_style(style)
        .with_message("ranged GETs");
    let ranges = objects.into_iter().flat_map(|object| {
        (0..object.size.div_ceil(chunk_bytes)).map(move |chunk| {
            let start = chunk * chunk_bytes;
            let end = (start + chunk_bytes).min(object.size);
            (object.location.clone(), start..end)
        })
    });
    let begun = Instant::now();
    let requests = stream::iter(ranges)
        .map(|(key, range)| {
            let store = &store;
            async move { store.reads.get_range(&key, range).await }
        })
        .buffer_unordered(concurrency.max(1))
        .try_fold(0u64, |requests, bytes| {
            progress.inc(bytes.len() as u64);
            std::future::ready(Ok(requests + 1))
        })
        .await
        .map_err(|e| e.to_string())?;
    let seconds = begun.elapsed().as_secs_f64();
    progress.finish_and_clear();
    let megabytes_per_second = total as f64 / 1e6 / seconds;
    if json {
        let figures = serde_json::json!({
            "bytes": total, "requests": requests, "seconds": seconds, "mb_per_s": megabytes_per_second,
        });
        println!("{figures}");
    } else {
        println!(
            "{total} bytes in {requests} GETs of at most {chunk_bytes} bytes, {concurrency} at a time: {megabytes_per_second:.0} MB/s"
        );
    }
    Ok(())
}
