//! Frames with every request: header, bounds check, then the decoder that would see them.
//!
//! `cargo +nightly fuzz run frame -- -runs=20000000 -rss_limit_mb=512 -timeout=2`
#![no_main]

use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, RequestKind};
use libfuzzer_sys::fuzz_target;
use strandline_wire::api::{SUPPORTED, codec_version};
use strandline_wire::fetch::FetchRequest;
use strandline_wire::frame::RequestFrame;
use strandline_wire::produce::ProduceRequest;
use strandline_wire::schema::check_request;

fuzz_target!(|data: &[u8]| {
    // As it comes off the wire.
    if let Ok(frame) = RequestFrame::decode(Bytes::copy_from_slice(data)) {
        decode(frame.api_key, frame.api_version, frame.body);
    }
    // And as the body of an API and version that the first bytes choose.
    if let [api, version, body @ ..] = data {
        let api = SUPPORTED[*api as usize % SUPPORTED.len()];
        let version = api.min + i16::from(*version) % (api.max - api.min + 1);
        decode(api.key as i16, version, Bytes::copy_from_slice(body));
    }
});

fn decode(api_key: i16, version: i16, mut body: Bytes) {
    let Ok(key) = ApiKey::try_from(api_key) else { return };
    match key {
        ApiKey::Produce if (3..=13).contains(&version) => drop(ProduceRequest::decode(version, body)),
        ApiKey::Fetch if (4..=18).contains(&version) => drop(FetchRequest::decode(version, body)),
        _ if check_request(api_key, version, &body).is_ok() => {
            drop(RequestKind::decode(key, &mut body, codec_version(key, version)));
        }
        _ => {}
    }
}
