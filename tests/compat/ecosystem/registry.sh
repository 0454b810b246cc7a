# Apicurio Registry, which keeps its schemas in topics, and serializers that use it. Sourced by `ecosystem.sh`.

# The registry needs a newer Java than Kafka does.
newest_java() {
    ls -d /usr/lib/jvm/*/bin/java 2>/dev/null | while read -r java; do
        echo "$("$java" -XshowSettings:properties -version 2>&1 | sed -n 's/ *java.specification.version = //p') $java"
    done | sort -n | tail -n 1 | cut -d' ' -f2
}

install_registry() {
    [ -e "$CACHE/apicurio/complete" ] || {
        rm -rf "$CACHE/apicurio" && mkdir -p "$CACHE/apicurio" &&
            mvn -q -B dependency:copy -Dartifact=io.apicurio:apicurio-registry-app:3.3.3:tar.gz:all -DoutputDirectory="$CACHE/apicurio" &&
            tar -xzf "$CACHE"/apicurio/*.tar.gz -C "$CACHE/apicurio" && rm "$CACHE"/apicurio/*.tar.gz && touch "$CACHE/apicurio/complete"
    } || return 1
    [ -e "$CACHE/python-registry/complete" ] || {
        rm -rf "$CACHE/python-registry" && python3 -m venv "$CACHE/python-registry" &&
            "$CACHE/python-registry/bin/pip" install -q 'confluent-kafka[avro,json,schemaregistry]' && touch "$CACHE/python-registry/complete"
    }
}

# Apicurio Registry keeps its schemas in topics.
start_registry() {
    launch registry env APICURIO_STORAGE_KIND=kafkasql APICURIO_KAFKASQL_BOOTSTRAP_SERVERS="$BOOTSTRAP" QUARKUS_HTTP_HOST=127.0.0.1 QUARKUS_HTTP_PORT="$1" \
        "$(newest_java)" -Xmx768m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -jar "$(find "$CACHE/apicurio" -name quarkus-run.jar)"
    wait_for curl -sf "http://127.0.0.1:$1/apis/ccompat/v7/subjects"
}

schemas() {
    expect '^all values are right$' timeout 180 "$CACHE/python-registry/bin/python" "$HERE/ecosystem/schemas.py" "$1" "$BOOTSTRAP" "http://127.0.0.1:$2/apis/ccompat/v7"
}

job_registry() {
    local port
    port=$(free_port)
    install_registry || { echo "FAILED  registry: Apicurio Registry or its client could not be had"; return 1; }
    check "registry: it starts" start_registry "$port"
    check "registry: schemas of Avro and JSON are registered, records written and read by them" schemas write "$port"
    check "registry: kill -9" finish registry KILL
    check "registry: it starts again" start_registry "$port"
    check "registry: it has the same schemas under the same ids" schemas read "$port"
    check "registry: it stops" finish registry
    echo "        topics: $("$WORK/tools/kafka-topics.sh" --bootstrap-server "$BOOTSTRAP" --list | grep -E 'kafkasql|registry-events' | paste -sd' ')"
}
