//! Calls that `object_store` does not have: creating a bucket, and finding and aborting unfinished multipart uploads. Done with
//! presigned URLs.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use object_store::aws::AmazonS3;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::signer::{Method, SignedUrlOptions, Signer};

use super::config::DEFAULT_REGION;
use super::said::{describe, describe_text, element, forbidden};
use super::{RemoteStore, StoreError};
use crate::meter::{Meter, Operation};

/// One request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The signature of a URL is good for this long.
const SIGNED_FOR: Duration = Duration::from_secs(60);
/// Pages of a listing of uploads, of up to a thousand each.
const MAX_PAGES: usize = 100;
/// Bytes of a page of a listing, or of an error.
const MAX_PAGE_BYTES: usize = 4 << 20;

/// An upload in parts that is neither completed nor aborted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenUpload {
    pub key: Path,
    pub id: String,
    /// By the store's clock; `None` where the store does not say.
    pub initiated: Option<SystemTime>,
}

/// The bucket itself.
#[derive(Debug)]
pub(super) struct Bucket {
    pub client: Arc<AmazonS3>,
    pub region: Option<String>,
    pub meter: Arc<Meter>,
}

struct Answer {
    status: u16,
    body: String,
}

impl Bucket {
    pub(super) async fn create(&self, place: &str) -> Result<(), StoreError> {
        const CALL: &str = "create bucket";
        let failed = |reason: String, transient: bool| StoreError::Call {
            call: CALL,
            place: place.to_owned(),
            reason,
            transient,
        };
        let body = location_constraint(self.region.as_deref());
        let answer = self.send(Method::PUT, &[], body).await;
        let answer = answer.map_err(|reason| failed(reason, true))?;
        let reason = || describe_text(&format!("{} {}", answer.status, answer.body));
        match answer.status {
            // Somebody else's: what needs it would fail later, with less to say.
            409 if answer.body.contains("<Code>BucketAlreadyExists<") => {
                // Some stores say so of one's own bucket too; the probe tells the two apart.
                tracing::debug!(place, "the bucket exists already");
                Ok(())
            }
            200..300 | 409 => Ok(()),
            403 => Err(failed(forbidden(CALL, &reason()), false)),
            429 | 500.. => Err(failed(reason(), true)),
            _ => Err(failed(reason(), false)),
        }
    }

    async fn send(
        &self,
        method: Method,
        query: &[(&str, &str)],
        body: String,
    ) -> Result<Answer, String> {
        let options = SignedUrlOptions::new().with_query(query.iter().copied());
        let root = Path::default();
        let signed = self
            .client
            .signed_url_opts(method.clone(), &root, SIGNED_FOR, &options);
        let url = signed.await.map_err(|e| describe(&e))?;
        // The URL carries a signature, so errors are shown without it.
        let shown = |e: reqwest::Error| describe_text(&e.without_url().to_string());
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .build()
            .map_err(shown)?;
        let request = client
            .request(method, url.as_str())
            // Some stores answer a body without a length with 411, an empty one too.
            .header("content-length", body.len())
            .body(body);
        let mut response = request.send().await.map_err(shown)?;
        let status = response.status().as_u16();
        let mut page = Vec::new();
        while let Some(run) = response.chunk().await.map_err(shown)? {
            page.extend_from_slice(&run);
            if page.len() > MAX_PAGE_BYTES {
                return Err(format!("the answer is longer than {MAX_PAGE_BYTES} bytes"));
            }
        }
        Ok(Answer {
            status,
            body: String::from_utf8_lossy(&page).into_owned(),
        })
    }

    async fn open_uploads(&self, prefix: &Path) -> object_store::Result<Vec<OpenUpload>> {
        let mut uploads = Vec::new();
        let mut markers = (String::new(), String::new());
        for _ in 0..MAX_PAGES {
            let mut query = vec![("prefix", prefix.as_ref()), ("uploads", "")];
            if !markers.0.is_empty() {
                query.push(("key-marker", &markers.0));
                query.push(("upload-id-marker", &markers.1));
            }
            let page = match self.send(Method::GET, &query, String::new()).await {
                Ok(answer) => listing_of(answer),
                Err(reason) => Err(failed(reason)),
            };
            self.meter.count(Operation::List, 0, &page);
            let page = page?;
            uploads.extend(parse_uploads(&page));
            match next_markers(&page) {
                Some(next) if next != markers => markers = next,
                _ => return Ok(uploads),
            }
        }
        Ok(uploads)
    }
}

fn failed(reason: String) -> object_store::Error {
    object_store::Error::Generic {
        store: "S3",
        source: reason.into(),
    }
}

