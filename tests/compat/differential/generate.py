"""Random valid requests. Fields are filled by their names from small pools, so that requests meet the topics and groups
that are there, and the edges of what a field may say."""

import batches
from peer import MemberId, TopicId

TOPICS = ["one", "three", "stamped", "compact", "tiny"]
# Created, changed and deleted while a run goes on.
SPARE = ["spare-0", "spare-1", "spare-2"]
ABSENT = ["absent", "bad name", "", "."]
CONFIGS = {
    "retention.ms": ["-1", "1000000", "abc", "-2", ""],
    "cleanup.policy": ["delete", "compact", "compact,delete", "shred"],
    "max.message.bytes": ["1000000", "-1", "0"],
    "min.insync.replicas": ["1", "0", "2"],
    "segment.bytes": ["1048576", "5"],
    "message.timestamp.type": ["CreateTime", "LogAppendTime", "x"],
    "compression.type": ["producer", "gzip", "brotli"],
    "leader.replication.throttled.replicas": ["*", "0:1", "x", ""],
    "follower.replication.throttled.replicas": ["*", "0:1,1:1", "0-1"],
    "no.such.key": ["1"],
}

# Filled by a function of their own, or left out: these change the cluster or the process itself.
NOT_ASKED = {
    "UnregisterBroker": "the only broker would leave",
    "AddRaftVoter": "the quorum would change",
    "RemoveRaftVoter": "the quorum would change",
    "UpdateFeatures": "a level of a feature cannot be lowered again",
    "AlterReplicaLogDirs": "directories have different names",
}


