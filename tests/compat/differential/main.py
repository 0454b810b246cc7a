#!/usr/bin/env python3
"""Random valid requests to a broker and to Apache Kafka in the same state; every difference of the answers is named.

Usage: main.py OURS KAFKA [--requests N] [--seed N] [--only API]

Exit status 1 if the answers differ in a way that allowed.py does not name.
"""

import argparse
import collections
import random
import sys
import time

import allowed
import batches
import compare
import generate
from peer import Peer
from shapes import Codec

# Answers that a broker gives from what it hears of the controller: asked again until both have heard.
SETTLES_IN_SECONDS = 2
CHANGES_TOPICS = {"CreateTopics", "DeleteTopics", "CreatePartitions", "AlterConfigs", "IncrementalAlterConfigs"}
CHANGES = CHANGES_TOPICS | {
    "Produce", "DeleteRecords", "JoinGroup", "SyncGroup", "LeaveGroup", "OffsetCommit", "OffsetDelete", "DeleteGroups",
    "AlterClientQuotas", "AlterPartitionReassignments", "InitProducerId", "Heartbeat",
}
# How often an API is asked, beside once for the others.
WEIGHTS = {"JoinGroup": 1, "CreateTopics": 1, "DeleteTopics": 1, "Produce": 4, "Fetch": 3, "OffsetCommit": 3, "ListOffsets": 3}
EPISODE = 60


def apis(peers, names):
    """Versions that both advertise, by API."""
    ranges = []
    for peer in peers:
        answer = peer.call(18, 3, {"ClientSoftwareName": "differential", "ClientSoftwareVersion": "1"})
        ranges.append({a["ApiKey"]: range(a["MinVersion"], a["MaxVersion"] + 1) for a in answer["ApiKeys"]})
    ours, kafkas = ranges
    both = {key: [v for v in ours[key] if v in kafkas[key]] for key in ours.keys() & kafkas.keys()}
    # Kafka advertises these versions of Produce for librdkafka only.
    both[0] = [v for v in both[0] if v >= 3]
    # In version 0 of JoinGroup one time-out is both, and a rebalance would take six seconds.
    both[11] = [v for v in both[11] if v >= 1]
    for key in sorted(kafkas):
        if key not in ours:
            print(f"only Kafka has {names[key]}")
        elif list(ours[key]) != list(kafkas[key]):
            print(f"{names[key]}: versions {ours[key]} here, {kafkas[key]} in Kafka")
    return both


def both(peers, key, version, value):
    for peer in peers:
        peer.send(key, version, value)
    return [peer.receive(key, version) for peer in peers]


def set_up(peers):
    """The topics that stay, each with the same records."""
    configs = {"stamped": {"message.timestamp.type": "LogAppendTime"}, "compact": {"cleanup.policy": "compact"},
               "tiny": {"max.message.bytes": "300"}}
    topics = [{"Name": name, "NumPartitions": 3 if name == "three" else 1, "ReplicationFactor": 1, "Assignments": [],
               "Configs": [{"Name": k, "Value": v} for k, v in configs.get(name, {}).items()]} for name in generate.TOPICS]
    for answer in both(peers, 19, 7, {"Topics": topics, "timeoutMs": 10_000}):
        assert all(t["ErrorCode"] == 0 for t in answer["Topics"]), answer
    settle(peers)
    for n in range(5):
        batch = batches.batch([(0, 0, b"k%d" % n, b"value"), (1, 1, b"l", b"value")], base_timestamp=batches.EPOCH + n)
        for topic in generate.TOPICS:
            data = [{"Name": topic, "PartitionData": [{"Index": 0, "Records": batch}]}]
            for peer in peers:
                produce(peer, data)
    # Makes the topic of positions.
    deadline = time.time() + 60
    while time.time() < deadline:
        if all(a["ErrorCode"] == 0 for a in both(peers, 10, 2, {"Key": "group-0", "KeyType": 0})):
            break
        time.sleep(0.2)
    else:
        sys.exit("no coordinator")
    while time.time() < deadline:
        if all(a["ErrorCode"] == 0 for a in both(peers, 9, 7, {"GroupId": "group-0", "Topics": None, "RequireStable": False})):
            return settle(peers)
        time.sleep(0.2)
    sys.exit("no coordinator")


def produce(peer, data):
    """Until the broker knows that it leads the topic."""
    deadline = time.time() + 30
    while True:
        answer = peer.call(0, 9, {"Acks": -1, "TimeoutMs": 10_000, "TopicData": data})
        if answer["Responses"][0]["PartitionResponses"][0]["ErrorCode"] == 0:
            return
        if time.time() > deadline:
            sys.exit(f"{peer.name} does not take records: {answer}")
        time.sleep(0.1)


