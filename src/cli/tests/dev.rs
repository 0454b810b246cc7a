//! `strandline dev` as a developer meets it: the binary of this build.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use strandline_client::Client;
use strandline_wire::batch::RecordToWrite;
use strandline_wire::compression::Compression;
use strandline_wire::special_timestamp::EARLIEST;

/// Killed when the test ends, however it does.
struct Dev {
    child: Child,
    /// Stays open: a process that cannot print ends.
    told: BufReader<ChildStdout>,
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts it on ports that are free; returns the address for clients.
fn start(data: &std::path::Path) -> (Dev, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_strandline"))
        .args([
            "dev",
            "--listen",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
            "--data",
        ])
        .arg(data)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let told = BufReader::new(child.stdout.take().unwrap());
    let mut dev = Dev { child, told };
    loop {
        let mut line = String::new();
        let read = dev.told.read_line(&mut line).unwrap();
        assert!(read > 0, "it ended before it was ready");
        if let Some((_, rest)) = line.split_once("Kafka clients on ") {
            let address = rest.split([',', ' ']).next().unwrap();
            return (dev, address.to_owned());
        }
    }
}

/// Records of an import are as old as their timestamps say.
#[tokio::test]
async fn old_records_stay_where_nobody_asked_for_retention() {
    let data = tempfile::tempdir().unwrap();
    let (_dev, address) = start(data.path());
    let mut client = Client::connect(&address).await.unwrap();
    let brief = [("retention.ms", "1000"), ("remote.storage.enable", "false")];
    client.create_topic("kept", 1, &[]).await.unwrap();
    client.create_topic("brief", 1, &brief).await.unwrap();
    let old = RecordToWrite {
        timestamp: 1_000_000_000_000,
        value: Some(Bytes::from_static(b"of 2001")),
        ..RecordToWrite::default()
    };
    for topic in ["kept", "brief"] {
        let records = std::slice::from_ref(&old);
        let produced = client.produce(topic, 0, Compression::None, records).await;
        assert_eq!(produced.unwrap(), 0);
    }
    // A pass of retention has come by when the other record is gone.
    let deadline = Instant::now() + Duration::from_secs(90);
    while client.list_offset("brief", 0, EARLIEST).await.unwrap() == 0 {
        assert!(Instant::now() < deadline, "retention does not come by");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(client.list_offset("kept", 0, EARLIEST).await.unwrap(), 0);
    let wait = Duration::from_millis(500);
    let read = client.fetch("kept", 0, 0, 1000, wait).await.unwrap();
    assert_eq!(read[0].value, old.value);
}
