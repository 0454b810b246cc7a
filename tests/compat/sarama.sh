# Sarama's own functional tests. They want five brokers behind toxiproxy, and start, stop and look into them by
# `docker compose`; sarama/docker stands in for it, and the brokers are processes. Sourced by `run`.

SARAMA=v1.61.1
SARAMA_PORTS="29091 29092 29093 29094 29095 8474"

# $CACHE/sarama-VERSION/sarama.test has the tests, report/sarama-*.log what they print. SARAMA_TESTS='TestFuncProducing|TestInterceptors' chooses.
suite_sarama() {
    sarama_tests strandline
}

# The same tests on Apache Kafka: what fails there, too, is no difference.
suite_sarama-kafka() {
    sarama_tests kafka
}

install_sarama() {
    [ -x "$CACHE/toxiproxy/server" ] || GOBIN="$CACHE/toxiproxy" go install github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0 || return 1
    [ -x "$CACHE/sarama-$SARAMA/sarama.test" ] && return
    local source
    source=$(go mod download -json "github.com/IBM/sarama@$SARAMA" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
    [ -n "$source" ] && rm -rf "$CACHE/sarama-$SARAMA" && cp -r "$source" "$CACHE/sarama-$SARAMA" && chmod -R u+w "$CACHE/sarama-$SARAMA" &&
        go -C "$CACHE/sarama-$SARAMA" test -c -tags functional -o sarama.test .
}

# The tests dial these ports and no others, and ask toxiproxy for broken connections.
sarama_ports_are_free() {
    local port
    for port in $SARAMA_PORTS; do
        if (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "a process listens on $port"
            return 1
        fi
    done
}

# sarama_node N PEER: the properties and the start script of broker N. The settings are those of Sarama's docker-compose.yml.
sarama_node() {
    local node=$WORK/nodes/$1 voters="" other
    mkdir -p "$node"
    for other in 1 2 3 4 5; do
        voters+="${voters:+,}$other@127.0.0.1:${CONTROLLER_PORTS[$other]}"
    done
    cat >"$node/properties" <<CONFIG
process.roles=broker,controller
node.id=$1
broker.rack=$1
controller.quorum.voters=$voters
controller.listener.names=CONTROLLER
listeners=INSIDE://127.0.0.1:${INSIDE_PORTS[$1]},OUTSIDE://127.0.0.1:${CLIENT_PORTS[$1]},CONTROLLER://127.0.0.1:${CONTROLLER_PORTS[$1]}
advertised.listeners=INSIDE://127.0.0.1:${INSIDE_PORTS[$1]},OUTSIDE://localhost:$((29090 + $1))
listener.security.protocol.map=INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=INSIDE
log.dirs=$node/data
default.replication.factor=2
offsets.topic.replication.factor=2
replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
CONFIG
    if [ "$2" = kafka ]; then
        printf "%s\n" transaction.state.log.replication.factor=2 transaction.state.log.min.isr=1 >>"$node/properties"
        kafka kafka.tools.StorageTool format -t AAAAAAAAQACAAAAAAAAAAg -c "$node/properties" || return 1
        printf '%s\n' '#!/bin/sh' "exec java -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp '$CACHE/kafka/*' -Dorg.slf4j.simpleLogger.defaultLogLevel=warn kafka.Kafka '$node/properties'" >"$node/start"
    else
        echo "strandline.http.listener=127.0.0.1:${HTTP_PORTS[$1]}" >>"$node/properties"
        printf '%s\n' '#!/bin/sh' "exec '$STRANDLINE' server '$node/properties'" >"$node/start"
    fi
    chmod +x "$node/start"
}

# Kafka's scripts that the tests run inside a container.
sarama_scripts() {
    local script class
    mkdir -p "$NODES/bin"
    while read -r script class; do
        printf '%s\n' '#!/bin/sh' "exec java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp '$CACHE/kafka/*' -Dorg.slf4j.simpleLogger.defaultLogLevel=error $T.$class \"\$@\"" >"$NODES/bin/$script.sh"
    done <<'SCRIPTS'
kafka-console-producer ConsoleProducer
kafka-console-consumer consumer.ConsoleConsumer
kafka-verifiable-consumer VerifiableConsumer
kafka-verifiable-producer VerifiableProducer
SCRIPTS
    chmod +x "$NODES"/bin/*
}

# The proxies exist before the tests, which would send them to the containers' names.
sarama_proxies() {
    local id
    for id in 1 2 3 4 5; do
        curl -sf "http://127.0.0.1:8474/proxies" -d "{\"name\":\"kafka$id\",\"listen\":\"127.0.0.1:$((29090 + id))\",\"upstream\":\"127.0.0.1:${CLIENT_PORTS[$id]}\",\"enabled\":true}" || return 1
    done
}

sarama_tests() {
    local peer=$1 id skip=NONE signal=TERM wanted passes verdict test report=$HERE/report/sarama-$1 WAIT_SECONDS=180
    echo "--- Sarama's own tests on $peer"
    install_sarama || { echo "FAILED  Sarama's tests or toxiproxy could not be built"; return 1; }
    sarama_ports_are_free || return 1
    export NODES=$WORK/nodes KAFKA_VERSION=4.3.1
    rm -rf "$NODES"
    sarama_scripts
    for id in 1 2 3 4 5; do
        CLIENT_PORTS[$id]=$(free_port) CONTROLLER_PORTS[$id]=$(free_port) INSIDE_PORTS[$id]=$(free_port) HTTP_PORTS[$id]=$(free_port)
    done
    export INSIDE=127.0.0.1:${INSIDE_PORTS[1]}
    for id in 1 2 3 4 5; do
        check "broker $id is configured" sarama_node $id "$peer"
        "$HERE/sarama/docker" compose start "kafka-$id"
    done
    launch toxiproxy "$CACHE/toxiproxy/server" -host 127.0.0.1 -port 8474
    check "toxiproxy listens" wait_for curl -sf http://127.0.0.1:8474/version
    check "it knows the brokers" sarama_proxies
    check "five brokers answer" wait_for sarama_brokers_are_there
    # Tests of what is not implemented are left out by name, and named.
    [ "$peer" = strandline ] && skip=$(grep -v '^#' "$HERE/sarama-not-yet.txt" | cut -d' ' -f1 | paste -sd'|')
    # The binary has Sarama's unit tests as well.
    wanted=${SARAMA_TESTS:-$(sed -n 's/^func \(Test[^(]*\)(t \*testing.T).*/\1/p' "$CACHE/sarama-$SARAMA"/functional_*_test.go | paste -sd'|')}
    mkdir -p "$HERE/report"
    (cd "$CACHE/sarama-$SARAMA" && PATH=$HERE/sarama:$PATH timeout 1800 ./sarama.test -test.timeout 1790s -test.v \
        -test.run "^($wanted)\$" -test.skip "^($skip)\$" >"$report.log" 2>&1)
    grep -E '^--- (PASS|FAIL|SKIP)' "$report.log" | cut -d' ' -f2,3 | sort >"$report.txt"
    while read -r verdict test; do
        case $verdict in
            PASS:) PASSED=$((PASSED + 1)) ;;
            SKIP:) echo "skipped by itself: $test" ;;
            FAIL:)
                FAILED=$((FAILED + 1))
                echo "FAILED  $test"
                sed -n "/^=== RUN   $test\$/,/^--- FAIL: $test /p" "$report.log" | tail -n 25
                ;;
        esac
    done <"$report.txt"
    [ "$peer" = strandline ] && grep -v '^#' "$HERE/sarama-not-yet.txt" | sed 's/^/not yet: /'
    passes=$(grep -c '^PASS' "$report.txt")
    echo "Sarama's tests on $peer: $passes passes"
    # A run that ended early must not look like a good one.
    check "each test has its verdict" [ "$(tr '|' '\n' <<<"$wanted" | grep -vcxE "$skip")" = "$(wc -l <"$report.txt")" ]
    # Two of five Apache Kafka nodes wait for a quorum before they stop.
    [ "$peer" = kafka ] && signal=KILL
    for id in 1 2 3 4 5; do
        check "broker $id stops" finish "node-$id" $signal
    done
    finish toxiproxy
    rm -rf "$NODES"
}

sarama_brokers_are_there() {
    local id
    for id in 1 2 3 4 5; do
        kcat -b "127.0.0.1:$((29090 + id))" -L -m 5 | grep -q '^ 5 brokers' || return 1
    done
}
