//! The proof that the check and the decoder agree: random bodies of every supported API and version, made from the
//! shapes, pass through `kafka-protocol`'s decoder and encoder and must be accepted whole. Bytes behind them change
//! nothing; a byte less is refused.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestKind};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::check_request;
use super::shape::{Direction, Field, MESSAGES, Type};
use crate::api::{SUPPORTED, codec_version};
use crate::by_topic_id::{BY_ID, decode_offset_commit, decode_offset_fetch};
use crate::fetch::FetchRequest;
use crate::primitive::{DecodeError, Reader, Writer};
use crate::produce::ProduceRequest;

struct Generator {
    rng: StdRng,
    version: i16,
    flexible: bool,
}

impl Generator {
    fn fields(&mut self, fields: &[Field], out: &mut Writer) {
        let (mut tagged, mut plain) = (Vec::new(), Vec::new());
        for field in fields.iter().filter(|f| f.versions.contains(self.version)) {
            match field.tagged {
                Some((versions, tag)) if versions.contains(self.version) => {
                    tagged.push((tag, field));
                }
                _ => plain.push(field),
            }
        }
        for field in plain {
            let nullable = field.nullable.contains(self.version);
            self.value(&field.type_, nullable, out);
        }
        if self.flexible {
            tagged.retain(|_| self.rng.random_bool(0.5));
            tagged.sort_by_key(|(tag, _)| *tag);
            out.unsigned_varint(tagged.len() as u32);
            for (tag, field) in tagged {
                let mut value = Writer::default();
                // A tagged field that holds its default is left out by encoders, so null is not tried here.
                self.value(&field.type_, false, &mut value);
                out.unsigned_varint(tag);
                out.unsigned_varint(value.buffer.len() as u32);
                out.buffer.extend_from_slice(&value.buffer);
            }
        }
    }

    fn value(&mut self, type_: &Type, nullable: bool, out: &mut Writer) {
        let null = nullable && self.rng.random_bool(0.3);
        let length = self.rng.random_range(0..4usize);
        match type_ {
            Type::Fixed(1) => out.i8(self.rng.random_range(0..2)),
            Type::Fixed(width) => (0..*width).for_each(|_| out.buffer.put_u8(self.rng.random())),
            Type::Struct(fields) => {
                if nullable {
                    out.i8(if null { -1 } else { 1 });
                }
                if !null {
                    self.fields(fields, out);
                }
            }
            Type::String => {
                let text = "añb"[..].chars().cycle().take(length).collect::<String>();
                out.nullable_string((!null).then_some(text.as_bytes()), self.flexible);
            }
            Type::Bytes | Type::Array(_) if null => {
                if self.flexible {
                    out.unsigned_varint(0);
                } else {
                    out.i32(-1);
                }
            }
            Type::Bytes => {
                out.array_length(length, self.flexible);
                out.buffer.put_bytes(9, length);
            }
            Type::Array(element) => {
                out.array_length(length, self.flexible);
                (0..length).for_each(|_| self.value(element, false, out));
            }
        }
    }
}

fn random_body(key: ApiKey, version: i16, seed: u64) -> Bytes {
    let message = &MESSAGES[&(key as i16, Direction::Request)];
    let mut generator = Generator {
        rng: StdRng::seed_from_u64(seed),
        version,
        flexible: message.flexible.contains(version),
    };
    let mut writer = Writer::default();
    generator.fields(&message.fields, &mut writer);
    writer.split()
}

/// A body as our own decoders and those of `kafka-protocol` read it.
#[derive(Debug, PartialEq)]
struct Decoded {
    /// The request as our own decoder reads it; only Produce and Fetch have one.
    by_hand: Option<String>,
    /// The body as `kafka-protocol` encodes it again, where the crate can.
    again: Option<Bytes>,
}

/// `kafka-protocol` does not know these versions: our own decoder reads them.
fn is_by_topic_id(key: ApiKey, version: i16) -> bool {
    version == BY_ID && matches!(key, ApiKey::OffsetCommit | ApiKey::OffsetFetch)
}

fn decode_by_topic_id(key: ApiKey, body: &Bytes) -> Result<(Decoded, Bytes), DecodeError> {
    let mut reader = Reader::new(body.clone());
    let request = if key == ApiKey::OffsetCommit {
        format!("{:?}", decode_offset_commit(&mut reader)?)
    } else {
        format!("{:?}", decode_offset_fetch(&mut reader)?)
    };
    reader.skip_tagged_fields()?;
    let decoded = Decoded {
        by_hand: Some(request),
        again: None,
    };
    Ok((decoded, reader.rest()))
}

