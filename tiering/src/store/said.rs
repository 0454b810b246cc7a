//! Makes a store's answer fit for a log line. Pure.
//!
//! Bodies come from outside: each is escaped to one line and cut, so that none can forge a line or fill a disk. An error of
//! S3 is named by its code, with the property or the place that it points to.

/// Characters of a body, or of an error's text, that are repeated.
const MAX_CHARS: usize = 300;

/// The text on one line, without control characters, and cut.
pub fn one_line(text: &str) -> String {
    let mut line = String::new();
    let (mut chars, mut space) = (0, false);
    for c in text.chars() {
        if c.is_whitespace() {
            space = !line.is_empty();
            continue;
        }
        if chars >= MAX_CHARS {
            line.push('…');
            break;
        }
        if std::mem::take(&mut space) {
            line.push(' ');
            chars += 1;
        }
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
        chars += 1;
    }
    line
}

/// Describes a failed call: the store's own error where there is one, else the client's text.
pub fn describe(error: &object_store::Error) -> String {
    describe_text(&error.to_string())
}

pub(super) fn describe_text(text: &str) -> String {
    if is_web_page(text) {
        return format!(
            "a web page answered, not an object store: {}",
            one_line(text)
        );
    }
    let (said, hint) = error_of_s3(text).map_or_else(
        || (one_line(text), hint_without_answer(text)),
        |(code, message)| {
            let said = format!("{} {}", one_line(code), one_line(message));
            (said, hint(code))
        },
    );
    let hint = hint.map(|h| format!(" ({h})"));
    format!("{said}{}", hint.unwrap_or_default())
}

/// Where to look when no store has answered.
fn hint_without_answer(text: &str) -> Option<&'static str> {
    if text.contains("credentials error") {
        return Some(
            "look at strandline.remote.store.access.key.id and strandline.remote.store.secret.access.key, or AWS_ACCESS_KEY_ID \
             and AWS_SECRET_ACCESS_KEY, or the role of this machine: there are no credentials",
        );
    }
    if text.contains("error sending request") {
        return Some(
            "look at strandline.remote.store.endpoint, its host, port and scheme: no object store answers there",
        );
    }
    None
}

fn is_web_page(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.contains("<html") || text.contains("<!doctype html")
}

/// Code and message of `<Error>`.
pub(super) fn error_of_s3(text: &str) -> Option<(&str, &str)> {
    let (_, error) = text.split_once("<Error")?;
    let code = element(error, "Code")?;
    Some((code, element(error, "Message").unwrap_or_default()))
}

/// The text of the first element of this name.
pub(super) fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inner, _) = rest.split_once(&format!("</{name}>"))?;
    Some(inner)
}

/// Where to look, by the error codes of S3.
fn hint(code: &str) -> Option<&'static str> {
    Some(match code {
        "SignatureDoesNotMatch" => {
            "look at strandline.remote.store.secret.access.key or AWS_SECRET_ACCESS_KEY: the secret is not that of the key"
        }
        "InvalidAccessKeyId" => {
            "look at strandline.remote.store.access.key.id or AWS_ACCESS_KEY_ID: the store does not know this key"
        }
        "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => {
            "look at AWS_SESSION_TOKEN or the credential process: the session has ended"
        }
        "RequestTimeTooSkewed" | "RequestExpired" => {
            "look at the clock of this machine: it differs from the store's"
        }
        "NoSuchBucket" | "InvalidBucketName" | "AllAccessDisabled" => {
            "look at strandline.remote.store.url: there is no such bucket"
        }
        "BucketAlreadyExists" => {
            "look at strandline.remote.store.url: the bucket is somebody else's"
        }
        "AuthorizationHeaderMalformed"
        | "PermanentRedirect"
        | "TemporaryRedirect"
        | "IllegalLocationConstraintException"
        | "InvalidLocationConstraint" => {
            "look at strandline.remote.store.region: the bucket is in another region"
        }
        "BadDigest" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch" => {
            "the bytes were damaged on the way to the store"
        }
        _ => return None,
    })
}