/// The page of a listing. `NotImplemented` where the store has no such call, or forbids it: asking again changes nothing.
fn listing_of(answer: Answer) -> object_store::Result<String> {
    let Answer { status, body } = answer;
    if status == 200 && body.contains("<ListMultipartUploadsResult") {
        return Ok(body);
    }
    let reason = forbidden("list multipart uploads", &format!("{status} {body}"));
    match status {
        200 if body.contains("<ListBucketResult") => {}
        400 | 403 | 404 | 405 | 501 => {}
        _ => return Err(failed(reason)),
    }
    Err(object_store::Error::NotImplemented {
        operation: format!("list multipart uploads ({reason})"),
        implementer: "the store".into(),
    })
}

/// The body of `CreateBucket`: every region but the default one must be named.
fn location_constraint(region: Option<&str>) -> String {
    match region {
        Some(region) if region != DEFAULT_REGION => format!(
            "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
        ),
        _ => String::new(),
    }
}

fn parse_uploads(page: &str) -> Vec<OpenUpload> {
    let uploads = page.split("<Upload>").skip(1);
    uploads
        .filter_map(|upload| {
            let initiated = element(upload, "Initiated");
            Some(OpenUpload {
                key: Path::from(unescape(element(upload, "Key")?)),
                id: unescape(element(upload, "UploadId")?),
                initiated: initiated
                    .and_then(|text| chrono::DateTime::parse_from_rfc3339(text).ok())
                    .map(SystemTime::from),
            })
        })
        .collect()
}

fn next_markers(page: &str) -> Option<(String, String)> {
    if element(page, "IsTruncated") != Some("true") {
        return None;
    }
    let key = element(page, "NextKeyMarker")?;
    let id = element(page, "NextUploadIdMarker").unwrap_or_default();
    Some((unescape(key), unescape(id)))
}

fn unescape(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&amp;", "&")
}

impl RemoteStore {
    /// Uploads in parts under `prefix` that are neither completed nor aborted; none where the store has no such thing.
    pub async fn open_uploads(&self, prefix: &Path) -> object_store::Result<Vec<OpenUpload>> {
        match &self.bucket {
            Some(bucket) => {
                let mut uploads = bucket.open_uploads(prefix).await?;
                // A store that does not know the parameter lists all of the bucket.
                uploads.retain(|u| u.key.as_ref().starts_with(prefix.as_ref()));
                Ok(uploads)
            }
            None => Ok(Vec::new()),
        }
    }

    /// Aborts an upload; one that is gone is no error.
    pub async fn abort_upload(&self, upload: &OpenUpload) -> object_store::Result<()> {
        let Some(bucket) = &self.bucket else {
            return Ok(());
        };
        let aborted = bucket.client.abort_multipart(&upload.key, &upload.id).await;
        bucket.meter.count(Operation::AbortMultipart, 0, &aborted);
        match aborted {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            other => other,
        }
    }

    /// Aborts every upload under `prefix`; returns how many there were. Where the store cannot list them, a rule of the
    /// bucket has to end them.
    pub async fn abort_uploads(&self, prefix: &Path) -> object_store::Result<u64> {
        let uploads = match self.open_uploads(prefix).await {
            Err(object_store::Error::NotImplemented { .. }) => return Ok(0),
            other => other?,
        };
        for upload in &uploads {
            self.abort_upload(upload).await?;
        }
        Ok(uploads.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_of_uploads_is_read_and_what_is_none_is_skipped() {
        let page = "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>p/b&amp;c</NextKeyMarker>\
            <NextUploadIdMarker>2</NextUploadIdMarker>\
            <Upload><Key>p/a</Key><UploadId>1</UploadId><Initiated>2020-01-01T00:00:00.000Z</Initiated></Upload>\
            <Upload><Key>p/b&amp;c</Key><UploadId>2</UploadId></Upload><Upload><Key>p/d</Key></Upload>";
        let uploads = parse_uploads(page);
        assert_eq!(uploads.len(), 2);
        assert_eq!(
            (uploads[0].key.as_ref(), uploads[0].id.as_str()),
            ("p/a", "1")
        );
        let since = uploads[0].initiated.unwrap();
        let since = since.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(since.as_secs(), 1_577_836_800);
        assert_eq!(uploads[1].initiated, None);
        assert_eq!(next_markers(page), Some(("p/b&c".into(), "2".into())));
        assert_eq!(next_markers("<IsTruncated>false</IsTruncated>"), None);
    }

    #[test]
    fn a_bucket_outside_the_default_region_names_its_location() {
        assert_eq!(location_constraint(None), "");
        assert_eq!(location_constraint(Some("us-east-1")), "");
        let body = location_constraint(Some("eu-central-1"));
        assert!(body.contains("<LocationConstraint>eu-central-1</LocationConstraint>"));
    }
}
