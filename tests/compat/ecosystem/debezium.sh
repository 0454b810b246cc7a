# Debezium on the worker of connect.sh: the change events of a Postgres make its table again. Sourced by `ecosystem.sh`.

PG=/usr/lib/postgresql

postgres_bin() {
    local bin
    bin=$(ls -d $PG/*/bin | sort -V | tail -n 1) && echo "$bin"
}

install_postgres() {
    [ -x "$(postgres_bin)/postgres" ] || apt-get install -y -q postgresql
}

# Postgres does not run as root.
as_postgres() {
    if [ "$(id -u)" = 0 ]; then
        exec setpriv --reuid=postgres --regid=postgres --clear-groups "$@"
    fi
    exec "$@"
}

start_postgres() {
    mkdir "$WORK/pg" && chmod 711 "$WORK" && { [ "$(id -u)" != 0 ] || chown postgres: "$WORK/pg"; } || return 1
    (cd / && as_postgres "$(postgres_bin)/initdb" -D "$WORK/pg/data" -U postgres -A trust -E UTF8) || return 1
    (cd / && launch postgres as_postgres "$(postgres_bin)/postgres" -D "$WORK/pg/data" -h 127.0.0.1 -p "$PG_PORT" -k '' -c wal_level=logical)
    wait_for sql 'SELECT 1'
}

sql() {
    psql -h 127.0.0.1 -p "$PG_PORT" -U postgres -qAt -v ON_ERROR_STOP=1 -c "$1"
}

job_debezium() {
    local topic=shop.public.products
    install_jars debezium plugins/debezium && install_postgres || { echo "FAILED  debezium: it or Postgres could not be had"; return 1; }
    PG_PORT=$(free_port)
    check "debezium: Postgres starts" start_postgres
    check "debezium: a table" sql "CREATE TABLE products (id int PRIMARY KEY, name text NOT NULL, price numeric(12,2), note text);
        ALTER TABLE products REPLICA IDENTITY FULL;
        INSERT INTO products SELECT i, 'product ' || i || ' äöü', i * 1.25, CASE WHEN i % 3 = 0 THEN NULL ELSE repeat('n', i % 50) END FROM generate_series(1, 2000) i"
    # A worker finds new plug-ins when it starts.
    check "debezium: the worker starts again" finish connect
    check "debezium: with the plug-in" connect_worker
    check "debezium: the connector" rest PUT /connectors/shop/config "{\"connector.class\":\"io.debezium.connector.postgresql.PostgresConnector\",
        \"database.hostname\":\"127.0.0.1\",\"database.port\":$PG_PORT,\"database.user\":\"postgres\",\"database.password\":\"none\",\"database.dbname\":\"postgres\",
        \"topic.prefix\":\"shop\",\"plugin.name\":\"pgoutput\",\"table.include.list\":\"public.products\",\"decimal.handling.mode\":\"string\",
        \"key.converter\":\"org.apache.kafka.connect.json.JsonConverter\",\"key.converter.schemas.enable\":false,
        \"value.converter\":\"org.apache.kafka.connect.json.JsonConverter\",\"value.converter.schemas.enable\":false,
        \"topic.creation.default.replication.factor\":1,\"topic.creation.default.partitions\":3,\"topic.creation.default.remote.storage.enable\":true,
        \"topic.creation.default.segment.bytes\":1048576}"
    check "debezium: it runs" wait_for runs shop
    check "debezium: the snapshot" wait_for reaches "$BOOTSTRAP" $topic 2000
    check "debezium: rows are inserted, updated and deleted" sql "INSERT INTO products SELECT i, 'product ' || i, i, 'new' FROM generate_series(2001, 3000) i;
        UPDATE products SET price = price + 1, note = 'dearer' WHERE id % 5 = 0;
        DELETE FROM products WHERE id % 7 = 0"
    # 2000 of the snapshot, 1000 inserted, 600 updated, 428 deleted with a tombstone each.
    check "debezium: their events" wait_for reaches "$BOOTSTRAP" $topic 4456
    # Without this position, the snapshot would be taken again.
    check "debezium: its position is committed" wait_for is_past_the_snapshot
    check "debezium: kill -9 of the worker" finish connect KILL
    check "debezium: rows change while it is down" sql "UPDATE products SET name = name || ' again' WHERE id <= 700;
        DELETE FROM products WHERE id > 2900;
        INSERT INTO products SELECT i, 'product ' || i, NULL, 'late' FROM generate_series(3001, 3500) i"
    check "debezium: the worker starts again" connect_worker
    # 600 updated, 86 deleted with a tombstone each, 500 inserted.
    check "debezium: the events of these changes" wait_for reaches "$BOOTSTRAP" $topic 5728
    check "debezium: rows change once more" sql "DELETE FROM products WHERE id = 1; INSERT INTO products VALUES (1, 'the first', 1, 'back')"
    wait_for events_are_the_table $topic
    check "debezium: its events are the table" events_are_the_table $topic
    sed 's/^/        /' "$WORK/out"
    check "debezium: its topic is in the bucket" wait_for in_the_bucket $topic "127.0.0.1:$HTTP_PORT"
    check "debezium: the connector is deleted" rest DELETE /connectors/shop
    check "debezium: Postgres stops" finish postgres INT
}

is_past_the_snapshot() {
    rest GET /connectors/shop/offsets | jq -e '.offsets[0].offset | .messageType != null and .snapshot == null'
}

events_are_the_table() {
    kcat -b "$BOOTSTRAP" -C -t "$1" -o beginning -e -q -Z -f '%k\t%s\n' >"$WORK/events"
    sql "SELECT row_to_json(r) FROM (SELECT id, name, price::text, note FROM products ORDER BY id) r" >"$WORK/rows"
    python3 "$HERE/ecosystem/changes.py" "$WORK/events" "$WORK/rows" 2000 1501 1200 515
}
