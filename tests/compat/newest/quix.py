"""quixstreams: a stateful stream application from one topic to another; its changelog and all values are checked.

Usage: quix.py BOOTSTRAP
"""

import sys
import tempfile

from quixstreams import Application, __version__
from values import check

BOOTSTRAP = sys.argv[1]
COUNT = 200


def main():
    print("quixstreams", __version__)
    with tempfile.TemporaryDirectory() as state:
        app = Application(
            BOOTSTRAP, consumer_group="quix", auto_offset_reset="earliest", state_dir=state, loglevel="WARNING"
        )
        numbers = app.topic("quix-numbers", value_serializer="json", value_deserializer="json")
        sums = app.topic("quix-sums", value_serializer="json", value_deserializer="json")
        with app.get_producer() as producer:
            for i in range(COUNT):
                message = numbers.serialize(key=f"k{i % 4}", value={"n": i})
                producer.produce(numbers.name, message.value, message.key)

        def add(value, state):
            total = state.get("total", 0) + value["n"]
            state.set("total", total)
            return {"n": value["n"], "total": total}

        app.dataframe(numbers).apply(add, stateful=True).to_topic(sums)
        app.run(count=COUNT, timeout=60)

        found = []
        with app.get_consumer() as consumer:
            consumer.subscribe([sums.name])
            while len(found) < COUNT:
                message = consumer.poll(30)
                check(message is not None and not message.error(), f"{len(found)} of {COUNT} sums")
                found.append((message.key().decode(), sums.deserialize(message).value))
        totals = {}
        for key, value in sorted(found, key=lambda one: one[1]["n"]):
            totals[key] = totals.get(key, 0) + value["n"]
            check(value["total"] == totals[key], f"{key}: {value}, not {totals[key]}")
        check(sorted(value["n"] for _, value in found) == list(range(COUNT)), "every number once")
    print("all values are right")


main()
