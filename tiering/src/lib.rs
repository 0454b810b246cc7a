//! The cold tier: the plan of copies and deletions ([`planner`]), the upload of segments ([`upload`]), reads
//! ([`reader`], [`cache`]), and the sweep of orphaned objects ([`collector`]).
//!
//! An object is readable if and only if the quorum says `CopySegmentFinished`; this crate neither knows the quorum nor
//! the log. Callers pass paths, offsets and metadata, and get bytes, checksums and plans.

mod address;
pub mod cache;
mod chunk_checksums;
pub mod collector;
mod credentials;
pub mod keys;
pub mod lineage;
pub mod marker;
pub mod meter;
pub mod planner;
pub mod reader;
pub mod side;
pub mod store;
pub mod throttle;
pub mod upload;

/// CRC-32C, as it stands in metadata, side objects and the disk cache.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}
