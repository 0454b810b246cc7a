//! Replica fetchers: one task for each leader that this broker follows. The task fetches all partitions of that leader,
//! appends the records, and fetches again from the new ends of the logs.
//!
//! The position in a fetch is a promise: all records below it are in the log, and on disk where the topic flushes
//! before it acknowledges. So a round ends when its appends are durable. A log that has diverged from its leader's is
//! truncated by leader epoch, and the recovery point is written before anything is appended behind the truncation.
//!
//! The leader keeps a fetch session (KIP-227): after the first request, a request names only positions that have
//! changed. So the cost of a round depends on how many partitions have changed, not on how many there are.
//!
//! Read next: `round.rs` (one fetch and its answer), `positions.rs` (the contents of a request), `answer.rs`.

mod answer;
mod append;
mod bootstrap;
mod positions;
mod refused;
mod request;
mod round;
mod session;
mod suspicion;
mod truncation;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use strandline_metadata::ClusterImage;
use strandline_types::BrokerId;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::context::BrokerContext;
use crate::partition::Partition;
use refused::RefusedBatches;
use round::Fetcher;
use session::Session;
use suspicion::Suspicion;

type Followed = Arc<Vec<Arc<Partition>>>;

/// All fetchers of this broker, by leader.
#[derive(Default)]
pub struct ReplicaFetchers {
    running: Mutex<HashMap<BrokerId, Running>>,
}

struct Running {
    followed: watch::Sender<Followed>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl ReplicaFetchers {
    /// Starts and stops fetchers so that each partition is fetched from its present leader.
    pub fn follow(&self, context: &Arc<BrokerContext>, image: &ClusterImage) {
        let own = BrokerId(context.node_id());
        let mut wanted: BTreeMap<BrokerId, Vec<Arc<Partition>>> = BTreeMap::new();
        for partition in context.partitions.all() {
            if let Some(leader) = partition.role().leader
                && leader != own
                && !partition.is_offline()
                && image.brokers.get(&leader).is_some_and(|b| !b.fenced)
            {
                wanted.entry(leader).or_default().push(partition);
            }
        }
        let mut running = self.running.lock().expect("no holder panics");
        running.retain(|leader, fetcher| {
            let stays = wanted.contains_key(leader);
            if !stays {
                fetcher.stop.cancel();
            }
            stays
        });
        for (leader, mut partitions) in wanted {
            partitions.sort_by_key(|p| p.key());
            let fetcher = running.entry(leader).or_insert_with(|| {
                let (followed, receiver) = watch::channel(Followed::default());
                let stop = CancellationToken::new();
                let fetcher = Fetcher {
                    context: context.clone(),
                    leader,
                    receiver,
                    followed: HashMap::new(),
                    backoff: HashMap::new(),
                    session: Session::default(),
                    refused: RefusedBatches::default(),
                    suspicion: Suspicion::new(context.quorum.clone(), leader),
                };
                let task = tokio::spawn(fetcher.run(stop.clone()));
                Running {
                    followed,
                    stop,
                    task,
                }
            });
            fetcher.followed.send_if_modified(|known| {
                let same = known.len() == partitions.len()
                    && known
                        .iter()
                        .zip(&partitions)
                        .all(|(a, b)| Arc::ptr_eq(a, b));
                if !same {
                    *known = Arc::new(partitions);
                }
                !same
            });
        }
    }

    pub async fn shutdown(&self) {
        let stopped: Vec<Running> = {
            let mut running = self.running.lock().expect("no holder panics");
            running.drain().map(|(_, fetcher)| fetcher).collect()
        };
        for fetcher in &stopped {
            fetcher.stop.cancel();
        }
        for fetcher in stopped {
            let _ = fetcher.task.await;
        }
    }
}
