# 12. Partition Reassignment

REASSIGN=(kafka-reassign-partitions.sh "${AT[@]}")
cat >topics.json <<JSON
{
"version": 1,
"topics": [
{"topic": "orders"},
{"topic": "assigned"}
]
}
JSON
check "12.1 generate" expect '^Proposed partition reassignment configuration$' \
    "${REASSIGN[@]}" --generate --topics-to-move-json-file topics.json --broker-list 1,2,3
"${REASSIGN[@]}" --generate --topics-to-move-json-file topics.json --broker-list 1,2,3 >generated.txt
if [ "$WAY" = java ]; then
    # Kafka's tool takes only the second half of what it printed.
    sed -n '/^Proposed/,$p' generated.txt | tail -n 1 >reassign.json
else
    cp generated.txt reassign.json
fi
check "12.1 execute" expect '^Successfully started partition reassignments for ' \
    "${REASSIGN[@]}" --execute --reassignment-json-file reassign.json
moves_are_over() {
    "${REASSIGN[@]}" --verify --reassignment-json-file reassign.json >verified &&
        grep -q 'is completed' verified && ! grep -q 'still in progress' verified
}
check "12.1 it comes to its end" wait_for moves_are_over
check "12.1 verify" expect '^Reassignment of partition orders-17 is completed\.$' \
    "${REASSIGN[@]}" --verify --reassignment-json-file reassign.json
check "12.1 nothing is under way" expect '^No partition reassignments found\.$' "${REASSIGN[@]}" --list
check "a throttled move" expect '^The inter-broker throttle limit was set to 50000000 B/s$' \
    "${REASSIGN[@]}" --execute --throttle 50000000 --reassignment-json-file <(echo '{"version":1,"partitions":[{"topic":"assigned","partition":0,"replicas":[3,1]}]}')
echo '{"version":1,"partitions":[{"topic":"assigned","partition":0,"replicas":[3,1]}]}' >reassign.json
check "it comes to its end" wait_for moves_are_over
check "the throttle is cleared" not grep -q throttled <(kafka-configs.sh --describe "${AT[@]}" --entity-type topics --entity-name assigned)
check "the replicas are others" expect 'Topic: assigned	Partition: 0	Leader: [13]	Replicas: 3,1	Isr: ' kafka-topics.sh --describe "${AT[@]}" --topic assigned
check "replicas move between directories" expect '^Successfully started moving log directory to ' \
    "${REASSIGN[@]}" --execute --reassignment-json-file <(echo '{"version":1,"partitions":[{"topic":"assigned","partition":0,"replicas":[3,1],"log_dirs":["'"$WORK/node3/more"'","'"$WORK/node1/data"'"]}]}')
in_its_directory() {
    kafka-log-dirs.sh "${AT[@]}" --describe --broker-list 3 --topic-list assigned | grep -q '"partition":"assigned-0"[^]]*"isFuture":false[^]]*\],"error":null,"logDir":"[^"]*node3/more"'
}
check "they are there" wait_for in_its_directory
if [ "$WAY" = java ]; then
    check "12.2 leaders are balanced" says 'Successfully completed leader election|Valid replica already elected|^$' \
        bash -c "kafka-leader-election.sh --bootstrap-server $BOOTSTRAP --election-type preferred --all-topic-partitions; echo"
else
    check "12.2 leaders are balanced" kafka-preferred-replica-election.sh "${AT[@]}"
fi
check "12.2 one partition" says '(Successfully completed leader election \(PREFERRED\)|Valid replica already elected) for partitions assigned-1$|Successfully completed leader election \(PREFERRED\) for partitions assigned-1$' \
    kafka-leader-election.sh "${AT[@]}" --election-type preferred --topic assigned --partition 1
check "bad input: an unknown topic" says 'UnknownTopicOrPartitionException: No such topic as nosuch|UnknownTopicOrPartitionException' \
    not kafka-leader-election.sh "${AT[@]}" --election-type preferred --topic nosuch --partition 0
check "bad input: no JSON" says 'JSON|json' not "${REASSIGN[@]}" --execute --reassignment-json-file <(echo '{"version":1,')
check "bad input: an unknown broker" says '^Error: Unknown broker id 9' \
    not "${REASSIGN[@]}" --execute --reassignment-json-file <(echo '{"version":1,"partitions":[{"topic":"orders","partition":0,"replicas":[9]}]}')
check "bad input: an unknown topic" says 'UnknownTopicOrPartitionException: Topic nosuch not found\.' \
    not "${REASSIGN[@]}" --execute --reassignment-json-file <(echo '{"version":1,"partitions":[{"topic":"nosuch","partition":0,"replicas":[1]}]}')
check "nothing was half applied" expect '^No partition reassignments found\.$' "${REASSIGN[@]}" --list
