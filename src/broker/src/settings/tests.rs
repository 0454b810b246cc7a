use super::*;

fn load(
    file: &str,
    env: &[(&str, &str)],
    over: &[(&str, &str)],
) -> Result<Properties, SettingsError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("server.properties");
    std::fs::write(&path, file).unwrap();
    let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    };
    Properties::load(Some(&path), owned(env), &owned(over))
}

#[test]
fn variables_map_as_in_kafkas_image() {
    for (variable, key) in [
        ("KAFKA_LOG_DIRS", "log.dirs"),
        ("KAFKA_A__B", "a_b"),
        ("KAFKA_A___B_C", "a-b.c"),
        (
            "KAFKA_STRANDLINE_REMOTE_STORE_URL",
            "strandline.remote.store.url",
        ),
    ] {
        assert_eq!(key_of_variable(variable).as_deref(), Some(key));
    }
    assert_eq!(key_of_variable("HOME"), None);
}

#[test]
fn override_beats_environment_beats_file_and_oddities_are_said() {
    let properties = load(
        "broker.id=7\nnum.partitions=2\nlog.retention.huors=3\nzookeeper.connect=x:1\nlog.dirs=/a,/b\n",
        &[("KAFKA_NUM_PARTITIONS", "3"), ("KAFKA_HEAP_OPTS", "-Xmx1g")],
        &[("num.partitions", "4")],
    )
    .unwrap();
    assert_eq!(
        properties.values["num.partitions"],
        ("4".into(), PropertySource::Override)
    );
    assert!(
        properties
            .warnings
            .iter()
            .any(|w| w.contains("did you mean log.retention.hours?"))
    );
    assert!(
        properties
            .warnings
            .iter()
            .any(|w| w.starts_with("zookeeper.connect"))
    );
    let settings = Settings::resolve(&properties).unwrap();
    assert_eq!((settings.node_id, settings.log_dirs.len()), (7, 2));
    assert_eq!(settings.listeners[0].port, 9092);
}

#[test]
fn what_cannot_work_names_its_property() {
    let error = |file: &str| {
        load(file, &[], &[])
            .and_then(|p| Settings::resolve(&p).map(|_| ()))
            .unwrap_err()
            .to_string()
    };
    assert!(error("num.partitions=many").contains("num.partitions"));
    assert!(error("listeners=SASL_SSL://:9092").contains("listeners"));
    assert!(error("listeners=nonsense").contains("listeners"));
    assert!(
        error("remote.log.storage.system.enable=true").starts_with("strandline.remote.store.url")
    );
}

#[test]
fn who_is_named_or_names_nobody_else_begins_the_quorum() {
    let founds = |file: &str| {
        let common = "process.roles=broker,controller\nnode.id=1\ncontroller.listener.names=CONTROLLER\n\
                      listeners=PLAINTEXT://:9092,CONTROLLER://:9093\nlog.dirs=/tmp/x\n";
        let properties = load(&format!("{common}{file}"), &[], &[]).unwrap();
        Settings::resolve(&properties).unwrap().founds_quorum
    };
    assert!(founds(""));
    assert!(founds("controller.quorum.voters=1@a:9093,2@b:9093"));
    // Kafka's own server.properties names itself.
    assert!(founds("controller.quorum.bootstrap.servers=localhost:9093"));
    assert!(!founds(
        "controller.quorum.bootstrap.servers=localhost:9093,other:9093"
    ));
}

#[test]
fn a_combined_nodes_controller_listener_is_not_for_clients() {
    let properties = load(
        "process.roles=broker,controller\nnode.id=1\ncontroller.listener.names=CONTROLLER\n\
         listeners=PLAINTEXT://:9092,CONTROLLER://:9093\nadvertised.listeners=PLAINTEXT://localhost:9092\n\
         log.dirs=/tmp/kraft-combined-logs\n",
        &[],
        &[],
    )
    .unwrap();
    let settings = Settings::resolve(&properties).unwrap();
    assert_eq!(settings.listeners.len(), 1);
    assert_eq!(settings.advertised[0].host, "localhost");
}

fn error(file: &str) -> String {
    let resolved = load(file, &[], &[]).and_then(|p| Settings::resolve(&p));
    resolved.map_or_else(|e| e.to_string(), |_| String::new())
}

