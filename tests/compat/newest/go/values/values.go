// Package values has records whose every byte is known, and checks what a client found again.
package values

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// Count is the number of records of each topic.
const Count = 300

// Record is one record, as far as all clients show it.
type Record struct{ Topic, Key, Value string }

// Of gives the records of a topic.
func Of(topic string) []Record {
	records := make([]Record, Count)
	for i := range records {
		value := strings.Repeat(fmt.Sprintf("%s value %d ", topic, i), i%7+1)
		records[i] = Record{topic, fmt.Sprintf("%s-key-%d", topic, i), value}
	}
	return records
}

// Check ends the program with what is wrong unless the condition holds.
func Check(holds bool, format string, parts ...any) {
	if !holds {
		fmt.Printf("WRONG: "+format+"\n", parts...)
		os.Exit(1)
	}
}

// Must ends the program with an error, if there is one.
func Must(err error, what string) {
	Check(err == nil, "%s: %v", what, err)
}

// Same checks that what was read is what was written: once each, byte for byte.
func Same(found []Record, topics []string) {
	var wanted []Record
	for _, topic := range topics {
		wanted = append(wanted, Of(topic)...)
	}
	order := func(a, b Record) int {
		return strings.Compare(a.Topic+a.Key, b.Topic+b.Key)
	}
	slices.SortFunc(wanted, order)
	slices.SortFunc(found, order)
	Check(slices.Equal(found, wanted), "%d records read, %d written to %v", len(found), len(wanted), topics)
}
