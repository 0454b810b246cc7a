"""Applies Debezium's change events in order and compares the result with the table.

Usage: changes.py EVENTS ROWS SNAPSHOT CREATED UPDATED DELETED
EVENTS has one record a line: key, a tab, value, as kcat -Z prints them; ROWS has one row of the table a line, as JSON. The
numbers are how many events of each kind there must be, an event that was delivered again counted once.
"""

import json
import sys
from collections import Counter


def check(condition, what):
    if not condition:
        sys.exit(f"WRONG: {what}")


def main():
    events, rows = sys.argv[1:3]
    wanted = dict(zip("rcud", map(int, sys.argv[3:7])))
    state, seen, found, again, tombstones = {}, set(), Counter(), 0, set()
    with open(events, encoding="utf-8") as lines:
        for line in lines:
            key, value = line.rstrip("\n").split("\t", 1)
            key = json.loads(key)["id"]
            if value == "NULL":
                tombstones.add(key)
                continue
            event = json.loads(value)
            identity = (key, event["op"], event["source"]["lsn"])
            if identity in seen:
                again += 1
                continue
            seen.add(identity)
            found[event["op"]] += 1
            check(event["before"] == state.get(key), f"before {event['before']}, but {state.get(key)} was the row")
            check(event["op"] == "d" or event["after"]["id"] == key, f"key {key} of {event['after']}")
            if event["op"] == "d":
                del state[key]
            else:
                state[key] = event["after"]
    check(found == wanted, f"{dict(found)} events, {wanted} expected")
    check(len(tombstones) == wanted["d"], f"{len(tombstones)} tombstones")
    with open(rows, encoding="utf-8") as lines:
        table = {row["id"]: row for row in map(json.loads, lines)}
    check(state == table, f"{len(state)} rows by the events, {len(table)} in the table")
    print(f"{sum(found.values())} events make {len(table)} rows, {again} were delivered again")


main()
