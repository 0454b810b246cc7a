//! Snappy as `snappy-java` reads it: its stream (a header of 16 bytes, then blocks with a length of four bytes each; the header
//! may come again between blocks), and bare from clients that do not frame it.

use std::io::{self, Cursor, Read};

use super::CompressionError;

const MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
const HEADER_BYTES: usize = 16;
/// The version that `snappy-java` writes.
const VERSION: u32 = 1;

pub fn reader<'a>(compressed: &'a [u8]) -> io::Result<Box<dyn Read + 'a>> {
    match after_header(compressed) {
        Some(blocks) => Ok(Box::new(StreamReader {
            blocks,
            block: Cursor::new(Vec::new()),
        })),
        None if compressed.is_empty() => Ok(Box::new(compressed)),
        None => Ok(Box::new(Cursor::new(bare_block(compressed)?))),
    }
}

/// The bytes behind a stream's header; `None` where there is no header. Java reads every version as the first.
fn after_header(bytes: &[u8]) -> Option<&[u8]> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    header.starts_with(MAGIC).then_some(rest)
}

/// Decompresses one block. The claimed length is trusted only as far as the format can reach it: a copy element of
/// three bytes yields at most 64.
fn bare_block(compressed: &[u8]) -> io::Result<Vec<u8>> {
    // A block has a length, of zero perhaps, in front.
    if compressed.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let claimed = snap::raw::decompress_len(compressed).map_err(io::Error::other)?;
    if claimed > compressed.len().saturating_mul(64) {
        return Err(io::Error::other(
            "a snappy block claims more than it can hold",
        ));
    }
    snap::raw::Decoder::new()
        .decompress_vec(compressed)
        .map_err(io::Error::other)
}

struct StreamReader<'a> {
    blocks: &'a [u8],
    block: Cursor<Vec<u8>>,
}

impl Read for StreamReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = self.block.read(buffer)?;
            if n > 0 || buffer.is_empty() {
                return Ok(n);
            }
            // Part of a length at the end is ignored.
            let Some((length, rest)) = self.blocks.split_first_chunk::<4>() else {
                return Ok(0);
            };
            if MAGIC.starts_with(length) {
                let damaged = || io::Error::other("a stream of snappy blocks has a damaged header");
                self.blocks = after_header(self.blocks).ok_or_else(damaged)?;
                continue;
            }
            let length = u32::from_be_bytes(*length) as usize;
            let Some((block, rest)) = rest.split_at_checked(length) else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            self.block = Cursor::new(bare_block(block)?);
            self.blocks = rest;
        }
    }
}

pub fn compress(plain: &[u8]) -> Result<Vec<u8>, CompressionError> {
    const BLOCK_BYTES: usize = 32 << 10;
    let mut out = Vec::from(MAGIC.as_slice());
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&VERSION.to_be_bytes());
    for block in plain.chunks(BLOCK_BYTES) {
        let compressed = snap::raw::Encoder::new()
            .compress_vec(block)
            .map_err(io::Error::other)?;
        out.extend_from_slice(&(compressed.len() as u32).to_be_bytes());
        out.extend_from_slice(&compressed);
    }
    Ok(out)
}
