//! Opens the log, the snapshot and the links, and begins the tasks of a member.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex as StdMutex};
use std::time::Instant;

use arc_swap::ArcSwap;
use openraft::{Config, SnapshotPolicy};
use strandline_metadata::ClusterImage;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Notify, watch};
use tokio_util::sync::CancellationToken;

use super::QuorumError;
use super::options::{QuorumOptions, SIGN_OF_LIFE};
use crate::door::Door;
use crate::link::RefusedLinks;
use crate::log_store::{LogStore, VOTE};
use crate::network::LinkNetwork;
use crate::node::Node;
use crate::peers::Peers;
use crate::state_machine::{SNAPSHOT, StateMachine};
use crate::storage_file::{read, replace};
use crate::types::{Member, NodeId, Raft};

/// Entries between snapshots.
const SNAPSHOT_EVERY: u64 = 5000;
/// Milliseconds. A follower stands for election when the longest election time-out has passed since the last heartbeat,
/// and after it another, random one: here after 350 to 500 ms.
const HEARTBEAT_MS: u64 = 50;
const ELECTION_MS: std::ops::Range<u64> = 100..250;

/// Runs on the quorum's threads.
pub(super) async fn start(options: QuorumOptions) -> Result<Arc<Node>, QuorumError> {
    let io = |source| QuorumError::Io {
        path: options.directory.clone(),
        source,
    };
    let raft_error = |e: &dyn std::fmt::Display| QuorumError::Raft(e.to_string());
    let config = Config {
        cluster_name: "strandline".into(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_MS.start,
        election_timeout_max: ELECTION_MS.end,
        install_snapshot_timeout: 5000,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_EVERY),
        max_in_snapshot_log_to_keep: 500,
        ..Config::default()
    };
    let config = Arc::new(config.validate().map_err(|e| raft_error(&e))?);
    let id = member_id(&options.directory).map_err(io)?;
    let (published, image) = watch::channel(Arc::new(ClusterImage::default()));
    let log = LogStore::open(&options.directory).map_err(io)?;
    let machine = StateMachine::open(&options.directory, published).map_err(io)?;
    let peers = Arc::new(Peers::default());
    let network = LinkNetwork(peers.clone());
    let raft = Raft::new(id, config, network, log, machine)
        .await
        .map_err(|e| raft_error(&e))?;
    let (listener, address) = match options.listener {
        Some(controller) => (Some(controller.listener), controller.address),
        None => (None, String::new()),
    };
    let member = Member {
        node_id: options.node_id.0,
        directory_id: options.directory_id,
        address,
    };
    let node = Arc::new(Node {
        raft,
        id,
        member,
        incarnation: options.incarnation,
        voters: options.voters.clone(),
        peers,
        image,
        context: ArcSwap::default(),
        announce: Notify::new(),
        deciding: Mutex::new(()),
        joining: Mutex::new(()),
        changing_voter: Mutex::new(()),
        last_contact: StdMutex::new(Instant::now()),
        speaks_every: options.heartbeat_interval.min(SIGN_OF_LIFE),
        suspects: StdMutex::default(),
        door: Door::new(),
        refused_links: Arc::new(RefusedLinks::new()),
        remembers: options.remembers,
        stop: CancellationToken::new(),
    });
    if let Some(listener) = listener {
        listener
            .set_nonblocking(true)
            .and_then(|()| TcpListener::from_std(listener))
            .map(|listener| tokio::spawn(node.clone().accept(listener)))
            .map_err(io)?;
    }
    let own = options.node_id.0;
    let voters = options.voters.iter().filter(|(id, _)| **id != own);
    let contacts: BTreeSet<String> = voters
        .map(|(_, address)| address.clone())
        .chain(options.contacts)
        .collect();
    for address in contacts {
        tokio::spawn(node.clone().dial(address, node.stop.child_token()));
    }
    if options.founds && !options.remembers {
        tokio::spawn(node.clone().form());
    }
    tokio::spawn(node.clone().join());
    tokio::spawn(node.clone().dial_controllers());
    tokio::spawn(node.clone().keep_voters());
    tokio::spawn(node.clone().end_with_raft());
    tokio::spawn(node.clone().keep_alive());
    Ok(node)
}

/// Whether a directory holds nothing of a quorum's history: no vote, no entry, no snapshot. One that does not exist is new.
pub fn is_new(directory: &Path) -> Result<bool, QuorumError> {
    let io = |source| QuorumError::Io {
        path: directory.to_path_buf(),
        source,
    };
    for name in [VOTE, SNAPSHOT] {
        if !read(&directory.join(name)).map_err(io)?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// This directory's id in the quorum, made at random at its first use.
pub(crate) fn member_id(directory: &Path) -> io::Result<NodeId> {
    let path = directory.join("member-id");
    let bytes = read(&path)?;
    if bytes.is_empty() {
        let id = rand::random_range(1..NodeId::MAX);
        replace(&path, id.to_string().as_bytes())?;
        return Ok(id);
    }
    let text = String::from_utf8_lossy(&bytes);
    text.trim().parse().map_err(|_| {
        let text = format!("{} is damaged", path.display());
        io::Error::new(io::ErrorKind::InvalidData, text)
    })
}
