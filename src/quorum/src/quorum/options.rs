//! The identity, place and settings of a member of the quorum.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use strandline_types::BrokerId;
use uuid::Uuid;

/// The longest pause between two signs of life. Silence is believed after a few of them are missing.
pub const SIGN_OF_LIFE: Duration = Duration::from_millis(100);

/// The address and socket on which a controller accepts links of other members.
#[derive(Debug)]
pub struct ControllerListener {
    pub listener: std::net::TcpListener,
    /// `host:port` for the others.
    pub address: String,
}

/// The identity, place and settings of this process as a member of the quorum.
#[derive(Debug)]
pub struct QuorumOptions {
    pub directory: PathBuf,
    pub node_id: BrokerId,
    /// The incarnation of this process.
    pub incarnation: Uuid,
    /// `directory.id` of the directory that holds the metadata.
    pub directory_id: Uuid,
    /// Begins the quorum's history, together with `voters`, if there is none yet.
    pub founds: bool,
    /// This node was a member of a cluster, whatever its metadata directory holds: it joins a quorum and founds none.
    pub remembers: bool,
    /// A quorum of one needs none.
    pub listener: Option<ControllerListener>,
    /// `controller.quorum.voters`: address by `node.id`. Empty: this process alone.
    pub voters: BTreeMap<i32, String>,
    /// Further addresses of controllers (`controller.quorum.bootstrap.servers`).
    pub contacts: Vec<String>,
    /// `broker.heartbeat.interval.ms`; signs of life are sent at least every [`SIGN_OF_LIFE`].
    pub heartbeat_interval: Duration,
}
