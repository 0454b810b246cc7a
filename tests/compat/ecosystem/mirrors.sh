# MirrorMaker 2 between Apache Kafka and Strandline, both directions at once. Sourced by `ecosystem.sh`.

# A topic of three partitions, with keys and headers. mirror_feed BOOTSTRAP TOPIC FROM TO
mirror_feed() {
    seq "$3" "$4" | sed "s/.*/key&:$2 number & of many/" | kcat -b "$1" -P -t "$2" -K : -H "trace=$2-$4" -H tenant -X acks=all -X topic.partitioner=murmur2
}

# same_topic BOOTSTRAP TOPIC BOOTSTRAP TOPIC COUNT: the same keys, values, timestamps and headers in each partition, in order.
same_topic() {
    local partition
    for partition in 0 1 2; do
        kcat -b "$1" -C -t "$2" -p $partition -o beginning -e -q -f '%k %s %T %h\n' >"$WORK/one.$partition" || return 1
        kcat -b "$3" -C -t "$4" -p $partition -o beginning -e -q -f '%k %s %T %h\n' >"$WORK/other.$partition" || return 1
        cmp "$WORK/one.$partition" "$WORK/other.$partition" || {
            wc -l "$WORK/one.$partition" "$WORK/other.$partition"
            diff "$WORK/one.$partition" "$WORK/other.$partition" | head -n 20
            return 1
        }
    done
    [ "$(cat "$WORK"/one.? | wc -l)" = "$5" ] && [ "$(cat "$WORK"/one.? | grep -c ' trace=.*,tenant=NULL$')" = "$5" ]
}

# group_reads BOOTSTRAP TOPIC GROUP COUNT FILE: a member reads so many records, commits and leaves.
group_reads() {
    "$WORK/tools/kafka-console-consumer.sh" --bootstrap-server "$1" --topic "$2" --group "$3" --max-messages "$4" \
        --consumer-property auto.offset.reset=earliest --timeout-ms 20000 >"$5"
}

# The offsets that a group has committed of a topic: partition and offset, if it is above 0.
committed() {
    "$WORK/tools/kafka-consumer-groups.sh" --bootstrap-server "$1" --describe --group "$2" --offsets 2>/dev/null | awk -v t="$3" '$2 == t && $4 > 0 {print $3, $4}' | sort
}

# Where a group stands: these offsets, added up.
stands_at() {
    committed "$@" | awk '{n += $2} END {print n + 0}'
}

# is_translated FROM TOPIC TO COPY GROUP: each partition of which the group has read has an offset on the other side.
is_translated() {
    cmp <(committed "$1" "$5" "$2" | cut -d' ' -f1) <(committed "$3" "$5" "$4" | cut -d' ' -f1)
}

# mirrored_group FROM TOPIC TO COPY GROUP: a group reads half of a topic there and goes on here: no record is left out.
mirrored_group() {
    local from=$1 topic=$2 to=$3 copy=$4 group=$5 there here
    check "mirrors: $group reads half of $topic" group_reads "$from" "$topic" "$group" 10000 "$WORK/before"
    check "mirrors: its position comes along" wait_for is_translated "$@"
    there=$(stands_at "$from" "$group" "$topic")
    check "mirrors: 10000 records are committed there" [ "$there" = 10000 ]
    # A checkpoint is never ahead of the group.
    here=$(stands_at "$to" "$group" "$copy")
    check "mirrors: it is not ahead" [ "$here" -le "$there" ]
    check "mirrors: $group goes on with $copy" group_reads "$to" "$copy" "$group" $((20000 - here)) "$WORK/after"
    seq 1 20000 | sed "s/.*/$topic number & of many/" | sort >"$WORK/wanted"
    check "mirrors: no record of $topic is left out for it" cmp "$WORK/wanted" <(sort -u "$WORK/before" "$WORK/after")
    echo "        $group: committed at $there, translated to $here, $(($(cat "$WORK/before" "$WORK/after" | wc -l) - 20000)) of 20000 read twice"
}

# position_is_kept BOOTSTRAP CLUSTER TOPIC COUNT: MirrorMaker has committed so many records of a topic of the other cluster.
position_is_kept() {
    [ "$(kcat -b "$1" -C -t "mm2-offsets.$2.internal" -o beginning -e -q -f '%k %s\n' |
        sed -n "s/.*\"partition\":\([0-9]*\),\"topic\":\"$3\".*{\"offset\":\([0-9]*\)}.*/\1 \2/p" |
        awk '{last[$1] = $2} END {for (p in last) n += last[p] + 1; print n + 0}')" = "$4" ]
}

