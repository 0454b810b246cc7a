//! Typical mistakes of a newcomer: the message names the property or option, the place, and what helps, and it comes soon.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn strandline(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strandline"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// The output of a command that fails.
fn refused(arguments: &[&str]) -> String {
    let output = strandline(arguments).output().unwrap();
    let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success(), "{arguments:?}: {told}");
    told
}

/// A properties file that would start, with these lines at its end.
fn properties(directory: &Path, lines: &str) -> String {
    let file = directory.join("server.properties");
    let at = directory.display();
    let text = format!(
        "node.id=1\nprocess.roles=broker,controller\nlisteners=PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0\n\
         controller.listener.names=CONTROLLER\ncontroller.quorum.voters=1@127.0.0.1:9093\n\
         strandline.http.listener=127.0.0.1:0\nlog.dirs={at}/logs\n{lines}\n"
    );
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

#[test]
fn a_server_with_a_wrong_property_names_it_and_what_helps() {
    let directory = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let a_file = directory.path().join("a-file");
    std::fs::write(&a_file, b"x").unwrap();
    let in_a_file = a_file.join("logs").display().to_string();
    for (lines, parts) in [
        (
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer"
                .to_owned(),
            vec![
                "authorizer.class.name: ",
                "ACLs",
                "open to everybody",
                "remove the property",
            ],
        ),
        (
            "ssl.client.auth=required".to_owned(),
            vec![
                "ssl.client.auth: ",
                "TLS",
                "open to everybody",
                "remove the property",
            ],
        ),
        (
            "sasl.enabled.mechanisms=SCRAM-SHA-256".to_owned(),
            vec![
                "sasl.enabled.mechanisms: ",
                "SASL",
                "open to everybody",
                "remove the property",
            ],
        ),
        (
            "listeners=SSL://127.0.0.1:0,CONTROLLER://127.0.0.1:0".to_owned(),
            vec!["listeners: ", "SSL", "only PLAINTEXT"],
        ),
        (
            "controller.quorum.voters=2@127.0.0.1:9093".to_owned(),
            vec!["controller.quorum.voters: ", "1"],
        ),
        (
            "remote.log.storage.system.enable=true\nstrandline.remote.store.url=memory://"
                .to_owned(),
            vec!["strandline.remote.store.url: ", "memory", "dev"],
        ),
        (
            "remote.log.storage.system.enable=true".to_owned(),
            vec!["strandline.remote.store.url: "],
        ),
        (
            format!("listeners=PLAINTEXT://{taken},CONTROLLER://127.0.0.1:0"),
            vec!["listeners: ", taken.as_str(), "in use"],
        ),
        (
            format!("strandline.http.listener={taken}"),
            vec!["strandline.http.listener: ", taken.as_str(), "in use"],
        ),
        (
            format!("log.dirs={in_a_file}"),
            vec!["metadata log: ", in_a_file.as_str()],
        ),
        (
            "log.retention.hours=a week".to_owned(),
            vec!["log.retention.hours: ", "a week"],
        ),
    ] {
        let file = properties(directory.path(), &lines);
        let told = refused(&["server", &file]);
        for part in parts {
            assert!(told.contains(part), "{lines}: {part}: {told}");
        }
    }
    let missing = directory.path().join("nowhere.properties");
    let missing = missing.display().to_string();
    assert!(refused(&["server", &missing]).contains(&missing));
    let file = properties(directory.path(), "");
    let told = refused(&["server", &file, "--override", "node.id 7"]);
    assert!(
        told.contains("--override node.id 7: not KEY=VALUE"),
        "{told}"
    );
}

#[test]
fn a_bucket_that_cannot_be_reached_or_without_credentials_names_the_property() {
    let directory = tempfile::tempdir().unwrap();
    let store = "remote.log.storage.system.enable=true\nstrandline.remote.store.url=s3://bucket/prefix\n\
                 strandline.remote.store.startup.timeout.ms=100\nstrandline.remote.store.endpoint=http://127.0.0.1:1\n";
    let keys =
        "strandline.remote.store.access.key.id=a\nstrandline.remote.store.secret.access.key=b\n";
    for (lines, parts) in [
        (
            format!("{store}{keys}"),
            [
                "s3://bucket/prefix",
                "http://127.0.0.1:1",
                "strandline.remote.store.endpoint, its host, port",
            ],
        ),
        (
            store.to_owned(),
            [
                "s3://bucket/prefix",
                "AWS_ACCESS_KEY_ID",
                "there are no credentials",
            ],
        ),
    ] {
        let file = properties(directory.path(), &lines);
        let output = strandline(&["check", &file])
            .env_remove("AWS_ACCESS_KEY_ID")
            .env_remove("AWS_PROFILE")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("HOME", directory.path())
            .output()
            .unwrap();
        assert!(!output.status.success());
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = told.lines().last().unwrap_or_default();
        for part in parts {
            assert!(last.contains(part), "{part}: {told}");
        }
    }
}

#[test]
fn a_property_without_effect_is_a_warning_at_the_end_and_strict_fails_on_it() {
    let directory = tempfile::tempdir().unwrap();
    let lines =
        "log.cleaner.threads=2\nlog.retention.huors=5\nlistener.name.plaintext.max.connections=9";
    let file = properties(directory.path(), lines);
    let output = strandline(&["check", &file]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}");
    let last: Vec<&str> = told.lines().rev().take(4).collect();
    for part in [
        "log.cleaner.threads: has no effect: compaction",
        "log.retention.huors: unknown property, ignored; did you mean log.retention.hours?",
        "listener.name.plaintext.max.connections: has no effect: settings of a single listener",
        "3 properties have no effect",
    ] {
        assert!(
            last.iter().any(|line| line.contains(part)),
            "{part}: {last:?}"
        );
    }
    let told = refused(&["check", "--strict", &file]);
    assert!(
        told.contains("3 properties have no effect (--strict)"),
        "{told}"
    );
    let well = properties(directory.path(), "");
    let output = strandline(&["check", "--strict", &well]).output().unwrap();
    assert!(output.status.success());
}

#[test]
fn a_tool_says_within_a_second_that_an_address_is_wrong_or_refuses() {
    let began = Instant::now();
    let told = refused(&["kafka-topics", "--bootstrap-server", "localhost", "--list"]);
    assert!(told.contains("localhost: not HOST:PORT"), "{told}");
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );

    // Nobody listens at the port of a listener that is closed.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap().to_string();
    drop(closed);
    let began = Instant::now();
    let mut trying = strandline(&["kafka-topics", "--bootstrap-server", &address, "--list"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(trying.stderr.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let took = began.elapsed();
    trying.kill().unwrap();
    trying.wait().unwrap();
    assert!(
        line.contains("still trying") && line.contains(&address),
        "{line}"
    );
    assert!(line.contains("refused"), "{line}");
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn an_address_of_nobody_and_a_typo_in_the_log_levels_are_named() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap().to_string();
    drop(closed);
    for command in [
        vec!["health"],
        vec!["tier", "status"],
        vec!["tier", "orphans"],
    ] {
        let told = refused(&[command.as_slice(), &["--http", address.as_str()]].concat());
        assert!(
            told.contains(&format!("http://{address}/")) && told.contains("refused"),
            "{told}"
        );
        assert!(told.contains("strandline.http.listener"), "{told}");
    }
    let output = strandline(&["health", "--http", &address])
        .env("STRANDLINE_LOG", "inof")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        told.contains("STRANDLINE_LOG: inof: neither a level (trace, debug"),
        "{told}"
    );
}

#[test]
fn completions_and_manual_pages_cover_commands_and_tools() {
    let output = strandline(&["completions", "bash"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in [
        "strandline",
        "kafka-topics.sh",
        "--under-replicated-partitions",
    ] {
        assert!(text.contains(part), "{part}");
    }
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().display().to_string();
    assert!(strandline(&["man-pages", &at]).status().unwrap().success());
    for (page, part) in [
        ("strandline.1", "check"),
        ("strandline-tier-status.1", "topic"),
        ("kafka-topics.1", "Creates, lists"),
    ] {
        let text = std::fs::read_to_string(directory.path().join(page)).unwrap();
        assert!(text.contains(part), "{page}: {text}");
    }
}
