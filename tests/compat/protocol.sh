# Beside Apache Kafka: its verdict on compressed batches, the same requests to both, and what clients ask for in vain.
# Sourced by `run`.

# Kafka's tools and other clients that ask for transactions and ACLs, with a topic's id, and about producers.
suite_asked() {
    echo "--- producers, transactions and ACLs"
    start_broker || { tail "$WORK/broker.log"; return 1; }
    local at=(--bootstrap-server "$BOOTSTRAP") id
    check "topics --create" kafka $T.TopicCommand "${at[@]}" --create --topic asked
    check "topics --describe" expect 'TopicId: ' kafka $T.TopicCommand "${at[@]}" --describe --topic asked
    id=$(sed -n 's/.*TopicId: \([^[:space:]]*\).*/\1/p' "$WORK/out" | head -n 1)
    check "topics --describe --topic-id" expect 'Topic: asked' kafka $T.TopicCommand "${at[@]}" --describe --topic-id "$id"
    check "an idempotent producer" expect '100 records sent' kafka $T.ProducerPerformance --topic asked --num-records 100 --record-size 10 --throughput -1 --producer-props "bootstrap.servers=$BOOTSTRAP" enable.idempotence=true
    check "transactions describe-producers" expect '^[0-9]+[[:space:]]+0[[:space:]]+-1[[:space:]]+99' kafka $T.TransactionsCommand "${at[@]}" describe-producers --topic asked --partition 0
    check "transactions find-hanging" kafka $T.TransactionsCommand "${at[@]}" find-hanging --broker-id 1
    check "transactions list" expect 'TransactionalId' kafka $T.TransactionsCommand "${at[@]}" list
    check "acls --list says that security is off" says 'SecurityDisabledException: No Authorizer is configured' kafka $T.AclCommand "${at[@]}" --list
    check "acls --add says that security is off" says 'SecurityDisabledException: No Authorizer is configured' kafka $T.AclCommand "${at[@]}" --add --allow-principal User:x --operation Read --topic asked
    check "a transactional producer of Java ends" says 'TransactionalIdAuthorizationException' kafka $T.ProducerPerformance --topic asked --num-records 10 --record-size 10 --throughput -1 --transactional-id x --producer-props "bootstrap.servers=$BOOTSTRAP"
    check "clients of Python are installed" install_python_clients
    check "clients of Node are installed" install_node_client kafkajs
    check "clients of Go are built" bash -c "cd '$HERE/newest/go' && go build -o '$CACHE/bin/' ./refused"
    check "librdkafka ends" "$CACHE/python-newest/bin/python" "$HERE/newest/refused.py" "$BOOTSTRAP"
    check "kafkajs ends" env NODE_PATH="$CACHE/node-kafkajs/node_modules" node "$HERE/newest/refused.js" "$BOOTSTRAP"
    check "Sarama and franz-go end" "$CACHE/bin/refused" "$BOOTSTRAP"
    check "stops cleanly" stop_broker
    rm -rf "$WORK/data"
}

# Kafka's verdict on every form of a compressed batch is the one that our test is held to.
suite_compressed() {
    echo "--- compressed batches"
    python3 "$HERE/compressed/forms.py" >"$WORK/forms"
    check "Kafka's verdicts" bash -c "java -Xmx256m -cp '$CACHE/kafka/*' '$HERE/compressed/Verdicts.java' <'$WORK/forms' >'$WORK/verdicts'"
    cp "$ROOT/tests/golden/compressed/batches.jsonl" "$WORK/before"
    check "the table" python3 "$HERE/compressed/forms.py" "$WORK/verdicts"
    check "the table is the one that is tested" cmp "$WORK/before" "$ROOT/tests/golden/compressed/batches.jsonl"
}

# The same random requests to a broker and to Apache Kafka; REQUESTS and SEED choose.
suite_differential() {
    echo "--- the same requests to Strandline and to Kafka"
    local kafka_port controller_port
    kafka_port=$(free_port)
    controller_port=$(free_port)
    cat >"$WORK/peer.properties" <<CONFIG
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller_port
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:$kafka_port,CONTROLLER://127.0.0.1:$controller_port
log.dirs=$WORK/peer
offsets.topic.replication.factor=1
offsets.topic.num.partitions=3
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
CONFIG
    start_kafka "$WORK/peer" || { echo "Kafka did not start"; return 1; }
    start_broker offsets.topic.num.partitions=3 || { tail "$WORK/broker.log"; return 1; }
    wait_for bash -c "(: </dev/tcp/127.0.0.1/$kafka_port)"
    check "no difference that is not named" python3 "$HERE/differential/main.py" "$BOOTSTRAP" "127.0.0.1:$kafka_port" \
        --requests "${REQUESTS:-100000}" --seed "${SEED:-1}" --seconds "${SECONDS_AT_MOST:-3000}"
    cp "$WORK/out" "$HERE/report/differential.txt" 2>/dev/null
    kill "$KAFKA_PID"
    wait "$KAFKA_PID" 2>/dev/null
    check "stops cleanly" stop_broker
    rm -rf "$WORK/data" "$WORK/peer"
}
