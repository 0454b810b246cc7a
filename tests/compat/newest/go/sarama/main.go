// Sarama: all topics, an idempotent producer with each codec, a group over topics that are found by pattern.
//
// Usage: sarama BOOTSTRAP
package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"time"

	"github.com/IBM/sarama"

	"strandline/newest/values"
)

var codecs = map[string]sarama.CompressionCodec{
	"sarama-none":   sarama.CompressionNone,
	"sarama-gzip":   sarama.CompressionGZIP,
	"sarama-snappy": sarama.CompressionSnappy,
	"sarama-lz4":    sarama.CompressionLZ4,
	"sarama-zstd":   sarama.CompressionZSTD,
}

func config() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Producer.Return.Successes = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Idempotent = true
	config.Net.MaxOpenRequests = 1
	return config
}

func produce(topic string, codec sarama.CompressionCodec) {
	config := config()
	config.Producer.Compression = codec
	producer, err := sarama.NewSyncProducer(os.Args[1:2], config)
	values.Must(err, "a producer")
	var messages []*sarama.ProducerMessage
	for _, r := range values.Of(topic) {
		messages = append(messages, &sarama.ProducerMessage{
			Topic: r.Topic, Key: sarama.StringEncoder(r.Key), Value: sarama.StringEncoder(r.Value),
		})
	}
	values.Must(producer.SendMessages(messages), "produce to "+topic)
	values.Must(producer.Close(), "close the producer")
}

// reader passes on what a group's claims hold.
type reader struct{ found chan values.Record }

func (reader) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (reader) Cleanup(sarama.ConsumerGroupSession) error { return nil }
func (r reader) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			r.found <- values.Record{Topic: message.Topic, Key: string(message.Key), Value: string(message.Value)}
			session.MarkMessage(message, "")
		case <-session.Context().Done():
			return nil
		}
	}
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	client, err := sarama.NewClient(os.Args[1:2], config())
	values.Must(err, "a client")
	admin, err := sarama.NewClusterAdminFromClient(client)
	values.Must(err, "an administrator")
	for topic := range codecs {
		detail := &sarama.TopicDetail{NumPartitions: 3, ReplicationFactor: 1}
		values.Must(admin.CreateTopic(topic, detail, false), "create "+topic)
	}
	for topic, codec := range codecs {
		produce(topic, codec)
	}
	listed, err := admin.ListTopics()
	values.Must(err, "all topics")
	pattern := regexp.MustCompile("^sarama-.*")
	var topics []string
	for topic, detail := range listed {
		if pattern.MatchString(topic) {
			values.Check(detail.NumPartitions == 3, "%s has %d partitions", topic, detail.NumPartitions)
			topics = append(topics, topic)
		}
	}
	values.Check(len(topics) == len(codecs), "the pattern finds %v", topics)

	group, err := sarama.NewConsumerGroup(os.Args[1:2], "sarama", config())
	values.Must(err, "a group")
	reader := reader{make(chan values.Record)}
	consuming, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- group.Consume(consuming, topics, reader) }()
	var found []values.Record
	for len(found) < values.Count*len(topics) {
		select {
		case record := <-reader.found:
			found = append(found, record)
		case <-ctx.Done():
			values.Check(false, "%d records after two minutes", len(found))
		}
	}
	values.Same(found, topics)
	stop()
	values.Must(<-ended, "consume")
	values.Must(group.Close(), "leave the group")
	committed, err := admin.ListConsumerGroupOffsets("sarama", nil)
	values.Must(err, "positions")
	var sum int64
	for _, partitions := range committed.Blocks {
		for _, block := range partitions {
			sum += block.Offset
		}
	}
	values.Check(sum == int64(len(found)), "positions sum up to %d", sum)
	values.Must(admin.Close(), "close the administrator")
	fmt.Println("all values are right")
}
