//! Configuration from a Kafka properties file, `KAFKA_…` environment variables and `--override`: read, checked, typed.
//!
//! [`Properties`] is text that was checked key by key and against the other keys; [`Settings`] has types. A value that
//! cannot be used results in a line that names its property, never in a panic.

mod endpoint;
mod paths;
mod properties;
mod quorum;
mod store;

use std::collections::BTreeMap;
use std::path::PathBuf;

use strandline_metadata::METADATA_TOPIC;
use strandline_metadata::config::BrokerConfig;
use strandline_tiering::store::RemoteStoreConfig;
use thiserror::Error;

pub use endpoint::{Endpoint, host_name, is_unspecified};
use endpoint::{advertised_within, check_address, endpoints};
pub use properties::{Properties, PropertySource, key_of_variable};
pub use quorum::Roles;
use quorum::{check_voters, contacts, controller_listener, is_own, roles, voters};

/// A property that the broker cannot start with.
#[derive(Debug, Error)]
pub enum SettingsError {
    #[error("{}: {reason}", path.display())]
    File { path: PathBuf, reason: String },
    #[error("{property}: {reason}")]
    Property { property: String, reason: String },
}

/// The typed settings of one process.
#[derive(Clone, Debug)]
pub struct Settings {
    pub node_id: i32,
    pub roles: Roles,
    /// The controller's own listener, and `host:port` as the other members see it.
    pub controller_listener: Option<(Endpoint, String)>,
    /// `controller.quorum.voters`: address by `node.id`.
    pub voters: BTreeMap<i32, String>,
    /// `controller.quorum.bootstrap.servers`
    pub controller_contacts: Vec<String>,
    /// A controller that is named, or names no other: it begins the metadata quorum if there is none. Others wait until an
    /// operator adds them to the voters.
    pub founds_quorum: bool,
    /// The listener by which brokers reach each other.
    pub inter_broker_listener: String,
    pub rack: Option<String>,
    pub listeners: Vec<Endpoint>,
    pub advertised: Vec<Endpoint>,
    pub log_dirs: Vec<PathBuf>,
    pub metadata_dir: PathBuf,
    pub cluster_id: Option<String>,
    pub http_listener: Option<String>,
    pub remote: Option<RemoteStoreConfig>,
    pub cache_dir: PathBuf,
    pub properties: BTreeMap<String, String>,
}

/// Largest number of characters of a reason; a value may have many more.
const LONGEST_REASON: usize = 500;

/// An error of one line that a terminal can show, whatever the value was.
fn invalid(property: &str, reason: impl Into<String>) -> SettingsError {
    let reason: String = reason.into();
    let mut line: String = reason.chars().take(LONGEST_REASON).collect();
    if line.len() < reason.len() {
        line.push('…');
    }
    SettingsError::Property {
        property: property.into(),
        reason: line.replace(|c: char| c.is_control(), " "),
    }
}

impl Settings {
    /// The name by which Kafka's tools know the controllers' listener.
    pub fn controller_listener_name(&self) -> &str {
        let own = self.controller_listener.as_ref();
        own.map_or("CONTROLLER", |(endpoint, _)| &endpoint.name)
    }

    /// The settings of a server: records in the cold tier must outlive the process.
    pub fn resolve(properties: &Properties) -> Result<Self, SettingsError> {
        let settings = Self::resolve_for_dev(properties)?;
        store::check_durable(settings.remote.as_ref())?;
        Ok(settings)
    }

