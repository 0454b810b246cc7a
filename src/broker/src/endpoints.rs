//! The addresses of a process: bound at its start, and as clients must see them.

use std::io;
use std::sync::Arc;

use strandline_metadata::Listener;
use strandline_metadata::config::BrokerConfig;
use tokio::net::TcpListener;

use crate::settings::{Endpoint, Settings, host_name, is_unspecified};
use crate::start_error::StartError;

/// Binds the listeners for clients, each with its name.
pub(crate) async fn bind_all(
    settings: &Settings,
    config: &BrokerConfig,
) -> Result<Vec<(Arc<str>, TcpListener)>, StartError> {
    let mut bound = Vec::new();
    for endpoint in &settings.listeners {
        let mut failure = None;
        let mut listening = None;
        for address in endpoint.bind_addresses() {
            match crate::listener::bind(&address, config).await {
                Ok(listener) => listening = Some(listener),
                Err(source) => failure = Some((address, source)),
            }
            if listening.is_some() || !failure.as_ref().is_some_and(|(_, e)| lacks_family(e)) {
                break;
            }
        }
        let Some(listener) = listening else {
            return Err(not_bound(failure, "listeners"));
        };
        bound.push((Arc::from(endpoint.name.as_str()), listener));
    }
    Ok(bound)
}

/// Binds the controllers' listener.
pub(crate) fn bind_controller(endpoint: &Endpoint) -> Result<std::net::TcpListener, StartError> {
    let mut failure = None;
    for address in endpoint.bind_addresses() {
        match std::net::TcpListener::bind(&address) {
            Ok(listener) => return Ok(listener),
            Err(source) => {
                let other_family = lacks_family(&source);
                failure = Some((address, source));
                if !other_family {
                    break;
                }
            }
        }
    }
    Err(not_bound(failure, "listeners"))
}

/// Whether the machine does not have the address's family: IPv6 is switched off, most likely.
fn lacks_family(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let code = Errno::from_io_error(error);
    matches!(code, Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

fn not_bound(failure: Option<(String, io::Error)>, property: &'static str) -> StartError {
    let none = || (String::new(), io::Error::from(io::ErrorKind::NotFound));
    let (address, source) = failure.unwrap_or_else(none);
    StartError::Bind {
        property,
        address,
        source,
    }
}

/// Binds the HTTP listener, if there is one.
pub(crate) async fn bind_http(settings: &Settings) -> Result<Option<TcpListener>, StartError> {
    let Some(address) = settings.http_listener.clone() else {
        return Ok(None);
    };
    let bound = TcpListener::bind(&address).await;
    bound.map(Some).map_err(|source| StartError::Bind {
        property: "strandline.http.listener",
        address,
        source,
    })
}

/// Endpoints for clients: as configured, with the bound port where 0 was asked for, and a host where none was given.
pub(crate) fn advertised(settings: &Settings, bound: &[(Arc<str>, TcpListener)]) -> Vec<Listener> {
    settings
        .advertised
        .iter()
        .map(|endpoint| {
            let listener = bound
                .iter()
                .find(|(name, _)| **name == *endpoint.name)
                .map(|(_, l)| l);
            let actual = listener.and_then(|l| l.local_addr().ok());
            let port = if endpoint.port == 0 {
                actual.map_or(0, |a| a.port())
            } else {
                endpoint.port
            };
            let host = if is_unspecified(&endpoint.host) {
                host_name()
            } else {
                endpoint.host.clone()
            };
            Listener {
                name: endpoint.name.clone(),
                host,
                port,
                security_protocol: "PLAINTEXT".into(),
            }
        })
        .collect()
}
