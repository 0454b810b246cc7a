//! Walks the batches of a segment while it is copied: checks the CRC, the order of offsets and that the last batch is
//! whole, and hands each batch to [`Sections`].

use strandline_tiering::upload::{SegmentCheck, Walked};
use strandline_wire::batch::{BATCH_HEADER_BYTES, BatchHeader, verify_crc};

use super::sections::{Claimed, Sections};

/// Walks batches across the runs that an uploader reads.
pub struct BatchCheck {
    next_offset: i64,
    position: u64,
    /// The front of a batch whose end has not been read yet.
    open: Vec<u8>,
    sections: Sections,
}

impl BatchCheck {
    pub fn new(claimed: Claimed) -> Self {
        Self {
            next_offset: claimed.base_offset,
            position: 0,
            open: Vec::new(),
            sections: Sections::new(claimed),
        }
    }

    /// Checks the batch at the front of `bytes`, if all of it is there; returns its length.
    fn front(&mut self, bytes: &[u8]) -> Result<Option<usize>, (u64, String)> {
        if bytes.len() < BATCH_HEADER_BYTES {
            return Ok(None);
        }
        let header = BatchHeader::decode(bytes).map_err(|e| (self.position, e.to_string()))?;
        let Some(batch) = bytes.get(..header.size()) else {
            return Ok(None);
        };
        verify_crc(&header, batch).map_err(|e| (self.position, e.to_string()))?;
        if header.base_offset < self.next_offset {
            let reason = format!("offset {} follows {}", header.base_offset, self.next_offset);
            return Err((self.position, reason));
        }
        self.sections.note(&header, self.position);
        self.next_offset = header.end_offset();
        self.position += header.size() as u64;
        Ok(Some(header.size()))
    }
}

impl SegmentCheck for BatchCheck {
    fn check(&mut self, mut bytes: &[u8]) -> Result<(), (u64, String)> {
        if !self.open.is_empty() {
            // Take the missing bytes of the open batch, header first.
            let mut open = std::mem::take(&mut self.open);
            loop {
                let wanted = match BatchHeader::decode(&open) {
                    Ok(header) => header.size(),
                    Err(_) if open.len() < BATCH_HEADER_BYTES => BATCH_HEADER_BYTES,
                    Err(error) => return Err((self.position, error.to_string())),
                };
                let missing = wanted.saturating_sub(open.len()).min(bytes.len());
                open.extend_from_slice(bytes.get(..missing).unwrap_or_default());
                bytes = bytes.get(missing..).unwrap_or_default();
                if self.front(&open)?.is_some() {
                    break;
                }
                if bytes.is_empty() {
                    self.open = open;
                    return Ok(());
                }
            }
        }
        while let Some(length) = self.front(bytes)? {
            bytes = bytes.get(length..).unwrap_or_default();
        }
        self.open = bytes.to_vec();
        Ok(())
    }

    fn finish(&mut self) -> Result<Walked, (u64, String)> {
        if self.open.is_empty() {
            Ok(self.sections.finish())
        } else {
            Err((
                self.position,
                format!("{} bytes at the end are no whole batch", self.open.len()),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use strandline_wire::batch::{BatchBuilder, RecordToWrite, patch_for_append};
    use strandline_wire::compression::Compression;

    use super::*;

    fn segment(batches: i64) -> Vec<u8> {
        let mut all = Vec::new();
        for base in 0..batches {
            let mut builder = BatchBuilder::new(Compression::None);
            let value = Some(Bytes::from(vec![1; 50 + base as usize * 13]));
            builder.push(&RecordToWrite {
                timestamp: 1,
                key: None,
                value,
                headers: vec![],
            });
            let batch = builder.build();
            let header = BatchHeader::decode(&batch).unwrap();
            all.extend_from_slice(&patch_for_append(&header, base, 0));
            all.extend_from_slice(&batch[16..]);
        }
        all
    }

    fn check(bytes: &[u8], run: usize) -> Result<Walked, (u64, String)> {
        let mut check = BatchCheck::new(Claimed {
            end_offset: 20,
            index_interval_bytes: 200,
            ..Claimed::default()
        });
        for run in bytes.chunks(run) {
            check.check(run)?;
        }
        check.finish()
    }

    #[test]
    fn batches_are_checked_however_the_runs_cut_them() {
        let good = segment(20);
        for run in [1, 7, 60, 61, 62, 100, 1000, 100_000] {
            assert_eq!(check(&good, run), check(&good, good.len()), "{run}");
            assert!(check(&good, run).is_ok());
            assert!(check(&good[..good.len() - 1], run).is_err());
            let mut bad = good.clone();
            bad[good.len() / 2] ^= 1;
            assert!(check(&bad, run).is_err());
        }
    }
}
