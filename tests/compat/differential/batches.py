"""Record batches of every kind of producer: right ones, and those with each fault that a broker looks for."""

import gzip
import struct
import time

import shapes

# Records are an hour old when a run begins; both brokers get the same bytes.
EPOCH = int(time.time() * 1000) - 3_600_000
FAR_PAST, FAR_FUTURE = 0, EPOCH + 100 * 86_400_000


def crc_table():
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ 0x82F63B78 if n & 1 else n >> 1
        table.append(n)
    return table


TABLE = crc_table()


def crc32c(raw):
    crc = 0xFFFFFFFF
    for byte in raw:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def zigzag(number):
    return shapes.varint((number << 1 ^ number >> 63) & 0xFFFFFFFFFFFFFFFF)


def record(offset_delta, timestamp_delta, key, value):
    body = b"\0" + zigzag(timestamp_delta) + zigzag(offset_delta)
    body += zigzag(-1) if key is None else zigzag(len(key)) + key
    body += zigzag(-1) if value is None else zigzag(len(value)) + value
    body += zigzag(0)
    return zigzag(len(body)) + body


def batch(records, attributes=0, base_offset=0, base_timestamp=EPOCH, max_timestamp=None, producer=(-1, -1, -1), magic=2,
          count=None, last_delta=None, break_crc=False):
    """`records`: (offset delta, timestamp delta, key, value)."""
    payload = b"".join(record(*r) for r in records)
    if attributes & 7 == 1:
        payload = gzip.compress(payload, mtime=0)
    newest = base_timestamp + max((r[1] for r in records), default=0)
    producer_id, epoch, sequence = producer
    covered = struct.pack(
        ">hiqqqhii", attributes, len(records) - 1 if last_delta is None else last_delta, base_timestamp,
        newest if max_timestamp is None else max_timestamp, producer_id, epoch, sequence,
        len(records) if count is None else count) + payload
    crc = crc32c(covered) ^ (1 if break_crc else 0)
    tail = struct.pack(">ibI", -1, magic, crc) + covered
    return struct.pack(">qi", base_offset, len(tail)) + tail


def random_batch(random):
    """A batch of one to three records: most are right, the others have one fault."""
    size = random.randint(1, 3)
    records = [(i, random.choice([0, i, 5, -3]), random.choice([b"k", b"k2"]), random.choice([b"v", b"", None, b"x" * 50]))
               for i in range(size)]
    options = {"attributes": random.choice([0, 0, 1])}
    fault = random.randrange(40)
    if fault == 0:
        options["break_crc"] = True
    elif fault == 1:
        options["base_offset"] = 7
    elif fault == 2:
        options["magic"] = random.choice([0, 1, 3])
    elif fault == 3:
        options["attributes"] |= random.choice([8, 0x20, 0x40, 5, 6, 0x10])
    elif fault == 4:
        options["count"] = random.choice([0, -1, size + 1])
    elif fault == 5:
        options["last_delta"] = size + 3
    elif fault == 6:
        records = [(i, delta, None, value) for i, delta, _, value in records]
    elif fault == 7:
        options["base_timestamp"] = random.choice([FAR_PAST, FAR_FUTURE, -1])
    elif fault == 8:
        records = [(i * 2, delta, key, value) for i, delta, key, value in records]
    elif fault == 9:
        options["max_timestamp"] = random.choice([-1, 5])
    elif fault == 10:
        options["producer"] = random.choice([(77, -1, 0), (77, 0, -1), (-1, 0, 0), (1 << 40, 0, 3)])
    elif fault == 11:
        records = [(i, delta, key, b"y" * 800) for i, delta, key, _ in records]
    whole = batch(records, **options)
    if fault == 12:
        return whole + whole
    if fault == 13:
        return whole[: random.randint(1, len(whole) - 1)]
    if fault == 14:
        return random.choice([b"", None])
    return whole
