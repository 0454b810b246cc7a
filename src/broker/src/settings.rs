//! Configuration from a Kafka properties file, `KAFKA_…` environment variables and `--override`: read, checked, typed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use strandline_metadata::METADATA_TOPIC;
use strandline_metadata::config::{BrokerConfig, broker_def, nearest_broker_key};
use strandline_security::Secret;
use strandline_tiering::store::RemoteStoreConfig;
use thiserror::Error;

/// A property that the broker cannot start with.
#[derive(Debug, Error)]
pub enum SettingsError {
    #[error("{}: {reason}", path.display())]
    File { path: PathBuf, reason: String },
    #[error("{property}: {reason}")]
    Property { property: String, reason: String },
}

/// Where a property's value came from, least specific first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PropertySource {
    File,
    Environment,
    Override,
}

/// Properties with their sources, and what a user should hear about them.
#[derive(Clone, Debug, Default)]
pub struct Properties {
    pub values: BTreeMap<String, (String, PropertySource)>,
    pub warnings: Vec<String>,
}

/// Keys of Kafka's JVM classes and of ZooKeeper: understood, but there is nothing they could switch here.
const WITHOUT_EFFECT: &[&str] = &[
    "remote.log.storage.manager.class.name",
    "remote.log.metadata.manager.class.name",
];
const CLIENT_PREFIXES: &[&str] = &[
    "rsm.config.",
    "rlmm.config.",
    "listener.name.",
    "producer.",
    "consumer.",
];

impl Properties {
    /// Reads a properties file, then what the environment and the command line put over it.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        overrides: &[(String, String)],
    ) -> Result<Self, SettingsError> {
        let mut properties = Self::default();
        if let Some(path) = file {
            let failed = |reason: String| SettingsError::File {
                path: path.to_path_buf(),
                reason,
            };
            let bytes = std::fs::read(path).map_err(|e| failed(e.to_string()))?;
            let entries = java_properties::read(&bytes[..]).map_err(|e| failed(e.to_string()))?;
            for (key, value) in entries {
                properties.set(key, value, PropertySource::File);
            }
        }
        for (name, value) in environment {
            if let Some(key) = key_of_variable(&name) {
                // The image's own switches, such as KAFKA_HEAP_OPTS, are no properties.
                if broker_def(&key).is_some() || key.contains('.') {
                    properties.set(key, value, PropertySource::Environment);
                }
            }
        }
        for (key, value) in overrides {
            properties.set(key.clone(), value.clone(), PropertySource::Override);
        }
        properties.review()?;
        Ok(properties)
    }

    pub fn set(&mut self, key: String, value: String, source: PropertySource) {
        let key = if key == "broker.id" {
            "node.id".to_owned()
        } else {
            key
        };
        self.values.insert(key, (value.trim().to_owned(), source));
    }

    /// Checks every value and notes what is odd.
    fn review(&mut self) -> Result<(), SettingsError> {
        for (key, (value, _)) in &self.values {
            if key == "zookeeper.connect" {
                self.warnings.push(
                    "zookeeper.connect: there is no ZooKeeper here; the metadata quorum is built in \
                     (process.roles, controller.quorum.voters)"
                        .into(),
                );
            } else if WITHOUT_EFFECT.contains(&key.as_str()) {
                self.warnings.push(format!("{key}: accepted and ignored; the cold tier is built in (strandline.remote.store.url)"));
            } else if let Some(def) = broker_def(key) {
                def.validate(value)
                    .map_err(|reason| SettingsError::Property {
                        property: key.clone(),
                        reason,
                    })?;
            } else if !CLIENT_PREFIXES.iter().any(|p| key.starts_with(p)) {
                let hint = nearest_broker_key(key).map(|k| format!("; did you mean {k}?"));
                self.warnings.push(format!(
                    "{key}: unknown property, ignored{}",
                    hint.unwrap_or_default()
                ));
            }
        }
        Ok(())
    }

    pub fn to_map(&self) -> BTreeMap<String, String> {
        self.values
            .iter()
            .map(|(k, (v, _))| (k.clone(), v.clone()))
            .collect()
    }
}

