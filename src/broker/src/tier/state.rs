//! The state that a log needs if it begins behind the cold tier: the lineage of earlier records, and their producers.

use std::sync::Arc;

use strandline_log::{ProducerState, decode_leader_epochs, decode_snapshot};
use strandline_metadata::RemoteLogImage;
use strandline_tiering::lineage::lineage_of;
use strandline_types::{EpochStart, Offset};

use super::Tier;

/// Lineage and producers as of an offset.
pub type RemoteState = (Vec<EpochStart>, ProducerState);

/// Reads them from the side object of the segment that holds the offset before `offset`.
pub async fn state_at(
    tier: &Arc<Tier>,
    log: &RemoteLogImage,
    offset: Offset,
) -> Result<RemoteState, String> {
    let before = offset - 1;
    let segment = log.segment_for(before).cloned();
    let segment = segment.ok_or_else(|| format!("no remote segment holds offset {before}"))?;
    let known = lineage_of(log.readable());
    if segment.is_gap() {
        return Ok((known, ProducerState::default()));
    }
    let (reader, end) = (tier.clone(), segment.end_offset);
    let reading = async move { reader.reader.state_at_end(&segment).await };
    // Connections to the store belong to the threads that opened them.
    let (lineage, snapshot) = tier
        .threads
        .handle()
        .spawn(reading)
        .await
        .map_err(|e| e.to_string())?
        .map_err(|e| e.to_string())?;
    // A side object without a lineage is one of a leader that had lost its own.
    let lineage = decode_leader_epochs(&lineage).filter(|lineage| !lineage.is_empty());
    let mut lineage = lineage.unwrap_or(known);
    lineage.retain(|entry| entry.start_offset < end);
    let mut producers = decode_snapshot(&snapshot).unwrap_or_else(|| {
        // A segment without producers has no snapshot.
        if !snapshot.is_empty() {
            tracing::warn!(
                offset,
                "the producers in a side object are damaged: none of them is known"
            );
        }
        ProducerState::default()
    });
    // The segment may have been shortened since it was copied.
    producers.truncate_from_end(end);
    Ok((lineage, producers))
}
