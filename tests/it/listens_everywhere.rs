//! A listener without a host takes clients of IPv6 and of IPv4, as in Java.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_without_a_host_takes_both_families() {
    let everywhere = [
        ("listeners", "PLAINTEXT://:0"),
        ("advertised.listeners", "PLAINTEXT://localhost:9092"),
    ];
    let mut broker = TestBroker::start(&everywhere).await;
    let bound: SocketAddr = broker.address().parse().unwrap();
    let mut addresses = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, bound.port()))];
    // A machine whose IPv6 is switched off has no such address.
    let has_ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    assert_eq!(bound.is_ipv6(), has_ipv6);
    if has_ipv6 {
        addresses.push(SocketAddr::from((Ipv6Addr::LOCALHOST, bound.port())));
    }
    for address in addresses {
        let mut client = Client::connect(&address.to_string()).await.unwrap();
        let topic = if address.is_ipv6() { "six" } else { "four" };
        client.create_topic(topic, 1, &[]).await.unwrap();
    }
    broker.stop().await;
}