class Generator:
    def __init__(self, random):
        self.random = random
        self.group = "group-0"
        self.members = 0

    def topic(self):
        pool = self.random.choices([TOPICS, SPARE, ABSENT], [8, 3, 1])[0]
        return self.random.choice(pool)

    def groups(self):
        return self.random.choices([self.group, "nobody", ""], [12, 2, 1])[0]

    def member(self):
        known = [MemberId(f"m{n}") for n in range(max(0, self.members - 2), self.members)]
        return self.random.choice([*known, *known, "", "stranger"])

    def request(self, messages, name, key, version):
        self.api = name
        value = self.fields(messages[key, "request"].fields, version)
        fix = getattr(self, f"fix_{name}", None)
        if fix:
            fix(value, version)
        return value

    def fields(self, fields, version):
        value = {}
        for field in fields:
            if version in field.versions and version not in field.tagged:
                value[field.name] = self.field(field, version)
        return value

    def field(self, field, version):
        nullable = version in field.nullable
        if field.array:
            if nullable and self.random.random() < 0.2:
                return None
            count = self.random.choices([0, 1, 2, 3], [1, 8, 3, 1])[0]
            return [self.one(field, version) for _ in range(count)]
        if nullable and field.kind != "records" and self.random.random() < 0.25:
            return None
        return self.one(field, version)

    def one(self, field, version):
        pick = self.random.choice
        if field.fields is not None:
            return self.fields(field.fields, version)
        name = field.name
        if field.kind == "uuid":
            return TopicId(self.random.choices([pick(TOPICS), pick(SPARE), "absent"], [8, 3, 1])[0])
        if field.kind == "bool":
            return pick([False, True])
        if field.kind == "string":
            return self.string(field, name)
        if field.kind == "bytes":
            return pick([b"", b"\0\1", b"bytes"])
        if field.kind == "records":
            return batches.random_batch(self.random)
        return self.number(field, name)

    def string(self, field, name):
        pick = self.random.choice
        if field.entity == "topicName" or name in ("Topic", "TopicName"):
            return self.topic()
        if field.entity == "groupId" or name in ("Groups", "GroupsNames", "Key", "CoordinatorKeys"):
            return self.groups()
        pools = {
            "MemberId": lambda: self.member(),
            "GroupInstanceId": lambda: pick(["instance-1", "instance-2"]),
            "CommittedMetadata": lambda: pick(["", "metadata", "m" * 5000]),
            "ResourceName": lambda: pick([self.topic(), self.topic(), "1", "2", "", "x"]),
            "ConfigurationKeys": lambda: pick(list(CONFIGS)),
            "StatesFilter": lambda: pick(["Stable", "Empty", "empty", "x"]),
            "TypesFilter": lambda: pick(["classic", "Classic", "consumer", "x"]),
            "EntityType": lambda: pick(["user", "client-id", "x", ""]),
            "EntityName": lambda: pick(["u1", "c1", ""]),
            "Match": lambda: pick(["u1", "c1"]),
            "ClientSoftwareName": lambda: pick(["name", "", "-x"]),
            "ClientSoftwareVersion": lambda: pick(["1.0", "", "1 0"]),
            "ProtocolType": lambda: pick(["consumer", "consumer", "connect", ""]),
            "ProtocolName": lambda: pick(["range", "range", "roundrobin"]),
        }
        if name in pools:
            return pools[name]()
        return pick(["", "x", "name"])

    def number(self, field, name):
        pick = self.random.choice
        if "Timeout" in name or name == "MaxWaitMs":
            return pick([0, 1, 100, 1000])
        if "Partition" in name and name != "NumPartitions" and name != "ResponsePartitionLimit":
            return pick([0, 0, 0, 0, 1, 2, 3, -1])
        pools = {
            "Timestamp": [-1, -2, -3, -4, -5, -6, -7, 0, batches.EPOCH, batches.EPOCH + 3, batches.FAR_FUTURE],
            "IsolationLevel": [0, 1],
            "CurrentLeaderEpoch": [-1, -1, -1, 0, 1],
            "LeaderEpoch": [-1, 0, 0, 1, 5],
            "CommittedLeaderEpoch": [-1, 0, 3],
            "CommittedOffset": [0, 1, 50, -1],
            "GenerationId": [-1, 0, 1, 1, 2],
            "GenerationIdOrMemberEpoch": [-1, -1, 0, 1, 1, 2],
            "RetentionTimeMs": [-1, 1_000_000],
            "ReplicaId": [-1],
            "Acks": [-1, -1, -1, 1, 2],
            "ResourceType": [2, 2, 2, 4, 8, 16, 32, 0, 1, 3],
            "ResourceTypes": [2, 4, 8, 16, 32, 0, 3],
            "KeyType": [0, 0, 0, 0, 2, 5],
            "EndpointType": [1, 1, 1, 2, 3, 0],
            "ElectionType": [0, 1],
            "ConfigOperation": [0, 0, 1, 2, 3],
            "NumPartitions": [1, 2, -1, 0],
            "ReplicationFactor": [1, -1, 0, 2],
            "Count": [1, 2, 3, 4, 0],
            "BrokerIds": [1, 1, 1, 2],
            "Replicas": [1, 1, 1, 2],
            "FetchOffset": [0, 0, 1, 2, 5, 1000, -1],
            "Offset": [0, 0, 1, -1, 1000, -2],
            "MinBytes": [0],
            "MaxBytes": [1 << 20, 1 << 20, 100, 1],
            "PartitionMaxBytes": [1 << 20, 1 << 20, 100, 1],
            "LastFetchedEpoch": [-1, -1, 0, 1],
            "LogStartOffset": [-1],
            "SessionId": [0, 0, 0, 99],
            "SessionEpoch": [-1, -1, -1, 0, 3],
            "ResponsePartitionLimit": [2000, 1, 2, 0, -1],
            "SessionTimeoutMs": [30_000],
            "MatchType": [0, 1, 2, 3],
        }
        if name in pools:
            return pick(pools[name])
        return pick([0, 1, -1])

    # What pools of single fields cannot say.

    def fix_Produce(self, value, version):
        value["TransactionalId"] = None
        value["TimeoutMs"] = self.random.choice([0, 30_000])

    def fix_InitProducerId(self, value, version):
        value["TransactionalId"] = None
        if version >= 3:
            value["ProducerId"], value["ProducerEpoch"] = self.random.choice([(-1, -1), (-1, -1), (5, 0), (-1, 3)])

    def fix_Metadata(self, value, version):
        # Kafka fails a request without an id and without a name, and ids before version 12, as a whole.
        if version >= 4:
            value["AllowAutoTopicCreation"] = False
        elif value["Topics"] is not None:
            value["Topics"] = [t for t in value["Topics"] if t["Name"] in TOPICS]
        for topic in value["Topics"] or []:
            if version < 12:
                topic.pop("TopicId", None)
                topic["Name"] = topic["Name"] or "one"
            elif self.random.random() < 0.5:
                topic["TopicId"] = batches.shapes.ZERO_ID
                topic["Name"] = topic["Name"] or "one"

    def fix_DeleteTopics(self, value, version):
        spare = lambda: self.random.choice([*SPARE, *ABSENT])
        for topic in value.get("Topics") or []:
            by_name = self.random.choice([True, True, False])
            topic["Name"] = spare() if by_name or self.random.random() < 0.1 else None
            nil = by_name and self.random.random() < 0.9
            topic["TopicId"] = batches.shapes.ZERO_ID if nil else TopicId(self.random.choice([*SPARE, "absent"]))
        if "TopicNames" in value:
            value["TopicNames"] = [spare() for _ in value["TopicNames"]]
        value["TimeoutMs"] = 10_000

    def configs(self):
        key = self.random.choice(list(CONFIGS))
        return key, self.random.choice(CONFIGS[key])

    def fix_CreateTopics(self, value, version):
        value["timeoutMs"] = 10_000
        for topic in value["Topics"]:
            topic["Name"] = self.random.choice([*SPARE, *SPARE, *ABSENT, "one"])
            if self.random.random() < 0.7:
                topic["Assignments"] = []
            for assignment in topic["Assignments"]:
                assignment["PartitionIndex"] = self.random.choice([0, 0, 0, 1, 2])
            if topic["Assignments"] and self.random.random() < 0.8:
                topic["NumPartitions"] = topic["ReplicationFactor"] = -1
            for config in topic["Configs"]:
                config["Name"], config["Value"] = self.configs()

    def fix_CreatePartitions(self, value, version):
        value["TimeoutMs"] = 10_000
        for topic in value["Topics"]:
            topic["Name"] = self.random.choice([*SPARE, *ABSENT])

    def alter(self, value):
        for resource in value["Resources"]:
            resource["ResourceType"] = self.random.choice([2, 2, 2, 2, 0, 3])
            resource["ResourceName"] = self.random.choice([*SPARE, *ABSENT])
            for config in resource["Configs"]:
                config["Name"], config["Value"] = self.configs()

    def fix_AlterConfigs(self, value, version):
        self.alter(value)

    def fix_IncrementalAlterConfigs(self, value, version):
        self.alter(value)

    def fix_DeleteRecords(self, value, version):
        value["TimeoutMs"] = 10_000
        for topic in value["Topics"]:
            topic["Name"] = self.random.choice([*SPARE, "compact", "absent"])

    def fix_JoinGroup(self, value, version):
        value["RebalanceTimeoutMs"] = 200
        if self.random.random() < 0.8:
            value["ProtocolType"] = "consumer"
            value["Protocols"] = [{"Name": "range", "Metadata": b"\0\1\0\0\0\1\0\3one\xff\xff\xff\xff"}]

    def fix_Fetch(self, value, version):
        value["MaxWaitMs"] = self.random.choice([0, 0, 50])
        value.pop("ClusterId", None)
        if value.get("SessionEpoch", -1) != -1:
            value["SessionId"] = self.random.choice([0, 99])
        value["ForgottenTopicsData"] = []

    def fix_AlterPartitionReassignments(self, value, version):
        value["TimeoutMs"] = 10_000
        for topic in value["Topics"]:
            topic["Name"] = self.random.choice([*SPARE, "absent"])

    def fix_ListPartitionReassignments(self, value, version):
        value["TimeoutMs"] = 10_000

    def fix_ElectLeaders(self, value, version):
        value["TimeoutMs"] = 10_000
