# Shared by the compatibility run and the benchmark: where things are, how a broker is started and stopped.
# Everything that is downloaded or built goes to tests/compat/.cache and is reused.

HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
ROOT="$(cd "$HERE/../.." && pwd)"
CACHE="$HERE/.cache"
WORK="$(mktemp -d "${TMPDIR:-/tmp}/strandline-compat.XXXXXX")"
PASSED=0
FAILED=0
BROKER_PID=""
CLUSTER_PIDS=()
MINIO_PID=""
DOCKER_PID=""
STORE_PID=""

cleanup() {
    [ -n "$BROKER_PID" ] && kill "$BROKER_PID" 2>/dev/null
    [ ${#CLUSTER_PIDS[@]} -gt 0 ] && kill "${CLUSTER_PIDS[@]}" 2>/dev/null
    [ -n "$MINIO_PID" ] && kill "$MINIO_PID" 2>/dev/null
    [ -n "$STORE_PID" ] && kill "$STORE_PID" 2>/dev/null
    [ -n "$DOCKER_PID" ] && kill "$DOCKER_PID" 2>/dev/null
    local file
    for file in "$WORK"/*.pid; do
        [ -e "$file" ] && kill "$(<"$file")" 2>/dev/null
    done
    wait 2>/dev/null
    rm -rf "$WORK"
}
trap cleanup EXIT

# Kafka 4.3.1's broker and tools as jars, from Maven Central.
install_kafka() {
    [ -e "$CACHE/kafka/connect-mirror-4.3.1.jar" ] && return
    (cd "$HERE" && mvn -q -B dependency:copy-dependencies -DoutputDirectory="$CACHE/kafka.part") || return 1
    rm -rf "$CACHE/kafka" && mv "$CACHE/kafka.part" "$CACHE/kafka"
}

# MinIO's server, built from its Go module; static, so that it runs in an empty container too.
install_minio() {
    [ -x "$CACHE/bin/minio" ] || CGO_ENABLED=0 GOBIN="$CACHE/bin" go install github.com/minio/minio@latest
}

# The newest clients of Python from PyPI. quixstreams asks for a librdkafka of its own choice, so it has an environment of
# its own. Installed clients are used again; remove the directory to install newer ones.
install_python_clients() {
    [ -e "$CACHE/python-newest/complete" ] || {
        rm -rf "$CACHE/python-newest" && python3 -m venv "$CACHE/python-newest" &&
            "$CACHE/python-newest/bin/pip" install -q confluent-kafka kafka-python && touch "$CACHE/python-newest/complete"
    } || return 1
    [ -e "$CACHE/python-quix/complete" ] || {
        rm -rf "$CACHE/python-quix" && python3 -m venv "$CACHE/python-quix" &&
            "$CACHE/python-quix/bin/pip" install -q quixstreams && touch "$CACHE/python-quix/complete"
    }
}

# A client of Node from npm.
install_node_client() {
    [ -e "$CACHE/node-$1/complete" ] || {
        mkdir -p "$CACHE/node-$1" && npm install --prefix "$CACHE/node-$1" --no-audit --no-fund "$1" && touch "$CACHE/node-$1/complete"
    }
}

# Runs one of Kafka's tools: class, then arguments.
kafka() {
    timeout "${TOOL_SECONDS:-120}" java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$CACHE/kafka/*" \
        -Dorg.slf4j.simpleLogger.defaultLogLevel=error "$@"
}

# Formats the directories of an Apache Kafka node with the properties in $1.properties and starts it, logging to $1.log.
start_kafka() {
    kafka kafka.tools.StorageTool format -t AAAAAAAAQACAAAAAAAAAAg -c "$1.properties" >/dev/null 2>&1 || return 1
    java -Xmx512m -Xms256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$CACHE/kafka/*" -Dorg.slf4j.simpleLogger.defaultLogLevel=error \
        kafka.Kafka "$1.properties" >>"$1.log" 2>&1 &
    KAFKA_PID=$!
}

# A port on which no process listens, each once in a run. The port lies below those that the kernel gives to outgoing
# connections: otherwise such a connection could take the port before its server starts, or while the server is down.
free_port() {
    local port
    until
        port=$((12000 + RANDOM % 20000))
        mkdir "$WORK/port-$port" 2>/dev/null && ! (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null
    do :; done
    echo "$port"
}

# Waits for a command to succeed; fails after 60 seconds, or WAIT_SECONDS.
wait_for() {
    local deadline=$((SECONDS + ${WAIT_SECONDS:-60}))
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -ge $deadline ] && return 1
        sleep 0.2
    done
}

start_minio() {
    MINIO_PORT=$(free_port)
    MINIO_ROOT_USER=strandline MINIO_ROOT_PASSWORD=strandline-secret \
        "$CACHE/bin/minio" server --quiet --address "127.0.0.1:$MINIO_PORT" "$WORK/minio" >"$WORK/minio.log" 2>&1 &
    MINIO_PID=$!
    wait_for curl -sf "http://127.0.0.1:$MINIO_PORT/minio/health/live"
}

# A Docker daemon: the one that runs, or one of our own for this run.
start_docker() {
    docker info >/dev/null 2>&1 && return
    [ "$(id -u)" = 0 ] && command -v dockerd >/dev/null || return 1
    dockerd >"$WORK/dockerd.log" 2>&1 &
    DOCKER_PID=$!
    wait_for docker info
}

# Starts a broker on $WORK/data with MinIO as its cold tier; further arguments are properties. A prefix of the bucket belongs
# to one cluster, so new data have a new one.
start_broker() {
    [ -d "$WORK/data" ] || mktemp -u compat-XXXXXXXX >"$WORK/prefix"
    PORT=${PORT:-$(free_port)}
    HTTP_PORT=${HTTP_PORT:-$(free_port)}
    BOOTSTRAP="127.0.0.1:$PORT"
    cat >"$WORK/server.properties" <<CONFIG
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@localhost:9093
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:$PORT,CONTROLLER://127.0.0.1:0
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=$WORK/data
strandline.http.listener=127.0.0.1:$HTTP_PORT
offsets.topic.replication.factor=1
group.initial.rebalance.delay.ms=0
remote.log.storage.system.enable=true
remote.log.manager.task.interval.ms=500
log.retention.check.interval.ms=1000
strandline.remote.store.url=s3://strandline/$(<"$WORK/prefix")
strandline.remote.store.endpoint=http://127.0.0.1:${STORE_PORT:-$MINIO_PORT}
strandline.remote.store.access.key.id=${STORE_KEY:-strandline}
strandline.remote.store.secret.access.key=${STORE_SECRET:-strandline-secret}
strandline.remote.store.create.bucket=true
CONFIG
    printf '%s\n' "$@" >>"$WORK/server.properties"
    "$STRANDLINE" server "$WORK/server.properties" >>"$WORK/broker.log" 2>&1 &
    BROKER_PID=$!
    wait_for "$STRANDLINE" health --http "127.0.0.1:$HTTP_PORT"
}

stop_broker() {
    kill -"${1:-TERM}" "$BROKER_PID"
    wait "$BROKER_PID" 2>/dev/null
    local status=$?
    BROKER_PID=""
    return $status
}

# Starts node $1 of the cluster whose ports are in CLIENT_PORTS and CONTROLLER_PORTS, with what NODE_PROPERTIES says beside.
start_node() {
    local id=$1 voters="" other
    for other in 1 2 3; do
        voters+="${voters:+,}$other@127.0.0.1:${CONTROLLER_PORTS[$other]}"
    done
    cat >"$WORK/node$id.properties" <<CONFIG
process.roles=broker,controller
node.id=$id
controller.quorum.voters=$voters
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:${CLIENT_PORTS[$id]},CONTROLLER://127.0.0.1:${CONTROLLER_PORTS[$id]}
log.dirs=$WORK/node$id/data,$WORK/node$id/more
strandline.http.listener=127.0.0.1:${HTTP_PORTS[$id]}
default.replication.factor=3
offsets.topic.replication.factor=3
offsets.topic.num.partitions=10
group.initial.rebalance.delay.ms=0
${NODE_PROPERTIES:-}
CONFIG
    "$STRANDLINE" server "$WORK/node$id.properties" >>"$WORK/node$id.log" 2>&1 &
    CLUSTER_PIDS[$id]=$!
}

# Three brokers that are controllers too, without a cold tier.
start_cluster() {
    local id
    for id in 1 2 3; do
        CLIENT_PORTS[$id]=$(free_port)
        CONTROLLER_PORTS[$id]=$(free_port)
        HTTP_PORTS[$id]=$(free_port)
    done
    BOOTSTRAP="127.0.0.1:${CLIENT_PORTS[1]},127.0.0.1:${CLIENT_PORTS[2]},127.0.0.1:${CLIENT_PORTS[3]}"
    for id in 1 2 3; do
        start_node $id
    done
    for id in 1 2 3; do
        wait_for "$STRANDLINE" health --http "127.0.0.1:${HTTP_PORTS[$id]}" || return 1
    done
}

# in_the_bucket TOPIC HTTP: the topic has segments there.
in_the_bucket() {
    "$STRANDLINE" tier status --topic "$1" --http "$2" --json | grep -qE '"remote_segments": ?[1-9]'
}

# Stops a node, or with a second argument sends it that signal; its exit status is the node's.
stop_node() {
    kill -"${2:-TERM}" "${CLUSTER_PIDS[$1]}"
    wait "${CLUSTER_PIDS[$1]}" 2>/dev/null
    local status=$?
    unset "CLUSTER_PIDS[$1]"
    return $status
}

# launch NAME COMMAND…: in the background, logging to $WORK/NAME.log; its id is in $WORK/NAME.pid.
launch() {
    local name=$1
    shift
    "$@" >>"$WORK/$name.log" 2>&1 &
    echo $! >"$WORK/$name.pid"
}

# finish NAME [SIGNAL]: ends what `launch` has started, and waits for its end. Fails if it had ended by itself.
finish() {
    lives "$1" && kill -"${2:-TERM}" "$(<"$WORK/$1.pid")" && wait_for not lives "$1" && rm "$WORK/$1.pid"
}

# A dead process that nobody has waited for is none.
lives() {
    grep -qs '^State:[[:space:]]*[^ZX]' "/proc/$(<"$WORK/$1.pid")/status"
}

not() {
    ! "$@"
}

# check NAME COMMAND…: counts a pass or a failure; shows the output of a failure.
check() {
    local name=$1
    shift
    if "$@" >"$WORK/out" 2>&1; then
        PASSED=$((PASSED + 1))
        echo "ok      $name"
    else
        FAILED=$((FAILED + 1))
        echo "FAILED  $name"
        sed 's/^/        /' "$WORK/out" | tail -n 60
    fi
}

# expect PATTERN COMMAND…: the command succeeds and prints something that matches.
expect() {
    local pattern=$1
    shift
    "$@" >"$WORK/expect" 2>&1
    local status=$?
    cat "$WORK/expect"
    [ $status -eq 0 ] && grep -qE -- "$pattern" "$WORK/expect"
}

# says PATTERN COMMAND…: prints something that matches, whatever the exit status.
says() {
    local pattern=$1
    shift
    "$@" 2>&1 | tee "$WORK/says"
    grep -qE -- "$pattern" "$WORK/says"
}
