//! The listeners for clients: their sockets, and how many connections they take.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use strandline_metadata::config::BrokerConfig;
use tokio::net::{TcpListener, TcpSocket, lookup_host};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connection;
use crate::context::BrokerContext;
use crate::descriptors;
use crate::disconnects::{Cause, Disconnect};

/// Largest number of connections served at once, whatever `max.connections` allows: descriptors are finite.
const MAX_CONNECTIONS: usize = 20_000;
/// After an accept that failed: out of descriptors, most likely, so some connections must end first.
const PAUSE: Duration = Duration::from_millis(100);

/// A socket that listens, with the buffers and the backlog that `socket.*` asks for.
pub async fn bind(address: &str, config: &BrokerConfig) -> io::Result<TcpListener> {
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in lookup_host(address).await? {
        match bind_to(address, config) {
            Ok(listener) => return Ok(listener),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn bind_to(address: SocketAddr, config: &BrokerConfig) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    // −1 leaves the size to the operating system. Accepted connections inherit it.
    let bytes = |key: &str| u32::try_from(config.number(key)).ok().filter(|n| *n > 0);
    if config.is_set("socket.send.buffer.bytes")
        && let Some(bytes) = bytes("socket.send.buffer.bytes")
    {
        socket.set_send_buffer_size(bytes)?;
    }
    if config.is_set("socket.receive.buffer.bytes")
        && let Some(bytes) = bytes("socket.receive.buffer.bytes")
    {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.bind(address)?;
    // Kafka's default of 50 is small for a thousand clients that come back at once.
    let backlog = if config.is_set("socket.listen.backlog.size") {
        bytes("socket.listen.backlog.size").unwrap_or(1)
    } else {
        1024
    };
    socket.listen(backlog)
}

/// How many connections each address has.
#[derive(Default)]
struct Connections(Mutex<HashMap<IpAddr, usize>>);

/// The place of one connection among those that are allowed; released when the value is dropped.
struct Place {
    all: Arc<Connections>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.all.0.lock().expect("no holder panics");
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

impl Connections {
    /// A place, if `max.connections.per.ip` leaves one for this address.
    fn take(self: &Arc<Self>, address: IpAddr, config: &BrokerConfig) -> Option<Place> {
        let limit = limit_of(address, config);
        let mut counts = self.0.lock().expect("no holder panics");
        let count = counts.entry(address).or_default();
        if *count as i64 >= limit {
            return None;
        }
        *count += 1;
        Some(Place {
            all: self.clone(),
            address,
        })
    }
}

/// `max.connections.per.ip`, or the address's own of `max.connections.per.ip.overrides`: `127.0.0.1:200,10.0.0.1:5`.
fn limit_of(address: IpAddr, config: &BrokerConfig) -> i64 {
    let overrides = config.get("max.connections.per.ip.overrides");
    let own = overrides.iter().flat_map(|o| o.split(',')).find_map(|one| {
        let (host, limit) = one.trim().rsplit_once(':')?;
        (host.parse() == Ok(address)).then(|| limit.parse().ok())?
    });
    own.unwrap_or_else(|| config.number("max.connections.per.ip"))
}

/// Accepts and serves connections until the broker stops.
pub async fn accept(
    context: Arc<BrokerContext>,
    listener: TcpListener,
    name: Arc<str>,
    serving: TaskTracker,
    stop: CancellationToken,
) {
    let connections = Arc::<Connections>::default();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => {
                // The tracked tasks include this one.
                let connections = serving.len().saturating_sub(1);
                tracing::info!(listener = %name, connections, "the broker stops and closes its connections");
                return;
            }
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            // A client of IPv4 at a socket of both families is known by its address of IPv4.
            Ok((stream, from)) => (
                stream,
                SocketAddr::new(from.ip().to_canonical(), from.port()),
            ),
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
                continue;
            }
        };
        let config = context.config();
        let most = context.hot().max_connections;
        let refuse = |cause, reason: String| {
            let disconnect = Disconnect {
                cause,
                api: None,
                reason,
            };
            context.disconnects.note(address, &name, &disconnect);
        };
        let most = most.min(MAX_CONNECTIONS).min(descriptors::connections());
        if serving.len() >= most {
            refuse(
                Cause::TooMany,
                format!("{most} connections are open (max.connections, RLIMIT_NOFILE)"),
            );
            continue;
        }
        let Some(place) = connections.take(address.ip(), &config) else {
            let reason = "the address has its connections (max.connections.per.ip)";
            refuse(Cause::TooManyPerIp, reason.into());
            continue;
        };
        let open = context.metrics.connections.opened(&name);
        let served =
            connection::serve(context.clone(), stream, address, name.clone(), stop.clone());
        let wait = context.quotas.connect(address.ip());
        let stopped = stop.clone();
        serving.spawn(async move {
            // A quota on connections may delay the connection.
            let waiting = stopped.run_until_cancelled(tokio::time::sleep(wait));
            if waiting.await.is_some() {
                served.await;
            }
            drop((place, open));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_limit_of_their_own_or_the_one_of_all() {
        let mut config = BrokerConfig::default();
        let mut set = |key: &str, value: &str| {
            config.file.insert(key.to_owned(), value.to_owned());
        };
        set("max.connections.per.ip", "2");
        set("max.connections.per.ip.overrides", "10.0.0.1:1, ::1:3");
        let connections = Arc::<Connections>::default();
        let other: IpAddr = "10.0.0.2".parse().unwrap();
        let own: IpAddr = "10.0.0.1".parse().unwrap();
        assert_eq!(limit_of("::1".parse().unwrap(), &config), 3);
        let first = connections.take(other, &config).unwrap();
        let _second = connections.take(other, &config).unwrap();
        assert!(connections.take(other, &config).is_none());
        let _only = connections.take(own, &config).unwrap();
        assert!(connections.take(own, &config).is_none());
        drop(first);
        assert!(connections.take(other, &config).is_some());
    }
}
