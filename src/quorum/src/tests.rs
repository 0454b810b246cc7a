use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use strandline_metadata::ConfigResource;
use strandline_metadata::controller::{ConfigChange, ConfigOperation};
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::rpc::MemberProgress;
use strandline_metadata::controller::Command;
use strandline_types::BrokerId;

const PATIENCE: Duration = Duration::from_secs(20);

fn options(directory: &Path, node_id: i32) -> QuorumOptions {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    QuorumOptions {
        directory: directory.to_path_buf(),
        node_id: BrokerId(node_id),
        incarnation: Uuid::new_v4(),
        directory_id: Uuid::new_v4(),
        founds: true,
        remembers: false,
        listener: Some(ControllerListener { listener, address }),
        voters: BTreeMap::new(),
        contacts: Vec::new(),
        heartbeat_interval: Duration::from_millis(100),
    }
}

pub(crate) async fn open(directory: &Path) -> Result<Quorum, QuorumError> {
    Quorum::open(options(directory, 1)).await
}

fn set(key: &str, value: &str) -> Command {
    Command::AlterConfigs {
        resource: ConfigResource::Broker(None),
        changes: vec![ConfigChange {
            key: key.into(),
            operation: ConfigOperation::Set,
            value: Some(value.into()),
        }],
    }
}

