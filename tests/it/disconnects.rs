//! The broker logs each connection that it closes, at the default level: peer, API, version, reason.

use std::net::SocketAddr;
use std::time::Duration;

use strandline_tests::{TestBroker, TestCluster, logged};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// The first bytes that either side of a link of the quorum sends.
const PREFACE: &[u8] = b"STRLINE1";

/// A frame with a header of version 1 and this body.
fn frame(api_key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let length = 10 + body.len() as i32;
    let mut out = length.to_be_bytes().to_vec();
    out.extend(api_key.to_be_bytes());
    out.extend(version.to_be_bytes());
    out.extend(7i32.to_be_bytes());
    out.extend((-1i16).to_be_bytes());
    out.extend_from_slice(body);
    out
}

/// Sends bytes and waits for the end of the connection; returns the client's side of it.
async fn disconnected_by(address: &str, bytes: &[u8]) -> SocketAddr {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let own = stream.local_addr().unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut answer));
    // A reset is an end as well: bytes were left unread.
    let _ = ended.await.expect("the broker closes the connection");
    // A controller first sends the preface of its protocol.
    let answer = answer.strip_prefix(PREFACE).unwrap_or(&answer);
    assert!(answer.is_empty(), "no answer is sent: {answer:?}");
    own
}

/// The one line about a peer.
async fn line_about(peer: SocketAddr) -> String {
    let part = format!("peer={peer} ");
    let lines = eventually("the log names the peer", || async {
        let lines = logged(&[" closes a ", &part]);
        (!lines.is_empty()).then_some(lines)
    })
    .await;
    assert_eq!(lines.len(), 1, "{lines:#?}");
    lines[0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_names_peer_api_version_and_reason_of_every_cause() {
    let mut broker = TestBroker::start(&[]).await;
    // A produce with acks=0 to a topic that is not there: version 3, no transactional id, one topic, one partition.
    let mut produce = vec![0xff, 0xff, 0, 0, 0, 0, 0, 1];
    produce.extend([0, 0, 0, 1, 0, 1, b'x', 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    let too_large = (100_i32 * 1024 * 1024 + 1).to_be_bytes().to_vec();
    let cases: [(Vec<u8>, &[&str]); 7] = [
        (
            frame(999, 5, &[]),
            &["api=999", "version=5", "cause=\"unsupported\""],
        ),
        (
            frame(3, 99, &[]),
            &["api=Metadata", "version=99", "not supported"],
        ),
        (
            frame(0, 2, &[]),
            &["api=Produce", "version=2", "not supported"],
        ),
        (
            frame(3, 1, &[0x7f, 0, 0, 0]),
            &["api=Metadata", "version=1", "larger than what remains"],
        ),
        (frame(1, 4, &[]), &["api=Fetch", "version=4", "ends before"]),
        (
            frame(0, 3, &produce),
            &["api=Produce", "version=3", "x, partition 0"],
        ),
        (
            too_large,
            &["socket.request.max.bytes", "cause=\"frame-size\""],
        ),
    ];
    for (bytes, parts) in &cases {
        let peer = disconnected_by(&broker.address(), bytes).await;
        let line = line_about(peer).await;
        assert!(line.contains(" WARN "), "{line}");
        for part in *parts {
            assert!(line.contains(part), "{part}: {line}");
        }
    }
    let page = broker.http_get("/metrics").await;
    let counted = "strandline_connections_closed_total{cause=\"unsupported\"} 3";
    assert!(page.contains(counted), "{page}");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_names_idle_and_surplus_connections_and_says_how_many_end_with_the_broker() {
    let mut broker = TestBroker::start(&[("connections.max.idle.ms", "300")]).await;
    let idle = disconnected_by(&broker.address(), &[]).await;
    let line = line_about(idle).await;
    assert!(
        line.contains(" INFO ") && line.contains("connections.max.idle.ms"),
        "{line}"
    );
    broker.stop().await;

    let mut broker = TestBroker::start(&[("max.connections.per.ip", "1")]).await;
    let kept = TcpStream::connect(broker.address()).await.unwrap();
    let surplus = disconnected_by(&broker.address(), &[]).await;
    let line = line_about(surplus).await;
    assert!(line.contains("max.connections.per.ip"), "{line}");
    drop(kept);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_bad_requests_is_counted_whole_and_logged_in_part() {
    let mut broker = TestBroker::start(&[]).await;
    let mut peers = Vec::new();
    for _ in 0..60 {
        peers.push(disconnected_by(&broker.address(), &frame(3, 77, &[])).await);
    }
    let counted = "strandline_connections_closed_total{cause=\"unsupported\"} 60";
    let page = broker.http_get("/metrics").await;
    assert!(page.contains(counted), "{page}");
    let about = |peer: &SocketAddr| logged(&[&format!("peer={peer} "), "version=77"]).len();
    let lines: usize = peers.iter().map(about).sum();
    // Ten a minute; a slow machine may see another minute begin.
    assert!((10..60).contains(&lines), "{lines} lines");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_names_peers_whose_links_to_a_controller_are_closed() {
    let mut cluster = TestCluster::start(1, &[]).await;
    let framed = |bytes: &[u8]| [PREFACE, &(bytes.len() as u32).to_le_bytes(), bytes].concat();
    let cases = [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "does not speak"),
        ([PREFACE, &[0xff; 4]].concat(), "too large"),
        (framed(&[0xee; 9]), "link of the quorum"),
    ];
    for (bytes, part) in &cases {
        let peer = disconnected_by(&cluster.controller_address(1), bytes).await;
        let line = line_about(peer).await;
        assert!(line.contains(" WARN ") && line.contains(part), "{line}");
    }
    cluster.stop_all().await;
}
