"""Records whose every byte is known, and what a client must find again."""

import sys


def check(condition, what):
    """Ends the program with what was not as it must be."""
    if not condition:
        sys.exit(f"WRONG: {what}")


def records(topic, count):
    """Key, value and headers of each record of a topic."""
    return [
        (f"{topic}-key-{i}".encode(), f"{topic} value {i} ".encode() * (i % 7 + 1), [("n", str(i).encode())])
        for i in range(count)
    ]


def same(found, topics, count):
    """Checks that what was read of the topics is what was written: once each, byte for byte."""
    wanted = sorted((topic, *record[:2]) for topic in topics for record in records(topic, count))
    check(sorted(found) == wanted, f"{len(found)} records read, {len(wanted)} written to {topics}")
