"""kafka-python: a client that is not librdkafka. All topics, regex subscription, produce, consume, administration.

Usage: pure.py BOOTSTRAP
"""

import sys
import time

import kafka
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic
from values import check, records, same

BOOTSTRAP = sys.argv[1]
COUNT = 300
TOPICS = ["pure-a", "pure-b"]


def main():
    print("kafka-python", kafka.__version__)
    admin = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    admin.create_topics([NewTopic(name, 2, 1) for name in TOPICS])
    listed = admin.list_topics()
    check(set(TOPICS) <= set(listed), f"list_topics names {sorted(listed)}")
    producer = KafkaProducer(bootstrap_servers=BOOTSTRAP, acks="all", compression_type="gzip")
    for topic in TOPICS:
        sent = [producer.send(topic, value, key, headers) for key, value, headers in records(topic, COUNT)]
        for one in sent:
            one.get(60)
    consumer = KafkaConsumer(bootstrap_servers=BOOTSTRAP, group_id="pure", auto_offset_reset="earliest")
    consumer.subscribe(pattern="^pure-.*")
    found, deadline = [], time.monotonic() + 60
    while len(found) < COUNT * len(TOPICS) and time.monotonic() < deadline:
        for batch in consumer.poll(500).values():
            found += [(r.topic, r.key, r.value) for r in batch]
    same(found, TOPICS, COUNT)
    consumer.commit()
    consumer.close()
    admin.delete_topics(TOPICS)
    print("all values are right")


main()
