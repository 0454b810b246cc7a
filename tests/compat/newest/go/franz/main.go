// franz-go: all topics, a subscription by pattern, an idempotent producer with each codec, a group, look-ups by time.
//
// Usage: franz BOOTSTRAP
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"strandline/newest/values"
)

var codecs = map[string]kgo.CompressionCodec{
	"franz-none":   kgo.NoCompression(),
	"franz-gzip":   kgo.GzipCompression(),
	"franz-snappy": kgo.SnappyCompression(),
	"franz-lz4":    kgo.Lz4Compression(),
	"franz-zstd":   kgo.ZstdCompression(),
}

func connect(options ...kgo.Opt) *kgo.Client {
	client, err := kgo.NewClient(append(options, kgo.SeedBrokers(os.Args[1]))...)
	values.Must(err, "a client")
	return client
}

func produce(ctx context.Context, topic string, codec kgo.CompressionCodec) {
	client := connect(kgo.ProducerBatchCompression(codec))
	defer client.Close()
	var records []*kgo.Record
	for _, r := range values.Of(topic) {
		records = append(records, &kgo.Record{Topic: r.Topic, Key: []byte(r.Key), Value: []byte(r.Value)})
	}
	values.Must(client.ProduceSync(ctx, records...).FirstErr(), "produce to "+topic)
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	client := connect()
	defer client.Close()
	admin := kadm.NewClient(client)
	var topics []string
	for topic := range codecs {
		topics = append(topics, topic)
	}
	created, err := admin.CreateTopics(ctx, 3, 1, nil, topics...)
	values.Must(err, "create topics")
	values.Must(created.Error(), "create topics")
	began := time.Now().UnixMilli()
	for topic, codec := range codecs {
		produce(ctx, topic, codec)
	}
	listed, err := admin.ListTopics(ctx)
	values.Must(err, "all topics")
	for _, topic := range topics {
		values.Check(len(listed[topic].Partitions) == 3, "%s has partitions %v", topic, listed[topic].Partitions)
	}

	consumer := connect(kgo.ConsumeRegex(), kgo.ConsumeTopics("^franz-.*"), kgo.ConsumerGroup("franz"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer consumer.Close()
	var found []values.Record
	for len(found) < values.Count*len(topics) {
		fetches := consumer.PollFetches(ctx)
		values.Must(fetches.Err(), "poll")
		fetches.EachRecord(func(r *kgo.Record) {
			found = append(found, values.Record{Topic: r.Topic, Key: string(r.Key), Value: string(r.Value)})
		})
	}
	values.Same(found, topics)
	values.Must(consumer.CommitUncommittedOffsets(ctx), "commit")
	committed, err := admin.FetchOffsets(ctx, "franz")
	values.Must(err, "positions")
	var sum int64
	committed.Each(func(o kadm.OffsetResponse) { sum += o.At })
	values.Check(sum == int64(len(found)), "positions sum up to %d", sum)
	starts, err := admin.ListOffsetsAfterMilli(ctx, began, topics...)
	values.Must(err, "offsets by time")
	starts.Each(func(o kadm.ListedOffset) {
		values.Check(o.Err == nil && o.Offset == 0, "%s-%d begins at %d: %v", o.Topic, o.Partition, o.Offset, o.Err)
	})
	fmt.Println("all values are right")
}
