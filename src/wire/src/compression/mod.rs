//! The five codecs of a record batch, streaming, with a limit on the output.
//!
//! A broker must take exactly the forms that Java's consumers can read: what it takes beside them kills every Java consumer
//! of the topic, and what it refuses loses a producer. `tests/golden/compressed/batches.jsonl` has Kafka's verdict on each form.

mod gzip;
mod lz4;
mod snappy;

use std::io::{self, Read, Write};

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

/// Largest zstd window that is accepted: 128 MiB, which level 22 uses and Java's decoder allows. A frame can ask for
/// gigabytes. Half of [`MAX_DECOMPRESSED_BYTES`], so the memory of a window is bounded by what may come out anyway.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

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
            Self::Gzip => Box::new(gzip::GzipReader::new(compressed)),
            Self::Snappy => snappy::reader(compressed)?,
            Self::Lz4 => Box::new(lz4::Lz4Reader::new(compressed)?),
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
            Self::Snappy => snappy::compress(plain),
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
