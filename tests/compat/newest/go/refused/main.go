// Sarama and franz-go ask for what is not there: a transaction, and Sarama for ACLs. Each is to end with an error soon.
//
// Usage: refused BOOTSTRAP
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"strandline/newest/values"
)

const soon = 30 * time.Second

func main() {
	ended := make(chan string, 3)
	go transactionOfSarama(ended)
	go aclsOfSarama(ended)
	go transactionOfFranz(ended)
	for range 3 {
		select {
		case how := <-ended:
			fmt.Println(how)
		case <-time.After(soon):
			values.Check(false, "a client still tries after %v", soon)
		}
	}
}

func transactionOfSarama(ended chan<- string) {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Idempotent = true
	config.Producer.Transaction.ID = "refused"
	config.Producer.Return.Successes = true
	config.Net.MaxOpenRequests = 1
	producer, err := sarama.NewSyncProducer(os.Args[1:2], config)
	if err == nil {
		err = producer.BeginTxn()
	}
	values.Check(errors.Is(err, sarama.ErrTransactionalIDAuthorizationFailed), "Sarama's transaction ends with %v", err)
	ended <- fmt.Sprintf("Sarama: %v", err)
}

func aclsOfSarama(ended chan<- string) {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	admin, err := sarama.NewClusterAdmin(os.Args[1:2], config)
	values.Must(err, "an administrator")
	_, err = admin.ListAcls(sarama.AclFilter{
		ResourceType: sarama.AclResourceAny, ResourcePatternTypeFilter: sarama.AclPatternAny,
		Operation: sarama.AclOperationAny, PermissionType: sarama.AclPermissionAny,
	})
	values.Check(errors.Is(err, sarama.ErrSecurityDisabled), "Sarama lists ACLs: %v", err)
	ended <- fmt.Sprintf("Sarama's ACLs: %v", err)
}

func transactionOfFranz(ended chan<- string) {
	client, err := kgo.NewClient(kgo.SeedBrokers(os.Args[1]), kgo.TransactionalID("refused"))
	values.Must(err, "a client")
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	err = client.BeginTransaction()
	if err == nil {
		err = client.ProduceSync(ctx, &kgo.Record{Topic: "refused", Value: []byte("x")}).FirstErr()
	}
	values.Check(errors.Is(err, kerr.TransactionalIDAuthorizationFailed), "franz-go's transaction ends with %v", err)
	ended <- fmt.Sprintf("franz-go: %v", err)
}
