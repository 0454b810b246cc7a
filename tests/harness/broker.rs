//! A broker in this process with a directory of its own.

use std::path::Path;

use strandline_broker::Server;
use strandline_broker::settings::{Properties, PropertySource, Settings};
use strandline_client::Client;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::kill::Moment;

/// A running broker; its data outlives a restart.
pub struct TestBroker {
    broker: Option<Server>,
    directory: TempDir,
    properties: Vec<(String, String)>,
}

impl TestBroker {
    /// Starts a broker without a cold tier.
    pub async fn start(properties: &[(&str, &str)]) -> Self {
        Self::start_in(TempDir::new().expect("a directory"), properties).await
    }

    /// Starts a broker whose cold tier is a directory, with short intervals.
    pub async fn start_tiered(properties: &[(&str, &str)]) -> Self {
        let mut broker = Self::prepare_tiered(properties);
        broker.resume().await;
        broker
    }

    /// The same, not started yet.
    pub fn prepare_tiered(properties: &[(&str, &str)]) -> Self {
        let directory = TempDir::new().expect("a directory");
        let url = format!("file://{}", directory.path().join("remote").display());
        let mut all = vec![("strandline.remote.store.url", url.as_str())];
        all.extend(TIERED);
        all.extend_from_slice(properties);
        Self::prepare_in(directory, &all)
    }

    /// Starts a broker whose cold tier is an S3 server at `endpoint`.
    pub async fn start_on_s3(endpoint: &str, properties: &[(&str, &str)]) -> Self {
        let mut all = vec![
            ("strandline.remote.store.url", "s3://cold/prefix"),
            ("strandline.remote.store.endpoint", endpoint),
            ("strandline.remote.store.access.key.id", "id"),
            ("strandline.remote.store.secret.access.key", "secret"),
            ("strandline.remote.store.create.bucket", "true"),
        ];
        all.extend(TIERED);
        all.extend_from_slice(properties);
        Self::start_in(TempDir::new().expect("a directory"), &all).await
    }

    /// A broker without a cold tier, not started yet.
    pub fn prepare(properties: &[(&str, &str)]) -> Self {
        Self::prepare_in(TempDir::new().expect("a directory"), properties)
    }

    async fn start_in(directory: TempDir, properties: &[(&str, &str)]) -> Self {
        let mut broker = Self::prepare_in(directory, properties);
        broker.resume().await;
        broker
    }

    fn prepare_in(directory: TempDir, properties: &[(&str, &str)]) -> Self {
        crate::logs::show_logs();
        let owned = properties
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        Self {
            broker: None,
            directory,
            properties: owned,
        }
    }

    /// Starts again after [`TestBroker::stop`], on the same data.
    pub async fn resume(&mut self) {
        let settings = self.settings();
        self.broker = Some(Server::start(settings).await.expect("the broker starts"));
    }

    /// Starts the broker again; the error is the reason why it does not start.
    pub async fn try_resume(&mut self) -> Result<(), String> {
        let started = Server::start(self.settings()).await;
        self.broker = Some(started.map_err(|e| e.to_string())?);
        Ok(())
    }

    /// Changes a property; the next start has the new value.
    pub fn set_property(&mut self, key: &str, value: &str) {
        self.properties.retain(|(known, _)| known != key);
        self.properties.push((key.to_owned(), value.to_owned()));
    }

    pub fn settings(&self) -> Settings {
        let mut properties = Properties::default();
        let logs = self.directory.path().join("log").display().to_string();
        for (key, value) in [
            ("listeners", "PLAINTEXT://127.0.0.1:0"),
            ("strandline.http.listener", "127.0.0.1:0"),
            ("log.dirs", &logs),
            ("offsets.topic.num.partitions", "3"),
            ("offsets.topic.replication.factor", "1"),
            ("group.initial.rebalance.delay.ms", "0"),
        ] {
            properties.set(key.to_owned(), value.to_owned(), PropertySource::File);
        }
        for (key, value) in &self.properties {
            properties.set(key.clone(), value.clone(), PropertySource::Override);
        }
        Settings::resolve(&properties).expect("the settings are valid")
    }

    /// Stops cleanly.
    pub async fn stop(&mut self) {
        if let Some(broker) = self.broker.take() {
            broker.shutdown().await;
        }
    }

    /// Ends as if the process had been killed now: see [`TestBroker::resume`].
    pub async fn kill(&mut self) {
        let now = Moment::take(self.directory.path());
        self.stop().await;
        now.restore();
    }

    fn running(&self) -> &Server {
        self.broker.as_ref().expect("the broker runs")
    }

    /// `host:port` of the Kafka listener.
    pub fn address(&self) -> String {
        self.running().addresses()[0].to_string()
    }

    /// `host:port` of the HTTP listener.
    pub fn http_address(&self) -> String {
        self.running()
            .http_address()
            .expect("HTTP is on")
            .to_string()
    }

    /// The body that the HTTP listener answers with.
    pub async fn http_get(&self, path: &str) -> String {
        http_get(&self.http_address(), path).await
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub async fn client(&self) -> Client {
        Client::connect(&self.address())
            .await
            .expect("the broker accepts")
    }
}

pub(crate) const TIERED: [(&str, &str); 4] = [
    ("remote.log.storage.system.enable", "true"),
    ("remote.log.manager.task.interval.ms", "50"),
    ("remote.log.manager.task.retry.backoff.ms", "20"),
    ("remote.log.manager.task.retry.backoff.max.ms", "200"),
];

/// The body that an HTTP listener answers with.
pub async fn http_get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("HTTP accepts");
    // HTTP/1.0: the body is not chunked and ends with the connection.
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("HTTP reads");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .await
        .expect("HTTP answers");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a whole answer");
    body.to_owned()
}