/// `KAFKA_LOG_DIRS` → `log.dirs`, as the `apache/kafka` image maps: `___` is `-`, `__` is `_`, `_` is `.`.
pub fn key_of_variable(name: &str) -> Option<String> {
    let rest = name.strip_prefix("KAFKA_")?;
    let key = rest
        .to_lowercase()
        .replace("___", "-")
        .replace("__", "\u{1}")
        .replace('_', ".");
    Some(key.replace('\u{1}', "_"))
}

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

    /// `host:port` for binding.
    pub fn bind_address(&self) -> String {
        let host = if self.host.is_empty() {
            "0.0.0.0"
        } else {
            &self.host
        };
        if host.contains(':') {
            format!("[{host}]:{}", self.port)
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

/// `process.roles`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    pub broker: bool,
    pub controller: bool,
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

fn invalid(property: &str, reason: impl Into<String>) -> SettingsError {
    SettingsError::Property {
        property: property.into(),
        reason: reason.into(),
    }
}

impl Settings {
    /// The name by which Kafka's tools know the controllers' listener.
    pub fn controller_listener_name(&self) -> &str {
        let own = self.controller_listener.as_ref();
        own.map_or("CONTROLLER", |(endpoint, _)| &endpoint.name)
    }

    pub fn resolve(properties: &Properties) -> Result<Self, SettingsError> {
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
        let log_dirs: Vec<PathBuf> = text("log.dirs")
            .unwrap_or_default()
            .split(',')
            .map(str::trim)
            .filter(|d| !d.is_empty())
            .map(PathBuf::from)
            .collect();
        if log_dirs.is_empty() {
            return Err(invalid("log.dirs", "names no directory"));
        }
        let metadata_dir = text("metadata.log.dir")
            .map_or_else(|| log_dirs[0].clone(), PathBuf::from)
            .join(METADATA_TOPIC);
        let cache_dir = text("strandline.remote.cache.dir").map_or_else(
            || {
                log_dirs[0].with_file_name(format!(
                    "{}-remote-cache",
                    log_dirs[0]
                        .file_name()
                        .and_then(|n| n.to_str())
                        .unwrap_or("log")
                ))
            },
            PathBuf::from,
        );
        let http = text("strandline.http.listener").filter(|v| v != "none");
        let named = text("inter.broker.listener.name").map(|n| n.to_uppercase());
        let first = listeners.first().map(|l| l.name.clone());
        let inter_broker_listener = named.or(first).unwrap_or_default();
        if roles.broker && !listeners.iter().any(|l| l.name == inter_broker_listener) {
            let reason = format!("{inter_broker_listener} is not one of listeners");
            return Err(invalid("inter.broker.listener.name", reason));
        }
        let contacts = text("controller.quorum.bootstrap.servers").unwrap_or_default();
        let contacts = contacts.split(',').map(str::trim).filter(|c| !c.is_empty());
        let controller_contacts: Vec<String> = contacts.map(str::to_owned).collect();
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
            cluster_id: text("strandline.cluster.id"),
            http_listener: http,
            remote: remote_store(&config)?,
            cache_dir,
            properties: map,
        })
    }
}

/// Both roles where nothing is said, unless the voters are others.
fn roles(
    text: Option<&str>,
    node_id: i32,
    voters: &BTreeMap<i32, String>,
) -> Result<Roles, SettingsError> {
    let Some(text) = text else {
        let controller = voters.is_empty() || voters.contains_key(&node_id);
        return Ok(Roles {
            broker: true,
            controller,
        });
    };
    let mut roles = Roles {
        broker: false,
        controller: false,
    };
    for role in text.split(',').map(str::trim).filter(|r| !r.is_empty()) {
        match role {
            "broker" => roles.broker = true,
            "controller" => roles.controller = true,
            other => {
                let reason = format!("{other} is neither broker nor controller");
                return Err(invalid("process.roles", reason));
            }
        }
    }
    if !roles.broker && !roles.controller {
        return Err(invalid("process.roles", "names no role"));
    }
    Ok(roles)
}

