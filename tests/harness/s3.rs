//! An S3 server in memory, on a real socket, that fails on demand: errors, time-outs before or after the effect,
//! truncated bodies, slow first bytes. The server supports the requests that the broker uses: put, get with ranges,
//! head, delete (one and many), list, multipart.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// A fault of the next requests that match.
#[derive(Clone, Debug)]
pub enum Fault {
    /// 503 SlowDown, nothing is done.
    SlowDown,
    /// 403 AccessDenied, nothing is done.
    Forbidden,
    /// The connection ends before anything is done.
    DropBefore,
    /// The request is done, and then the connection ends.
    DropAfter,
    /// Half of the body comes, then the connection ends.
    TruncateBody,
    /// One bit of the body is wrong.
    FlipBit,
    /// The first byte takes this long.
    SlowFirstByte(Duration),
    /// Half of the objects that a request names are deleted; then nothing happens for so long, and the connection ends.
    DeleteHalf(Duration),
}

type Upload = (String, BTreeMap<usize, Bytes>);

#[derive(Default)]
struct Store {
    buckets: Vec<String>,
    objects: BTreeMap<String, Bytes>,
    uploads: HashMap<String, Upload>,
    next_upload: u64,
    /// Method and part of the path, how many more requests, and what happens to them.
    faults: Vec<(Method, String, u32, Fault)>,
    requests: Vec<(Method, String)>,
}

/// The server; it ends with the value.
pub struct S3Server {
    address: SocketAddr,
    store: Arc<Mutex<Store>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl S3Server {
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1").await
    }

    /// Listens on this host's address, on any port.
    pub async fn start_at(host: &str) -> Self {
        let listener = tokio::net::TcpListener::bind((host, 0))
            .await
            .expect("a port");
        let address = listener.local_addr().expect("an address");
        let store = Arc::new(Mutex::new(Store::default()));
        let router = Router::new()
            .fallback(handle)
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(store.clone());
        let task = tokio::spawn(async move {
            axum::serve(listener, router)
                .await
                .expect("the server runs");
        });
        Self {
            address,
            store,
            task,
        }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Store> {
        self.store.lock().expect("no holder panics")
    }

    /// The next `times` requests with this method (deleting many objects is a DELETE here too) whose path contains `part` fail in this way.
    pub fn inject(&self, method: &str, part: &str, times: u32, fault: Fault) {
        let method = method.parse().expect("a method");
        self.lock()
            .faults
            .push((method, part.to_owned(), times, fault));
    }

    pub fn heal(&self) {
        self.lock().faults.clear();
    }

    /// Keys of all objects.
    pub fn keys(&self) -> Vec<String> {
        self.lock().objects.keys().cloned().collect()
    }

    /// How many requests with this method hit a path that contains `part`.
    pub fn count(&self, method: &str, part: &str) -> usize {
        self.lock()
            .requests
            .iter()
            .filter(|(m, path)| m.as_str() == method && path.contains(part))
            .count()
    }

    /// Flips a bit in the stored bytes of every object whose key ends in `suffix`.
    pub fn corrupt(&self, suffix: &str) {
        for (key, object) in &mut self.lock().objects {
            if key.ends_with(suffix) {
                let mut bytes = object.to_vec();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                *object = bytes.into();
            }
        }
    }

    /// Multipart uploads that were neither completed nor aborted.
    pub fn open_uploads(&self) -> usize {
        self.lock().uploads.len()
    }
}

fn query(request: &Request) -> HashMap<String, String> {
    let pairs = request
        .uri()
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|p| !p.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        })
        .collect()
}

