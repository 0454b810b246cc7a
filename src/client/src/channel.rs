//! A connection that carries several requests at once. Kafka answers in the order of the requests, so one queue of waiting
//! callers is enough.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages as m;
use kafka_protocol::protocol::{Message, Request, VersionRange};
use strandline_wire::{ApiKey, ErrorCode, StrBytes};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::error::ClientError;
use crate::framing::{decode_response, encode_request, read_frame};

/// Requests that wait to be written.
const QUEUE: usize = 64;
/// Time-out of the connection and the first requests: the kernel's own limit is minutes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

type Waiting = Arc<Mutex<VecDeque<oneshot::Sender<Bytes>>>>;

struct Outgoing {
    frame: Bytes,
    /// `None`: the broker will not answer.
    answer: Option<oneshot::Sender<Bytes>>,
}

/// The answer to come, and the number that it carries.
struct Expected {
    correlation_id: i32,
    answered: oneshot::Receiver<Bytes>,
}

fn key_of<R: Request>() -> ApiKey {
    ApiKey::try_from(R::KEY).expect("a request's own key is known")
}

/// A connection to one broker, with the versions that it speaks. Clones share it; it ends with the last of them.
#[derive(Clone)]
pub struct Channel {
    inner: Arc<Inner>,
}

struct Inner {
    address: String,
    client_id: StrBytes,
    outgoing: mpsc::Sender<Outgoing>,
    /// How many have been sent: their correlation ids.
    requests: AtomicI32,
    versions: HashMap<i16, VersionRange>,
    closed: CancellationToken,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

impl Channel {
    /// Connects and asks which versions the broker speaks.
    pub async fn open(address: &str, client_id: &str) -> Result<Self, ClientError> {
        let io = |source| ClientError::Io {
            address: address.to_owned(),
            source,
        };
        let connecting = TcpStream::connect(address);
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, connecting)
            .await
            .map_err(|_| io(io::ErrorKind::TimedOut.into()))?
            .map_err(io)?;
        let _ = stream.set_nodelay(true);
        let (read, write) = stream.into_split();
        let (outgoing, queue) = mpsc::channel(QUEUE);
        let closed = CancellationToken::new();
        let waiting = Waiting::default();
        tokio::spawn(write_all(write, queue, waiting.clone(), closed.clone()));
        tokio::spawn(read_all(read, waiting, closed.clone()));
        let mut inner = Inner {
            address: address.to_owned(),
            client_id: StrBytes::from_string(client_id.to_owned()),
            outgoing,
            requests: AtomicI32::new(0),
            versions: HashMap::new(),
            closed,
        };
        inner.versions = inner.ask_versions().await?;
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    pub fn is_closed(&self) -> bool {
        self.inner.closed.is_cancelled()
    }

    /// The versions of every API that the broker knows, by key.
    pub fn versions(&self) -> &HashMap<i16, VersionRange> {
        &self.inner.versions
    }

    /// The newest version that both sides know.
    pub fn version_of<R: Request>(&self) -> Result<i16, ClientError> {
        let theirs = self.inner.versions.get(&R::KEY);
        let common = theirs
            .map(|range| {
                (
                    R::VERSIONS.min.max(range.min),
                    R::VERSIONS.max.min(range.max),
                )
            })
            .filter(|(min, max)| min <= max);
        let unknown = || ClientError::UnsupportedApi {
            api: format!("{:?}", key_of::<R>()),
        };
        common.map(|(_, max)| max).ok_or_else(unknown)
    }

    /// Sends a request in the newest version that both sides know and waits for its answer.
    pub async fn call<R: Request>(
        &self,
        request: &R,
        limit: Duration,
    ) -> Result<R::Response, ClientError> {
        let version = self.version_of::<R>()?;
        self.call_version(request, version, limit).await
    }

    pub async fn call_version<R: Request>(
        &self,
        request: &R,
        version: i16,
        limit: Duration,
    ) -> Result<R::Response, ClientError> {
        let calling = async { self.begin(request, version).await?.await };
        let calling = tokio::time::timeout(limit, calling).await;
        calling.map_err(|_| self.late::<R>(limit))?
    }

    /// Sends a request; the future is its answer. Requests that were begun one after the other arrive in that order.
    pub async fn begin<R: Request>(
        &self,
        request: &R,
        version: i16,
    ) -> Result<impl Future<Output = Result<R::Response, ClientError>> + use<R>, ClientError> {
        let expected = self.inner.send(request, version).await?;
        let inner = self.inner.clone();
        Ok(async move { inner.receive::<R>(version, expected).await })
    }

