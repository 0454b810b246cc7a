# 11. Consumer Offset Management

OFFSETS=(kafka-consumer-groups.sh "${AT[@]}" --reset-offsets)
NEW='[^ ]+ +orders +[0-9]+ +'
total() {
    awk -v column="$1" '$2 == "orders" {n += $column} END {print n + 0}'
}

check "11.1 columns" expect '^GROUP +TOPIC +PARTITION +CURRENT-OFFSET +LOG-END-OFFSET +LAG +CONSUMER-ID +HOST +CLIENT-ID$' \
    kafka-consumer-groups.sh --describe --group order-processors "${AT[@]}"
check "11.1 no lag" expect '^0$' bash -c "kafka-consumer-groups.sh --describe --group order-processors --bootstrap-server $BOOTSTRAP 2>/dev/null | awk '\$2 == \"orders\" {n += \$6} END {print n + 0}'"
check "11.1 nobody is active" says "^Consumer group 'order-processors' has no active members\.$" \
    kafka-consumer-groups.sh --describe --group order-processors "${AT[@]}"
check "11.1 --state" expect '^order-processors +127.0.0.1:[0-9]+ +\([123]\) +- +Empty +0$' \
    kafka-consumer-groups.sh --describe --group order-processors --state "${AT[@]}"
check "11.1 --members" expect '^GROUP +CONSUMER-ID +HOST +CLIENT-ID +#PARTITIONS +$' \
    kafka-consumer-groups.sh --describe --group order-processors --members "${AT[@]}"
check "11.2 to earliest, all topics, dry run" expect "^$NEW\$|^order-processors +orders +0 +0$" \
    "${OFFSETS[@]}" --to-earliest --group order-processors --all-topics --dry-run
check "11.2 nothing has changed" expect '^0$' bash -c "kafka-consumer-groups.sh --describe --group order-processors --bootstrap-server $BOOTSTRAP 2>/dev/null | awk '\$2 == \"orders\" {n += \$6} END {print n + 0}'"
check "11.2 without --execute it says so" says 'No action will be performed as the --execute option is missing' \
    "${OFFSETS[@]}" --to-earliest --group order-processors --topic orders
check "11.2 to earliest, one topic" expect '^order-processors +orders +17 +0$' \
    "${OFFSETS[@]}" --to-earliest --group order-processors --topic orders --execute
check "11.2 everything is behind" expect '^9003$' bash -c "kafka-consumer-groups.sh --describe --group order-processors --bootstrap-server $BOOTSTRAP 2>/dev/null | awk '\$2 == \"orders\" {n += \$6} END {print n + 0}'"
check "11.3 to latest" expect '^GROUP +TOPIC +PARTITION +NEW-OFFSET$' \
    "${OFFSETS[@]}" --to-latest --group order-processors --topic orders --execute
check "11.3 nothing is behind" expect '^0$' bash -c "kafka-consumer-groups.sh --describe --group order-processors --bootstrap-server $BOOTSTRAP 2>/dev/null | awk '\$2 == \"orders\" {n += \$6} END {print n + 0}'"
"${OFFSETS[@]}" --export --group order-processors --all-topics --to-current --dry-run >backup.txt 2>/dev/null
check "11.4 a backup" expect '^orders,17,[0-9]+$' cat backup.txt
check "11.4 to an offset" expect '^order-processors +orders +3 +1$' \
    "${OFFSETS[@]}" --to-offset 1 --group order-processors --topic orders:3 --execute
check "11.4 the backup is restored" expect '^GROUP +TOPIC +PARTITION +NEW-OFFSET$' \
    "${OFFSETS[@]}" --from-file backup.txt --group order-processors --execute
check "11.4 nothing is behind again" expect '^0$' bash -c "kafka-consumer-groups.sh --describe --group order-processors --bootstrap-server $BOOTSTRAP 2>/dev/null | awk '\$2 == \"orders\" {n += \$6} END {print n + 0}'"
check "shift" expect '^GROUP' "${OFFSETS[@]}" --shift-by -2 --group order-processors --topic orders --execute
check "shifted: two in each of eighteen partitions" expect '^36$' bash -c "kafka-consumer-groups.sh --describe --group order-processors --bootstrap-server $BOOTSTRAP 2>/dev/null | awk '\$2 == \"orders\" {n += \$6} END {print n + 0}'"
check "to a time" expect '^order-processors +orders +0 +0$' \
    "${OFFSETS[@]}" --to-datetime 2020-01-01T00:00:00.000 --group order-processors --topic orders:0 --dry-run
check "by a duration" expect '^order-processors +orders +0 +0$' \
    "${OFFSETS[@]}" --by-duration PT1H --group order-processors --topic orders:0 --dry-run
kafka-console-consumer.sh --topic orders "${AT[@]}" --group active >/dev/null 2>&1 &
ACTIVE=$!
is_stable() {
    kafka-consumer-groups.sh --describe --group active --state "${AT[@]}" | grep -q Stable
}
check "a member is there" wait_for is_stable
check "its partitions are shown" expect '^active +[^ ]+ +/127.0.0.1 +console-consumer +18 +$' \
    kafka-consumer-groups.sh --describe --group active --members "${AT[@]}"
check "bad input: an active group is not reset" says "Error: Assignments can only be reset if the group 'active' is inactive, but the current state is Stable\." \
    "${OFFSETS[@]}" --to-earliest --group active --topic orders --execute
check "bad input: nor deleted" says "Group 'active' could not be deleted due to: org.apache.kafka.common.errors.GroupNotEmptyException: The group is not empty\." \
    kafka-consumer-groups.sh --delete --group active "${AT[@]}"
kill -TERM $ACTIVE
wait $ACTIVE 2>/dev/null
check "offsets are deleted" expect '^orders +0 +Successful +$' \
    kafka-consumer-groups.sh --delete-offsets --group analytics-group --topic orders "${AT[@]}"
check "a group is deleted" expect "^Deletion of requested consumer groups \('analytics-group'\) was successful\.$" \
    kafka-consumer-groups.sh --delete --group analytics-group "${AT[@]}"
check "bad input: an unknown group" says 'GroupIdNotFoundException: Group nosuch not found\.' \
    kafka-consumer-groups.sh --describe --group nosuch "${AT[@]}"
