//! Frames recorded from Apache Kafka 4.3.1: its requests pass our check and decoders, its responses have the shape that
//! the schema gives, and so have our own answers to the same requests.

mod compressed;

use std::collections::BTreeSet;

use bytes::{Buf, Bytes};
use strandline_tests::TestBroker;
use strandline_tests::golden::{GoldenFrame, frames};
use strandline_wire::ApiKey;
use strandline_wire::api::supported;
use strandline_wire::fetch::FetchRequest;
use strandline_wire::frame::RequestFrame;
use strandline_wire::produce::ProduceRequest;
use strandline_wire::schema::{check_request, check_response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn is_supported(frame: &GoldenFrame) -> bool {
    supported(frame.api_key).is_some_and(|api| (api.min..=api.max).contains(&frame.version))
}

/// A response without its size prefix and header.
fn body(api_key: i16, version: i16, mut response: Bytes) -> Bytes {
    let key = ApiKey::try_from(api_key).expect("a known API");
    response.advance(4);
    if key.response_header_version(version) >= 1 {
        assert_eq!(response.get_u8(), 0, "no tagged fields in the header");
    }
    response
}

#[test]
fn recorded_requests_of_every_api_pass_the_check_and_our_decoders() {
    let mut apis = BTreeSet::new();
    let frames = frames();
    assert_eq!(frames.len(), 748);
    for frame in &frames {
        if ApiKey::try_from(frame.api_key).is_err() {
            continue;
        }
        let what = format!(
            "API {} version {} of {}: {}",
            frame.api_key, frame.version, frame.client, frame.variant
        );
        let request =
            RequestFrame::decode(frame.request.clone()).unwrap_or_else(|e| panic!("{what}: {e}"));
        let Ok(()) = check_request(frame.api_key, frame.version, &request.body) else {
            assert!(frame.api_key == 18 && frame.version > 4, "{what}: refused");
            continue;
        };
        match ApiKey::try_from(frame.api_key) {
            Ok(ApiKey::Produce) => {
                drop(ProduceRequest::decode(frame.version, request.body).unwrap());
            }
            Ok(ApiKey::Fetch) => drop(FetchRequest::decode(frame.version, request.body).unwrap()),
            _ => {}
        }
        apis.insert(frame.api_key);
    }
    assert!(apis.len() >= 80, "{} APIs", apis.len());
}

#[test]
fn recorded_responses_have_the_shape_that_the_schema_gives() {
    let mut checked = 0;
    for frame in frames() {
        if ApiKey::try_from(frame.api_key).is_err() || (frame.api_key == 18 && frame.version > 4) {
            continue;
        }
        let response = body(frame.api_key, frame.version, frame.response.slice(4..));
        check_response(frame.api_key, frame.version, &response).unwrap_or_else(|e| {
            panic!(
                "API {} version {} of {}: {e}",
                frame.api_key, frame.version, frame.client
            )
        });
        checked += 1;
    }
    assert!(checked > 730, "{checked}");
}

/// Sends a recorded request unchanged and reads our answer; `None` if the broker closed the connection.
async fn exchange(address: &str, request: &[u8]) -> Option<Bytes> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_i32(request.len() as i32).await.unwrap();
    stream.write_all(request).await.unwrap();
    let length = stream.read_i32().await.ok()?;
    let mut response = vec![0; length as usize];
    stream.read_exact(&mut response).await.unwrap();
    Some(response.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn our_answers_to_recorded_requests_have_the_shape_that_the_schema_gives() {
    let mut broker = TestBroker::start(&[
        ("group.max.session.timeout.ms", "2000"),
        ("group.min.session.timeout.ms", "1"),
    ])
    .await;
    let address = broker.address();
    let mut answered: BTreeSet<(i16, i16)> = BTreeSet::new();
    let mut wrong = Vec::new();
    for frame in frames().into_iter().filter(is_supported) {
        let acks_none = frame.api_key == 0 && frame.variant.contains("acks=0");
        // Group requests of other members may wait for a rebalance; a second is enough for those that do not.
        let answer = tokio::time::timeout(
            std::time::Duration::from_secs(4),
            exchange(&address, &frame.request),
        )
        .await;
        let what = format!(
            "API {} version {} of {}: {}",
            frame.api_key, frame.version, frame.client, frame.variant
        );
        match answer {
            Err(_) => assert!(
                acks_none || (11..=14).contains(&frame.api_key),
                "{what}: no answer"
            ),
            Ok(None) => wrong.push(format!("{what}: closed")),
            Ok(Some(response)) => {
                let response = body(frame.api_key, frame.version, response);
                match check_response(frame.api_key, frame.version, &response) {
                    Ok(()) => drop(answered.insert((frame.api_key, frame.version))),
                    Err(error) => wrong.push(format!("{what}: {error}")),
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} answers:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(
        answered.len() >= 130,
        "{} of the API versions were answered",
        answered.len()
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_api_versions_is_answered_with_error_35_in_version_0() {
    let mut broker = TestBroker::start(&[]).await;
    let newer = frames()
        .into_iter()
        .filter(|f| f.api_key == 18 && f.version > 4);
    for frame in newer {
        let response = exchange(&broker.address(), &frame.request).await.unwrap();
        let answer = body(18, 0, response);
        check_response(18, 0, &answer).unwrap();
        assert_eq!(&answer[..2], 35i16.to_be_bytes());
    }
    broker.stop().await;
}