    /// The error of a request that was not answered in time.
    pub fn late<R: Request>(&self, limit: Duration) -> ClientError {
        let api = std::any::type_name::<R>().rsplit("::").next();
        ClientError::TimedOut {
            address: self.inner.address.clone(),
            api: api.unwrap_or("?").to_owned(),
            waited: limit,
        }
    }

    /// Sends a request that is not answered (`acks=0`).
    pub async fn tell_version<R: Request>(
        &self,
        request: &R,
        version: i16,
    ) -> Result<(), ClientError> {
        let (frame, _) = self.inner.frame(request, version)?;
        let sent = self.inner.outgoing.send(Outgoing {
            frame,
            answer: None,
        });
        sent.await.map_err(|_| self.inner.ended())
    }
}

impl Inner {
    fn ended(&self) -> ClientError {
        ClientError::Closed {
            address: self.address.clone(),
        }
    }

    fn bad_answer(&self, reason: &dyn std::fmt::Display) -> ClientError {
        ClientError::Decode {
            address: self.address.clone(),
            reason: reason.to_string(),
        }
    }

    /// The frame of a request, and the number that its answer carries.
    fn frame<R: Request>(&self, request: &R, version: i16) -> Result<(Bytes, i32), ClientError> {
        let id = self.requests.fetch_add(1, Ordering::Relaxed);
        let frame = encode_request(key_of::<R>(), version, id, self.client_id.clone(), request);
        frame.map(|f| (f, id)).map_err(|e| self.bad_answer(&e))
    }

    async fn send<R: Request>(&self, request: &R, version: i16) -> Result<Expected, ClientError> {
        let (frame, correlation_id) = self.frame(request, version)?;
        let (answer, answered) = oneshot::channel();
        let outgoing = Outgoing {
            frame,
            answer: Some(answer),
        };
        let sent = self.outgoing.send(outgoing).await;
        sent.map_err(|_| self.ended())?;
        Ok(Expected {
            correlation_id,
            answered,
        })
    }

    async fn receive<R: Request>(
        &self,
        version: i16,
        expected: Expected,
    ) -> Result<R::Response, ClientError> {
        let body = expected.answered.await.map_err(|_| self.ended())?;
        decode_response(key_of::<R>(), version, expected.correlation_id, body)
            .map_err(|e| self.bad_answer(&e))
    }

    async fn call<R: Request>(
        &self,
        request: &R,
        version: i16,
    ) -> Result<R::Response, ClientError> {
        let expected = self.send(request, version).await?;
        self.receive::<R>(version, expected).await
    }

    async fn ask_versions(&self) -> Result<HashMap<i16, VersionRange>, ClientError> {
        let request = m::ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("strandline"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let newest = m::ApiVersionsRequest::VERSIONS.max.min(3);
        let asking = async {
            let answer = self.call(&request, newest).await?;
            if answer.error_code == ErrorCode::UnsupportedVersion.code() {
                return self.call(&m::ApiVersionsRequest::default(), 0).await;
            }
            Ok(answer)
        };
        let answer = tokio::time::timeout(CONNECT_TIMEOUT, asking)
            .await
            .map_err(|_| ClientError::Io {
                address: self.address.clone(),
                source: io::ErrorKind::TimedOut.into(),
            })??;
        crate::error::check("ApiVersions", answer.error_code, None)?;
        let ranges = answer.api_keys.iter().map(|api| {
            let range = VersionRange {
                min: api.min_version,
                max: api.max_version,
            };
            (api.api_key, range)
        });
        Ok(ranges.collect())
    }
}

async fn write_all(
    mut stream: OwnedWriteHalf,
    mut queue: mpsc::Receiver<Outgoing>,
    waiting: Waiting,
    closed: CancellationToken,
) {
    loop {
        let next = tokio::select! {
            () = closed.cancelled() => return,
            next = queue.recv() => next,
        };
        let Some(next) = next else { return };
        if let Some(answer) = next.answer {
            waiting.lock().expect("no holder panics").push_back(answer);
        }
        if stream.write_all(&next.frame).await.is_err() {
            closed.cancel();
            return;
        }
    }
}

async fn read_all(mut stream: OwnedReadHalf, waiting: Waiting, closed: CancellationToken) {
    loop {
        let frame = tokio::select! {
            () = closed.cancelled() => break,
            frame = read_frame(&mut stream) => frame,
        };
        let Ok(frame) = frame else { break };
        let next = waiting.lock().expect("no holder panics").pop_front();
        match next {
            // The caller may have stopped waiting.
            Some(answer) => {
                let _ = answer.send(frame);
            }
            None => break,
        }
    }
    closed.cancel();
    // No answer can come any more: fail all callers that wait.
    waiting.lock().expect("no holder panics").clear();
}
