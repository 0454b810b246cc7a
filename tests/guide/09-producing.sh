# 9. Producing Messages

check "9.1 the console producer" bash -c "printf 'order1,100,USD\norder2,200,EUR\n' | kafka-console-producer.sh --topic orders --bootstrap-server $BOOTSTRAP"
check "9.1 both are there" expect '^2$' bash -c "kafka-get-offsets.sh --bootstrap-server $BOOTSTRAP --topic orders | awk -F: '{n += \$3} END {print n}'"
check "9.1 Ctrl+C ends it cleanly, with a prompt before" interrupted '^>' \
    kafka-console-producer.sh --topic orders --bootstrap-server "$BOOTSTRAP"
check "9.2 the performance test" expect '^1000 records sent, [0-9.]+ records/sec \([0-9.]+ MB/sec\), [0-9.]+ ms avg latency, [0-9.]+ ms max latency, [0-9]+ ms 50th, [0-9]+ ms 95th, [0-9]+ ms 99th, [0-9]+ ms 99.9th\.$' \
    kafka-producer-perf-test.sh --topic orders --num-records 1000 --record-size 1024 --throughput 500 --producer-props "bootstrap.servers=$BOOTSTRAP" acks=all
for codec in gzip snappy lz4 zstd; do
    check "9.2 the performance test, $codec, acks=1" expect '^2000 records sent' \
        kafka-producer-perf-test.sh --topic orders --num-records 2000 --record-size 500 --throughput -1 --producer-props "bootstrap.servers=$BOOTSTRAP" acks=1 compression.type=$codec
done
check "9.3 keys" bash -c "printf 'user123:order1,100\nuser123:order2,200\nuser456:order3,150\nfoobar:order4,300\n' | kafka-console-producer.sh --topic payments --bootstrap-server $BOOTSTRAP --property parse.key=true --property key.separator=:"
kafka-console-consumer.sh "${AT[@]}" --topic payments --from-beginning --max-messages 4 --formatter-property print.key=true --formatter-property print.partition=true 2>/dev/null | sort >keyed
# murmur2 of the key, modulo eight partitions: what Java's producer makes of it.
check "9.3 the same key, the same partition" expect '^Partition:1	user123	order2,200$' cat keyed
check "9.3 two keys may share a partition" expect '^Partition:1	user456	order3,150$' cat keyed
check "9.3 another key, another partition" expect '^Partition:6	foobar	order4,300$' cat keyed
check "headers" bash -c "printf 'h1:a,h2:b\tk4\tv4\n' | kafka-console-producer.sh --bootstrap-server $BOOTSTRAP --topic payments --reader-property parse.key=true --reader-property parse.headers=true"
check "bad input: no separator" says "No key separator found on line number 1: 'nosep'" \
    bash -c "printf 'nosep\n' | kafka-console-producer.sh --bootstrap-server $BOOTSTRAP --topic payments --reader-property parse.key=true"
