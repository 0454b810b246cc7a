# Takes a tiered topic through S3 servers of every kind. Each has its own idea of S3, so each must hold the same job: small and
# large segments, a restart, kill -9 while copies run, retention, and deletion down to an empty bucket.

# The key and the secret that a server is started with, or that it wants.
store_credentials() {
    case $1 in
        s3rver) STORE_KEY=S3RVER STORE_SECRET=S3RVER ;;
        *) STORE_KEY=strandline STORE_SECRET=strandline-secret ;;
    esac
}

# Installs a server and says so by its status. Everything comes from a registry of packages.
install_store() {
    local modules
    modules=$CACHE/$1
    case $1 in
        minio) install_minio ;;
        versitygw) [ -x "$CACHE/bin/versitygw" ] || CGO_ENABLED=0 GOBIN="$CACHE/bin" go install github.com/versity/versitygw/cmd/versitygw@v1.8.0 ;;
        gofakes3) [ -x "$CACHE/bin/gofakes3" ] || CGO_ENABLED=0 GOBIN="$CACHE/bin" go install github.com/johannesboyne/gofakes3/cmd/gofakes3@v1.2.0 ;;
        rclone) [ -x "$CACHE/bin/rclone" ] || CGO_ENABLED=0 GOBIN="$CACHE/bin" go install github.com/rclone/rclone@v1.76.0 ;;
        moto) install_moto ;;
        s3rver) install_node_client s3rver ;;
        s3mock | s3proxy) [ -e "$modules/complete" ] || (cd "$HERE/$1" && mvn -q -B dependency:copy-dependencies -DoutputDirectory="$modules" && touch "$modules/complete") ;;
        *) return 1 ;;
    esac
}

# moto's server; boto3, which comes with it, looks into the buckets of all.
install_moto() {
    [ -e "$CACHE/moto/complete" ] || {
        rm -rf "$CACHE/moto" && python3 -m venv "$CACHE/moto" &&
            "$CACHE/moto/bin/pip" install -q 'moto[server,s3]' && touch "$CACHE/moto/complete"
    }
}

# Starts the server $1 on $STORE_PORT, with its objects in $WORK/store. Each takes the place of the shell, so that a signal
# reaches the server.
start_store() {
    local objects=$WORK/store at=127.0.0.1:$STORE_PORT
    rm -rf "$objects" && mkdir -p "$objects"
    case $1 in
        minio) MINIO_ROOT_USER=$STORE_KEY MINIO_ROOT_PASSWORD=$STORE_SECRET exec "$CACHE/bin/minio" server --quiet --address "$at" "$objects" ;;
        versitygw) ROOT_ACCESS_KEY=$STORE_KEY ROOT_SECRET_KEY=$STORE_SECRET exec "$CACHE/bin/versitygw" --port "$at" posix --sidecar "$(mkdir -p "$WORK/sidecar" && echo "$WORK/sidecar")" "$objects" ;;
        gofakes3) exec "$CACHE/bin/gofakes3" -host "$at" -backend memory ;;
        rclone) exec "$CACHE/bin/rclone" serve s3 --addr "$at" --auth-key "$STORE_KEY,$STORE_SECRET" "$objects" ;;
        moto) exec "$CACHE/moto/bin/moto_server" -H 127.0.0.1 -p "$STORE_PORT" ;;
        s3rver) exec node "$CACHE/node-s3rver/node_modules/.bin/s3rver" -d "$objects" -a 127.0.0.1 -p "$STORE_PORT" ;;
        s3mock) exec java -Xmx512m -Dcom.adobe.testing.s3mock.store.root="$objects" -cp "$CACHE/s3mock/*" com.adobe.testing.s3mock.S3MockApplication --http.port="$STORE_PORT" --server.port="$(free_port)" ;;
        s3proxy)
            printf '%s\n' "s3proxy.endpoint=http://$at" s3proxy.authorization=aws-v2-or-v4 "s3proxy.identity=$STORE_KEY" \
                "s3proxy.credential=$STORE_SECRET" jclouds.provider=filesystem-nio2 "jclouds.filesystem.basedir=$objects" >"$WORK/s3proxy.conf"
            exec java -Xmx512m -DLOG_LEVEL=warn -cp "$CACHE/s3proxy/*" org.gaul.s3proxy.Main --properties "$WORK/s3proxy.conf"
            ;;
    esac >"$WORK/store.log" 2>&1 &
    STORE_PID=$!
    wait_for curl -s -o /dev/null "http://$at/"
}

stop_store() {
    kill "$STORE_PID" 2>/dev/null
    wait "$STORE_PID" 2>/dev/null
    STORE_PID=""
}

# What lies under segments/ in the bucket, and how many uploads nobody has finished: "objects uploads". A server that cannot
# list uploads has none that could be seen.
in_store() {
    STORE_KEY=$STORE_KEY STORE_SECRET=$STORE_SECRET "$CACHE/moto/bin/python" "$HERE/bucket.py" "http://127.0.0.1:$STORE_PORT" strandline
}

