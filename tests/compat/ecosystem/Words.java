import java.time.Duration;
import java.util.Arrays;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KGroupedStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.processor.StateRestoreListener;

/**
 * Counts words with Kafka Streams, at least once: over all time, and by the minute. Both counts have a changelog, and the
 * words go through a repartition topic.
 *
 * <p>Usage: Words feed BOOTSTRAP BEGIN FROM TO: produces lines, of which line i has the timestamp BEGIN + 50 i ms.
 * Words count BOOTSTRAP STATE_DIRECTORY: counts until it is killed; says when it runs and what it has restored.
 */
public class Words {
  public static void main(String[] args) throws Exception {
    if (args[0].equals("feed")) {
      feed(args[1], Long.parseLong(args[2]), Integer.parseInt(args[3]), Integer.parseInt(args[4]));
    } else {
      count(args[1], args[2]);
    }
  }

  static void feed(String bootstrap, long begin, int from, int to) {
    Map<String, Object> config = Map.of("bootstrap.servers", bootstrap, "linger.ms", 5);
    try (var producer = new KafkaProducer<>(config, new StringSerializer(), new StringSerializer())) {
      for (int i = from; i < to; i++) {
        String line = "w" + i % 97 + " x" + i % 1009 + " y" + i % 7;
        producer.send(new ProducerRecord<>("words-lines", null, begin + 50L * i, null, line));
      }
    }
  }

  static void count(String bootstrap, String stateDirectory) throws Exception {
    var builder = new StreamsBuilder();
    KGroupedStream<String, String> words =
        builder.<String, String>stream("words-lines")
            .flatMapValues(line -> Arrays.asList(line.split(" ")))
            .groupBy((key, word) -> word, Grouped.as("by-word"));
    words
        .count(Materialized.as("totals"))
        .toStream()
        .mapValues(Object::toString)
        .to("words-totals", Produced.with(Serdes.String(), Serdes.String()));
    words
        .windowedBy(TimeWindows.ofSizeAndGrace(Duration.ofMinutes(1), Duration.ofDays(1)))
        .count(Materialized.as("minutes"))
        .toStream()
        .map((word, n) -> KeyValue.pair(word.key() + "@" + word.window().start(), n.toString()))
        .to("words-minutes", Produced.with(Serdes.String(), Serdes.String()));

    var config = new Properties();
    config.put(StreamsConfig.APPLICATION_ID_CONFIG, "words");
    config.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap);
    config.put(StreamsConfig.STATE_DIR_CONFIG, stateDirectory);
    config.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
    config.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
    config.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.AT_LEAST_ONCE);
    config.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
    config.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 500);
    config.put(StreamsConfig.REPARTITION_PURGE_INTERVAL_MS_CONFIG, 1000);
    config.put("auto.offset.reset", "earliest");
    // The coordinator waits so long for an instance that was killed.
    config.put("session.timeout.ms", 6000);
    config.put("heartbeat.interval.ms", 2000);
    var streams = new KafkaStreams(builder.build(), config);
    streams.setStateListener((now, before) -> System.out.println("state " + now));
    streams.setGlobalStateRestoreListener(new Restored());
    streams.setUncaughtExceptionHandler(
        error -> {
          error.printStackTrace();
          return StreamThreadExceptionResponse.SHUTDOWN_APPLICATION;
        });
    Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(30))));
    streams.start();
  }

  static class Restored implements StateRestoreListener {
    @Override
    public void onRestoreStart(TopicPartition partition, String store, long start, long end) {}

    @Override
    public void onBatchRestored(TopicPartition partition, String store, long end, long count) {}

    @Override
    public void onRestoreEnd(TopicPartition partition, String store, long total) {
      System.out.println("restored " + store + " " + partition.partition() + " " + total);
    }
  }
}
