//! An S3 server in memory, on a real socket, that fails on demand ([`Fault`]). The server supports the requests that the broker uses: put, get with
//! ranges, head, delete (one and many), list, multipart. As S3 does, it wants a length of each body, and compares what comes
//! with a CRC-64/NVME that the request names.

mod fault;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

pub use fault::Fault;
use fault::{Injected, handle};

type Upload = (String, BTreeMap<usize, Bytes>);

#[derive(Default)]
struct Store {
    buckets: Vec<String>,
    objects: BTreeMap<String, Bytes>,
    uploads: HashMap<String, Upload>,
    next_upload: u64,
    faults: Vec<Injected>,
    /// The store knows no checksums, as older ones.
    ignores_checksums: bool,
    /// Objects whose key contains this are said to be deleted, and stay.
    kept: Option<String>,
    locations: HashMap<String, String>,
    now_served: usize,
    most_at_once: usize,
    requests: Vec<(Method, String)>,
    regions: BTreeSet<String>,
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

    /// The next `times` requests with this method (`*`: any; deleting many objects is a DELETE here too) whose path and query
    /// contain `part` fail in this way.
    pub fn inject(&self, method: &str, part: &str, times: u32, fault: Fault) {
        self.lock().faults.push(Injected {
            method: (method != "*").then(|| method.parse().expect("a method")),
            part: part.to_owned(),
            times,
            fault,
        });
    }

    /// From now on the store knows no checksums.
    pub fn ignore_checksums(&self) {
        self.lock().ignores_checksums = true;
    }

    /// From now on objects whose key contains `part` are said to be deleted, and stay.
    pub fn keep(&self, part: &str) {
        self.lock().kept = Some(part.to_owned());
    }

    /// The location that a bucket was created with.
    pub fn location(&self, bucket: &str) -> Option<String> {
        self.lock().locations.get(bucket).cloned()
    }

    /// The most requests for objects of segments that were under way at once.
    pub fn most_at_once(&self) -> usize {
        self.lock().most_at_once
    }

    /// An upload in parts that somebody began and never finished.
    pub fn leave_upload(&self, key: &str) {
        let mut store = self.lock();
        store.next_upload += 1;
        let id = store.next_upload.to_string();
        store.uploads.insert(id, (key.to_owned(), BTreeMap::new()));
    }

    /// The stored bytes of a key.
    pub fn object(&self, key: &str) -> Option<Bytes> {
        self.lock().objects.get(key).cloned()
    }

    pub fn heal(&self) {
        self.lock().faults.clear();
    }

    /// Keys of all objects.
    pub fn keys(&self) -> Vec<String> {
        self.lock().objects.keys().cloned().collect()
    }

    /// Method, path and query of each request, the latest last.
    pub fn requests(&self) -> Vec<(Method, String)> {
        self.lock().requests.clone()
    }

    /// How many requests with this method hit a path that contains `part`.
    pub fn count(&self, method: &str, part: &str) -> usize {
        self.lock()
            .requests
            .iter()
            .filter(|(m, whole)| {
                let path = whole.split('?').next().unwrap_or_default();
                m.as_str() == method && path.contains(part)
            })
            .count()
    }

    /// The regions that signatures were made for.
    pub fn regions(&self) -> BTreeSet<String> {
        self.lock().regions.clone()
    }

    /// Flips a bit in the middle of the stored bytes of every object whose key ends in `suffix`.
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

/// The region of a request's signature, whose scope is `Credential=id/date/region/s3/aws4_request`.
fn signed_region(request: &Request) -> Option<String> {
    let signature = request
        .headers()
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?;
    let (_, scope) = signature.split_once("Credential=")?;
    scope.split('/').nth(2).map(str::to_owned)
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

async fn serve(store: &Mutex<Store>, request: Request, path: &str) -> Response {
    let (method, query, headers) = (
        request.method().clone(),
        query(&request),
        request.headers().clone(),
    );
    let has_length = headers.contains_key(header::CONTENT_LENGTH);
    let body = axum::body::to_bytes(request.into_body(), usize::MAX)
        .await
        .unwrap_or_default();
    if matches!(method, Method::PUT | Method::POST) && !has_length {
        let page = "<Error><Code>MissingContentLength</Code></Error>";
        return (StatusCode::LENGTH_REQUIRED, page).into_response();
    }
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
            let body = String::from_utf8_lossy(body);
            let location = body.split_once("<LocationConstraint>");
            if let Some((location, _)) = location.and_then(|(_, rest)| rest.split_once('<')) {
                self.locations
                    .insert(bucket.to_owned(), location.to_owned());
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
                self.delete(&format!("{bucket}/{key}"));
                deleted.push_str(&format!("<Deleted><Key>{key}</Key></Deleted>"));
            }
            let page = format!("<DeleteResult>{deleted}</DeleteResult>");
            return ([(header::CONTENT_TYPE, "application/xml")], page).into_response();
        }
        let prefix = format!(
            "{bucket}/{}",
            query.get("prefix").cloned().unwrap_or_default()
        );
        if query.contains_key("uploads") {
            return self.list_uploads(bucket, &prefix);
        }
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

    fn delete(&mut self, key: &str) {
        if !self.kept.as_ref().is_some_and(|part| key.contains(part)) {
            self.objects.remove(key);
        }
    }

    fn list_uploads(&self, bucket: &str, prefix: &str) -> Response {
        let uploads = self.uploads.iter();
        let entries: String = uploads
            .filter(|(_, (key, _))| key.starts_with(prefix))
            .map(|(id, (key, _))| {
                format!(
                    "<Upload><Key>{}</Key><UploadId>{id}</UploadId><Initiated>2020-01-01T00:00:00.000Z</Initiated></Upload>",
                    &key[bucket.len() + 1..]
                )
            })
            .collect();
        let page = format!(
            "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>{entries}</ListMultipartUploadsResult>"
        );
        ([(header::CONTENT_TYPE, "application/xml")], page).into_response()
    }

    /// The answer of S3 where a body does not fit its checksum.
    fn bad_digest(&self, headers: &HeaderMap, body: &[u8]) -> Option<Response> {
        let wanted = headers.get("x-amz-checksum-crc64nvme")?.to_str().ok()?;
        let algorithm = crc_fast::CrcAlgorithm::Crc64Nvme;
        let found = base64(&crc_fast::checksum(algorithm, body).to_be_bytes());
        let page =
            "<Error><Code>BadDigest</Code><Message>The checksum did not match.</Message></Error>";
        (!self.ignores_checksums && found != wanted)
            .then(|| (StatusCode::BAD_REQUEST, page).into_response())
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
        if let Some(refused) = self.bad_digest(headers, &body) {
            return refused;
        }
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
                self.delete(key);
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

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for run in bytes.chunks(3) {
        let byte = |n: usize| u32::from(run.get(n).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) & 63;
            text.push(if digit <= run.len() {
                char::from(DIGITS[index as usize])
            } else {
                '='
            });
        }
    }
    text
}
