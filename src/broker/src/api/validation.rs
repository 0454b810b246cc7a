//! Checks a batch of a producer against its topic's settings.

use bytes::Bytes;
use strandline_metadata::config::TopicConfig;
use strandline_wire::batch::{BatchRules, TimestampType, ValidatedBatch, validate_batch};
use strandline_wire::compression::Compression;
use strandline_wire::produce::ProducePartitionResponse;

use super::transactions;
use crate::clock::now_ms;
use crate::partition::Partition;

fn rules(config: &TopicConfig) -> BatchRules {
    let compression = match config.compression_type.as_str() {
        "gzip" => Some(Compression::Gzip),
        "snappy" => Some(Compression::Snappy),
        "lz4" => Some(Compression::Lz4),
        "zstd" => Some(Compression::Zstd),
        "uncompressed" => Some(Compression::None),
        _ => None,
    };
    let timestamp_type = if config.message_timestamp_type == "LogAppendTime" {
        TimestampType::LogAppendTime
    } else {
        TimestampType::CreateTime
    };
    BatchRules {
        max_message_bytes: config.max_message_bytes.max(0) as usize,
        compacted: config.cleanup_policy.compact,
        timestamp_type,
        timestamp_before_max_ms: config.message_timestamp_before_max_ms,
        timestamp_after_max_ms: config.message_timestamp_after_max_ms,
        compression,
    }
}

pub(super) fn validate(
    partition: &Partition,
    records: &Bytes,
) -> Result<ValidatedBatch, Box<ProducePartitionResponse>> {
    let fail =
        |code, message: String| Box::new(ProducePartitionResponse::error(0, code, Some(message)));
    let batch =
        validate_batch(records, &rules(&partition.config()), now_ms()).map_err(|error| {
            let mut failed = fail(error.code(), error.to_string());
            failed.record_errors = error
                .faults()
                .iter()
                .map(|fault| (fault.index, fault.reason.to_string()))
                .collect();
            failed.log_start_offset = partition.view().log_start_offset;
            failed
        })?;
    if batch.header.is_transactional() {
        return Err(fail(transactions::REFUSED, transactions::REASON.into()));
    }
    Ok(batch)
}