/// Written once, however often it is asked for: while leaders change, an answer may be lost.
pub(crate) async fn write(quorum: &Quorum, key: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match quorum.submit(set(key, "v")).await {
            Ok(_) => return,
            Err(SubmitError::Unavailable(_)) if Instant::now() < deadline => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn configs(quorum: &Quorum) -> usize {
    quorum.image().configs(&ConfigResource::Broker(None)).len()
}

#[tokio::test]
async fn what_was_decided_is_there_after_a_restart_and_after_a_torn_write() {
    let directory = TempDir::new().unwrap();
    let quorum = open(directory.path()).await.unwrap();
    for i in 0..20 {
        write(&quorum, &format!("k{i}")).await;
    }
    let refused = quorum.submit(set("log.dirs", "/x")).await;
    assert!(matches!(refused, Err(SubmitError::Refused(_))));
    quorum.shutdown().await;
    drop(quorum);

    let quorum = open(directory.path()).await.unwrap();
    assert_eq!(configs(&quorum), 20);
    write(&quorum, "k20").await;
    quorum.shutdown().await;
    drop(quorum);

    let log = directory.path().join("log");
    let mut bytes = std::fs::read(&log).unwrap();
    bytes.extend_from_slice(&[9; 30]);
    std::fs::write(&log, bytes).unwrap();
    let quorum = open(directory.path()).await.unwrap();
    assert_eq!(configs(&quorum), 21);
    write(&quorum, "k21").await;
    quorum.shutdown().await;
}

#[tokio::test]
async fn a_snapshot_takes_the_place_of_the_log_behind_it() {
    let directory = TempDir::new().unwrap();
    let quorum = open(directory.path()).await.unwrap();
    for i in 0..30 {
        write(&quorum, &format!("k{i}")).await;
    }
    let raft = quorum.raft();
    raft.trigger().snapshot().await.unwrap();
    let upto = quorum.image().applied_index;
    raft.wait(Some(PATIENCE))
        .metrics(|m| m.snapshot.is_some_and(|s| s.index >= upto), "snapshot")
        .await
        .unwrap();
    raft.trigger().purge_log(upto).await.unwrap();
    raft.wait(Some(PATIENCE))
        .metrics(|m| m.purged.is_some_and(|p| p.index >= upto), "purge")
        .await
        .unwrap();
    write(&quorum, "last").await;
    quorum.shutdown().await;
    drop(quorum);
    let quorum = open(directory.path()).await.unwrap();
    assert_eq!(configs(&quorum), 31);
    quorum.shutdown().await;
    drop(quorum);
    let snapshot = directory.path().join("snapshot");
    let mut bytes = std::fs::read(&snapshot).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&snapshot, bytes).unwrap();
    assert!(
        open(directory.path()).await.is_err(),
        "never an empty image"
    );
}

/// Three voters on loopback, each with a directory.
struct Cluster {
    directories: BTreeMap<i32, TempDir>,
    addresses: BTreeMap<i32, String>,
    running: BTreeMap<i32, Arc<Quorum>>,
}

impl Cluster {
    async fn start() -> Self {
        let mut cluster = Self {
            directories: (1..=3).map(|id| (id, TempDir::new().unwrap())).collect(),
            addresses: BTreeMap::new(),
            running: BTreeMap::new(),
        };
        let mut all: BTreeMap<i32, QuorumOptions> = cluster
            .directories
            .iter()
            .map(|(id, d)| (*id, options(d.path(), *id)))
            .collect();
        let address = |o: &QuorumOptions| o.listener.as_ref().unwrap().address.clone();
        cluster.addresses = all.iter().map(|(id, o)| (*id, address(o))).collect();
        for (id, mut options) in std::mem::take(&mut all) {
            options.voters = cluster.addresses.clone();
            let quorum = Quorum::open(options).await.unwrap();
            cluster.running.insert(id, Arc::new(quorum));
        }
        cluster
    }

    async fn restart(&mut self, id: i32) {
        let directory = self.directories[&id].path();
        let listener = TcpListener::bind(&self.addresses[&id]).unwrap();
        let controller = ControllerListener {
            listener,
            address: self.addresses[&id].clone(),
        };
        let options = QuorumOptions {
            listener: Some(controller),
            voters: self.addresses.clone(),
            ..options(directory, id)
        };
        let quorum = Quorum::open(options).await.unwrap();
        self.running.insert(id, Arc::new(quorum));
    }

    async fn stop(&mut self, id: i32) {
        let quorum = self.running.remove(&id).unwrap();
        quorum.shutdown().await;
    }

    /// The leader that a majority agrees on.
    async fn leader(&self) -> i32 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let named: Vec<i32> = self.running.values().map(|q| q.leader().0).collect();
            let leads = |id: &i32| {
                self.running.contains_key(id)
                    && named.iter().filter(|n| *n == id).count() * 2 > self.addresses.len()
            };
            if let Some(leader) = named.iter().copied().find(leads) {
                return leader;
            }
            assert!(Instant::now() < deadline, "no leader: {named:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// A controller that the others' configuration does not name.
    async fn start_another(&mut self, id: i32) {
        let directory = TempDir::new().unwrap();
        let options = QuorumOptions {
            founds: false,
            voters: self.addresses.clone(),
            ..options(directory.path(), id)
        };
        let quorum = Quorum::open(options).await.unwrap();
        self.directories.insert(id, directory);
        self.running.insert(id, Arc::new(quorum));
    }

    async fn description(&self) -> QuorumDescription {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for quorum in self.running.values() {
                if let Some(description) = quorum.describe().await {
                    return description;
                }
            }
            assert!(Instant::now() < deadline, "nobody describes the quorum");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn wait_for_voters(&self, voters: &[i32]) {
        self.wait_for_members(voters, |d| &d.voters).await;
    }

    /// Waits until those of the description are these, by `node.id`.
    async fn wait_for_members(
        &self,
        wanted: &[i32],
        of: fn(&QuorumDescription) -> &[MemberProgress],
    ) -> QuorumDescription {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let description = self.description().await;
            let ids: Vec<i32> = of(&description).iter().map(|m| m.node_id).collect();
            if ids == wanted {
                return description;
            }
            assert!(Instant::now() < deadline, "{ids:?}, not {wanted:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn directory_id(&self, id: i32) -> Uuid {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let description = self.description().await;
            let members = description.voters.iter().chain(&description.observers);
            if let Some(found) = members.into_iter().find(|m| m.node_id == id) {
                return found.directory_id;
            }
            assert!(Instant::now() < deadline, "{id} never becomes a member");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn wait_for(&self, id: i32, what: &str, holds: impl Fn(&Quorum) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(&self.running[&id]) {
            assert!(Instant::now() < deadline, "{what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn any_member_takes_a_command_and_a_dead_leader_is_followed_within_a_second_or_two() {
    let mut cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    for (id, quorum) in &cluster.running {
        write(quorum, &format!("by{id}")).await;
    }
    cluster.stop(leader).await;
    let began = Instant::now();
    let next = cluster.leader().await;
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    assert_ne!(next, leader);
    for (id, quorum) in &cluster.running {
        write(quorum, &format!("again{id}")).await;
    }
    cluster.restart(leader).await;
    cluster
        .wait_for(leader, "the old leader catches up", |q| configs(q) == 5)
        .await;
    let presences = cluster.running[&next].presences();
    assert!(presences.newest(leader).unwrap().gone_since.is_none());
}

#[tokio::test]
async fn a_member_that_is_gone_is_missed_at_once_by_every_controller() {
    let mut cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let other = (1..=3).find(|id| *id != leader).unwrap();
    for id in (1..=3).filter(|id| *id != other) {
        cluster
            .wait_for(id, "everybody is heard of", |q| {
                q.presences()
                    .newest(other)
                    .is_some_and(|p| p.gone_since.is_none())
            })
            .await;
    }
    cluster.stop(other).await;
    let began = Instant::now();
    for id in cluster.running.keys() {
        cluster
            .wait_for(*id, "its absence is noticed", |q| {
                q.presences()
                    .newest(other)
                    .is_some_and(|p| p.gone_since.is_some())
            })
            .await;
    }
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn a_voter_with_an_empty_disk_is_a_new_member_in_the_place_of_the_old_one() {
    let mut cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    write(&cluster.running[&leader], "before").await;
    let other = (1..=3).find(|id| *id != leader).unwrap();
    let before = cluster.running[&leader].describe().await.unwrap();
    cluster.stop(other).await;
    cluster.directories.insert(other, TempDir::new().unwrap());
    cluster.restart(other).await;
    cluster
        .wait_for(other, "the new voter has everything", |q| configs(q) == 1)
        .await;
    let deadline = Instant::now() + PATIENCE;
    let directory_of = |d: &QuorumDescription| {
        let voter = d.voters.iter().find(|v| v.node_id == other);
        voter.map(|v| v.directory_id)
    };
    loop {
        let after = cluster.running[&other].describe().await;
        if let Some(after) = after
            && after.voters.len() == 3
            && directory_of(&after).is_some_and(|d| Some(d) != directory_of(&before))
        {
            break;
        }
        assert!(Instant::now() < deadline, "it becomes a voter");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The new member's vote counts: with it and one other, the quorum continues.
    cluster.stop(leader).await;
    cluster.leader().await;
    write(&cluster.running[&other], "after").await;
}

#[tokio::test]
async fn a_broker_that_does_not_vote_follows_and_submits() {
    let cluster = Cluster::start().await;
    let directory = TempDir::new().unwrap();
    let options = QuorumOptions {
        founds: false,
        listener: None,
        voters: cluster.addresses.clone(),
        ..options(directory.path(), 9)
    };
    let broker = Quorum::open(options).await.unwrap();
    write(&broker, "k").await;
    assert_eq!(configs(&broker), 1);
    let description = broker.describe().await.unwrap();
    assert_eq!(
        (description.voters.len(), description.observers.len()),
        (3, 1)
    );
    assert_eq!(description.observers[0].node_id, 9);
}

/// Asks until a leader answers: on a busy machine an election may come between.
async fn change_voter(member: &Quorum, asked: VoterChange) -> Result<(), VoterRefusal> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match member.change_voter(asked).await {
            Err(VoterRefusal::NotLeader) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            answer => return answer,
        }
    }
}

fn change(node_id: i32, directory_id: Uuid, votes: bool) -> VoterChange {
    VoterChange {
        node_id,
        directory_id,
        votes,
        timeout: PATIENCE,
    }
}

#[tokio::test]
async fn a_controller_is_added_by_name_and_the_leader_removed_and_both_stay_so() {
    let mut cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    cluster.start_another(4).await;
    let new = cluster.directory_id(4).await;
    cluster.wait_for_voters(&[1, 2, 3]).await;
    let by_the_new_one = cluster.running[&4].clone();
    let unknown = change(9, Uuid::new_v4(), false);
    let refused = change_voter(&by_the_new_one, unknown).await;
    assert!(
        matches!(refused, Err(VoterRefusal::NotFound(_))),
        "{refused:?}"
    );
    change_voter(&by_the_new_one, change(4, new, true))
        .await
        .unwrap();
    cluster.wait_for_voters(&[1, 2, 3, 4]).await;
    let again = change_voter(&by_the_new_one, change(4, new, true)).await;
    assert!(
        matches!(again, Err(VoterRefusal::Duplicate(_))),
        "{again:?}"
    );

    let old = cluster.directory_id(leader).await;
    change_voter(&by_the_new_one, change(leader, old, false))
        .await
        .unwrap();
    let rest: Vec<i32> = (1..=4).filter(|id| *id != leader).collect();
    cluster.wait_for_voters(&rest).await;
    let now = cluster.wait_for_members(&[leader], |d| &d.observers).await;
    assert!(rest.contains(&now.leader), "a voter leads: {now:?}");
    write(&cluster.running[&leader], "by the removed one").await;

    // Its configuration still names it; the committed removal takes precedence.
    cluster.stop(leader).await;
    cluster.restart(leader).await;
    write(&cluster.running[&leader], "again").await;
    cluster.wait_for_voters(&rest).await;
    cluster.stop(leader).await;

    // Two of the three voters, the new one among them, are a majority.
    let other = rest.into_iter().find(|id| *id != 4).unwrap();
    cluster.stop(other).await;
    write(&by_the_new_one, "two of three").await;
    assert_eq!(configs(&by_the_new_one), 3);
}

#[tokio::test]
async fn a_removal_that_was_only_written_down_is_finished_by_whoever_leads() {
    let mut cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let dead = (1..=3).find(|id| *id != leader).unwrap();
    cluster.stop(dead).await;
    let said = Command::SetVoter {
        node_id: BrokerId(dead),
        votes: false,
    };
    cluster.running[&leader].submit(said).await.unwrap();
    let rest: Vec<i32> = (1..=3).filter(|id| *id != dead).collect();
    cluster.wait_for_voters(&rest).await;
    let last = change(dead, Uuid::new_v4(), false);
    let refused = change_voter(&cluster.running[&leader], last).await;
    assert!(matches!(refused, Err(VoterRefusal::NotFound(_))));
}

#[tokio::test]
async fn the_decision_of_a_deposed_controller_dies_with_its_term() {
    let cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let old = cluster.running[&leader].clone();
    write(&old, "before").await;
    let term = old.office().unwrap();
    let other = (1..=3).find(|id| *id != leader).unwrap();
    let other = cluster.running[&other].clone();
    let depose = async |by: &Quorum, whom: &Quorum| {
        let deadline = Instant::now() + PATIENCE;
        // Votes are refused while a leader speaks, and a member that has seen a longer log waits longer than others before
        // it stands for election: without this, one of the others may win for ever.
        let let_others_lead = |may: bool| {
            let all = cluster.running.values();
            for quorum in all.filter(|q| !std::ptr::eq(q.raft(), by.raft())) {
                quorum.raft().runtime_config().elect(may);
                quorum.raft().runtime_config().heartbeat(may);
            }
        };
        let_others_lead(false);
        while by.office().is_none() || whom.office().is_some() {
            by.raft().trigger().elect().await.unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert!(Instant::now() < deadline, "no other leader");
        }
        let_others_lead(true);
    };
    depose(&other, &old).await;
    let stale = old.decide_in_office(term, set("stale", "v")).await;
    assert!(
        matches!(stale, Err(SubmitError::Unavailable(_))),
        "{stale:?}"
    );
    // In office again, it decides anew.
    depose(&old, &other).await;
    let stale = old.decide_in_office(term, set("stale", "v")).await;
    assert!(
        matches!(stale, Err(SubmitError::Unavailable(_))),
        "{stale:?}"
    );
    write(&old, "after").await;
    let image = old.image();
    let keys: Vec<&str> = image
        .configs(&ConfigResource::Broker(None))
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(keys, ["after", "before"]);
}
