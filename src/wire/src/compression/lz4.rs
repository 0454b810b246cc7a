//! LZ4 frames as Kafka's Java client reads them: blocks that do not depend on each other, an end mark, and one frame; whatever
//! follows is ignored. Linked blocks, dictionaries, and the legacy frame are refused, because no Java consumer could
//! read them. As in Kafka, a checksum of the content must be there where it is announced, and is not compared.

use std::io::{self, Read};

use twox_hash::XxHash32;

const MAGIC: [u8; 4] = 0x184D_2204u32.to_le_bytes();
const VERSION: u8 = 1;
/// The topmost bit of a block's length: the block holds its bytes as they are.
const UNCOMPRESSED: u32 = 1 << 31;

/// The two bytes that describe a frame.
struct Descriptor {
    block_checksums: bool,
    content_size: bool,
    content_checksum: bool,
    most_block_bytes: usize,
}

impl Descriptor {
    fn parse(flags: u8, sizes: u8) -> io::Result<Self> {
        let refuse = |reason| Err(io::Error::other(reason));
        if flags >> 6 != VERSION {
            return refuse("an lz4 frame of an unknown version");
        }
        if flags & 0b11 != 0 || sizes & 0b1000_1111 != 0 {
            return refuse("an lz4 frame with a dictionary or with reserved bits");
        }
        if flags & 1 << 5 == 0 {
            return refuse("an lz4 frame of linked blocks");
        }
        let most_block_bytes = match sizes >> 4 {
            4 => 64 << 10,
            5 => 256 << 10,
            6 => 1 << 20,
            7 => 4 << 20,
            _ => return refuse("an lz4 frame without a size of blocks"),
        };
        Ok(Self {
            block_checksums: flags & 1 << 4 != 0,
            content_size: flags & 1 << 3 != 0,
            content_checksum: flags & 1 << 2 != 0,
            most_block_bytes,
        })
    }
}

/// Reads one frame. Holds one block, of at most four mebibytes.
pub struct Lz4Reader<'a> {
    rest: &'a [u8],
    descriptor: Descriptor,
    block: Vec<u8>,
    position: usize,
    ended: bool,
}

impl<'a> Lz4Reader<'a> {
    pub fn new(compressed: &'a [u8]) -> io::Result<Self> {
        let mut rest = compressed;
        if take::<4>(&mut rest)? != MAGIC {
            return Err(io::Error::other("no lz4 frame"));
        }
        let described = rest;
        let [flags, sizes] = take::<2>(&mut rest)?;
        let descriptor = Descriptor::parse(flags, sizes)?;
        if descriptor.content_size {
            take::<8>(&mut rest)?;
        }
        let described = described
            .get(..described.len() - rest.len())
            .unwrap_or_default();
        let [checksum] = take::<1>(&mut rest)?;
        if checksum != (XxHash32::oneshot(0, described) >> 8) as u8 {
            return Err(io::Error::other(
                "the checksum of an lz4 frame's header is wrong",
            ));
        }
        Ok(Self {
            rest,
            descriptor,
            block: Vec::new(),
            position: 0,
            ended: false,
        })
    }

    fn next_block(&mut self) -> io::Result<()> {
        self.position = 0;
        self.block.clear();
        let length = u32::from_le_bytes(take(&mut self.rest)?);
        let (stored, length) = (length & UNCOMPRESSED != 0, length & !UNCOMPRESSED);
        if length == 0 {
            self.ended = true;
            if self.descriptor.content_checksum {
                take::<4>(&mut self.rest)?;
            }
            return Ok(());
        }
        let most = self.descriptor.most_block_bytes;
        if length as usize > most {
            return Err(io::Error::other(
                "an lz4 block is larger than its frame says",
            ));
        }
        let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let block = self.rest.split_at_checked(length as usize);
        let (block, rest) = block.ok_or_else(cut)?;
        self.rest = rest;
        if stored {
            self.block.extend_from_slice(block);
        } else {
            self.block.resize(most, 0);
            let written = lz4_flex::block::decompress_into(block, &mut self.block);
            self.block.truncate(written.map_err(io::Error::other)?);
        }
        if self.descriptor.block_checksums {
            let checksum = u32::from_le_bytes(take(&mut self.rest)?);
            if checksum != XxHash32::oneshot(0, block) {
                return Err(io::Error::other("the checksum of an lz4 block is wrong"));
            }
        }
        Ok(())
    }
}

impl Read for Lz4Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut left = self.block.get(self.position..).unwrap_or_default();
            let n = left.read(buffer)?;
            self.position += n;
            if n > 0 || buffer.is_empty() || self.ended {
                return Ok(n);
            }
            self.next_block()?;
        }
    }
}

/// The first bytes of `rest`, which begins behind them afterwards.
fn take<const N: usize>(rest: &mut &[u8]) -> io::Result<[u8; N]> {
    let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let (taken, behind) = rest.split_first_chunk().ok_or_else(cut)?;
    *rest = behind;
    Ok(*taken)
}