fn decode(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let hex: Vec<u8> = bytes.by_ref().take(2).collect();
            let hex = std::str::from_utf8(&hex).unwrap_or("20");
            out.push(u8::from_str_radix(hex, 16).unwrap_or(b' '));
        } else {
            out.push(byte);
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A response that ends in the middle of its body, so that the client sees a broken connection.
fn broken(bytes: Bytes, promised: usize, status: StatusCode) -> Response {
    let stream = futures::stream::iter([Ok(bytes), Err(std::io::Error::other("injected"))]);
    (
        status,
        [(header::CONTENT_LENGTH, promised.to_string())],
        Body::from_stream(stream),
    )
        .into_response()
}

async fn handle(State(store): State<Arc<Mutex<Store>>>, request: Request) -> Response {
    let deletes = request.method() == Method::POST && query(&request).contains_key("delete");
    let method = if deletes {
        Method::DELETE
    } else {
        request.method().clone()
    };
    let path = decode(request.uri().path());
    let fault = {
        let mut store = store.lock().expect("no holder panics");
        store.requests.push((method.clone(), path.clone()));
        let matching = store
            .faults
            .iter_mut()
            .find(|(m, part, times, _)| *m == method && path.contains(part.as_str()) && *times > 0);
        matching.map(|(_, _, times, fault)| {
            *times -= 1;
            fault.clone()
        })
    };
    match &fault {
        Some(Fault::SlowDown) => {
            let body = "<Error><Code>SlowDown</Code></Error>";
            return (StatusCode::SERVICE_UNAVAILABLE, body).into_response();
        }
        Some(Fault::Forbidden) => {
            let body = "<Error><Code>AccessDenied</Code></Error>";
            return (StatusCode::FORBIDDEN, body).into_response();
        }
        Some(Fault::DropBefore) => return broken(Bytes::new(), 10, StatusCode::OK),
        Some(Fault::SlowFirstByte(delay)) => tokio::time::sleep(*delay).await,
        _ => {}
    }
    let request = match fault {
        Some(Fault::DeleteHalf(_)) => half_of(request).await,
        _ => request,
    };
    let response = serve(&store, request, &path).await;
    match fault {
        Some(Fault::DeleteHalf(delay)) => {
            tokio::time::sleep(delay).await;
            broken(Bytes::new(), 10, StatusCode::OK)
        }
        Some(Fault::DropAfter) => broken(Bytes::new(), 10, StatusCode::OK),
        Some(Fault::TruncateBody | Fault::FlipBit) => {
            let (parts, body) = response.into_parts();
            let bytes = axum::body::to_bytes(body, usize::MAX)
                .await
                .unwrap_or_default();
            if matches!(fault, Some(Fault::TruncateBody)) {
                return broken(bytes.slice(..bytes.len() / 2), bytes.len(), parts.status);
            }
            let mut bytes = bytes.to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            Response::from_parts(parts, bytes.into())
        }
        _ => response,
    }
}

/// A request to delete many objects, shortened to the first half of them.
async fn half_of(request: Request) -> Request {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX)
        .await
        .unwrap_or_default();
    let text = String::from_utf8_lossy(&body).into_owned();
    let objects: Vec<&str> = text.split_inclusive("</Object>").collect();
    let half: String = objects[..objects.len() / 2].concat();
    Request::from_parts(parts, half.into())
}

async fn serve(store: &Mutex<Store>, request: Request, path: &str) -> Response {
    let (method, query, headers) = (
        request.method().clone(),
        query(&request),
        request.headers().clone(),
    );
    let body = axum::body::to_bytes(request.into_body(), usize::MAX)
        .await
        .unwrap_or_default();
    let mut store = store.lock().expect("no holder panics");
    let (bucket, key) = path
        .trim_start_matches('/')
        .split_once('/')
        .unwrap_or((path.trim_start_matches('/'), ""));
    if key.is_empty() {
        return store.bucket(&method, bucket, &query, &body);
    }
    if !store.buckets.iter().any(|b| b == bucket) {
        return (
            StatusCode::NOT_FOUND,
            "<Error><Code>NoSuchBucket</Code></Error>",
        )
            .into_response();
    }
    store.object(&method, &format!("{bucket}/{key}"), &query, &headers, body)
}

