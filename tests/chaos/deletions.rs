//! Topics are deleted, and the broker that deletes their objects, or the active controller, is killed half-way.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{FutureProducer, FutureRecord};
use strandline_tests::Fault;

use crate::history::History;
use crate::measures::print_times;
use crate::{Options, RECOVERY, REPLICAS};

const PARTITIONS: i32 = 3;
/// Objects that a topic has in the bucket before it is deleted: several requests' worth of work.
const OBJECTS: usize = 60;

/// Deletes `count` topics, kills a process half-way through each deletion, and waits for the bucket to be empty of them.
pub async fn run(options: &Options, count: usize) -> Result<(), String> {
    let mut history = History::begin(options, "deletions").await?;
    history.wait_for_progress().await?;
    let mut times = Vec::new();
    for number in 0..count {
        history.cluster.wait_until_in_sync(RECOVERY).await?;
        let topic_id = fill(&history, &format!("doomed{number}")).await?;
        let left = |history: &History| {
            let keys = history.store.keys();
            keys.iter().filter(|k| k.contains(&topic_id)).count()
        };
        let objects = left(&history);
        let asked = history.store.count("DELETE", "");
        let half = Fault::DeleteHalf(Duration::from_secs(1));
        history.store.inject("DELETE", "", u32::MAX, half);
        delete(&history.cluster.bootstrap(), &format!("doomed{number}")).await?;
        wait_until("objects are being deleted", || {
            history.store.count("DELETE", "") > asked && left(&history) < objects
        })
        .await?;
        let (controller, _) = history.cluster.controller_and_leader("").await;
        let controller = controller.ok_or("there is no active controller")?;
        // The first broker that lives empties the bucket.
        let purger = *history.cluster.ids().first().expect("there are nodes");
        let victim = if number % 2 == 0 { purger } else { controller };
        let remaining = left(&history);
        if remaining == 0 {
            return Err("the deletion was over before anybody could be killed".into());
        }
        let killed = Instant::now();
        history.cluster.kill(victim);
        history.store.heal();
        wait_until("the bucket is empty of the topic", || left(&history) == 0).await?;
        println!(
            "  node {victim} of purger {purger} and controller {controller} killed with {remaining} of {objects} objects left: none after {} ms",
            killed.elapsed().as_millis()
        );
        times.push(killed.elapsed().as_millis());
        history.cluster.launch(victim)?;
        history.cluster.wait_until_in_sync(RECOVERY).await?;
        if left(&history) != 0 {
            return Err("objects of a deleted topic came back".into());
        }
    }
    println!("a topic is deleted, kill -9 half-way, {count} times:");
    print_times("until its last object is gone", times);
    history.end().await.map(|_| ())
}

fn admin(bootstrap: &str) -> Result<AdminClient<DefaultClientContext>, String> {
    let config = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .create();
    config.map_err(|e| e.to_string())
}

/// Makes a topic that has many objects in the bucket; returns the id that their keys carry.
async fn fill(history: &History, name: &str) -> Result<String, String> {
    let bootstrap = history.cluster.bootstrap();
    let topic = NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(REPLICAS))
        .set("internal.segment.bytes", "50000")
        .set("remote.storage.enable", "true");
    let patience = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
    let created = admin(&bootstrap)?.create_topics([&topic], &patience).await;
    let created = created.map_err(|e| e.to_string())?;
    created[0].as_ref().map_err(|(_, e)| e.to_string())?;
    let metadata = history.cluster.metadata().await;
    let metadata = metadata.ok_or("nobody answers")?;
    let named = |t: &&kafka_protocol::messages::metadata_response::MetadataResponseTopic| {
        t.name.as_ref().is_some_and(|n| n.as_str() == name)
    };
    let found = metadata.topics.iter().find(named);
    let topic_id = found.ok_or("the topic is not there")?.topic_id;
    let topic_id = topic_id.simple().to_string();
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", &bootstrap)
        .set("acks", "all")
        .create()
        .map_err(|e| e.to_string())?;
    let value = vec![b'x'; 20_000];
    let began = Instant::now();
    let mut sent = 0;
    loop {
        let keys = history.store.keys();
        if keys.iter().filter(|k| k.contains(&topic_id)).count() >= OBJECTS {
            return Ok(topic_id);
        }
        if began.elapsed() > RECOVERY {
            return Err(format!("too few objects of {name}: {keys:?}"));
        }
        let record = FutureRecord::<(), Vec<u8>>::to(name)
            .partition(sent % PARTITIONS)
            .payload(&value);
        sent += 1;
        let written = producer.send(record, Duration::from_secs(10)).await;
        written.map_err(|(e, _)| e.to_string())?;
    }
}

async fn delete(bootstrap: &str, topic: &str) -> Result<(), String> {
    let patience = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
    let deleted = admin(bootstrap)?.delete_topics(&[topic], &patience).await;
    let deleted = deleted.map_err(|e| e.to_string())?;
    deleted[0]
        .as_ref()
        .map(|_| ())
        .map_err(|(_, e)| e.to_string())
}

async fn wait_until(what: &str, mut holds: impl FnMut() -> bool) -> Result<(), String> {
    let began = Instant::now();
    while !holds() {
        if began.elapsed() > RECOVERY {
            return Err(format!("waited {RECOVERY:?} in vain: {what}"));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