#[test]
fn settings_that_contradict_each_other_or_the_machine_are_refused_with_one_line() {
    const TIER: &str =
        "remote.log.storage.system.enable=true\nstrandline.remote.store.url=file:///cold\n";
    let cases = [
        ("num.network.threads=2000000000", "num.network.threads"),
        (
            "broker.heartbeat.interval.ms=10000",
            "broker.heartbeat.interval.ms",
        ),
        ("log.dirs=/a/x,/a/x", "log.dirs"),
        ("log.dirs=/a/x,/a/x/y", "log.dirs"),
        ("log.dirs=/a/x/../x/y,/a/x", "log.dirs"),
        ("log.dirs= , ", "log.dirs"),
        (
            "strandline.http.listener=nonsense",
            "strandline.http.listener",
        ),
        (
            "strandline.http.listener=h:99999",
            "strandline.http.listener",
        ),
        (
            "strandline.cluster.id=a\\nnode.id=7",
            "strandline.cluster.id",
        ),
        (
            "advertised.listeners=OTHER://h:9092",
            "advertised.listeners",
        ),
        ("listeners=A://:9092,B://:9092", "listeners"),
        ("listeners=A://:9092,A://:9093", "listeners"),
        (
            "controller.quorum.voters=-1@h:1",
            "controller.quorum.voters",
        ),
        (
            "controller.quorum.bootstrap.servers=h",
            "controller.quorum.bootstrap.servers",
        ),
        (
            &format!("{TIER}log.dirs=/a\nstrandline.remote.cache.dir=/a"),
            "strandline.remote.cache.dir",
        ),
        (
            &format!("{TIER}log.dirs=/a/logs\nstrandline.remote.cache.dir=/a"),
            "strandline.remote.cache.dir",
        ),
        (
            "remote.log.storage.system.enable=true\nlog.dirs=/a\nstrandline.remote.store.url=file:///a/cold",
            "strandline.remote.store.url",
        ),
        (
            "remote.log.storage.system.enable=true\nstrandline.remote.store.url=s3://b\n\
             strandline.remote.store.endpoint=localhost:9000",
            "strandline.remote.store.endpoint",
        ),
    ];
    for (file, property) in cases {
        let error = error(file);
        assert!(
            error.starts_with(&format!("{property}: ")),
            "{file}: {error}"
        );
        assert!(!error.contains('\n'), "{file}: {error}");
    }
}

/// The words are Kafka's where Kafka refuses.
#[test]
fn a_start_that_would_lose_records_or_choose_at_random_is_refused_with_the_reason() {
    const TIER: &str = "remote.log.storage.system.enable=true\nstrandline.remote.store.url=";
    let cases = [
        (
            "broker.id=1\nnode.id=2",
            "broker.id: ",
            "You must set `node.id` to the same value as `broker.id`.",
        ),
        (
            "node.id=2\nbroker.id=1",
            "broker.id: ",
            "You must set `node.id` to the same value as `broker.id`.",
        ),
        (
            &format!("{TIER}memory://"),
            "strandline.remote.store.url: ",
            "only `strandline dev` takes it",
        ),
        (
            &format!("{TIER}memory:///prefix"),
            "strandline.remote.store.url: ",
            "only `strandline dev` takes it",
        ),
        (
            &format!("{TIER}file://cold"),
            "strandline.remote.store.url: ",
            "file://cold is relative",
        ),
        (
            &format!("{TIER}file://./cold"),
            "strandline.remote.store.url: ",
            "is relative",
        ),
        (
            &format!("{TIER}file://"),
            "strandline.remote.store.url: ",
            "is relative",
        ),
        (
            "log.retention.ms=0",
            "log.retention.ms: ",
            "log.retention.ms must be unlimited (-1) or, equal or greater than 1",
        ),
        (
            "log.retention.minutes=0",
            "log.retention.ms: ",
            "must be unlimited (-1)",
        ),
        (
            "log.retention.hours=0",
            "log.retention.ms: ",
            "must be unlimited (-1)",
        ),
        (
            "log.retention.bytes=0",
            "log.retention.bytes: ",
            "0 would delete every record",
        ),
        (
            "log.roll.ms=0",
            "log.roll.ms: ",
            "log.roll.ms must be equal or greater than 1",
        ),
        (
            "replica.fetch.wait.max.ms=30001\nreplica.socket.timeout.ms=40000",
            "replica.fetch.wait.max.ms: ",
            "replica.fetch.wait.max.ms should always be less than or equal to replica.lag.time.max.ms to prevent \
             frequent changes in ISR",
        ),
        (
            "replica.fetch.wait.max.ms=30001\nreplica.lag.time.max.ms=40000",
            "replica.fetch.wait.max.ms: ",
            "replica.socket.timeout.ms should always be at least replica.fetch.wait.max.ms to prevent unnecessary \
             socket timeouts",
        ),
        (
            "default.replication.factor=-2",
            "default.replication.factor: ",
            "Value must be at least 1",
        ),
        (
            "offsets.topic.replication.factor=-1",
            "offsets.topic.replication.factor: ",
            "Value must be at least 1",
        ),
        (
            "offsets.topic.segment.bytes=1048575",
            "offsets.topic.segment.bytes: ",
            "Value must be at least 1048576",
        ),
        (
            "transaction.state.log.segment.bytes=1",
            "transaction.state.log.segment.bytes: ",
            "Value must be at least 1048576",
        ),
        (
            "num.network.threads=2000000000",
            "num.network.threads: ",
            "Value must be no more than 1024",
        ),
        (
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=2@b:9093,3@c:9093",
            "controller.quorum.voters: ",
            "If process.roles contains the 'controller' role, the node id 1 must be included in the set of voters \
             controller.quorum.voters=[2, 3]",
        ),
        (
            "process.roles=broker\nnode.id=2\ncontroller.quorum.voters=2@b:9093,3@c:9093",
            "controller.quorum.voters: ",
            "If process.roles contains just the 'broker' role, the node id 2 must not be included in the set of voters \
             controller.quorum.voters=[2, 3]",
        ),
        (
            "connections.max.idle.ms=0",
            "connections.max.idle.ms: ",
            "to prevent failed authentication responses from timing out",
        ),
    ];
    for (file, property, words) in cases {
        let error = error(file);
        assert!(error.starts_with(property), "{file}: {error}");
        assert!(error.contains(words), "{file}: {error}");
        assert!(!error.contains('\n'), "{file}: {error}");
    }
    for legal in [
        "broker.id=7\nnode.id=7",
        "node.id=1\ncontroller.quorum.voters=2@b:9093",
        "log.retention.ms=-1",
        "log.retention.ms=1000\nlog.retention.hours=0",
        "connections.max.idle.ms=-1",
    ] {
        assert_eq!(error(legal), "", "{legal}");
    }
    let dev = load(&format!("{TIER}memory://"), &[], &[]).unwrap();
    assert!(Settings::resolve_for_dev(&dev).is_ok());
}