/// `1@host:port,2@host:port`
fn voters(text: &str) -> Result<BTreeMap<i32, String>, SettingsError> {
    let mut voters = BTreeMap::new();
    for entry in text.split(',').map(str::trim).filter(|e| !e.is_empty()) {
        let parsed = entry.split_once('@').and_then(|(id, address)| {
            let port = address.rsplit_once(':')?.1;
            port.parse::<u16>().ok()?;
            Some((id.parse::<i32>().ok()?, address.to_owned()))
        });
        let (id, address) = parsed.ok_or_else(|| {
            invalid(
                "controller.quorum.voters",
                format!("{entry} is not id@host:port"),
            )
        })?;
        if voters.insert(id, address).is_some() {
            let reason = format!("{id} is named twice");
            return Err(invalid("controller.quorum.voters", reason));
        }
    }
    Ok(voters)
}

/// Where this controller listens, and what the others call it. A quorum of one needs no listener.
fn controller_listener(
    roles: Roles,
    node_id: i32,
    voters: &BTreeMap<i32, String>,
    named: Vec<Endpoint>,
    advertised: &[Endpoint],
) -> Result<Option<(Endpoint, String)>, SettingsError> {
    if !roles.controller {
        return Ok(None);
    }
    let Some(endpoint) = named.into_iter().next() else {
        return if voters.keys().any(|id| *id != node_id) {
            Err(invalid(
                "controller.listener.names",
                "names none of listeners, by which the other controllers could reach this one",
            ))
        } else {
            Ok(None)
        };
    };
    let address = voters
        .get(&node_id)
        .cloned()
        .or_else(|| {
            let endpoint = advertised.iter().find(|e| e.name == endpoint.name)?;
            Some(format!("{}:{}", endpoint.host, endpoint.port))
        })
        .unwrap_or_else(|| {
            let named = !is_unspecified(&endpoint.host);
            let host = named.then(|| endpoint.host.clone());
            format!("{}:{}", host.unwrap_or_else(host_name), endpoint.port)
        });
    Ok(Some((endpoint, address)))
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

/// Whether an entry of `controller.quorum.bootstrap.servers` is this process's own controller listener.
fn is_own(contact: &str, listener: Option<&(Endpoint, String)>) -> bool {
    let Some((endpoint, address)) = listener else {
        return false;
    };
    let Some((host, port)) = contact.rsplit_once(':') else {
        return false;
    };
    let local = matches!(host, "localhost" | "127.0.0.1" | "[::1]")
        || host == endpoint.host
        || host == host_name();
    contact == address || (port == endpoint.port.to_string() && local)
}

fn endpoints(property: &str, text: &str) -> Result<Vec<Endpoint>, SettingsError> {
    let parse = |one: &str| {
        Endpoint::parse(one)
            .ok_or_else(|| invalid(property, format!("{one} is not NAME://host:port")))
    };
    let found: Vec<Endpoint> = text
        .split(',')
        .filter(|s| !s.trim().is_empty())
        .map(parse)
        .collect::<Result<_, _>>()?;
    for (i, endpoint) in found.iter().enumerate() {
        if found[..i].iter().any(|other| other.name == endpoint.name) {
            return Err(invalid(
                property,
                format!("{} is named twice", endpoint.name),
            ));
        }
    }
    Ok(found)
}

/// The store's configuration, if the cold tier is switched on.
fn remote_store(config: &BrokerConfig) -> Result<Option<RemoteStoreConfig>, SettingsError> {
    if !config.boolean("remote.log.storage.system.enable") {
        return Ok(None);
    }
    let text = |key: &str| config.get(key).filter(|v| !v.is_empty());
    let url = text("strandline.remote.store.url").ok_or_else(|| {
        invalid(
            "strandline.remote.store.url",
            "must be set where remote.log.storage.system.enable is true",
        )
    })?;
    let secret = text("strandline.remote.store.secret.access.key").map(Secret::new);
    Ok(Some(RemoteStoreConfig {
        url,
        endpoint: text("strandline.remote.store.endpoint"),
        region: text("strandline.remote.store.region"),
        access_key_id: text("strandline.remote.store.access.key.id"),
        secret_access_key: secret,
        create_bucket: config.boolean("strandline.remote.store.create.bucket"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(
        file: &str,
        env: &[(&str, &str)],
        over: &[(&str, &str)],
    ) -> Result<Properties, SettingsError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("server.properties");
        std::fs::write(&path, file).unwrap();
        let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        Properties::load(Some(&path), owned(env), &owned(over))
    }

    #[test]
    fn variables_map_as_in_kafkas_image() {
        for (variable, key) in [
            ("KAFKA_LOG_DIRS", "log.dirs"),
            ("KAFKA_A__B", "a_b"),
            ("KAFKA_A___B_C", "a-b.c"),
            (
                "KAFKA_STRANDLINE_REMOTE_STORE_URL",
                "strandline.remote.store.url",
            ),
        ] {
            assert_eq!(key_of_variable(variable).as_deref(), Some(key));
        }
        assert_eq!(key_of_variable("HOME"), None);
    }

    #[test]
    fn override_beats_environment_beats_file_and_oddities_are_said() {
        let properties = load(
            "broker.id=7\nnum.partitions=2\nlog.retention.huors=3\nzookeeper.connect=x:1\nlog.dirs=/a,/b\n",
            &[("KAFKA_NUM_PARTITIONS", "3"), ("KAFKA_HEAP_OPTS", "-Xmx1g")],
            &[("num.partitions", "4")],
        )
        .unwrap();
        assert_eq!(
            properties.values["num.partitions"],
            ("4".into(), PropertySource::Override)
        );
        assert!(
            properties
                .warnings
                .iter()
                .any(|w| w.contains("did you mean log.retention.hours?"))
        );
        assert!(
            properties
                .warnings
                .iter()
                .any(|w| w.starts_with("zookeeper.connect"))
        );
        let settings = Settings::resolve(&properties).unwrap();
        assert_eq!((settings.node_id, settings.log_dirs.len()), (7, 2));
        assert_eq!(settings.listeners[0].port, 9092);
    }

    #[test]
    fn what_cannot_work_names_its_property() {
        let error = |file: &str| {
            load(file, &[], &[])
                .and_then(|p| Settings::resolve(&p).map(|_| ()))
                .unwrap_err()
                .to_string()
        };
        assert!(error("num.partitions=many").contains("num.partitions"));
        assert!(error("listeners=SASL_SSL://:9092").contains("listeners"));
        assert!(error("listeners=nonsense").contains("listeners"));
        assert!(
            error("remote.log.storage.system.enable=true")
                .starts_with("strandline.remote.store.url")
        );
    }

    #[test]
    fn who_is_named_or_names_nobody_else_begins_the_quorum() {
        let founds = |file: &str| {
            let common = "process.roles=broker,controller\nnode.id=1\ncontroller.listener.names=CONTROLLER\n\
                          listeners=PLAINTEXT://:9092,CONTROLLER://:9093\nlog.dirs=/tmp/x\n";
            let properties = load(&format!("{common}{file}"), &[], &[]).unwrap();
            Settings::resolve(&properties).unwrap().founds_quorum
        };
        assert!(founds(""));
        assert!(founds("controller.quorum.voters=1@a:9093,2@b:9093"));
        assert!(!founds("controller.quorum.voters=2@b:9093,3@c:9093"));
        // Kafka's own server.properties names itself.
        assert!(founds("controller.quorum.bootstrap.servers=localhost:9093"));
        assert!(!founds(
            "controller.quorum.bootstrap.servers=localhost:9093,other:9093"
        ));
    }

    #[test]
    fn a_combined_nodes_controller_listener_is_not_for_clients() {
        let properties = load(
            "process.roles=broker,controller\nnode.id=1\ncontroller.listener.names=CONTROLLER\n\
             listeners=PLAINTEXT://:9092,CONTROLLER://:9093\nadvertised.listeners=PLAINTEXT://localhost:9092\n\
             log.dirs=/tmp/kraft-combined-logs\n",
            &[],
            &[],
        )
        .unwrap();
        let settings = Settings::resolve(&properties).unwrap();
        assert_eq!(settings.listeners.len(), 1);
        assert_eq!(settings.advertised[0].host, "localhost");
    }
}
