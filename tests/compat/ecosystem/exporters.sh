# Exporters of metrics: lag of groups and sizes of topics beside what was produced and committed. Sourced by `ecosystem.sh`.

install_exporters() {
    [ -x "$CACHE/bin/kminion" ] || CGO_ENABLED=0 GOBIN="$CACHE/bin" go install github.com/cloudhut/kminion/v2@v2.3.5 || return 1
    [ -x "$CACHE/bin/kafka_exporter" ] || CGO_ENABLED=0 GOBIN="$CACHE/bin" go install github.com/danielqsj/kafka_exporter@v1.9.0
}

# metric PORT NAME LABELS: the sum of the metric's samples that have these labels.
metric() {
    curl -sf "http://127.0.0.1:$1/metrics" | grep "^$2{" | grep -- "$3" | awk '{n += $NF; any = 1} END {if (any) printf "%d\n", n}'
}

# measures PORT NAME LABELS VALUE
measures() {
    local found
    found=$(metric "$1" "$2" "$3")
    echo "$2{$3} is $found, $4 expected"
    [ "$found" = "$4" ]
}

# Bytes of a topic's segments on disk.
on_disk() {
    cat "$WORK"/data/"$1"-?/*.log | wc -c
}

job_exporters() {
    local way port labels='group_id="meters".*topic_name="metered"'
    install_exporters || { echo "FAILED  exporters: they could not be had"; return 1; }
    check "exporters: a topic" "$WORK/tools/kafka-topics.sh" --bootstrap-server "$BOOTSTRAP" --create --topic metered --partitions 3 --config remote.storage.enable=false
    check "exporters: 3000 records" mirror_feed "$BOOTSTRAP" metered 1 3000
    check "exporters: a group reads 1200 of them" group_reads "$BOOTSTRAP" metered meters 1200 "$WORK/before"
    check "exporters: and has committed them" [ "$(stands_at "$BOOTSTRAP" meters metered)" = 1200 ]
    echo '{"partitions":[{"topic":"metered","partition":0,"offset":100},{"topic":"metered","partition":1,"offset":50}],"version":1}' >"$WORK/gone"
    check "exporters: 150 are deleted" "$WORK/tools/kafka-delete-records.sh" --bootstrap-server "$BOOTSTRAP" --offset-json-file "$WORK/gone"
    # kminion asks for offsets, or reads them from __consumer_offsets.
    for way in adminApi offsetsTopic; do
        port=$(free_port)
        launch kminion env KAFKA_BROKERS="$BOOTSTRAP" EXPORTER_PORT="$port" MINION_CONSUMERGROUPS_SCRAPEMODE=$way MINION_TOPICS_GRANULARITY=partition "$CACHE/bin/kminion"
        check "exporters: kminion by $way: the group's lag" wait_for measures "$port" kminion_kafka_consumer_group_topic_lag "$labels" 1800
        check "exporters: kminion by $way: lag of the partitions" measures "$port" kminion_kafka_consumer_group_topic_partition_lag "$labels" 1800
        check "exporters: kminion by $way: high watermarks" measures "$port" kminion_kafka_topic_partition_high_water_mark 'topic_name="metered"' 3000
        check "exporters: kminion by $way: low watermarks" measures "$port" kminion_kafka_topic_partition_low_water_mark 'topic_name="metered"' 150
        check "exporters: kminion by $way: the topic's bytes" measures "$port" kminion_kafka_topic_log_dir_size_total_bytes 'topic_name="metered"' "$(on_disk metered)"
        check "exporters: kminion by $way: the cluster" measures "$port" kminion_kafka_cluster_info 'broker_count="1"' 1
        check "exporters: kminion stops" finish kminion
    done
    port=$(free_port)
    launch kafka_exporter "$CACHE/bin/kafka_exporter" --kafka.server="$BOOTSTRAP" --web.listen-address="127.0.0.1:$port"
    check "exporters: kafka_exporter: the group's lag" wait_for measures "$port" kafka_consumergroup_lag 'consumergroup="meters".*topic="metered"' 1800
    check "exporters: kafka_exporter: the group's offsets" measures "$port" kafka_consumergroup_current_offset 'consumergroup="meters".*topic="metered"' 1200
    check "exporters: kafka_exporter: ends" measures "$port" kafka_topic_partition_current_offset 'topic="metered"' 3000
    check "exporters: kafka_exporter: starts" measures "$port" kafka_topic_partition_oldest_offset 'topic="metered"' 150
    check "exporters: kafka_exporter: replicas in sync" measures "$port" kafka_topic_partition_in_sync_replica 'topic="metered"' 3
    check "exporters: kafka_exporter stops" finish kafka_exporter
}
