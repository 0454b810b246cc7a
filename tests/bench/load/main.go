// A load generator for the benchmark: many producers or one consumer in one process, cheap enough to leave the machine to
// the broker. Prints one JSON object.
//
//	load produce BOOTSTRAP TOPIC [-producers N] [-rate RECORDS_PER_SECOND] [-warmup 10s] [-duration 30s] [-linger 0s]
//	load consume BOOTSTRAP TOPIC -records N
//	load create BOOTSTRAP PREFIX -topics N -partitions P    one request a topic, with the broker's default of replicas
//	load fetch BOOTSTRAP TOPIC -records N -partitions P     as a consumer asks, but without decoding records
package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) < 4 {
		return fmt.Errorf("usage: load produce|consume|create|fetch BOOTSTRAP TOPIC [flags]")
	}
	var figures map[string]float64
	var err error
	switch os.Args[1] {
	case "produce":
		figures, err = produce(os.Args[2], os.Args[3], os.Args[4:])
	case "consume":
		figures, err = consume(os.Args[2], os.Args[3], os.Args[4:])
	case "create":
		figures, err = create(os.Args[2], os.Args[3], os.Args[4:])
	case "fetch":
		figures, err = fetch(os.Args[2], os.Args[3], os.Args[4:])
	default:
		err = fmt.Errorf("unknown command %q", os.Args[1])
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(figures)
}

func produce(bootstrap, topic string, arguments []string) (map[string]float64, error) {
	flags := flag.NewFlagSet("produce", flag.ExitOnError)
	producers := flags.Int("producers", 1, "clients, each with connections of its own")
	rate := flags.Float64("rate", 0, "records per second over all producers; 0: as many as go")
	warmup := flags.Duration("warmup", 5*time.Second, "not measured")
	duration := flags.Duration("duration", 20*time.Second, "measured")
	linger := flags.Duration("linger", 0, "linger.ms")
	size := flags.Int("size", 1024, "bytes of a record")
	flags.Parse(arguments)

	random := rand.New(rand.NewSource(1))
	values := make([][]byte, 256)
	for i := range values {
		values[i] = make([]byte, *size)
		for j := range values[i] {
			values[i][j] = byte('A' + random.Intn(26))
		}
	}
	begin := time.Now()
	from, until := begin.Add(*warmup), begin.Add(*warmup+*duration)
	ctx, cancel := context.WithDeadline(context.Background(), until.Add(60*time.Second))
	defer cancel()
	var running sync.WaitGroup
	var lock sync.Mutex
	var latencies []time.Duration
	var failure error
	for range *producers {
		client, err := kgo.NewClient(
			kgo.SeedBrokers(bootstrap),
			kgo.DefaultProduceTopic(topic),
			kgo.ProducerBatchMaxBytes(128<<10),
			kgo.ProducerLinger(*linger),
			kgo.ProducerBatchCompression(kgo.NoCompression()),
			kgo.RecordPartitioner(kgo.RoundRobinPartitioner()),
			kgo.MaxBufferedRecords(2000),
		)
		if err != nil {
			return nil, err
		}
		defer client.Close()
		running.Add(1)
		go func() {
			defer running.Done()
			var own []time.Duration
			var ownLock sync.Mutex
			each := time.Duration(0)
			if *rate > 0 {
				each = time.Duration(float64(time.Second) * float64(*producers) / *rate)
			}
			due := time.Now()
			for n := 0; ; n++ {
				now := time.Now()
				if now.After(until) {
					break
				}
				if each > 0 {
					if wait := due.Sub(now); wait > 0 {
						time.Sleep(wait)
						now = time.Now()
					}
					due = due.Add(each)
				}
				client.Produce(ctx, &kgo.Record{Value: values[n%len(values)]}, func(_ *kgo.Record, err error) {
					done := time.Now()
					ownLock.Lock()
					defer ownLock.Unlock()
					if err != nil {
						lock.Lock()
						failure = err
						lock.Unlock()
					}
					if done.After(from) && done.Before(until) {
						own = append(own, done.Sub(now))
					}
				})
			}
			client.Flush(ctx)
			lock.Lock()
			latencies = append(latencies, own...)
			lock.Unlock()
		}()
	}
	running.Wait()
	if failure != nil {
		return nil, failure
	}
	slices.Sort(latencies)
	if len(latencies) == 0 {
		return nil, fmt.Errorf("nothing was acknowledged in %v", *duration)
	}
	at := func(share float64) float64 {
		return latencies[min(int(share*float64(len(latencies))), len(latencies)-1)].Seconds() * 1000
	}
	return map[string]float64{
		"records":  float64(len(latencies)),
		"mb_per_s": float64(len(latencies)*(*size)) / 1e6 / duration.Seconds(),
		"p50_ms":   at(0.5),
		"p99_ms":   at(0.99),
		"p999_ms":  at(0.999),
	}, nil
}

