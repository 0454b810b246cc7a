# Kafka Connect with connectors for files: the worker is killed, no line is lost. Sourced by `ecosystem.sh`.

connect_worker() {
    launch connect jvm -cp "$CACHE/kafka/*" org.apache.kafka.connect.cli.ConnectDistributed "$WORK/connect.properties"
    wait_for rest GET /connectors
}

# rest METHOD PATH [BODY]: asks the worker.
rest() {
    curl -sS --fail-with-body -m 30 -X "$1" "$CONNECT$2" ${3:+-H 'Content-Type: application/json' -d "$3"}
}

# The connector and its task run.
runs() {
    [ "$(rest GET "/connectors/$1/status" | jq -r '[.connector.state, .tasks[].state] | unique | join(" ")')" = RUNNING ] &&
        rest GET "/connectors/$1/status" | jq -e '.tasks | length > 0'
}

# The source has committed its file to the last byte.
source_is_at() {
    [ "$(rest GET /connectors/lines-source/offsets | jq '.offsets[0].offset.position')" = "$1" ]
}

# The sink has committed all that the topic has.
sink_is_at_the_end() {
    local end
    end=$(sum_of "$BOOTSTRAP" lines)
    [ "$(rest GET /connectors/lines-sink/offsets | jq '[.offsets[].offset.kafka_offset] | add')" = "$end" ]
}

job_connect() {
    local file=$WORK/lines.in sink=$WORK/lines.out topic
    install_jars connect-file plugins/connect-file || { echo "FAILED  connect: its connectors could not be had"; return 1; }
    CONNECT=http://127.0.0.1:$(free_port)
    cat >"$WORK/connect.properties" <<CONFIG
bootstrap.servers=$BOOTSTRAP
group.id=connect
listeners=$CONNECT
plugin.path=$CACHE/plugins
key.converter=org.apache.kafka.connect.storage.StringConverter
value.converter=org.apache.kafka.connect.storage.StringConverter
config.storage.topic=connect-configs
offset.storage.topic=connect-offsets
status.storage.topic=connect-status
config.storage.replication.factor=1
offset.storage.replication.factor=1
status.storage.replication.factor=1
offset.flush.interval.ms=1000
session.timeout.ms=6000
heartbeat.interval.ms=2000
scheduled.rebalance.max.delay.ms=1000
consumer.metadata.max.age.ms=2000
CONFIG
    check "connect: a worker starts" connect_worker
    for topic in connect-configs connect-offsets connect-status; do
        check "connect: $topic is compacted by its configuration" expect 'cleanup.policy=compact' "$WORK/tools/kafka-topics.sh" --bootstrap-server "$BOOTSTRAP" --describe --topic $topic
    done
    seq 1 20000 | sed 's/$/ of the lines that Kafka Connect copies/' >"$file"
    check "connect: a file source" rest PUT /connectors/lines-source/config "{\"connector.class\":\"org.apache.kafka.connect.file.FileStreamSourceConnector\",
        \"file\":\"$file\",\"topic\":\"lines\",\"topic.creation.default.replication.factor\":1,\"topic.creation.default.partitions\":1,
        \"topic.creation.default.remote.storage.enable\":true,\"topic.creation.default.segment.bytes\":1048576}"
    check "connect: a file sink" rest PUT /connectors/lines-sink/config "{\"connector.class\":\"org.apache.kafka.connect.file.FileStreamSinkConnector\",\"file\":\"$sink\",\"topics\":\"lines\"}"
    check "connect: the source runs" wait_for runs lines-source
    check "connect: the sink runs" wait_for runs lines-sink
    check "connect: the source commits what it has read" wait_for source_is_at "$(stat -c %s "$file")"
    check "connect: the sink commits what it has written" wait_for sink_is_at_the_end
    check "connect: kill -9" finish connect KILL
    seq 20001 40000 | sed 's/$/ of the lines that Kafka Connect copies/' >>"$file"
    check "connect: the worker starts again" connect_worker
    check "connect: the source goes on" wait_for source_is_at "$(stat -c %s "$file")"
    check "connect: the sink goes on" wait_for sink_is_at_the_end
    check "connect: no line is lost, and none copied twice by the source" same_lines <(sort "$file") <(kcat -b "$BOOTSTRAP" -C -t lines -o beginning -e -q)
    check "connect: no line is lost, and none copied twice by the sink" same_lines <(sort "$file") "$sink"
    seq 40001 800000 | sed 's/$/ of the lines that Kafka Connect copies/' >>"$file"
    check "connect: it copies" wait_for reaches "$BOOTSTRAP" lines 60000
    check "connect: kill -9 meanwhile" finish connect KILL
    check "connect: it had not copied all" not reaches "$BOOTSTRAP" lines 800000
    check "connect: the worker starts once more" connect_worker
    check "connect: the source goes on" wait_for source_is_at "$(stat -c %s "$file")"
    check "connect: the sink goes on" wait_for sink_is_at_the_end
    sort "$file" >"$WORK/wanted"
    check "connect: no line is lost by the source" cmp "$WORK/wanted" <(kcat -b "$BOOTSTRAP" -C -t lines -o beginning -e -q | sort -u)
    check "connect: no line is lost by the sink" cmp "$WORK/wanted" <(sort -u "$sink")
    check "connect: what was committed is not copied again" [ "$(kcat -b "$BOOTSTRAP" -C -t lines -o beginning -c 40000 -q | sort -u | wc -l)" = 40000 ]
    check "connect: its topic is in the bucket" wait_for in_the_bucket lines "127.0.0.1:$HTTP_PORT"
    echo "        $(($(sum_of "$BOOTSTRAP" lines) - 800000)) of 800000 lines were copied again, connect-offsets has $(sum_of "$BOOTSTRAP" connect-offsets) records"
}
