//! One GET over plain HTTP/1.1 to a broker's own HTTP listener.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long the listener may take to accept.
const CONNECT: Duration = Duration::from_secs(5);

/// Status and body.
pub async fn get(address: &str, path: &str) -> Result<(u16, String), String> {
    let failed = |e: std::io::Error| format!("http://{address}{path}: {e}");
    let unreachable = |e: std::io::Error| {
        format!(
            "http://{address}{path}: {e} (--http is the broker's strandline.http.listener, and the broker must run)"
        )
    };
    let late = |_| std::io::ErrorKind::TimedOut.into();
    let connecting = tokio::time::timeout(CONNECT, TcpStream::connect(address)).await;
    let mut stream = connecting.map_err(late).flatten().map_err(unreachable)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.map_err(failed)?;
    let answer = String::from_utf8_lossy(&answer);
    let malformed = || format!("http://{address}{path}: the answer is not HTTP");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(malformed)?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|s| s.parse().ok())
        .ok_or_else(malformed)?;
    Ok((status, body.to_owned()))
}