job_mirrors() {
    local controller_port peer peer_port
    peer_port=$(free_port)
    controller_port=$(free_port)
    peer=127.0.0.1:$peer_port
    cat >"$WORK/peer.properties" <<CONFIG
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller_port
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://$peer,CONTROLLER://127.0.0.1:$controller_port
log.dirs=$WORK/peer
offsets.topic.replication.factor=1
offsets.topic.num.partitions=3
group.initial.rebalance.delay.ms=0
CONFIG
    start_kafka "$WORK/peer"
    echo "$KAFKA_PID" >"$WORK/peer.pid"
    check "mirrors: Apache Kafka" wait_for "$WORK/tools/kafka-topics.sh" --bootstrap-server "$peer" --list
    check "mirrors: a topic there" "$WORK/tools/kafka-topics.sh" --bootstrap-server "$peer" --create --topic eastern --partitions 3
    check "mirrors: a topic here" "$WORK/tools/kafka-topics.sh" --bootstrap-server "$BOOTSTRAP" --create --topic western --partitions 3
    cat >"$WORK/mirrors.properties" <<CONFIG
clusters=kafka,strandline
kafka.bootstrap.servers=$peer
strandline.bootstrap.servers=$BOOTSTRAP
kafka->strandline.enabled=true
strandline->kafka.enabled=true
kafka->strandline.topics=eastern
strandline->kafka.topics=western
groups=east.*,west.*
sync.group.offsets.enabled=true
sync.group.offsets.interval.seconds=1
emit.checkpoints.interval.seconds=1
refresh.topics.interval.seconds=2
refresh.groups.interval.seconds=2
offset.lag.max=0
replication.factor=1
heartbeats.topic.replication.factor=1
checkpoints.topic.replication.factor=1
offset-syncs.topic.replication.factor=1
offset.storage.replication.factor=1
config.storage.replication.factor=1
status.storage.replication.factor=1
kafka.offset.flush.interval.ms=1000
strandline.offset.flush.interval.ms=1000
CONFIG
    launch mirrors jvm -cp "$CACHE/kafka/*" org.apache.kafka.connect.mirror.MirrorMaker "$WORK/mirrors.properties"
    check "mirrors: records are written to Kafka" mirror_feed "$peer" eastern 1 20000
    check "mirrors: and to Strandline" mirror_feed "$BOOTSTRAP" western 1 20000
    check "mirrors: Kafka's come here" wait_for reaches "$BOOTSTRAP" kafka.eastern 20000
    check "mirrors: ours come there" wait_for reaches "$peer" strandline.western 20000
    check "mirrors: they are the same here" same_topic "$peer" eastern "$BOOTSTRAP" kafka.eastern 20000
    check "mirrors: they are the same there" same_topic "$BOOTSTRAP" western "$peer" strandline.western 20000
    mirrored_group "$peer" eastern "$BOOTSTRAP" kafka.eastern easterners
    mirrored_group "$BOOTSTRAP" western "$peer" strandline.western westerners
    # Without this position, the copy would begin anew.
    check "mirrors: its own position in Kafka is kept here" wait_for position_is_kept "$BOOTSTRAP" kafka eastern 20000
    check "mirrors: its own position here is kept in Kafka" wait_for position_is_kept "$peer" strandline western 20000
    check "mirrors: kill -9" finish mirrors KILL
    check "mirrors: records are written meanwhile" mirror_feed "$peer" eastern 20001 25000
    check "mirrors: on both sides" mirror_feed "$BOOTSTRAP" western 20001 25000
    launch mirrors jvm -cp "$CACHE/kafka/*" org.apache.kafka.connect.mirror.MirrorMaker "$WORK/mirrors.properties"
    check "mirrors: Kafka's come here" wait_for reaches "$BOOTSTRAP" kafka.eastern 25000
    check "mirrors: ours come there" wait_for reaches "$peer" strandline.western 25000
    check "mirrors: they are the same here" same_topic "$peer" eastern "$BOOTSTRAP" kafka.eastern 25000
    check "mirrors: they are the same there" same_topic "$BOOTSTRAP" western "$peer" strandline.western 25000
    check "mirrors: nothing goes round" not bash -c "'$WORK/tools/kafka-topics.sh' --bootstrap-server $BOOTSTRAP --list | grep -E 'kafka\.strandline|strandline\.kafka'"
    check "mirrors: MirrorMaker had nothing to complain of" complains_of_nothing "$WORK/mirrors.log"
    check "mirrors: MirrorMaker stops" finish mirrors
    check "mirrors: Kafka stops" finish peer
    rm -rf "$WORK/peer"
}
