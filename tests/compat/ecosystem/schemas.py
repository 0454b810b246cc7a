"""Avro and JSON Schema records whose schemas are in a registry, by confluent-kafka's serializers.

Usage: schemas.py write|read BOOTSTRAP REGISTRY
`write` registers the schemas and produces records; `read` must find the same schemas under the same ids, and the records.
"""

import json
import sys
import time

from confluent_kafka import Consumer, Producer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

WHAT, BOOTSTRAP, REGISTRY = sys.argv[1:4]
COUNT = 200
SUBJECTS = 40
FIELDS = [{"name": "id", "type": "long"}, {"name": "name", "type": "string"}]
SECOND = [*FIELDS, {"name": "note", "type": ["null", "string"], "default": None}]
JSON_SCHEMA = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "title": "Reading",
    "type": "object",
    "properties": {"id": {"type": "integer"}, "celsius": {"type": "number"}},
    "required": ["id", "celsius"],
}


def check(condition, what):
    if not condition:
        sys.exit(f"WRONG: {what}")


def avro(fields, name="Order"):
    return json.dumps({"type": "record", "name": name, "namespace": "strandline", "fields": fields})


def order(i):
    return {"id": i, "name": f"order {i} äöü", "note": None if i % 3 else "n" * (i % 50)}


def reading(i):
    return {"id": i, "celsius": i / 4}


def many():
    return {f"many-{i}": avro(FIELDS, f"Many{i}") for i in range(SUBJECTS)}


def write(registry):
    for subject, text in many().items():
        registry.register_schema(subject, Schema(text, "AVRO"))
    first = registry.register_schema("orders-value", Schema(avro(FIELDS), "AVRO"))
    second = registry.register_schema("orders-value", Schema(avro(SECOND), "AVRO"))
    check(first != second, f"two versions have the id {first}")
    check(registry.register_schema("orders-value", Schema(avro(FIELDS), "AVRO")) == first, "the id of a known schema")
    to_avro = AvroSerializer(registry, avro(SECOND), lambda value, _: value)
    to_json = JSONSerializer(json.dumps(JSON_SCHEMA), registry, lambda value, _: value)
    producer = Producer({"bootstrap.servers": BOOTSTRAP, "enable.idempotence": True})
    for i in range(COUNT):
        producer.produce("registry-orders", to_avro(order(i), SerializationContext("orders", MessageField.VALUE)))
        producer.produce("registry-readings", to_json(reading(i), SerializationContext("readings", MessageField.VALUE)))
    check(producer.flush(60) == 0, "produce")


def consume(topic, decode):
    consumer = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": f"of-{topic}-{time.time_ns()}", "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    found, deadline = [], time.monotonic() + 60
    while len(found) < COUNT and time.monotonic() < deadline:
        for message in consumer.consume(500, 0.5):
            check(not message.error(), f"consume: {message.error()}")
            found.append(decode(message.value(), SerializationContext(topic, MessageField.VALUE)))
    consumer.close()
    return sorted(found, key=lambda value: value["id"])


def read(registry):
    subjects = set(registry.get_subjects())
    wanted = {*many(), "orders-value", "readings-value"}
    check(wanted == subjects, f"subjects {sorted(subjects ^ wanted)}")
    for subject, text in many().items():
        found = json.loads(registry.get_latest_version(subject).schema.schema_str)
        check(found == json.loads(text), f"{subject}: {found}")
    check(registry.get_versions("orders-value") == [1, 2], f"versions {registry.get_versions('orders-value')}")
    for version, fields in ((1, FIELDS), (2, SECOND)):
        found = json.loads(registry.get_version("orders-value", version).schema.schema_str)
        check(found == json.loads(avro(fields)), f"version {version}: {found}")
    found = consume("registry-orders", AvroDeserializer(registry))
    check(found == [order(i) for i in range(COUNT)], f"{len(found)} orders: {found[:2]}")
    found = consume("registry-readings", JSONDeserializer(None, schema_registry_client=registry))
    check(found == [reading(i) for i in range(COUNT)], f"{len(found)} readings: {found[:2]}")


def main():
    registry = SchemaRegistryClient({"url": REGISTRY})
    if WHAT == "write":
        write(registry)
    read(registry)
    print("all values are right")


main()