def settle(peers):
    """Waits until both brokers show the same topics."""
    deadline = time.time() + SETTLES_IN_SECONDS
    while True:
        shown = []
        for peer, answer in zip(peers, both(peers, 3, 12, {"Topics": None})):
            for topic in answer["Topics"]:
                peer.topics[topic["Name"]] = topic["TopicId"]
            shown.append(sorted((t["Name"], len(t["Partitions"])) for t in answer["Topics"]))
        if shown[0] == shown[1] or time.time() > deadline:
            return
        time.sleep(0.02)


def learn_members(peers, generator, answers):
    ids = [a.get("MemberId") if isinstance(a, dict) else None for a in answers]
    if all(ids) and all(own not in peer.members.values() for peer, own in zip(peers, ids)):
        for peer, own in zip(peers, ids):
            peer.members[f"m{generator.members}"] = own
        generator.members += 1


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("ours")
    arguments.add_argument("kafka")
    arguments.add_argument("--requests", type=int, default=10_000)
    arguments.add_argument("--seconds", type=float, default=0)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--only")
    arguments.add_argument("--examples", type=int, default=1)
    options = arguments.parse_args()
    codec = Codec()
    peers = [Peer("ours", options.ours, codec), Peer("kafka", options.kafka, codec)]
    versions = apis(peers, codec.names)
    set_up(peers)
    generator = generate.Generator(random.Random(options.seed))
    keys = [key for key in sorted(versions) if codec.names[key] not in generate.NOT_ASKED and versions[key]
            and (options.only is None or codec.names[key] == options.only)]
    weights = [WEIGHTS.get(codec.names[key], 2) for key in keys]
    found, named, asked = {}, collections.Counter(), collections.Counter()
    began, number = time.time(), 0
    while number < options.requests and not (options.seconds and time.time() - began > options.seconds):
        if number % EPISODE == 0:
            # A group lives for one episode, so no session expires in the middle of a comparison.
            generator.group, generator.members = f"group-{number // EPISODE}", 0
            for peer in peers:
                peer.members.clear()
        number += 1
        key = generator.random.choices(keys, weights)[0]
        api, version = codec.names[key], generator.random.choice(versions[key])
        value = generator.request(codec.messages, api, key, version)
        asked[api] += 1
        deadline = time.time() + SETTLES_IN_SECONDS
        while True:
            answers = both(peers, key, version, value)
            if api == "JoinGroup":
                learn_members(peers, generator, answers)
            if api == "ListGroups":
                # Members of the groups before expire meanwhile.
                for answer in answers:
                    answer["Groups"] = [g for g in answer["Groups"] if g["GroupId"] == generator.group]
            shown = [compare.plain(a, p, api) for a, p in zip(answers, peers)]
            differ = []
            for path, ours, kafkas in compare.differences(*shown):
                reason = allowed.reason(api, version, path, ours, kafkas, value, shown)
                if reason:
                    named[reason] += 1
                else:
                    differ.append((path, ours, kafkas))
            known = all((api, path, str(ours)[:60], str(kafkas)[:60]) in found for path, ours, kafkas in differ)
            if known or api in CHANGES or time.time() > deadline:
                break
            time.sleep(0.1)
        for path, ours, kafkas in differ:
            seen = found.setdefault((api, path, str(ours)[:60], str(kafkas)[:60]), [])
            seen.append((number, version, value, shown))
        if api in CHANGES_TOPICS:
            settle(peers)
    print(f"seed {options.seed}: {number} requests of {len(asked)} APIs in {time.time() - began:.0f} s")
    for reason, count in sorted(named.items()):
        print(f"named {count:6}  {reason}")
    for (api, path, ours, kafkas), seen in sorted(found.items()):
        print(f"DIFFERS {len(seen):5}  {api}{path}: {ours} here, {kafkas} in Kafka")
        for number, version, value, shown in seen[: options.examples]:
            print(f"    request {number}, version {version}: {str(value)[:700]}\n    ours:  {str(shown[0])[:500]}\n    kafka: {str(shown[1])[:500]}")
    undocumented = allowed.not_documented(named)
    for words in undocumented:
        print(f"docs/DIFFERENCES.md does not say: {words}")
    return 1 if found or undocumented else 0


if __name__ == "__main__":
    sys.exit(main())
