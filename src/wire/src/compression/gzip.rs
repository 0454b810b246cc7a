//! gzip as Java's `GZIPInputStream` reads it: members one after the other, and whatever follows the last of them is ignored.

use std::io::{self, Chain, Cursor, Read};

use flate2::bufread::GzDecoder;

/// The flags of a header without a meaning. Java ignores them, and `flate2` refuses them.
const RESERVED: u8 = 0b1110_0000;
const START_BYTES: usize = 4;

/// The start of a header, without those flags, then the other bytes.
type Member<'a> = GzDecoder<Chain<Cursor<[u8; START_BYTES]>, &'a [u8]>>;

fn member(bytes: &[u8]) -> Member<'_> {
    // Fewer bytes are no header, as zeros are none.
    let (start, rest) = match bytes.split_first_chunk::<START_BYTES>() {
        Some(([first, second, method, flags], rest)) => {
            ([*first, *second, *method, flags & !RESERVED], rest)
        }
        None => ([0; START_BYTES], bytes),
    };
    GzDecoder::new(Cursor::new(start).chain(rest))
}

/// Reads all members.
pub struct GzipReader<'a> {
    member: Member<'a>,
    ended: bool,
}

impl<'a> GzipReader<'a> {
    pub fn new(compressed: &'a [u8]) -> Self {
        Self {
            member: member(compressed),
            ended: false,
        }
    }
}

impl Read for GzipReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.ended {
            let n = self.member.read(buffer)?;
            if n > 0 || buffer.is_empty() {
                return Ok(n);
            }
            let (_, rest) = self.member.get_ref().get_ref();
            let next = member(rest);
            if next.header().is_some() {
                self.member = next;
            } else {
                self.ended = true;
            }
        }
        Ok(0)
    }
}
