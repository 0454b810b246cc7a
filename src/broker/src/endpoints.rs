//! The addresses of a process: bound at its start, and as clients must see them.

use std::sync::Arc;

use strandline_metadata::Listener;
use strandline_metadata::config::BrokerConfig;
use tokio::net::TcpListener;

use crate::server::StartError;
use crate::settings::{Settings, host_name, is_unspecified};

/// Binds the listeners for clients, each with its name.
pub(crate) async fn bind_all(
    settings: &Settings,
    config: &BrokerConfig,
) -> Result<Vec<(Arc<str>, TcpListener)>, StartError> {
    let mut bound = Vec::new();
    for endpoint in &settings.listeners {
        let address = endpoint.bind_address();
        let listener = crate::listener::bind(&address, config)
            .await
            .map_err(|source| StartError::Bind {
                property: "listeners",
                address,
                source,
            })?;
        bound.push((Arc::from(endpoint.name.as_str()), listener));
    }
    Ok(bound)
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