/// Decodes a body; also returns the bytes behind its last field.
fn decode(key: ApiKey, version: i16, body: &Bytes) -> Result<(Decoded, Bytes), String> {
    if is_by_topic_id(key, version) {
        return decode_by_topic_id(key, body).map_err(|e| e.to_string());
    }
    let by_hand = match key {
        ApiKey::Produce => {
            let request = ProduceRequest::decode(version, body.clone());
            Some(format!("{:?}", request.map_err(|e| e.to_string())?))
        }
        ApiKey::Fetch => {
            let request = FetchRequest::decode(version, body.clone());
            Some(format!("{:?}", request.map_err(|e| e.to_string())?))
        }
        _ => None,
    };
    let version = codec_version(key, version);
    let mut rest = body.clone();
    let request = RequestKind::decode(key, &mut rest, version).map_err(|e| e.to_string())?;
    let mut encoded = BytesMut::new();
    // Some values cannot be encoded in versions that lack their field; in this case only the decoding counts.
    let again = request.encode(&mut encoded, version).is_ok();
    let again = again.then(|| encoded.freeze());
    Ok((Decoded { by_hand, again }, rest))
}

#[test]
fn the_check_and_the_decoder_consume_the_same_bytes_for_every_api_and_version() {
    for api in SUPPORTED {
        for version in api.min..=api.max {
            for seed in 0..60 {
                let what = format!("{:?} version {version} seed {seed}", api.key);
                let body = random_body(api.key, version, seed);
                check_request(api.key as i16, version, &body)
                    .unwrap_or_else(|e| panic!("{what}: {e}"));
                let (decoded, rest) =
                    decode(api.key, version, &body).unwrap_or_else(|e| panic!("{what}: {e}"));
                assert!(rest.is_empty(), "{what}: {} bytes left", rest.len());
                let again = if is_by_topic_id(api.key, version) {
                    Some(body)
                } else {
                    decoded.again
                };
                let encoded = again.unwrap_or_else(|| panic!("{what}: not encoded again"));
                check_request(api.key as i16, version, &encoded)
                    .unwrap_or_else(|e| panic!("{what}, as the crate encodes it: {e}"));
                if !encoded.is_empty() {
                    let shorter = encoded.slice(..encoded.len() - 1);
                    assert!(
                        check_request(api.key as i16, version, &shorter).is_err(),
                        "{what}"
                    );
                }
            }
        }
    }
}

#[test]
fn bytes_behind_the_last_field_change_nothing_for_every_api_and_version() {
    for api in SUPPORTED {
        for version in api.min..=api.max {
            for (seed, behind) in [&[0][..], &[0, 0, 0], &[0xff; 9]].into_iter().enumerate() {
                let what = format!("{:?} version {version}, {behind:?}", api.key);
                let body = random_body(api.key, version, seed as u64);
                let longer = Bytes::from([&body[..], behind].concat());
                check_request(api.key as i16, version, &longer)
                    .unwrap_or_else(|e| panic!("{what}: {e}"));
                let (plain, _) = decode(api.key, version, &body).unwrap();
                let (same, rest) =
                    decode(api.key, version, &longer).unwrap_or_else(|e| panic!("{what}: {e}"));
                assert_eq!(same, plain, "{what}");
                assert_eq!(&rest[..], behind, "{what}");
            }
        }
    }
}

#[test]
fn counts_that_would_abort_the_decoder_are_refused() {
    let metadata = |version, body: &[u8]| {
        check_request(
            ApiKey::Metadata as i16,
            version,
            &Bytes::copy_from_slice(body),
        )
    };
    assert!(metadata(1, &i32::MAX.to_be_bytes()).is_err());
    assert!(metadata(12, &[0xff, 0xff, 0xff, 0xff, 0x0f]).is_err());
    assert!(metadata(12, &[0x80, 0x80, 0x80, 0x80, 0x80, 0x01]).is_err());
}

#[test]
fn mutated_bodies_that_pass_the_check_never_panic_the_decoder() {
    let mut rng = StdRng::seed_from_u64(7);
    for api in SUPPORTED {
        for version in api.min..=api.max {
            for seed in 0..40 {
                let mut body = random_body(api.key, version, seed).to_vec();
                for _ in 0..rng.random_range(0..4) {
                    if !body.is_empty() {
                        let at = rng.random_range(0..body.len());
                        body[at] = rng.random();
                    }
                }
                let body = Bytes::from(body);
                if check_request(api.key as i16, version, &body).is_ok() {
                    let _ = decode(api.key, version, &body);
                }
            }
        }
    }
}
