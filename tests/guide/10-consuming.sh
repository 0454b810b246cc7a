# 10. Consuming Messages

check "10.1 from the beginning" expect '^Processed a total of 9002 messages$' \
    kafka-console-consumer.sh --topic orders "${AT[@]}" --from-beginning --timeout-ms 6000
check "10.1 only so many" expect '^Processed a total of 5 messages$' \
    kafka-console-consumer.sh --topic orders "${AT[@]}" --from-beginning --max-messages 5
(sleep 3; printf 'new\n' | kafka-console-producer.sh --topic orders "${AT[@]}") &
check "10.1 only what is new" expect '^Processed a total of 1 messages$' \
    kafka-console-consumer.sh --topic orders "${AT[@]}" --timeout-ms 8000
wait $! 2>/dev/null
check "10.1 fields" expect '^CreateTime:[0-9]+	Partition:[0-9]	Offset:[0-9]+	Delivery:NOT_PRESENT	Epoch:[^	]+	h1:a,h2:b	k4	v4$' \
    kafka-console-consumer.sh "${AT[@]}" --topic payments --from-beginning --max-messages 5 --formatter-property print.timestamp=true --formatter-property print.partition=true --formatter-property print.offset=true --formatter-property print.headers=true --formatter-property print.key=true --formatter-property print.epoch=true --formatter-property print.delivery=true
check "10.1 a partition from an offset" expect '^Partition:1	Offset:1	order2,200$' \
    kafka-console-consumer.sh "${AT[@]}" --topic payments --partition 1 --offset 1 --max-messages 1 --formatter-property print.offset=true --formatter-property print.partition=true
check "10.1 other separators" expect '^foobar#order4,300$' \
    kafka-console-consumer.sh "${AT[@]}" --topic payments --partition 6 --offset earliest --max-messages 1 --formatter-property print.key=true --formatter-property 'key.separator=#'
check "10.2 as a group" expect '^Processed a total of 9003 messages$' \
    kafka-console-consumer.sh --topic orders "${AT[@]}" --group order-processors --from-beginning --timeout-ms 6000
check "10.2 another group reads the same" expect '^Processed a total of 9003 messages$' \
    kafka-console-consumer.sh --topic orders "${AT[@]}" --group analytics-group --from-beginning --timeout-ms 6000
check "10.2 the first goes on where it was" expect '^Processed a total of 0 messages$' \
    kafka-console-consumer.sh --topic orders "${AT[@]}" --group order-processors --from-beginning --timeout-ms 6000
check "10.3 groups are listed" expect '^analytics-group$' kafka-consumer-groups.sh --list "${AT[@]}"
check "10.3 with their state" expect '^order-processors +Empty +$' kafka-consumer-groups.sh --list "${AT[@]}" --state
check "the performance test" expect '^[0-9: .-]+, [0-9: .-]+, [0-9.]+, [0-9.]+, 9[0-9]{3}, ' \
    kafka-consumer-perf-test.sh "${AT[@]}" --topic orders --num-records 9000 --timeout 20000
check "bad input: an offset without a partition" says 'The partition is required when offset is specified\.' \
    not kafka-console-consumer.sh "${AT[@]}" --topic orders --offset 1
