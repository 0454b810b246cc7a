//! A topic that has its cold tier from the default for new topics shows no setting of its own: tools that copy a topic's
//! settings to a cluster without a tier (MirrorMaker 2), or compare them with a file, leave it alone.

use kafka_protocol::messages as m;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};

use super::*;

const OWN: i8 = 1;
const DEFAULT: i8 = 5;

/// Value and source of a topic's key.
async fn describe(connection: &mut Connection, topic: &str, key: &str) -> (String, i8) {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(StrBytes::from_string(topic.to_owned()))
        .with_configuration_keys(None);
    let request = m::DescribeConfigsRequest::default().with_resources(vec![resource]);
    let answer: m::DescribeConfigsResponse = connection
        .call(ApiKey::DescribeConfigs, 4, &request)
        .await
        .unwrap();
    let configs = &answer.results[0].configs;
    let internal = configs.iter().filter(|c| c.name.starts_with("internal."));
    assert_eq!(internal.count(), 0);
    let found = configs.iter().find(|c| c.name.as_str() == key).unwrap();
    let value = found.value.as_ref().map(ToString::to_string);
    (value.unwrap_or_default(), found.config_source)
}

/// Sets a topic's key; returns the error code.
async fn set(connection: &mut Connection, topic: &str, key: &str, value: &str) -> i16 {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let change = AlterableConfig::default()
        .with_name(text(key))
        .with_value(Some(text(value)));
    let resource = AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text(topic))
        .with_configs(vec![change]);
    let request = m::IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let answer: m::IncrementalAlterConfigsResponse = connection
        .call(ApiKey::IncrementalAlterConfigs, 1, &request)
        .await
        .unwrap();
    answer.responses[0].error_code
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tier_by_default_is_no_setting_of_the_topic() {
    const KEY: &str = "remote.storage.enable";
    let default = [("log.remote.storage.enable", "true")];
    let mut broker = TestBroker::start_tiered(&default).await;
    let mut client = broker.client().await;
    client.create_topic("plain", 1, &[]).await.unwrap();
    let asked = [(KEY, "true")];
    client.create_topic("asked", 1, &asked).await.unwrap();
    let mut connection = Connection::open(&broker.address()).await.unwrap();
    let c = &mut connection;
    let on = "true".to_owned();
    assert_eq!(describe(c, "plain", KEY).await, (on.clone(), DEFAULT));
    assert_eq!(describe(c, "asked", KEY).await, (on.clone(), OWN));
    // The tier was nobody's wish, so compaction may take its place while nothing is copied.
    assert_eq!(set(c, "plain", "cleanup.policy", "compact").await, 0);
    let off = "false".to_owned();
    assert_eq!(describe(c, "plain", KEY).await, (off, DEFAULT));
    assert_ne!(set(c, "asked", "cleanup.policy", "compact").await, 0);
    // A wish makes it the topic's own.
    client.create_topic("wished", 1, &[]).await.unwrap();
    assert_eq!(set(c, "wished", KEY, "true").await, 0);
    assert_eq!(describe(c, "wished", KEY).await, (on, OWN));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tier_by_default_that_holds_segments_stays() {
    let default = [("log.remote.storage.enable", "true")];
    let mut broker = TestBroker::start_tiered(&default).await;
    let mut client = broker.client().await;
    let small = [
        ("internal.segment.bytes", "20000"),
        ("local.retention.bytes", "1"),
    ];
    client.create_topic("t", 1, &small).await.unwrap();
    let values = super::produce(&mut client, "t", 1000, 200).await;
    offloaded(&mut client, "t").await;
    let mut connection = Connection::open(&broker.address()).await.unwrap();
    let code = set(&mut connection, "t", "cleanup.policy", "compact").await;
    assert_ne!(code, 0);
    assert_eq!(read_all(&mut client, "t", 0).await, values);
    broker.stop().await;
}
