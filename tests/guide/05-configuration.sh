# 5. Kafka Configuration: Static vs. Dynamic

check "5.2 a setting of all brokers" expect '^Completed updating default config for brokers in the cluster\.$' \
    kafka-configs.sh --alter "${AT[@]}" --entity-type brokers --entity-default --add-config log.segment.bytes=524288000
check "5.2 it is shown" soon '^  log.segment.bytes=524288000 sensitive=false synonyms=\{DYNAMIC_DEFAULT_BROKER_CONFIG:log.segment.bytes=524288000\}$' \
    kafka-configs.sh --describe "${AT[@]}" --entity-type brokers --entity-default
check "5.2 without a name, every broker and the default are shown" soon '^Default configs for brokers in the cluster are:$' \
    kafka-configs.sh --describe "${AT[@]}" --entity-type brokers
check "5.2 a setting of one broker" expect '^Completed updating config for broker 2\.$' \
    kafka-configs.sh --alter "${AT[@]}" --entity-type brokers --entity-name 2 --add-config log.cleaner.threads=2
check "5.2 it is that broker's" soon '^  log.cleaner.threads=2 sensitive=false synonyms=\{DYNAMIC_BROKER_CONFIG:log.cleaner.threads=2, DEFAULT_CONFIG:log.cleaner.threads=1\}$' \
    kafka-configs.sh --describe "${AT[@]}" --entity-type brokers --entity-name 2
check "5.2 and not another's" not grep -q log.cleaner.threads <(kafka-configs.sh --describe "${AT[@]}" --entity-type brokers --entity-name 1)
check "5.2 all settings of a broker" expect '^  log.segment.bytes=524288000 ' \
    kafka-configs.sh --describe "${AT[@]}" --entity-type brokers --entity-name 3 --all
check "5.2 a setting is taken back" expect '^Completed updating default config' \
    kafka-configs.sh --alter "${AT[@]}" --entity-type brokers --entity-default --delete-config log.segment.bytes
default_is_gone() {
    ! kafka-configs.sh --describe "${AT[@]}" --entity-type brokers --entity-default | grep -q log.segment.bytes
}
check "5.2 it is gone" wait_for default_is_gone
check "bad input: what is read-only is named" says 'InvalidRequestException: Cannot update these configs dynamically: \[num.partitions, broker.rack\]' \
    not kafka-configs.sh --alter "${AT[@]}" --entity-type brokers --entity-name 1 --add-config num.partitions=3,broker.rack=x
check "bad input: what belongs to one broker is not for all" says 'Cannot update these configs at default cluster level, broker id must be specified: \[listeners\]' \
    not kafka-configs.sh --alter "${AT[@]}" --entity-type brokers --entity-default --add-config listeners=PLAINTEXT://:9
check "bad input: a value of another type" says 'Invalid value abc for configuration log.segment.bytes: Not a number of type INT' \
    not kafka-configs.sh --alter "${AT[@]}" --entity-type brokers --entity-default --add-config log.segment.bytes=abc
check "a quota of a user" expect '^Completed updating config for user alice\.$' \
    kafka-configs.sh --alter "${AT[@]}" --entity-type users --entity-name alice --add-config producer_byte_rate=1048576,consumer_byte_rate=2097152
check "it is shown" soon "^Quota configs for user-principal 'alice' are consumer_byte_rate=2097152.0, producer_byte_rate=1048576.0$" \
    kafka-configs.sh --describe "${AT[@]}" --entity-type users --entity-name alice
check "a quota of a user's client" expect '^Completed updating config for user alice\.$' \
    kafka-configs.sh --alter "${AT[@]}" --entity-type users --entity-name alice --entity-type clients --entity-name app1 --add-config request_percentage=50
check "it is shown" soon "^Quota configs for user-principal 'alice', client-id 'app1' are request_percentage=50.0$" \
    kafka-configs.sh --describe "${AT[@]}" --entity-type users --entity-type clients
check "a quota is taken back" expect '^Completed updating config for user alice\.$' \
    kafka-configs.sh --alter "${AT[@]}" --entity-type users --entity-name alice --delete-config producer_byte_rate
check "bad input: no such quota" says "Only quota and SCRAM credential configs can be added for 'users' using --bootstrap-server. Unexpected config names: Set\(bogus_rate\)" \
    not kafka-configs.sh --alter "${AT[@]}" --entity-type users --entity-name alice --add-config bogus_rate=1
check "client metrics are configured" expect '^Completed updating config for client-metric sub1\.$' \
    kafka-configs.sh --alter "${AT[@]}" --entity-type client-metrics --entity-name sub1 --add-config 'interval.ms=5000,metrics=[org.apache.kafka.consumer.,org.apache.kafka.producer.]'
check "they are shown" soon '^  metrics=org.apache.kafka.consumer.,org.apache.kafka.producer. sensitive=false' \
    kafka-configs.sh --describe "${AT[@]}" --entity-type client-metrics --entity-name sub1
if [ "$WAY" = kafka ]; then LOGGER=root; else LOGGER=strandline_broker; fi
check "a logger's level" expect '^Completed updating config for broker-logger 1\.$' \
    kafka-configs.sh --alter "${AT[@]}" --entity-type broker-loggers --entity-name 1 --add-config $LOGGER=WARN
check "it is shown" soon "^  $LOGGER=WARN sensitive=false synonyms=\{\}$" \
    kafka-configs.sh --describe "${AT[@]}" --entity-type broker-loggers --entity-name 1
check "bad input: a group's time that the brokers do not allow" says 'consumer\.session\.timeout\.ms must be greater than or equal to group\.consumer\.min\.session\.timeout\.ms' \
    kafka-configs.sh --alter "${AT[@]}" --entity-type groups --entity-name g --add-config consumer.session.timeout.ms=1