    /// The settings of `strandline dev`, whose cold tier may be the memory of the process.
    pub fn resolve_for_dev(properties: &Properties) -> Result<Self, SettingsError> {
        properties.check_together()?;
        let map = properties.to_map();
        let config = BrokerConfig {
            file: map.clone(),
            ..BrokerConfig::default()
        };
        let text = |key: &str| config.get(key).filter(|v| !v.is_empty());
        let node_id = map
            .get("node.id")
            .map_or(Ok(1), |v| v.parse())
            .map_err(|_| invalid("node.id", "not a number"))?;
        if node_id < 0 {
            return Err(invalid("node.id", "must not be negative"));
        }
        let voters = voters(&text("controller.quorum.voters").unwrap_or_default())?;
        let roles = roles(text("process.roles").as_deref(), node_id, &voters)?;
        check_voters(roles, node_id, &voters)?;
        let controllers = text("controller.listener.names").unwrap_or_default();
        let is_controller = |e: &Endpoint| {
            controllers
                .split(',')
                .any(|n| n.trim().eq_ignore_ascii_case(&e.name))
        };
        let all = endpoints(
            "listeners",
            &text("listeners").unwrap_or_else(|| "PLAINTEXT://:9092".into()),
        )?;
        let (controller, listeners): (Vec<_>, Vec<_>) = all.into_iter().partition(is_controller);
        if roles.broker && listeners.is_empty() {
            return Err(invalid("listeners", "names no listener for clients"));
        }
        let (advertised_controllers, advertised) = match text("advertised.listeners") {
            Some(given) => endpoints("advertised.listeners", &given)?
                .into_iter()
                .partition(is_controller),
            None => (Vec::new(), listeners.clone()),
        };
        advertised_within(&advertised, &listeners)?;
        let controller_listener =
            controller_listener(roles, node_id, &voters, controller, &advertised_controllers)?;
        let protocols = text("listener.security.protocol.map").unwrap_or_default();
        for listener in listeners
            .iter()
            .chain(controller_listener.iter().map(|(e, _)| e))
        {
            let protocol = protocols
                .split(',')
                .filter_map(|entry| entry.trim().split_once(':'))
                .find(|(name, _)| name.eq_ignore_ascii_case(&listener.name))
                .map_or(listener.name.as_str(), |(_, protocol)| protocol);
            let by_default = is_controller(listener) && protocol == listener.name;
            if !by_default && !protocol.eq_ignore_ascii_case("PLAINTEXT") {
                let reason = format!(
                    "{}: {protocol} is not supported yet, only PLAINTEXT",
                    listener.name
                );
                return Err(invalid("listeners", reason));
            }
        }
        let log_dirs = paths::log_dirs(&text("log.dirs").unwrap_or_default())?;
        let first = log_dirs.first().cloned().unwrap_or_default();
        let metadata_dir = text("metadata.log.dir")
            .map_or_else(|| first.clone(), PathBuf::from)
            .join(METADATA_TOPIC);
        let cache_dir = paths::cache_dir(text("strandline.remote.cache.dir"), &first);
        let remote = store::remote_store(&config)?;
        if let Some(remote) = &remote {
            let property = "strandline.remote.cache.dir";
            paths::set_apart(property, &cache_dir, &log_dirs, &metadata_dir)?;
            if let Some(directory) = remote.url.strip_prefix("file://") {
                let (property, directory) =
                    ("strandline.remote.store.url", PathBuf::from(directory));
                paths::set_apart(property, &directory, &log_dirs, &metadata_dir)?;
                paths::set_apart(property, &directory, &[], &cache_dir)?;
            }
        }
        let http = text("strandline.http.listener").filter(|v| v != "none");
        if let Some(address) = &http {
            check_address("strandline.http.listener", address)?;
        }
        let cluster_id = text("strandline.cluster.id");
        if let Some(id) = cluster_id
            .as_deref()
            .filter(|id| !id.chars().all(|c| c.is_ascii_graphic()))
        {
            let reason = format!("{id} has characters other than visible ASCII");
            return Err(invalid("strandline.cluster.id", reason));
        }
        let named = text("inter.broker.listener.name").map(|n| n.to_uppercase());
        let first = listeners.first().map(|l| l.name.clone());
        let inter_broker_listener = named.or(first).unwrap_or_default();
        if roles.broker && !listeners.iter().any(|l| l.name == inter_broker_listener) {
            let reason = format!("{inter_broker_listener} is not one of listeners");
            return Err(invalid("inter.broker.listener.name", reason));
        }
        let controller_contacts =
            contacts(&text("controller.quorum.bootstrap.servers").unwrap_or_default())?;
        let founds = roles.controller
            && if voters.is_empty() {
                let own = controller_listener.as_ref();
                controller_contacts.iter().all(|c| is_own(c, own))
            } else {
                voters.contains_key(&node_id)
            };
        if !roles.controller && voters.is_empty() && controller_contacts.is_empty() {
            return Err(invalid(
                "controller.quorum.voters",
                "must name the controllers of a broker that is none itself",
            ));
        }
        Ok(Self {
            node_id,
            roles,
            controller_listener,
            voters,
            controller_contacts,
            founds_quorum: founds,
            inter_broker_listener,
            rack: text("broker.rack"),
            listeners,
            advertised,
            log_dirs,
            metadata_dir,
            cluster_id,
            http_listener: http,
            remote,
            cache_dir,
            properties: map,
        })
    }
}

#[cfg(test)]
mod tests;
