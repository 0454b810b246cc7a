"""librdkafka asks for what is not there, a transaction and ACLs: each is to end with an error soon.

Usage: refused.py BOOTSTRAP
"""

import sys
import time

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AclBindingFilter, AclOperation, AclPermissionType, AdminClient, ResourcePatternType, ResourceType
from values import check

BOOTSTRAP = sys.argv[1]


def error_of(ask):
    try:
        ask()
    except KafkaException as refused:
        return refused.args[0]
    return None


def main():
    began = time.monotonic()
    producer = Producer({"bootstrap.servers": BOOTSTRAP, "transactional.id": "refused"})
    error = error_of(lambda: producer.init_transactions(60))
    check(error is not None and error.code() == KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, f"a transaction: {error}")
    check(error.fatal(), "the error of a transaction is not fatal")
    admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
    every = AclBindingFilter(ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY)
    # Beside Apache Kafka without an authorizer, too, librdkafka makes an empty list of the error.
    found = admin.describe_acls(every).result(30)
    check(found == [], f"ACLs: {found}")
    check(time.monotonic() - began < 30, "it took long")


main()
