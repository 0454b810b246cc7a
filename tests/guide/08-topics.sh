# 8. Topic Management

check "8.1 create" expect '^Created topic orders\.$' \
    kafka-topics.sh --create "${AT[@]}" --topic orders --replication-factor 3 --partitions 18
[ "$WAY" = java ] || check "8.1 --zookeeper says what replaced it" says -- '--bootstrap-server' \
    not kafka-topics.sh --create --zookeeper zk-ip:2181 --topic orders --replication-factor 3 --partitions 18
check "8.1 create payments" expect '^Created topic payments\.$' \
    kafka-topics.sh --create "${AT[@]}" --topic payments --replication-factor 3 --partitions 6 --config retention.ms=86400000
check "8.1 names that could collide" expect '^WARNING: Due to limitations in metric names' \
    kafka-topics.sh --create "${AT[@]}" --topic my.topic_1 --partitions 1 --replication-factor 1
check "8.1 --if-not-exists" kafka-topics.sh --create "${AT[@]}" --topic orders --if-not-exists
check "8.1 --replica-assignment" expect '^Created topic assigned\.$' \
    kafka-topics.sh --create "${AT[@]}" --topic assigned --replica-assignment 1:2,2:3,3:1
check "8.2 list" soon '^orders$' kafka-topics.sh --list "${AT[@]}"
check "8.3 describe: the topic" soon '^Topic: orders	TopicId: [A-Za-z0-9_-]{22}	PartitionCount: 18	ReplicationFactor: 3	Configs:' \
    kafka-topics.sh --describe "${AT[@]}" --topic orders
check "8.3 describe: a partition" soon '^	Topic: orders	Partition: 17	Leader: [123]	Replicas: [123],[123],[123]	Isr: [123],[123],[123]	Elr: 	LastKnownElr: $' \
    kafka-topics.sh --describe "${AT[@]}" --topic orders
check "8.3 describe: an assignment" soon 'Partition: 2	Leader: 3	Replicas: 3,1	Isr: ' kafka-topics.sh --describe "${AT[@]}" --topic assigned
check "8.3 --under-replicated-partitions: none" soon '^$' bash -c "kafka-topics.sh --describe --bootstrap-server $BOOTSTRAP --under-replicated-partitions; echo"
check "8.3 --unavailable-partitions: none" soon '^$' bash -c "kafka-topics.sh --describe --bootstrap-server $BOOTSTRAP --unavailable-partitions; echo"
check "8.3 --topics-with-overrides" soon '^Topic: payments.*Configs:.*retention.ms=86400000' \
    kafka-topics.sh --describe "${AT[@]}" --topics-with-overrides
check "8.4 retention is changed" expect '^Completed updating config for topic orders\.$' \
    kafka-configs.sh --alter "${AT[@]}" --entity-type topics --entity-name orders --add-config retention.ms=3600000
check "8.4 it is shown" soon '^  retention.ms=3600000 sensitive=false synonyms=\{DYNAMIC_TOPIC_CONFIG:retention.ms=3600000' \
    kafka-configs.sh --describe "${AT[@]}" --entity-type topics --entity-name orders
check "8.4 a list" expect '^Completed updating config for topic payments\.$' \
    kafka-configs.sh --alter "${AT[@]}" --entity-type topics --entity-name payments --add-config 'cleanup.policy=[delete]'
check "8.4 partitions are added" kafka-topics.sh --alter "${AT[@]}" --topic payments --partitions 8
check "8.4 there are more" soon 'PartitionCount: 8' kafka-topics.sh --describe "${AT[@]}" --topic payments
check "a topic is deleted" kafka-topics.sh --delete "${AT[@]}" --topic my.topic_1
check "it is gone" wait_for topic_is_gone my.topic_1

check "bad input: the topic exists" says "^Error while executing topic command : Topic 'orders' already exists\.$" \
    not kafka-topics.sh --create "${AT[@]}" --topic orders --partitions 3 --replication-factor 3
check "bad input: an unknown topic" says "^Error while executing topic command : Topic 'nosuch' does not exist as expected$" \
    not kafka-topics.sh --describe "${AT[@]}" --topic nosuch
check "bad input: --if-exists" kafka-topics.sh --describe "${AT[@]}" --topic nosuch --if-exists
check "bad input: more replicas than brokers" says 'Unable to replicate the partition 5 time\(s\): The target replication factor of 5 cannot be reached because only 3 broker\(s\) are registered' \
    not kafka-topics.sh --create "${AT[@]}" --topic badrf --partitions 1 --replication-factor 5
check "bad input: an impossible name" says "Topic name is invalid: 'bad name!' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'" \
    not kafka-topics.sh --create "${AT[@]}" --topic 'bad name!'
check "bad input: no such setting" says 'Unknown topic config name: no.such.config' \
    not kafka-topics.sh --create "${AT[@]}" --topic badcfg --config no.such.config=1
check "bad input: no such value" says 'Invalid value shred for configuration cleanup.policy: String must be one of: compact, delete' \
    not kafka-topics.sh --create "${AT[@]}" --topic badcfg --config cleanup.policy=shred
check "bad input: out of range" says 'Invalid value 0 for configuration min.insync.replicas: Value must be at least 1' \
    not kafka-topics.sh --create "${AT[@]}" --topic badcfg --config min.insync.replicas=0
check "bad input: no partitions" says 'The partitions must be greater than 0' \
    not kafka-topics.sh --create "${AT[@]}" --topic badp --partitions 0 --replication-factor 1
check "bad input: fewer partitions" says 'The topic payments currently has 8 partition\(s\); 2 would not be an increase\.' \
    not kafka-topics.sh --alter "${AT[@]}" --topic payments --partitions 2
check "bad input: no action" says 'Command must include exactly one action: --list, --describe, --create, --alter or --delete' \
    not kafka-topics.sh "${AT[@]}"
check "bad input: a setting of an unknown topic" says "UnknownTopicOrPartitionException: The topic 'nosuch' does not exist\." \
    not kafka-configs.sh --alter "${AT[@]}" --entity-type topics --entity-name nosuch --add-config retention.ms=1000
check "nothing was half applied" not grep -qE '^bad' <(kafka-topics.sh --list "${AT[@]}")
echo 'default.api.timeout.ms=2000
request.timeout.ms=1500' >short.conf
check "bad input: nobody is there" says '^Error while executing topic command : Timed out waiting for a node assignment. Call: ' \
    not kafka-topics.sh --bootstrap-server 127.0.0.1:9 --command-config short.conf --list
