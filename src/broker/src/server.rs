//! Starting and stopping a process.
//!
//! Order of start: HTTP pages, quorum, controller, broker (`broker.rs`). The stop goes the reverse way. Deadlines: `stop.rs`.

use std::net::SocketAddr;
use std::sync::Arc;

use strandline_metadata::config::BrokerConfig;
use strandline_metadata::controller::ControllerContext;
use strandline_quorum::Quorum;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::broker::Broker;
use crate::cluster::controller;
use crate::descriptors;
use crate::endpoints::{bind_all, bind_http};
use crate::follow::reserve_bytes;
use crate::founding::{Founding, founding};
use crate::http::{self, Pages};
use crate::metadata_place::{MetadataPlace, note_cluster_id};
use crate::partition::LogDirs;
use crate::quorum_options::{metadata_parent, quorum_options};
use crate::settings::Settings;
use crate::start_error::StartError;
use crate::stop::{self, within};

/// The parts of a process that has started.
type Started = (
    Arc<Quorum>,
    Option<Broker>,
    MetadataPlace,
    Vec<JoinHandle<()>>,
);

/// A running process: a broker, a controller, or both.
pub struct Server {
    quorum: Arc<Quorum>,
    broker: Option<Broker>,
    http_address: Option<SocketAddr>,
    /// Where the metadata lies.
    metadata_dir: MetadataPlace,
    /// Ends what belongs to no broker.
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Server {
    /// Starts the process; returns when a broker accepts connections.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        descriptors::raise();
        let file = BrokerConfig {
            file: settings.properties.clone(),
            ..BrokerConfig::default()
        };
        let founding = founding(&settings)??;
        // Bind first: a port that another process has taken is reported before anything is changed on disk.
        let listeners = bind_all(&settings, &file).await?;
        let http_listener = bind_http(&settings).await?;
        let http_address = http_listener
            .as_ref()
            .map(TcpListener::local_addr)
            .transpose()?;
        let stop = CancellationToken::new();
        let mut tasks = Vec::new();
        let pages = Pages::new(&settings);
        if let Some(listener) = http_listener {
            let serving = http::serve(pages.clone(), listener, stop.clone());
            tasks.push(tokio::spawn(serving));
        }
        let started = Self::start_behind_pages(settings, file, founding, listeners, &pages, &stop);
        match started.await {
            Ok((quorum, broker, metadata_dir, more)) => {
                tasks.extend(more);
                Ok(Self {
                    quorum,
                    broker,
                    http_address,
                    metadata_dir,
                    stop,
                    tasks,
                })
            }
            Err(error) => {
                stop.cancel();
                stop::join(tasks).await;
                Err(error)
            }
        }
    }

    /// The steps of the start behind the pages, which are served already.
    async fn start_behind_pages(
        settings: Settings,
        file: BrokerConfig,
        founding: Founding,
        listeners: Vec<(Arc<str>, TcpListener)>,
        pages: &Arc<Pages>,
        stop: &CancellationToken,
    ) -> Result<Started, StartError> {
        let log_dirs = if settings.roles.broker {
            let reserve = reserve_bytes(&file);
            let cluster_id = settings.cluster_id.as_deref();
            Some(LogDirs::open(
                &settings.log_dirs,
                settings.node_id,
                cluster_id,
                reserve,
                metadata_parent(&settings),
            )?)
        } else {
            None
        };
        let metadata_directory = metadata_parent(&settings).to_path_buf();
        let incarnation = Uuid::new_v4();
        let options = quorum_options(&settings, &file, incarnation, founding)?;
        let quorum = Arc::new(Quorum::open(options).await?);
        let metadata_dir = MetadataPlace::of(&metadata_directory)?;
        quorum.set_context(ControllerContext {
            broker: file.clone(),
            remote_enabled: settings.remote.is_some(),
        });
        pages.show_quorum(quorum.clone());
        let mut tasks = Vec::new();
        if settings.roles.controller {
            let duties = controller::run(quorum.clone(), file.clone(), stop.clone());
            tasks.push(quorum.threads().spawn(duties));
        }
        let broker = if let Some(log_dirs) = log_dirs {
            let starting = Broker::start(
                settings,
                file,
                incarnation,
                quorum.clone(),
                log_dirs,
                listeners,
                pages,
            );
            match starting.await {
                Ok(broker) => Some(broker),
                Err(error) => {
                    stop.cancel();
                    stop::join(tasks).await;
                    within(stop::QUORUM, "the metadata log", quorum.shutdown()).await;
                    return Err(error);
                }
            }
        } else {
            let directory = metadata_parent(&settings).to_path_buf();
            let noting = note_cluster_id(quorum.clone(), directory, settings.node_id);
            let noting = stop.clone().run_until_cancelled_owned(noting);
            tasks.push(tokio::spawn(async move {
                noting.await;
            }));
            None
        };
        Ok((quorum, broker, metadata_dir, tasks))
    }

    /// Addresses of the client listeners, in the order of `listeners`.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.broker.as_ref().map_or(&[], |b| &b.addresses)
    }

    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http_address
    }

    /// Returns the reason when the process cannot continue as a member of its cluster.
    pub async fn failed(&self) -> String {
        let registration = async {
            match &self.broker {
                Some(broker) => broker.registration_lost().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            reason = self.quorum.failed() => reason,
            reason = self.metadata_dir.lost() => reason,
            reason = registration => reason,
        }
    }

    /// Stops cleanly: other brokers take over the leaderships, and no acknowledged record needs recovery at the next
    /// start.
    pub async fn shutdown(self) {
        if let Some(broker) = self.broker {
            broker.shutdown().await;
        }
        self.stop.cancel();
        stop::join(self.tasks).await;
        within(stop::QUORUM, "the metadata log", self.quorum.shutdown()).await;
    }
}
