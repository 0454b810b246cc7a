//! A connection to the store that damages what it carries: one bit of every body that is put. With it the probe finds out
//! whether the store compares what comes with the checksum that the request names.

use async_trait::async_trait;
use bytes::Bytes;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};

/// Puts `instead` in place of every body of its length.
#[derive(Clone, Debug)]
pub(super) struct LyingConnector {
    pub(super) instead: Bytes,
}

impl HttpConnector for LyingConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        let instead = self.instead.clone();
        Ok(HttpClient::new(Lying { inner, instead }))
    }
}

#[derive(Debug)]
struct Lying {
    inner: HttpClient,
    instead: Bytes,
}

#[async_trait]
impl HttpService for Lying {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if request.method() == "PUT" && request.body().content_length() == self.instead.len() {
            *request.body_mut() = self.instead.clone().into();
        }
        self.inner.execute(request).await
    }
}
