"""What two answers to one request differ in, after everything is left out that may differ between two brokers."""

import json
import re
import uuid

# The order in which Kafka lists these has no meaning.
UNORDERED = {
    "Metadata", "ListGroups", "DescribeLogDirs", "DeleteTopics", "CreateTopics", "ListConfigResources", "DescribeCluster",
    "OffsetFetch", "DescribeGroups", "JoinGroup", "DescribeTopicPartitions", "CreatePartitions", "ElectLeaders", "ApiVersions",
    "DescribeConfigs", "AlterPartitionReassignments", "ListPartitionReassignments", "AlterConfigs", "IncrementalAlterConfigs",
    "Produce", "Fetch", "ListOffsets", "OffsetForLeaderEpoch", "DeleteRecords", "DescribeProducers", "OffsetDelete",
    "OffsetCommit", "DescribeUserScramCredentials", "DescribeClientQuotas", "AlterClientQuotas", "LeaveGroup",
}
# Of another run, another process, another directory or another place on the network.
VARIES = {
    "ThrottleTimeMs", "ClusterId", "Host", "Port", "LogDir", "TotalBytes", "UsableBytes", "PartitionSize", "LogAppendTimeMs",
    "FinalizedFeaturesEpoch", "LastTimestamp",
}
# Texts are compared as null, empty or text.
TEXTS = {"ErrorMessage", "BatchIndexErrorMessage", "Documentation"}
# Lists whose entries are compared by their names.
NAMED = {("DescribeConfigs", "Configs"): "Name", ("CreateTopics", "Configs"): "Name", ("ApiVersions", "ApiKeys"): "ApiKey",
         ("ApiVersions", "SupportedFeatures"): "Name", ("ApiVersions", "FinalizedFeatures"): "Name"}
UUID_TEXT = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[A-Za-z0-9_-]{22}")


def plain(value, peer, api, name=None):
    """The answer with names in the place of this broker's own ids."""
    if isinstance(value, dict):
        return {key: plain(item, peer, api, key) for key, item in value.items() if key not in VARIES}
    if isinstance(value, list) and (api, name) in NAMED:
        key = NAMED[api, name]
        return {str(item[key]): plain(item, peer, api) for item in value}
    if isinstance(value, list):
        items = [plain(item, peer, api, name) for item in value]
        if api in UNORDERED:
            items.sort(key=lambda item: json.dumps(item, sort_keys=True, default=str))
        return items
    if isinstance(value, uuid.UUID):
        return "<nil>" if value.int == 0 else peer.named(value) or "<an id>"
    if isinstance(value, bytes):
        return value.hex()
    if name in TEXTS and value:
        return "<text>"
    if name in ("SessionId", "ProducerId") and isinstance(value, int) and value > 0:
        return "<given>"
    if isinstance(value, str):
        for member, own in peer.members.items():
            value = value.replace(own, f"<member {member}>")
        return UUID_TEXT.sub("<uuid>", value)
    return value


def differences(ours, kafkas, path=""):
    """Pairs of what differs: the path without positions, then both values."""
    if isinstance(ours, dict) and isinstance(kafkas, dict):
        for key in sorted(ours.keys() | kafkas.keys()):
            yield from differences(ours.get(key, "<absent>"), kafkas.get(key, "<absent>"), f"{path}.{key}")
    elif isinstance(ours, list) and isinstance(kafkas, list):
        if len(ours) != len(kafkas):
            yield path, f"{len(ours)} entries", f"{len(kafkas)} entries"
        else:
            for one, other in zip(ours, kafkas):
                yield from differences(one, other, path)
    elif ours != kafkas:
        yield path, ours, kafkas
