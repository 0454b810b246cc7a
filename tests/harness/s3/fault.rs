//! How the S3 server fails.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::{Store, decode, query, serve, signed_region};

/// A fault of the next requests that match.
#[derive(Clone, Debug)]
pub enum Fault {
    /// 503 SlowDown, nothing is done.
    SlowDown,
    /// 403 AccessDenied, nothing is done.
    Forbidden,
    /// A status and an error code of S3; nothing is done.
    Error(u16, &'static str),
    /// A status and this body with an ETag, as of a proxy; nothing is done.
    Body(u16, String),
    /// To where nobody is.
    Redirect(u16),
    /// 204, and nothing is done.
    SayDone,
    /// No answer comes.
    Hang,
    /// The connection ends before anything is done.
    DropBefore,
    /// The request is done, and then the connection ends.
    DropAfter,
    /// Half of the body comes, then the connection ends.
    TruncateBody,
    /// Half of the body comes, with a length that fits it.
    Shorten,
    /// One bit of the answer's body is wrong.
    FlipBit,
    /// One bit of the request's body is wrong when it arrives.
    FlipBitUp,
    /// The first byte takes this long.
    SlowFirstByte(Duration),
    /// Half of the objects that a request names are deleted; then nothing happens for so long, and the connection ends.
    DeleteHalf(Duration),
}

/// Which requests fail, and how.
pub(super) struct Injected {
    pub method: Option<Method>,
    /// Of path and query.
    pub part: String,
    /// How many more.
    pub times: u32,
    pub fault: Fault,
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

pub(super) async fn handle(State(store): State<Arc<Mutex<Store>>>, request: Request) -> Response {
    let counts = request.uri().path().contains("/segments/");
    let _served = counts.then(|| Served::begin(&store));
    answer(&store, request).await
}

/// Counts what is under way at once.
struct Served(Arc<Mutex<Store>>);

impl Served {
    fn begin(store: &Arc<Mutex<Store>>) -> Self {
        let mut counts = store.lock().expect("no holder panics");
        counts.now_served += 1;
        counts.most_at_once = counts.most_at_once.max(counts.now_served);
        Self(store.clone())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.lock().expect("no holder panics").now_served -= 1;
    }
}

async fn answer(store: &Mutex<Store>, request: Request) -> Response {
    let deletes = request.method() == Method::POST && query(&request).contains_key("delete");
    let method = if deletes {
        Method::DELETE
    } else {
        request.method().clone()
    };
    let path = decode(request.uri().path());
    let whole = format!("{path}?{}", request.uri().query().unwrap_or_default());
    let fault = {
        let mut store = store.lock().expect("no holder panics");
        store.requests.push((method.clone(), whole.clone()));
        store.regions.extend(signed_region(&request));
        let matching = store.faults.iter_mut().find(|injected| {
            injected.times > 0
                && injected.method.as_ref().is_none_or(|m| *m == method)
                && whole.contains(&injected.part)
        });
        matching.map(|injected| {
            injected.times -= 1;
            injected.fault.clone()
        })
    };
    match &fault {
        Some(Fault::SlowDown) => return error(503, "SlowDown"),
        Some(Fault::Forbidden) => return error(403, "AccessDenied"),
        Some(Fault::Error(status, code)) => return error(*status, code),
        Some(Fault::Body(status, body)) => {
            let status = StatusCode::from_u16(*status).unwrap_or_default();
            let etag = [(header::ETAG, "\"page\"")];
            return (status, etag, body.clone()).into_response();
        }
        Some(Fault::Redirect(status)) => {
            let status = StatusCode::from_u16(*status).unwrap_or_default();
            return (status, [(header::LOCATION, "http://127.0.0.1:1/")]).into_response();
        }
        Some(Fault::SayDone) => return StatusCode::NO_CONTENT.into_response(),
        Some(Fault::DropBefore) => return broken(Bytes::new(), 10, StatusCode::OK),
        Some(Fault::Hang) => {
            // Until the client gives up, and then the future is dropped.
            std::future::pending::<()>().await;
        }
        Some(Fault::SlowFirstByte(delay)) => tokio::time::sleep(*delay).await,
        _ => {}
    }
    let request = match fault {
        Some(Fault::DeleteHalf(_)) => half_of(request).await,
        Some(Fault::FlipBitUp) => flipped(request).await,
        _ => request,
    };
    let response = serve(store, request, &path).await;
    match fault {
        Some(Fault::DeleteHalf(delay)) => {
            tokio::time::sleep(delay).await;
            broken(Bytes::new(), 10, StatusCode::OK)
        }
        Some(Fault::DropAfter) => broken(Bytes::new(), 10, StatusCode::OK),
        Some(Fault::TruncateBody | Fault::Shorten | Fault::FlipBit) => {
            let (mut parts, body) = response.into_parts();
            let bytes = axum::body::to_bytes(body, usize::MAX)
                .await
                .unwrap_or_default();
            let half = bytes.slice(..bytes.len() / 2);
            match fault {
                Some(Fault::TruncateBody) => broken(half, bytes.len(), parts.status),
                Some(Fault::Shorten) => {
                    parts.headers.remove(header::CONTENT_LENGTH);
                    Response::from_parts(parts, half.into())
                }
                _ => Response::from_parts(parts, with_flipped_bit(&bytes).into()),
            }
        }
        _ => response,
    }
}

fn error(status: u16, code: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or_default();
    let body = format!("<Error><Code>{code}</Code><Message>injected</Message></Error>");
    (status, body).into_response()
}

fn with_flipped_bit(bytes: &Bytes) -> Bytes {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    bytes.into()
}

/// A request whose body has lost a bit on the way.
async fn flipped(request: Request) -> Request {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX)
        .await
        .unwrap_or_default();
    Request::from_parts(parts, with_flipped_bit(&body).into())
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
