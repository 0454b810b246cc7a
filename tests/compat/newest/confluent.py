"""confluent-kafka-python and the librdkafka inside it: all topics, regex subscription, produce, consume, administration.

Usage: confluent.py BOOTSTRAP
"""

import sys
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition, libversion, version
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
)
from values import check, records, same

BOOTSTRAP = sys.argv[1]
COUNT = 300
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
PREFIX = "confluent-"


def connect(**more):
    return {"bootstrap.servers": BOOTSTRAP, **more}


def produce(topic, codec):
    refused = []
    producer = Producer(connect(**{"enable.idempotence": True, "compression.type": codec, "linger.ms": 5}))
    for key, value, headers in records(topic, COUNT):
        producer.produce(topic, value, key, headers=headers, on_delivery=lambda e, _: e and refused.append(e))
        producer.poll(0)
    check(producer.flush(60) == 0 and not refused, f"produce to {topic}: {refused[:1]}")


def consume(consumer, count):
    found, deadline = [], time.monotonic() + 60
    while len(found) < count and time.monotonic() < deadline:
        for message in consumer.consume(500, 0.5):
            check(not message.error(), f"consume: {message.error()}")
            number = message.key().rsplit(b"-", 1)[1]
            check(message.headers() == [("n", number)], f"headers {message.headers()} of {message.key()}")
            found.append((message.topic(), message.key(), message.value()))
    return found


def main():
    print("confluent-kafka", version(), "librdkafka", libversion()[0])
    admin = AdminClient(connect())
    topics = [PREFIX + codec for codec in CODECS]
    for future in admin.create_topics([NewTopic(t, 3, 1) for t in topics]).values():
        future.result(30)
    listed = admin.list_topics(timeout=30)
    check(set(topics) <= set(listed.topics), f"list_topics names {sorted(listed.topics)}")
    check(all(len(listed.topics[t].partitions) == 3 for t in topics), "three partitions each")

    # A consumer by pattern sees the topics that are there, and the one that comes later.
    consumer = Consumer(connect(**{
        "group.id": "by-pattern",
        "auto.offset.reset": "earliest",
        "topic.metadata.refresh.interval.ms": 500,
    }))
    consumer.subscribe([f"^{PREFIX}.*"])
    for topic, codec in zip(topics, CODECS):
        produce(topic, codec)
    same(consume(consumer, COUNT * len(topics)), topics, COUNT)
    late = PREFIX + "late"
    admin.create_topics([NewTopic(late, 1, 1)])[late].result(30)
    produce(late, "zstd")
    same(consume(consumer, COUNT), [late], COUNT)
    consumer.commit(asynchronous=False)
    position = consumer.committed([TopicPartition(late, 0)], 30)[0].offset
    check(position == COUNT, f"committed {position}")
    group = admin.describe_consumer_groups(["by-pattern"])["by-pattern"].result(30)
    check(len(group.members) == 1, f"{len(group.members)} members")
    consumer.close()

    at = TopicPartition(late, 0)
    end = admin.list_offsets({at: OffsetSpec.latest()})[at].result(30).offset
    check(end == COUNT, f"the end is {end}")
    admin.create_partitions([NewPartitions(late, 4)])[late].result(30)
    check(len(admin.list_topics(late, 30).topics[late].partitions) == 4, "four partitions")
    resource = ConfigResource(ConfigResource.Type.TOPIC, late)
    resource.add_incremental_config(ConfigEntry("retention.ms", "7200000", incremental_operation=AlterConfigOpType.SET))
    admin.incremental_alter_configs([resource])[resource].result(30)
    resource = ConfigResource(ConfigResource.Type.TOPIC, late)
    configs = admin.describe_configs([resource])[resource].result(30)
    check(configs["retention.ms"].value == "7200000", "the configuration that was set")
    listed = admin.list_consumer_groups().result(30)
    check("by-pattern" in [g.group_id for g in listed.valid], "the group is listed")
    admin.delete_consumer_groups(["by-pattern"])["by-pattern"].result(30)
    cluster = admin.describe_cluster().result(30)
    check(len(cluster.nodes) == 1 and cluster.cluster_id, "the cluster")

    # Internal topics are the brokers' own.
    refused = None
    try:
        admin.delete_topics(["__consumer_offsets"])["__consumer_offsets"].result(30)
    except KafkaException as error:
        refused = error.args[0].name()
    check(refused == "TOPIC_EXCEPTION", f"deletion of an internal topic: {refused}")
    for topic, future in admin.delete_topics([*topics, late]).items():
        future.result(30)
        check(topic not in admin.list_topics(timeout=30).topics, f"{topic} is gone")
    print("all values are right")


main()