/// The action of IAM that a call on S3 needs.
pub(super) fn iam_action(call: &str) -> Option<&'static str> {
    Some(match call {
        "create bucket" => "s3:CreateBucket",
        "put object" | "create multipart upload" | "upload part" | "complete multipart upload" => {
            "s3:PutObject"
        }
        "get object" | "get object range" | "head object" => "s3:GetObject",
        "list objects" => "s3:ListBucket",
        "delete object" => "s3:DeleteObject",
        "abort multipart upload" => "s3:AbortMultipartUpload",
        "list multipart uploads" => "s3:ListBucketMultipartUploads",
        _ => return None,
    })
}

/// Why S3 forbids a call. Only `AccessDenied`, and a 403 without a code (of HEAD), mean that a permission lacks.
pub(super) fn forbidden(call: &str, text: &str) -> String {
    let described = describe_text(text);
    let denied = match error_of_s3(text) {
        Some((code, _)) => matches!(
            code,
            "AccessDenied" | "AllAccessDisabled" | "AccountProblem"
        ),
        None => !is_web_page(text),
    };
    match iam_action(call) {
        Some(action) if denied => {
            format!("the credentials do not have {action} here: {described}")
        }
        _ => described,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_one_line_that_is_cut_whatever_it_holds() {
        let body = format!(
            "first\r\nERROR forged line\n\u{1b}[31mred\u{0}{}",
            "x".repeat(100_000)
        );
        for line in [one_line(&body), describe_text(&body)] {
            assert!(!line.contains(['\n', '\r', '\u{1b}', '\u{0}']), "{line}");
            assert!(line.chars().count() <= MAX_CHARS + 20, "{line}");
        }
        assert_eq!(one_line("  a \n\n b\t"), "a b");
        assert_eq!(one_line(""), "");
    }

    #[test]
    fn a_store_that_does_not_answer_and_missing_credentials_name_where_to_look() {
        for (text, names) in [
            (
                "Generic S3 error: Error performing PUT http://127.0.0.1:1/b/p in 582ms, after 3 retries - HTTP error: error \
                 sending request",
                "strandline.remote.store.endpoint",
            ),
            (
                "Generic S3 credentials error: the credential provider was not enabled",
                "AWS_ACCESS_KEY_ID",
            ),
        ] {
            let said = describe_text(text);
            assert!(said.contains(names), "{said}");
        }
        assert_eq!(describe_text("something else"), "something else");
    }

    #[test]
    fn an_error_of_s3_names_where_to_look() {
        let page = |code: &str| {
            format!(
                "non-2xx 403: <?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>m</Message></Error>"
            )
        };
        for (code, names) in [
            ("SignatureDoesNotMatch", "secret.access.key"),
            ("InvalidAccessKeyId", "access.key.id"),
            ("RequestTimeTooSkewed", "clock of this machine"),
            ("NoSuchBucket", "no such bucket"),
            ("AuthorizationHeaderMalformed", "store.region"),
            ("ExpiredToken", "AWS_SESSION_TOKEN"),
            ("BadDigest", "damaged on the way"),
        ] {
            let said = forbidden("put object", &page(code));
            assert!(said.contains(names) && said.contains(code), "{said}");
            assert!(!said.contains("do not have"), "{said}");
        }
        let said = forbidden("put object", &page("AccessDenied"));
        assert!(said.contains("do not have s3:PutObject"), "{said}");
        let said = forbidden("head object", "Server returned non-2xx status code: 403: ");
        assert!(said.contains("do not have s3:GetObject"), "{said}");
        let said = forbidden("put object", "403: <HTML><body>please log in</body></HTML>");
        assert!(said.contains("a web page answered"), "{said}");
        assert!(!said.contains("do not have"), "{said}");
    }
}
