//! `strandline tier status`

use serde_json::Value;

pub async fn run(http: &str, topic: Option<&str>, json: bool) -> Result<(), String> {
    let (status, body) = crate::http_get::get(http, "/tier/status").await?;
    if status != 200 {
        return Err(format!("http://{http}/tier/status answered {status}"));
    }
    let parsed: Value = serde_json::from_str(&body).map_err(|e| e.to_string())?;
    let partitions: Vec<&Value> = parsed
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
        .filter(|p| topic.is_none_or(|t| p["topic"] == t))
        .collect();
    if json {
        println!(
            "{}",
            serde_json::to_string_pretty(&partitions).map_err(|e| e.to_string())?
        );
        return Ok(());
    }
    println!(
        "{:<32} {:>22} {:>12} {:>22} {:>12} {:>8} {:>12} {:>9}  LAST ERROR / NEXT TRY",
        "PARTITION",
        "LOCAL OFFSETS",
        "LOCAL BYTES",
        "REMOTE OFFSETS",
        "REMOTE BYTES",
        "SEGMENTS",
        "LAG BYTES",
        "LAG"
    );
    for p in partitions {
        let name = format!(
            "{}-{}",
            p["topic"].as_str().unwrap_or_default(),
            p["partition"]
        );
        let range = |start: &str, end: &str| match p[start].as_i64() {
            Some(-1) | None => "-".to_owned(),
            Some(from) => format!("{from}..{}", p[end]),
        };
        let error = match (p["last_error"].as_str(), p["next_try_ms"].as_i64()) {
            (Some(error), Some(next)) => format!("{error} (next try at {next})"),
            (Some(error), None) => error.to_owned(),
            _ => "-".to_owned(),
        };
        println!(
            "{name:<32} {:>22} {:>12} {:>22} {:>12} {:>8} {:>12} {:>8}s  {error}",
            range("local_start_offset", "local_end_offset"),
            p["local_bytes"].to_string(),
            range("remote_start_offset", "remote_end_offset"),
            p["remote_bytes"].to_string(),
            p["remote_segments"].to_string(),
            p["copy_lag_bytes"].to_string(),
            p["copy_lag_ms"].as_i64().unwrap_or_default() / 1000,
        );
    }
    Ok(())
}