impl Store {
    fn bucket(
        &mut self,
        method: &Method,
        bucket: &str,
        query: &HashMap<String, String>,
        body: &Bytes,
    ) -> Response {
        if *method == Method::PUT {
            if self.buckets.iter().any(|b| b == bucket) {
                return StatusCode::CONFLICT.into_response();
            }
            self.buckets.push(bucket.to_owned());
            return StatusCode::OK.into_response();
        }
        if *method == Method::POST && query.contains_key("delete") {
            let text = String::from_utf8_lossy(body);
            let keys: Vec<&str> = text
                .split("<Key>")
                .skip(1)
                .filter_map(|k| k.split("</Key>").next())
                .collect();
            let mut deleted = String::new();
            for key in keys {
                self.objects.remove(&format!("{bucket}/{key}"));
                deleted.push_str(&format!("<Deleted><Key>{key}</Key></Deleted>"));
            }
            let page = format!("<DeleteResult>{deleted}</DeleteResult>");
            return ([(header::CONTENT_TYPE, "application/xml")], page).into_response();
        }
        let prefix = format!(
            "{bucket}/{}",
            query.get("prefix").cloned().unwrap_or_default()
        );
        let entries: String = self
            .objects
            .iter()
            .filter(|(key, _)| key.starts_with(&prefix))
            .map(|(key, object)| {
                format!(
                    "<Contents><Key>{}</Key><Size>{}</Size><LastModified>2020-01-01T00:00:00.000Z</LastModified>\
                     <ETag>\"x\"</ETag></Contents>",
                    &key[bucket.len() + 1..],
                    object.len()
                )
            })
            .collect();
        let page = format!(
            "<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
        );
        ([(header::CONTENT_TYPE, "application/xml")], page).into_response()
    }

    fn object(
        &mut self,
        method: &Method,
        key: &str,
        query: &HashMap<String, String>,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Response {
        let etag = [(header::ETAG, "\"x\"")];
        match (method, query.get("uploadId"), query.get("partNumber")) {
            (&Method::POST, None, _) if query.contains_key("uploads") => {
                self.next_upload += 1;
                let id = self.next_upload.to_string();
                self.uploads
                    .insert(id.clone(), (key.to_owned(), BTreeMap::new()));
                format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>")
                    .into_response()
            }
            (&Method::PUT, Some(id), Some(part)) => match self.uploads.get_mut(id) {
                Some((_, parts)) => {
                    parts.insert(part.parse().unwrap_or(0), body);
                    etag.into_response()
                }
                None => (
                    StatusCode::NOT_FOUND,
                    "<Error><Code>NoSuchUpload</Code></Error>",
                )
                    .into_response(),
            },
            (&Method::POST, Some(id), None) => match self.uploads.remove(id) {
                Some((key, parts)) => {
                    let whole: Vec<u8> = parts.into_values().flatten().collect();
                    self.objects.insert(key, whole.into());
                    "<CompleteMultipartUploadResult><ETag>\"x\"</ETag></CompleteMultipartUploadResult>".into_response()
                }
                None => (
                    StatusCode::NOT_FOUND,
                    "<Error><Code>NoSuchUpload</Code></Error>",
                )
                    .into_response(),
            },
            (&Method::DELETE, Some(id), None) => {
                self.uploads.remove(id);
                StatusCode::NO_CONTENT.into_response()
            }
            (&Method::PUT, None, None) => {
                self.objects.insert(key.to_owned(), body);
                etag.into_response()
            }
            (&Method::DELETE, None, None) => {
                self.objects.remove(key);
                StatusCode::NO_CONTENT.into_response()
            }
            (&Method::GET | &Method::HEAD, ..) => self.read(key, headers),
            _ => StatusCode::NOT_IMPLEMENTED.into_response(),
        }
    }

    fn read(&self, key: &str, headers: &HeaderMap) -> Response {
        let Some(object) = self.objects.get(key) else {
            return (
                StatusCode::NOT_FOUND,
                "<Error><Code>NoSuchKey</Code></Error>",
            )
                .into_response();
        };
        let modified = (
            header::LAST_MODIFIED,
            "Wed, 01 Jan 2020 00:00:00 GMT".to_owned(),
        );
        let etag = (header::ETAG, "\"x\"".to_owned());
        let range = headers
            .get(header::RANGE)
            .and_then(|r| r.to_str().ok())
            .and_then(|r| {
                let (start, end) = r.strip_prefix("bytes=")?.split_once('-')?;
                let last = object.len().saturating_sub(1);
                Some((
                    start.parse::<usize>().ok()?,
                    end.parse::<usize>().unwrap_or(last).min(last),
                ))
            });
        match range {
            Some((start, last)) if start <= last && start < object.len() => {
                let content = (
                    header::CONTENT_RANGE,
                    format!("bytes {start}-{last}/{}", object.len()),
                );
                (
                    StatusCode::PARTIAL_CONTENT,
                    [modified, etag, content],
                    object.slice(start..=last),
                )
                    .into_response()
            }
            _ => ([modified, etag], object.clone()).into_response(),
        }
    }
}
