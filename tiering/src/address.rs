//! The rules for a store's address and credentials. Pure.
//!
//! The S3 client takes them unchecked. If one of them cannot be part of a URL or of an HTTP header, the client ends the
//! process at its first request. So each value is checked before, wherever it comes from: properties, `AWS_*`, a
//! credential process.

use url::Url;

/// `http://host:port` or `https://host`.
pub fn check_endpoint(endpoint: &str) -> Result<(), String> {
    let no = |reason: &str| Err(format!("{endpoint}: {reason}"));
    if !["http://", "https://"]
        .iter()
        .any(|s| endpoint.starts_with(s))
    {
        return no("must begin with http:// or https://");
    }
    if !endpoint.chars().all(|c| c.is_ascii_graphic()) {
        return no("has a character that no URL may have");
    }
    match Url::parse(endpoint) {
        Err(error) => no(&error.to_string()),
        Ok(url) if url.query().is_some() || url.fragment().is_some() => {
            no("must end with the host, its port or a path")
        }
        Ok(_) => Ok(()),
    }
}

/// `eu-central-1`: a part of a host's name and of the signature.
pub fn check_region(region: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if region.is_empty() || !region.chars().all(legal) {
        return Err(format!("{region}: a region has letters, digits and - only"));
    }
    host_is_possible(region)
}

/// A bucket's name, in S3's rules of today and of before.
pub fn check_bucket(bucket: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if bucket.is_empty() || !bucket.chars().all(legal) {
        return Err(format!(
            "{bucket}: a bucket has letters, digits, -, . and _ only"
        ));
    }
    host_is_possible(bucket)
}

/// Checks an access key's id or a session's token, which stand in a header. The error does not repeat the value.
pub fn check_header_value(value: &str) -> Result<(), String> {
    if value.is_empty() || !value.chars().all(|c| c.is_ascii_graphic()) {
        return Err("has a character that no HTTP header may have, or is empty".into());
    }
    Ok(())
}

/// The name becomes a part of `https://bucket.s3.region.amazonaws.com`.
fn host_is_possible(part: &str) -> Result<(), String> {
    let url = format!("https://{part}.s3.{part}.amazonaws.com/");
    Url::parse(&url)
        .map(|_| ())
        .map_err(|e| format!("{part}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_url_with_a_host() {
        for good in [
            "http://localhost:9000",
            "https://s3.example.com",
            "https://s3.example.com/path/",
            "http://[::1]:9000",
            "http://10.0.0.1",
        ] {
            assert_eq!(check_endpoint(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "localhost:9000",
            "localhost",
            "//localhost:9000",
            "http:localhost:9000",
            "ftp://localhost",
            "HTTP//localhost",
            "http://",
            "http:// host",
            "http://host:99999",
            "http://host:port",
            "http://256.256.256.256",
            "http://[::1",
            "http://höst",
            "http://host/?x=1",
            "http://host/#x",
            "http://a\u{0}b",
            "http://xn--\u{7f}",
        ] {
            assert!(check_endpoint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_and_keys_fit_into_hosts_and_headers() {
        for good in ["eu-central-1", "us-east-1", "minio"] {
            assert_eq!(check_region(good), Ok(()));
        }
        for bad in ["", "eu central", "eu/1", "ü", "a.b", "xn--a"] {
            assert!(check_region(bad).is_err(), "{bad}");
        }
        for good in ["logs", "my.bucket-1", "Old_Bucket"] {
            assert_eq!(check_bucket(good), Ok(()));
        }
        for bad in ["", "a b", "bücket", "a#b", "a?b", "a@b", "a:b"] {
            assert!(check_bucket(bad).is_err(), "{bad}");
        }
        assert_eq!(check_header_value("AKIAIOSFODNN7EXAMPLE"), Ok(()));
        for bad in ["", "schlüssel", "a\nb", "a b\u{7f}"] {
            assert!(check_header_value(bad).is_err(), "{bad}");
        }
    }
}