#[test]
fn a_refusal_is_a_line_that_a_terminal_can_show() {
    let long = "x".repeat(30_000);
    for key in [
        "inter.broker.listener.name",
        "listeners",
        "advertised.listeners",
        "controller.quorum.voters",
        "strandline.http.listener",
        "num.partitions",
    ] {
        let error = error(&format!("{key}={long}"));
        assert!(error.starts_with(&format!("{key}: ")), "{error}");
        assert!(error.len() < 700, "{key}: {} bytes", error.len());
    }
    let tier = "remote.log.storage.system.enable=true\nstrandline.remote.store.url=s3://b\n";
    for file in [
        format!("{tier}strandline.remote.store.endpoint={long}"),
        format!("remote.log.storage.system.enable=true\nstrandline.remote.store.url={long}"),
    ] {
        let error = error(&file);
        assert!(error.starts_with("strandline.remote.store."), "{error}");
        assert!(error.len() < 700, "{} bytes", error.len());
    }
}

#[test]
fn a_properties_file_that_is_no_text_is_refused_with_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("server.properties");
    for bytes in [&b"\xef"[..], b"\xfe", b"\xff", b"PK\x03\x04", b"a=1\nb=\0"] {
        std::fs::write(&path, bytes).unwrap();
        let loaded = Properties::load(Some(&path), [], &[]);
        if let Err(error) = loaded {
            assert!(error.to_string().contains("server.properties"), "{error}");
        }
    }
    std::fs::write(&path, b"a=1\nb=\0").unwrap();
    let error = Properties::load(Some(&path), [], &[]).unwrap_err();
    assert!(error.to_string().contains("line 2"), "{error}");
}

/// Every key with every value that a user might try: an error with the key, or settings; never a panic. Keys whose
/// extremes are legal by themselves are tried against the defaults of all others.
#[test]
fn no_value_of_any_key_panics() {
    let long = "x".repeat(100_000);
    let values = [
        "",
        " ",
        "0",
        "1",
        "-1",
        "-2",
        "2147483647",
        "-2147483648",
        "2147483648",
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775808",
        "1e308",
        "NaN",
        "inf",
        "0.5",
        "true",
        "none",
        ",",
        ":",
        "://",
        "a://b:1",
        "=",
        "*",
        "[::",
        "größe",
        "\u{1f600}",
        "\0",
        "../..",
        "/",
        &long,
    ];
    let base = [
        ("remote.log.storage.system.enable", "true"),
        ("strandline.remote.store.url", "file:///nowhere/cold"),
        ("log.dirs", "/nowhere/logs"),
    ];
    let (mut refused, mut taken) = (0, 0);
    for def in strandline_metadata::config::broker_defs() {
        for value in values {
            let mut overrides: Vec<(String, String)> = Vec::new();
            for (key, value) in base {
                overrides.push((key.to_owned(), value.to_owned()));
            }
            overrides.push((def.name.clone(), value.to_owned()));
            let resolved = Properties::load(None, [], &overrides)
                .and_then(|properties| Settings::resolve(&properties));
            match resolved {
                Ok(settings) => {
                    taken += 1;
                    resolve_everything(&settings);
                }
                Err(error) => {
                    refused += 1;
                    assert!(!error.to_string().is_empty(), "{}={value}", def.name);
                }
            }
        }
    }
    assert!(
        refused > 1000 && taken > 1000,
        "{refused} refused, {taken} taken"
    );
}

/// Every typed view of a broker's configuration.
fn resolve_everything(settings: &Settings) {
    let config = BrokerConfig {
        file: settings.properties.clone(),
        ..BrokerConfig::default()
    };
    for entry in config.describe_all() {
        let _ = (
            config.number(&entry.def.name),
            config.boolean(&entry.def.name),
        );
    }
    let topic = strandline_metadata::config::TopicConfig::resolve(&BTreeMap::new(), &config);
    let _ = (&topic.segment_bytes, &topic.retention_ms);
    let _ = crate::coordinators::group_config(&config);
}
