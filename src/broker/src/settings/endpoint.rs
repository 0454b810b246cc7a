//! `listeners` and `advertised.listeners`: names, hosts and ports.

use super::{SettingsError, invalid};

/// One endpoint of `listeners`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub name: String,
    /// Empty: all interfaces.
    pub host: String,
    pub port: u16,
}

impl Endpoint {
    fn parse(text: &str) -> Option<Self> {
        let (name, address) = text.trim().split_once("://")?;
        let (host, port) = address.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Some(Self {
            name: name.to_uppercase(),
            host: host.to_owned(),
            port: port.parse().ok()?,
        })
    }

    /// The addresses to bind: the first that works. Without a host all interfaces of both families, as in Java, or those of
    /// IPv4 where the machine has no IPv6.
    pub fn bind_addresses(&self) -> Vec<String> {
        let with = |host: &str| format!("{host}:{}", self.port);
        if self.host.is_empty() {
            vec![with("[::]"), with("0.0.0.0")]
        } else if self.host.contains(':') {
            vec![with(&format!("[{}]", self.host))]
        } else {
            vec![with(&self.host)]
        }
    }
}

pub(super) fn endpoints(property: &str, text: &str) -> Result<Vec<Endpoint>, SettingsError> {
    let parse = |one: &str| {
        Endpoint::parse(one)
            .ok_or_else(|| invalid(property, format!("{one} is not NAME://host:port")))
    };
    let found: Vec<Endpoint> = text
        .split(',')
        .filter(|s| !s.trim().is_empty())
        .map(parse)
        .collect::<Result<_, _>>()?;
    for (count, endpoint) in found.iter().enumerate() {
        let mut before = found.iter().take(count);
        if before.clone().any(|other| other.name == endpoint.name) {
            return Err(invalid(
                property,
                format!("{} is named twice", endpoint.name),
            ));
        }
        let same = |other: &&Endpoint| (&other.host, other.port) == (&endpoint.host, endpoint.port);
        if let Some(other) = before.find(same).filter(|_| endpoint.port != 0) {
            let reason = format!("{} and {} have one address", other.name, endpoint.name);
            return Err(invalid(property, reason));
        }
    }
    Ok(found)
}

/// Kafka advertises a listener only where one of that name listens.
pub(super) fn advertised_within(
    advertised: &[Endpoint],
    listeners: &[Endpoint],
) -> Result<(), SettingsError> {
    let listens = |name: &str| listeners.iter().any(|l| l.name == name);
    match advertised.iter().find(|e| !listens(&e.name)) {
        Some(endpoint) => {
            let reason = format!("{} is not one of listeners", endpoint.name);
            Err(invalid("advertised.listeners", reason))
        }
        None => Ok(()),
    }
}

/// `host:port`, `[::1]:port`, or `:port`.
pub(super) fn check_address(property: &str, address: &str) -> Result<(), SettingsError> {
    let port = address
        .rsplit_once(':')
        .map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(_)) => Ok(()),
        _ => Err(invalid(property, format!("{address} is not host:port"))),
    }
}

pub fn is_unspecified(host: &str) -> bool {
    matches!(host, "" | "0.0.0.0" | "::")
}

/// This machine's name if it resolves; else the loopback address.
pub fn host_name() -> String {
    use std::net::ToSocketAddrs;
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let resolves = (name.as_str(), 0)
        .to_socket_addrs()
        .is_ok_and(|mut found| found.next().is_some());
    if resolves { name } else { "127.0.0.1".into() }
}
