//! Counts every request to the object store by operation and result, and the bytes that moved.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

/// A kind of request, by how stores bill it: the first five are PUT class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Put,
    CreateMultipart,
    PutPart,
    CompleteMultipart,
    List,
    Get,
    Delete,
    AbortMultipart,
}

impl Operation {
    pub const ALL: [Self; 8] = [
        Self::Put,
        Self::CreateMultipart,
        Self::PutPart,
        Self::CompleteMultipart,
        Self::List,
        Self::Get,
        Self::Delete,
        Self::AbortMultipart,
    ];

    /// The `op` label of the metric.
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::CreateMultipart => "create_multipart",
            Self::PutPart => "put_part",
            Self::CompleteMultipart => "complete_multipart",
            Self::List => "list",
            Self::Get => "get",
            Self::Delete => "delete",
            Self::AbortMultipart => "abort_multipart",
        }
    }
}

#[derive(Debug, Default)]
struct Counter {
    ok: AtomicU64,
    error: AtomicU64,
    bytes: AtomicU64,
}

/// The counters of one process.
#[derive(Debug, Default)]
pub struct Meter {
    counters: [Counter; 8],
}

impl Meter {
    pub(crate) fn count<T>(&self, operation: Operation, bytes: u64, result: &Result<T>) {
        let counter = &self.counters[operation as usize];
        match result {
            Ok(_) => {
                counter.ok.fetch_add(1, Ordering::Relaxed);
                counter.bytes.fetch_add(bytes, Ordering::Relaxed);
            }
            Err(_) => {
                counter.error.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// (successes, failures, bytes of the successes)
    pub fn read(&self, operation: Operation) -> (u64, u64, u64) {
        let counter = &self.counters[operation as usize];
        (
            counter.ok.load(Ordering::Relaxed),
            counter.error.load(Ordering::Relaxed),
            counter.bytes.load(Ordering::Relaxed),
        )
    }
}

/// Delegates to a store and counts.
#[derive(Debug)]
pub struct MeteredStore {
    inner: Arc<dyn ObjectStore>,
    meter: Arc<Meter>,
}

impl MeteredStore {
    pub fn new(inner: Arc<dyn ObjectStore>, meter: Arc<Meter>) -> Self {
        Self { inner, meter }
    }
}

impl fmt::Display for MeteredStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for MeteredStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let bytes = payload.content_length() as u64;
        let result = self.inner.put_opts(location, payload, options).await;
        self.meter.count(Operation::Put, bytes, &result);
        result
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let result = self.inner.put_multipart_opts(location, options).await;
        self.meter.count(Operation::CreateMultipart, 0, &result);
        let inner = result?;
        Ok(Box::new(MeteredUpload {
            inner,
            meter: self.meter.clone(),
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let result = self.inner.get_opts(location, options).await;
        let bytes = result.as_ref().map_or(0, |r| r.range.end - r.range.start);
        self.meter.count(Operation::Get, bytes, &result);
        result
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let result = self.inner.get_ranges(location, ranges).await;
        let bytes = result
            .as_ref()
            .map_or(0, |r| r.iter().map(|b| b.len() as u64).sum());
        self.meter.count(Operation::Get, bytes, &result);
        result
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let meter = self.meter.clone();
        self.inner
            .delete_stream(locations)
            .inspect(move |result| meter.count(Operation::Delete, 0, result))
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        // One request lists a thousand keys: count one when the listing begins, and one after every thousand keys.
        let meter = self.meter.clone();
        let mut seen = 0u64;
        meter.count(Operation::List, 0, &Ok(()));
        self.inner
            .list(prefix)
            .inspect(move |result| {
                seen += 1;
                if result.is_err() || seen.is_multiple_of(1000) {
                    meter.count(Operation::List, 0, result);
                }
            })
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let result = self.inner.list_with_delimiter(prefix).await;
        self.meter.count(Operation::List, 0, &result);
        result
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let result = self.inner.copy_opts(from, to, options).await;
        self.meter.count(Operation::Put, 0, &result);
        result
    }
}

#[derive(Debug)]
struct MeteredUpload {
    inner: Box<dyn MultipartUpload>,
    meter: Arc<Meter>,
}

#[async_trait]
impl MultipartUpload for MeteredUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let bytes = data.content_length() as u64;
        let part = self.inner.put_part(data);
        let meter = self.meter.clone();
        Box::pin(async move {
            let result = part.await;
            meter.count(Operation::PutPart, bytes, &result);
            result
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let result = self.inner.complete().await;
        self.meter.count(Operation::CompleteMultipart, 0, &result);
        result
    }

    async fn abort(&mut self) -> Result<()> {
        let result = self.inner.abort().await;
        self.meter.count(Operation::AbortMultipart, 0, &result);
        result
    }
}
