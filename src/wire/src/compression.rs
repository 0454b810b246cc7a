//! The five codecs of a record batch, streaming, with a limit on the output.
//!
//! Snappy comes in the framing of Java's `snappy-java` (a 16-byte header, then blocks with a four-byte length), and
//! bare from clients that do not frame it. LZ4 and zstd are their standard frame formats.

use std::io::{self, Cursor, Read, Write};

use thiserror::Error;

/// A batch's codec, from the lowest three bits of its attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// Output limit of every decompression. The limit bounds the time that a crafted batch can cost; the codec's window
/// bounds the memory, because the caller consumes the output as it comes.
pub const MAX_DECOMPRESSED_BYTES: u64 = 256 << 20;

/// Largest zstd window that is accepted (2^23 bytes: what levels up to 19 use). A frame can ask for gigabytes.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";
const XERIAL_HEADER_BYTES: usize = 16;

#[derive(Debug, Error)]
pub enum CompressionError {
    #[error("compression codec {0} does not exist")]
    UnknownCodec(u8),
    #[error("the compressed records are corrupt: {0}")]
    Corrupt(#[from] io::Error),
}

impl Compression {
    pub fn from_attributes(attributes: i16) -> Result<Self, CompressionError> {
        match attributes & 0x7 {
            0 => Ok(Self::None),
            1 => Ok(Self::Gzip),
            2 => Ok(Self::Snappy),
            3 => Ok(Self::Lz4),
            4 => Ok(Self::Zstd),
            other => Err(CompressionError::UnknownCodec(other as u8)),
        }
    }

    /// The bits for a batch's attributes.
    pub fn attribute_bits(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// A reader of the decompressed bytes that ends with an error above [`MAX_DECOMPRESSED_BYTES`].
    pub fn reader<'a>(self, compressed: &'a [u8]) -> Result<Box<dyn Read + 'a>, CompressionError> {
        let inner: Box<dyn Read + 'a> = match self {
            Self::None => return Ok(Box::new(compressed)),
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(compressed)),
            Self::Snappy => snappy_reader(compressed)?,
            Self::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(compressed)),
            Self::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(compressed)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Box::new(decoder)
            }
        };
        Ok(Box::new(Capped {
            inner,
            left: MAX_DECOMPRESSED_BYTES,
        }))
    }

    /// Compresses at the codec's default level.
    pub fn compress(self, plain: &[u8]) -> Result<Vec<u8>, CompressionError> {
        match self {
            Self::None => Ok(plain.to_vec()),
            Self::Gzip => {
                let mut encoder =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(plain)?;
                Ok(encoder.finish()?)
            }
            Self::Snappy => snappy_compress(plain),
            Self::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(plain)?;
                encoder
                    .finish()
                    .map_err(|e| CompressionError::Corrupt(io::Error::other(e)))
            }
            Self::Zstd => Ok(zstd::encode_all(plain, zstd::DEFAULT_COMPRESSION_LEVEL)?),
        }
    }
}

struct Capped<'a> {
    inner: Box<dyn Read + 'a>,
    left: u64,
}

impl Read for Capped<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(n as u64).ok_or_else(|| {
            io::Error::other(format!("more than {MAX_DECOMPRESSED_BYTES} bytes come out"))
        })?;
        Ok(n)
    }
}

fn snappy_reader<'a>(compressed: &'a [u8]) -> Result<Box<dyn Read + 'a>, CompressionError> {
    if compressed.starts_with(XERIAL_MAGIC) {
        let blocks = compressed
            .get(XERIAL_HEADER_BYTES..)
            .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        Ok(Box::new(XerialReader {
            blocks,
            block: Cursor::new(Vec::new()),
        }))
    } else {
        Ok(Box::new(Cursor::new(snappy_block(compressed)?)))
    }
}

/// Decompresses one block. The claimed length is trusted only as far as the format can reach it: a copy element of
/// three bytes yields at most 64.
fn snappy_block(compressed: &[u8]) -> io::Result<Vec<u8>> {
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

struct XerialReader<'a> {
    blocks: &'a [u8],
    block: Cursor<Vec<u8>>,
}

impl Read for XerialReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = self.block.read(buffer)?;
            if n > 0 || self.blocks.is_empty() || buffer.is_empty() {
                return Ok(n);
            }
            let truncated = || io::Error::from(io::ErrorKind::UnexpectedEof);
            let (length, rest) = self.blocks.split_first_chunk::<4>().ok_or_else(truncated)?;
            let length = u32::from_be_bytes(*length) as usize;
            let block = rest.get(..length).ok_or_else(truncated)?;
            self.block = Cursor::new(snappy_block(block)?);
            self.blocks = &rest[length..];
        }
    }
}

fn snappy_compress(plain: &[u8]) -> Result<Vec<u8>, CompressionError> {
    const BLOCK_BYTES: usize = 32 << 10;
    let mut out = Vec::from(XERIAL_MAGIC);
    out.extend_from_slice(&1i32.to_be_bytes());
    out.extend_from_slice(&1i32.to_be_bytes());
    for block in plain.chunks(BLOCK_BYTES) {
        let compressed = snap::raw::Encoder::new()
            .compress_vec(block)
            .map_err(io::Error::other)?;
        out.extend_from_slice(&(compressed.len() as u32).to_be_bytes());
        out.extend_from_slice(&compressed);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    fn decompress(codec: Compression, bytes: &[u8]) -> Result<Vec<u8>, CompressionError> {
        let mut out = Vec::new();
        codec.reader(bytes)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn what_is_compressed_comes_back() {
        let plain: Vec<u8> = (0..200_000u32)
            .flat_map(|i| (i / 7).to_le_bytes())
            .collect();
        for codec in ALL {
            let compressed = codec.compress(&plain).unwrap();
            assert_eq!(decompress(codec, &compressed).unwrap(), plain, "{codec:?}");
            assert_eq!(
                Compression::from_attributes(codec.attribute_bits()).unwrap(),
                codec
            );
        }
    }

    #[test]
    fn a_bomb_is_cut_at_the_cap() {
        let zeros = vec![0u8; 1 << 20];
        let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
        for _ in 0..300 {
            encoder.write_all(&zeros).unwrap();
        }
        let bomb = encoder.finish().unwrap();
        assert!(bomb.len() < 100_000);
        let mut reader = Compression::Zstd.reader(&bomb).unwrap();
        let copied = io::copy(&mut reader, &mut io::sink());
        assert!(copied.unwrap_err().to_string().contains("more than"));
    }

    #[test]
    fn damaged_input_is_an_error() {
        for codec in &ALL[1..] {
            let mut compressed = codec.compress(&[7u8; 5000]).unwrap();
            compressed.truncate(compressed.len() / 2);
            assert!(
                decompress(*codec, &compressed).map_or(true, |p| p.len() < 5000),
                "{codec:?}"
            );
        }
        assert!(decompress(Compression::Snappy, &[0xff, 0xff, 0xff, 0xff, 0x0f, 1]).is_err());
    }
}
