//! Record batch v2 (KIP-98): a view of the header, validation without copying, a walk over records, and a builder.

mod builder;
mod faults;
mod header;
mod record;
mod validate;

pub use builder::{BatchBuilder, RecordToWrite};
pub use faults::{FaultReason, MAX_LISTED_FAULT_BYTES, RecordFault, RecordFaults};
pub use header::{
    BATCH_HEADER_BYTES, BatchHeader, HeaderError, TimestampType, increment_sequence,
    patch_for_append,
};
pub use record::{Record, RecordError, RecordHeader, Records, read_varint, read_varlong};
pub use validate::{
    BatchError, BatchRules, ValidatedBatch, split_batches, validate_batch, verify_crc,
};

/// CRC-32C as Kafka uses it (Castagnoli).
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}