func consume(bootstrap, topic string, arguments []string) (map[string]float64, error) {
	flags := flag.NewFlagSet("consume", flag.ExitOnError)
	records := flags.Int("records", 0, "records to read")
	flags.Parse(arguments)

	begin := time.Now()
	client, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	read, bytes := 0, 0
	for read < *records {
		fetches := client.PollFetches(ctx)
		if errs := fetches.Errors(); len(errs) > 0 {
			return nil, errs[0].Err
		}
		fetches.EachRecord(func(record *kgo.Record) {
			read++
			bytes += len(record.Value)
		})
	}
	seconds := time.Since(begin).Seconds()
	return map[string]float64{
		"records":  float64(read),
		"seconds":  seconds,
		"mb_per_s": float64(bytes) / 1e6 / seconds,
	}, nil
}

func create(bootstrap, prefix string, arguments []string) (map[string]float64, error) {
	flags := flag.NewFlagSet("create", flag.ExitOnError)
	topics := flags.Int("topics", 1, "topics, named PREFIX0, PREFIX1, …")
	partitions := flags.Int("partitions", 1, "partitions of each")
	flags.Parse(arguments)

	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	begin := time.Now()
	for number := range *topics {
		request := kmsg.NewPtrCreateTopicsRequest()
		request.TimeoutMillis = 60_000
		topic := kmsg.NewCreateTopicsRequestTopic()
		topic.Topic = fmt.Sprintf("%s%d", prefix, number)
		topic.NumPartitions, topic.ReplicationFactor = int32(*partitions), -1
		request.Topics = append(request.Topics, topic)
		response, err := request.RequestWith(ctx, client)
		if err != nil {
			return nil, err
		}
		for _, topic := range response.Topics {
			if err := kerr.ErrorForCode(topic.ErrorCode); err != nil {
				return nil, fmt.Errorf("%s: %w", topic.Topic, err)
			}
		}
	}
	return map[string]float64{"seconds": time.Since(begin).Seconds()}, nil
}

// fetch asks for all partitions at once, a MiB each, one request after the other, and looks at batch headers only.
func fetch(bootstrap, topic string, arguments []string) (map[string]float64, error) {
	const baseOffset, batchLength, lastOffsetDelta, recordCount, headerBytes = 0, 8, 23, 57, 61
	const responseHeaderBytes = 4 + 1
	flags := flag.NewFlagSet("fetch", flag.ExitOnError)
	records := flags.Int("records", 0, "records to read")
	partitions := flags.Int("partitions", 1, "partitions of the topic")
	flags.Parse(arguments)

	begin := time.Now()
	connection, err := net.Dial("tcp", bootstrap)
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	formatter := kmsg.NewRequestFormatter(kmsg.FormatterClientID("load"))
	var frame []byte
	offsets := make([]int64, *partitions)
	read, bytes := 0, 0
	for read < *records {
		request := kmsg.NewFetchRequest()
		request.MaxWaitMillis, request.MinBytes, request.MaxBytes = 500, 1, 50<<20
		request.SessionEpoch = -1
		asked := kmsg.NewFetchRequestTopic()
		asked.Topic = topic
		for partition, offset := range offsets {
			one := kmsg.NewFetchRequestTopicPartition()
			one.Partition, one.FetchOffset, one.PartitionMaxBytes = int32(partition), offset, 1<<20
			asked.Partitions = append(asked.Partitions, one)
		}
		request.Topics = append(request.Topics, asked)
		request.Version = 12 // the last that names topics by name
		connection.SetDeadline(time.Now().Add(time.Minute))
		if _, err := connection.Write(formatter.AppendRequest(nil, &request, 0)); err != nil {
			return nil, err
		}
		if frame, err = readFrame(connection, frame); err != nil {
			return nil, err
		}
		answer := kmsg.FetchResponse{Version: request.Version}
		if err := answer.ReadFrom(frame[responseHeaderBytes:]); err != nil {
			return nil, err
		}
		for _, answered := range answer.Topics {
			for _, partition := range answered.Partitions {
				if err := kerr.ErrorForCode(partition.ErrorCode); err != nil {
					return nil, err
				}
				batches := partition.RecordBatches
				for len(batches) >= headerBytes {
					size := 12 + int(binary.BigEndian.Uint32(batches[batchLength:]))
					if size > len(batches) {
						break
					}
					base := int64(binary.BigEndian.Uint64(batches[baseOffset:]))
					offsets[partition.Partition] = base + int64(binary.BigEndian.Uint32(batches[lastOffsetDelta:])) + 1
					read += int(binary.BigEndian.Uint32(batches[recordCount:]))
					bytes += size
					batches = batches[size:]
				}
			}
		}
	}
	seconds := time.Since(begin).Seconds()
	return map[string]float64{
		"records":  float64(read),
		"seconds":  seconds,
		"mb_per_s": float64(bytes) / 1e6 / seconds,
	}, nil
}

// readFrame reads a response into buffer, which grows as needed and is used again.
func readFrame(from io.Reader, buffer []byte) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(from, size[:]); err != nil {
		return nil, err
	}
	length := int(binary.BigEndian.Uint32(size[:]))
	buffer = slices.Grow(buffer[:0], length)[:length]
	_, err := io.ReadFull(from, buffer)
	return buffer, err
}