is_empty() {
    local found
    found=$(in_store) && echo "$found" && [ "$found" = "0 objects, 0 uploads" ]
}

# lies_below TOPIC OFFSET: the log begins above it.
begins_above() {
    local start
    start=$("$WORK/tools/kafka-get-offsets.sh" --bootstrap-server "$BOOTSTRAP" --topic "$1" --time earliest | cut -d: -f3)
    [ "$start" -gt "$2" ]
}

# leaves_disk TOPIC OFFSET: nothing below the offset is local only.
leaves_disk() {
    local local_start
    local_start=$("$WORK/tools/kafka-get-offsets.sh" --bootstrap-server "$BOOTSTRAP" --topic "$1" --time earliest-local | cut -d: -f3)
    [ "$local_start" -gt "$2" ]
}

# job STORE MEGABYTES LARGE: half of the megabytes into segments of 1 MiB, half into segments of LARGE bytes.
store_job() {
    local store=$1 megabytes=$2 large=$3 topic lines sum producer
    store_credentials "$store"
    check "$store: is there" install_store "$store" || return 1
    STORE_PORT=$(free_port)
    check "$store: starts" start_store "$store"
    rm -rf "$WORK/data"
    PORT="" HTTP_PORT="" start_broker || { tail -n 5 "$WORK/broker.log" "$WORK/store.log"; FAILED=$((FAILED + 1)); stop_store; return 1; }
    "$STRANDLINE" tools install "$WORK/tools" >/dev/null 2>&1
    # Lines that no compression makes small, so that bytes are what the name says.
    head -c $((megabytes * 1000000 / 2 * 3 / 4)) /dev/urandom | base64 -w 999 >"$WORK/corpus"
    lines=$(wc -l <"$WORK/corpus")
    sum=$(sha256sum <"$WORK/corpus")
    for topic in small large; do
        local bytes=1048576
        [ $topic = large ] && bytes=$large
        check "$store: a topic of $topic segments" "$WORK/tools/kafka-topics.sh" --bootstrap-server "$BOOTSTRAP" --create --topic $topic --partitions 1 \
            --config remote.storage.enable=true --config segment.bytes=$bytes --config local.retention.bytes=1 --config retention.ms=-1
    done
    check "$store: kcat fills the small one" kcat -b "$BOOTSTRAP" -P -t small -X acks=all -l "$WORK/corpus"
    check "$store: it leaves the disk" wait_for leaves_disk small $((lines - 3 * 1048576 / 1000 - 1))
    # -E: the producer goes on when its only broker is away for a while.
    kcat -E -b "$BOOTSTRAP" -P -t large -X acks=all -X enable.idempotence=true -l "$WORK/corpus" 2>"$WORK/kcat.err" &
    producer=$!
    check "$store: copies of large segments run" wait_for leaves_disk large $((large / 1000))
    check "$store: kill -9 while they run" killed
    check "$store: starts again" start_broker
    check "$store: kcat fills the large one" wait $producer
    check "$store: it leaves the disk" wait_for leaves_disk large $((lines - 2 * large / 1000))
    check "$store: a clean stop" stop_broker
    check "$store: starts once more" start_broker
    for topic in small large; do
        check "$store: kcat reads $topic back" same "$sum" kcat -b "$BOOTSTRAP" -C -t $topic -o beginning -e -q
    done
    check "$store: the bucket is known whole" expect ' 0 orphans' "$STRANDLINE" tier orphans --http "127.0.0.1:$HTTP_PORT"
    check "$store: retention is shortened" "$WORK/tools/kafka-configs.sh" --bootstrap-server "$BOOTSTRAP" --alter --entity-type topics --entity-name small --add-config retention.bytes=5000000
    check "$store: and takes the oldest" wait_for begins_above small $((lines / 2))
    for topic in small large; do
        check "$store: $topic is deleted" "$WORK/tools/kafka-topics.sh" --bootstrap-server "$BOOTSTRAP" --delete --topic $topic
    done
    check "$store: neither objects nor uploads are left" wait_for is_empty
    echo "        $store: copies are proved by $(sed 's/\x1b\[[0-9;]*m//g' "$WORK/broker.log" | grep -o 'proof=.*' | tail -n 1 | cut -d= -f2), $(grep -c WARN "$WORK/broker.log") warnings"
    check "$store: a clean stop at the end" stop_broker
    stop_store
    rm -rf "$WORK/data" "$WORK/corpus" "$WORK/store"
    : >"$WORK/broker.log"
    unset STORE_PORT STORE_KEY STORE_SECRET
    PORT="" HTTP_PORT=""
}

suite_stores() {
    echo "--- S3 servers of every kind"
    local store
    check "boto3 and moto" install_moto
    for store in ${STORES:-minio versitygw moto s3rver gofakes3 rclone s3mock s3proxy}; do
        store_job "$store" "${STORE_MEGABYTES:-300}" 67108864
    done
}

suite_stores-short() {
    echo "--- two S3 servers"
    local store
    check "boto3 and moto" install_moto
    for store in minio moto; do
        store_job "$store" 80 33554432
    done
}
