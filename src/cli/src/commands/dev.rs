//! `strandline dev`: a broker for one developer, with short intervals so that the cold tier is seen at work.

use std::net::SocketAddr;
use std::path::Path;

use strandline_broker::Server;
use strandline_broker::settings::{Properties, PropertySource, Settings};

pub async fn run(
    listen: &str,
    http: &str,
    data: &Path,
    remote: Option<String>,
) -> Result<(), String> {
    std::fs::create_dir_all(data).map_err(|e| format!("--data {}: {e}", data.display()))?;
    let data = data
        .canonicalize()
        .map_err(|e| format!("--data {}: {e}", data.display()))?;
    let remote = remote.unwrap_or_else(|| format!("file://{}", data.join("remote").display()));
    let mut properties = Properties::default();
    let logs = data.join("log");
    for (key, value) in [
        ("node.id", "1"),
        ("listeners", &format!("PLAINTEXT://{listen}")),
        ("log.dirs", &logs.display().to_string()),
        ("strandline.http.listener", http),
        ("offsets.topic.replication.factor", "1"),
        ("group.initial.rebalance.delay.ms", "0"),
        ("remote.log.storage.system.enable", "true"),
        ("log.remote.storage.enable", "true"),
        ("remote.log.manager.task.interval.ms", "1000"),
        ("log.retention.check.interval.ms", "5000"),
        // Records are as old as their timestamps say: those of an import would expire before anybody has read them. A topic's own
        // `retention.ms` counts.
        ("log.retention.ms", "-1"),
        ("strandline.remote.store.url", &remote),
        ("strandline.remote.store.create.bucket", "true"),
        (
            "strandline.remote.cache.dir",
            &data.join("remote-cache").display().to_string(),
        ),
    ] {
        properties.set(key.to_owned(), value.to_owned(), PropertySource::Override);
    }
    // Credentials and endpoint of an object store come from the environment here.
    for (key, variable) in [
        (
            "strandline.remote.store.endpoint",
            "KAFKA_STRANDLINE_REMOTE_STORE_ENDPOINT",
        ),
        (
            "strandline.remote.store.region",
            "KAFKA_STRANDLINE_REMOTE_STORE_REGION",
        ),
        (
            "strandline.remote.store.access.key.id",
            "KAFKA_STRANDLINE_REMOTE_STORE_ACCESS_KEY_ID",
        ),
        (
            "strandline.remote.store.secret.access.key",
            "KAFKA_STRANDLINE_REMOTE_STORE_SECRET_ACCESS_KEY",
        ),
    ] {
        if let Ok(value) = std::env::var(variable) {
            properties.set(key.to_owned(), value, PropertySource::Environment);
        }
    }
    super::tell_oddities(&properties);
    let settings = Settings::resolve_for_dev(&properties).map_err(|e| e.to_string())?;
    let broker = Server::start(settings).await.map_err(|e| e.to_string())?;
    let address = *broker
        .addresses()
        .first()
        .ok_or("no listener for clients")?;
    let http = broker
        .http_address()
        .map(|a| a.to_string())
        .unwrap_or_default();
    let binary = std::env::current_exe().map_err(|e| format!("where this binary is: {e}"))?;
    println!("{}", welcome(&binary, address, &http, &data, &remote));
    super::serve(broker).await
}

/// The next steps. The lines can be pasted into a shell in any directory.
fn welcome(binary: &Path, address: SocketAddr, http: &str, data: &Path, remote: &str) -> String {
    let binary = quoted(&binary.display().to_string());
    format!(
        "strandline is ready: Kafka clients on {address}, http://{http}/, data in {}\n\
         The cold tier is {remote}; new topics use it.\n\n\
         Try, in another terminal:\n\
         \x20 {binary} kafka-topics --bootstrap-server {address} --create --topic first\n\
         \x20 {binary} kafka-console-producer --bootstrap-server {address} --topic first\n\
         \x20 {binary} kafka-console-consumer --bootstrap-server {address} --topic first --from-beginning\n\
         \x20 {binary} demo --bootstrap {address} --http {http}\n\
         \x20 {binary} tier status --http {http}\n",
        data.display()
    )
}

/// One word for a shell.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_name_the_binary_by_its_whole_path_as_one_word() {
        let address = SocketAddr::from(([127, 0, 0, 1], 9092));
        let binary = Path::new("/opt/it's here/strandline");
        let text = welcome(
            binary,
            address,
            "127.0.0.1:9644",
            Path::new("/d"),
            "file:///d",
        );
        let lines: Vec<&str> = text.lines().filter(|l| l.starts_with("  ")).collect();
        assert_eq!(lines.len(), 5, "{text}");
        for line in lines {
            assert!(
                line.starts_with("  '/opt/it'\\''s here/strandline' "),
                "{line}"
            );
        }
        assert_eq!(quoted("/usr/bin/strandline"), "/usr/bin/strandline");
    }
}
