# Kafka Streams, at least once: an instance is killed, another one restores its state from the changelogs. Sourced by `ecosystem.sh`.

words() {
    launch "$1" jvm -cp "$CACHE/streams/*:$WORK/classes" Words count "$BOOTSTRAP" "$WORK/$1.state"
}

feed_words() {
    (jvm -cp "$CACHE/streams/*:$WORK/classes" Words feed "$BOOTSTRAP" "$@")
}

# The group has read all there is, repartition topic included.
words_are_done() {
    "$WORK/tools/kafka-consumer-groups.sh" --bootstrap-server "$BOOTSTRAP" --describe --group words --offsets 2>/dev/null |
        awk '$1 == "words" {n++; if ($6 != 0) late = 1} END {exit late || n != 8}'
}

# counted TOPIC WHICH BEGIN LINES: the last count of each word is the true one.
counted() {
    kcat -b "$BOOTSTRAP" -C -t "$1" -o beginning -e -q -f '%k %s\n' | awk '{last[$1] = $2} END {for (w in last) print w, last[w]}' | LC_ALL=C sort >"$WORK/counted"
    python3 "$HERE/ecosystem/words.py" "$2" "$3" "$4" | LC_ALL=C sort >"$WORK/true"
    diff "$WORK/true" "$WORK/counted" | head -n 20
    cmp "$WORK/true" "$WORK/counted"
}

job_streams() {
    local begin=$((($(date +%s) - 7200) * 1000)) topic
    install_jars streams streams || { echo "FAILED  streams: its jars could not be had"; return 1; }
    mkdir "$WORK/classes"
    check "streams: the program is compiled" javac -cp "$CACHE/streams/*" -d "$WORK/classes" "$HERE/ecosystem/Words.java"
    for topic in words-lines words-totals words-minutes; do
        check "streams: $topic" "$WORK/tools/kafka-topics.sh" --bootstrap-server "$BOOTSTRAP" --create --topic $topic --partitions 4
    done
    check "streams: lines are written" feed_words "$begin" 0 30000
    words one
    check "streams: an instance runs" wait_for grep -q 'state RUNNING' "$WORK/one.log"
    check "streams: it counts" wait_for words_are_done
    check "streams: the counts are right" wait_for counted words-totals totals "$begin" 30000
    check "streams: by the minute, too" wait_for counted words-minutes minutes "$begin" 30000
    check "streams: records of the repartition topic are deleted" wait_for repartition_is_purged
    check "streams: kill -9" finish one KILL
    rm -rf "$WORK/one.state"
    check "streams: lines are written meanwhile" feed_words "$begin" 30000 50000
    words two
    check "streams: an instance without state runs" wait_for grep -q 'state RUNNING' "$WORK/two.log"
    check "streams: it counts" wait_for words_are_done
    check "streams: it has restored both stores" [ "$(grep -cE '^restored (totals|minutes) [0-3] [1-9]' "$WORK/two.log")" = 8 ]
    check "streams: the counts are right" wait_for counted words-totals totals "$begin" 50000
    check "streams: by the minute, too" wait_for counted words-minutes minutes "$begin" 50000
    check "streams: records of the repartition topic are deleted" wait_for repartition_is_purged
    check "streams: nothing was thrown" not grep -E 'Exception|ERROR' "$WORK/one.log" "$WORK/two.log"
    check "streams: its changelog is compacted by its configuration" expect 'cleanup.policy=compact' "$WORK/tools/kafka-topics.sh" --bootstrap-server "$BOOTSTRAP" --describe --topic words-totals-changelog
    check "streams: the instance stops" finish two
    echo "        restored: $(awk '/^restored/ {n[$2] += $4} END {print n["totals"] " records for totals, " n["minutes"] " for minutes"}' "$WORK/two.log")," \
        "which have $(wc -l <"$WORK/counted") keys; $(sum_of "$BOOTSTRAP" words-by-word-repartition earliest) of $(sum_of "$BOOTSTRAP" words-by-word-repartition) records of the repartition topic are deleted"
}

# All that is committed is deleted.
repartition_is_purged() {
    [ "$(sum_of "$BOOTSTRAP" words-by-word-repartition earliest)" = "$(sum_of "$BOOTSTRAP" words-by-word-repartition)" ]
}
