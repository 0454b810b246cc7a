# What people run beside a broker, with real jobs on one Strandline whose topics have a cold tier: Kafka Connect, Debezium,
# MirrorMaker 2 in both directions, Kafka Streams, a schema registry, exporters of metrics. Sourced by `run`.
# JOBS="connect streams" chooses; debezium needs connect.

suite_ecosystem() {
    echo "--- the ecosystem"
    # JVMs start slowly on a busy machine.
    local job before tools=$WORK/tools WAIT_SECONDS=150
    # Every new topic is tiered that may be.
    start_broker log.remote.storage.enable=true log.segment.bytes=1048576 log.local.retention.bytes=1 offsets.topic.num.partitions=3 \
        || { tail "$WORK/broker.log"; return 1; }
    "$STRANDLINE" tools install "$tools" >/dev/null
    for job in ${JOBS:-connect debezium mirrors streams registry exporters}; do
        before=$SECONDS
        "job_$job" || FAILED=$((FAILED + 1))
        echo "        $job: $((SECONDS - before)) s"
    done
    [ -e "$WORK/connect.pid" ] && check "the worker stops" finish connect
    check "nobody was disconnected" not grep 'the broker closes a connection' "$WORK/broker.log"
    check "the broker has logged neither an error nor a warning" not complaints
    check "stops cleanly" stop_broker
    rm -rf "$WORK/data"
}

# The broker's warnings and errors.
complaints() {
    sed 's/\x1b\[[0-9;]*m//g' "$WORK/broker.log" | grep -E '^[^ ]+ +(WARN|ERROR)|panicked'
}

# Replaces the shell by a JVM, so that a signal reaches the JVM.
jvm() {
    exec java -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dorg.slf4j.simpleLogger.defaultLogLevel="${LOG_LEVEL:-warn}" "$@"
}

# Jars that the pom.xml in ecosystem/$1 names, in $CACHE/$2.
install_jars() {
    [ -e "$CACHE/$2/complete" ] && return
    rm -rf "${CACHE:?}/$2" && (cd "$HERE/ecosystem/$1" && mvn -q -B dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$CACHE/$2") && touch "$CACHE/$2/complete"
}

# sum_of BOOTSTRAP TOPIC [TIME]: the ends, or other offsets, of its partitions, added up.
sum_of() {
    "$WORK/tools/kafka-get-offsets.sh" --bootstrap-server "$1" --topic "$2" --time "${3:-latest}" | awk -F: '{n += $3} END {print n + 0}'
}

# reaches BOOTSTRAP TOPIC COUNT: the topic's partitions end there, added up.
reaches() {
    [ "$(sum_of "$1" "$2")" -ge "$3" ]
}

for job in "$HERE"/ecosystem/*.sh; do
    source "$job"
done
