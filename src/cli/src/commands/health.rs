//! `strandline health`

pub async fn run(http: &str) -> Result<(), String> {
    let (status, body) = crate::http_get::get(http, "/readyz").await?;
    if status == 200 {
        println!("ready");
        return Ok(());
    }
    let parsed: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
    Err(parsed["reason"].as_str().unwrap_or(&body).to_owned())
}
