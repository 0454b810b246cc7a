//! Sweeping: objects at the prefix that no record names. One broker looks for them, on the word of an image that a majority
//! of the quorum has just confirmed.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use strandline_metadata::ClusterImage;
use strandline_tiering::collector::{
    SweepMode, SweepReport, SweepRules, find_orphans, remove_orphans,
};
use strandline_types::RemoteLogSegmentId;

use super::Tier;
use super::ownership::confirmed_image;
use super::passes::TierManager;
use crate::context::BrokerContext;

/// How often orphans are looked for.
pub(super) const SWEEP_INTERVAL: Duration = Duration::from_secs(3600);
const SWEEP_MAX_SHARE: f64 = 0.5;

impl TierManager {
    pub(super) async fn sweep_orphans(&self) {
        match look_for_orphans(&self.context, &self.tier, SweepMode::Delete).await {
            Ok(report) if report.deleted > 0 => {
                tracing::info!(
                    deleted = report.deleted,
                    bytes = report.orphan_bytes,
                    "orphaned objects are gone"
                );
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "orphaned objects were not swept"),
        }
    }
}

/// Finds objects in the bucket that the image does not know, and removes or only reports them. Before it removes any,
/// the sweep asks the quorum twice whether the image is up to date: before it lists and again before it deletes.
pub async fn look_for_orphans(
    context: &BrokerContext,
    tier: &Tier,
    mode: SweepMode,
) -> Result<SweepReport, String> {
    let grace = context
        .config()
        .number("strandline.remote.orphan.grace.ms")
        .max(60_000) as u64;
    let rules = SweepRules {
        mode,
        grace: Duration::from_millis(grace),
        max_share: SWEEP_MAX_SHARE,
    };
    let image = image_for(context, tier, mode).await?;
    let known = known_segments(&image);
    let found = find_orphans(&tier.store, &known, &rules, SystemTime::now()).await;
    let (mut report, orphans) = found.map_err(|e| e.to_string())?;
    if mode == SweepMode::Delete {
        let image = image_for(context, tier, mode).await?;
        let known = known_segments(&image);
        let removed = remove_orphans(&tier.store, orphans, &known).await;
        report.deleted = removed.map_err(|e| e.to_string())?;
    }
    Ok(report)
}

async fn image_for(
    context: &BrokerContext,
    tier: &Tier,
    mode: SweepMode,
) -> Result<Arc<ClusterImage>, String> {
    match mode {
        SweepMode::DryRun => Ok(context.quorum.image()),
        SweepMode::Delete => {
            let confirmed = confirmed_image(&tier.store, &context.quorum, &tier.url).await;
            confirmed.map_err(|e| e.to_string())
        }
    }
}

fn known_segments(image: &ClusterImage) -> HashSet<RemoteLogSegmentId> {
    let logs = image.remote_logs();
    logs.flat_map(|(_, log)| log.segments().map(|s| s.id))
        .collect()
}
