# 13. Troubleshooting

PORT=${CLIENT_PORTS[1]}
check "13.1 a broker can be reached" bash -c "exec 3<>/dev/tcp/127.0.0.1/$PORT"
check "13.1 it says what it speaks" expect '	Produce\(0\): 0 to 13 \[usable: 1[23]\],' kafka-broker-api-versions.sh "${AT[@]}"
check "13.1 the cluster's id" expect '^Cluster ID: [A-Za-z0-9_-]{22}$' kafka-cluster.sh cluster-id "${AT[@]}"
check "13.1 the cluster's brokers" expect '^3 +127.0.0.1 +[0-9]+ +null +unfenced +broker +$' kafka-cluster.sh list-endpoints "${AT[@]}"
check "13.1 the quorum" expect '^LeaderId: +[123]$' kafka-metadata-quorum.sh "${AT[@]}" describe --status
check "13.1 its members" expect '^[123] .*	Leader  ?' kafka-metadata-quorum.sh "${AT[@]}" describe --replication
check "13.1 features" expect '^Feature: metadata.version +SupportedMinVersion: ' kafka-features.sh "${AT[@]}" describe
check "bad input: no such feature" says 'Could not disable nosuch.version. The update failed for all features since the following feature had an error: Invalid update version 0 for feature nosuch.version. Feature nosuch.version not found\.' \
    not kafka-features.sh "${AT[@]}" disable --feature nosuch.version
check "13.3 what is in the logs" expect '^orders:[0-9]+:[0-9]+$' kafka-get-offsets.sh "${AT[@]}" --topic orders --time latest
for time in earliest max-timestamp earliest-local; do
    check "13.3 offsets, $time" expect '^orders:0:[0-9]+$' kafka-get-offsets.sh "${AT[@]}" --topic orders --time $time
done
check "13.3 some partitions" expect '^orders:1:0$' kafka-get-offsets.sh "${AT[@]}" --topic-partitions orders:0-2 --time earliest
check "bad input: no such topic" says '^Error occurred: Could not match any topic-partitions with the specified filters$' \
    not kafka-get-offsets.sh "${AT[@]}" --topic nosuch
check "13.4 where the space goes" expect '^\{"brokers":\[\{"broker":1,"logDirs":\[\{"partitions":\[\{"partition":"[a-z]+-[0-9]+","size":[0-9]+,"offsetLag":0,"isFuture":false\}' \
    kafka-log-dirs.sh "${AT[@]}" --describe --broker-list 1 --topic-list orders
check "bad input: no such broker" says '^ERROR: The given brokers do not exist from --broker-list: 9. Current existent brokers: 1,2,3$' \
    not kafka-log-dirs.sh "${AT[@]}" --describe --broker-list 9
echo '{"partitions":[{"topic":"orders","partition":0,"offset":5}],"version":1}' >delete.json
check "13.4 records are deleted" expect '^partition: orders-0	low_watermark: 5$' kafka-delete-records.sh "${AT[@]}" --offset-json-file delete.json
echo '{"partitions":[{"topic":"orders","partition":0,"offset":999999}],"version":1}' >delete.json
check "bad input: an offset that is not there" expect 'error: org.apache.kafka.common.errors.OffsetOutOfRangeException: The requested offset is not within the range of offsets maintained by the server\.$' \
    kafka-delete-records.sh "${AT[@]}" --offset-json-file delete.json

# The purge recipe.
kept() {
    local ends starts
    ends=$(kafka-get-offsets.sh "${AT[@]}" --topic "$1" --time latest | awk -F: '{n += $3} END {print n + 0}')
    starts=$(kafka-get-offsets.sh "${AT[@]}" --topic "$1" --time earliest | awk -F: '{n += $3} END {print n + 0}')
    echo $((ends - starts))
}
empty_within() {
    local deadline=$((SECONDS + $1))
    until [ "$(kept "$2")" = 0 ]; do
        [ $SECONDS -lt $deadline ] || return 1
        sleep 0.5
    done
}
check "13.4 there are records" test "$(kept orders)" -gt 0
check "13.4 retention of a second" expect '^Completed updating config for topic orders\.$' \
    kafka-configs.sh --alter "${AT[@]}" --entity-type topics --entity-name orders --add-config retention.ms=1000
check "13.4 the topic is empty within ten seconds" empty_within 10 orders
check "13.4 retention is restored" expect '^Completed updating config for topic orders\.$' \
    kafka-configs.sh --alter "${AT[@]}" --entity-type topics --entity-name orders --add-config retention.ms=604800000
if [ "$WAY" != kafka ]; then
    objects() {
        find "$WORK/cold" -name '*.log' | wc -l
    }
    bucket_is_empty() {
        [ "$(objects)" = 0 ]
    }
    bucket_has_objects() {
        [ "$(objects)" -gt 0 ]
    }
    check "13.4 a tiered topic" expect '^Created topic archive\.$' \
        kafka-topics.sh --create "${AT[@]}" --topic archive --partitions 2 --replication-factor 3 --config remote.storage.enable=true --config segment.bytes=1048576
    check "13.4 it is filled" expect '^6000 records sent' \
        kafka-producer-perf-test.sh --topic archive --num-records 6000 --record-size 1024 --throughput -1 --producer-props "bootstrap.servers=$BOOTSTRAP" acks=all
    check "13.4 segments are in the bucket" wait_for bucket_has_objects
    check "13.4 retention of a second" expect '^Completed updating config for topic archive\.$' \
        kafka-configs.sh --alter "${AT[@]}" --entity-type topics --entity-name archive --add-config retention.ms=1000,local.retention.ms=1000
    check "13.4 the topic is empty within ten seconds" empty_within 10 archive
    check "13.4 and so is the bucket" wait_for bucket_is_empty
    check "13.4 retention is restored" expect '^Completed updating config for topic archive\.$' \
        kafka-configs.sh --alter "${AT[@]}" --entity-type topics --entity-name archive --add-config retention.ms=604800000,local.retention.ms=-2
fi

if [ "$WAY" != kafka ]; then
    # Settings that were changed at run time are in effect again after all brokers have restarted.
    kafka-configs.sh --alter "${AT[@]}" --entity-type brokers --entity-default --add-config log.retention.ms=99000000 >/dev/null
    kafka-configs.sh --alter "${AT[@]}" --entity-type users --entity-name bob --add-config consumer_byte_rate=2097152 >/dev/null
    for id in 1 2 3; do stop_node $id; done
    for id in 1 2 3; do start_node $id; done
    for id in 1 2 3; do wait_for "$STRANDLINE" health --http "127.0.0.1:${HTTP_PORTS[$id]}"; done
    check "settings outlive a restart of all brokers" expect 'log.retention.ms=99000000' \
        kafka-configs.sh --describe "${AT[@]}" --entity-type brokers --entity-default
    check "quotas, too" expect "consumer_byte_rate=2097152.0" kafka-configs.sh --describe "${AT[@]}" --entity-type users --entity-name bob
fi
