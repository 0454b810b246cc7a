#!/usr/bin/env python3
"""Compressed record batches of every form that a client may send, right and wrong, for Kafka's verdict on each.

Usage: forms.py            writes one line for each form: name, then the batch in hexadecimal
       forms.py VERDICTS   joins Kafka's verdicts (name, then `read` or `refused`) to tests/golden/compressed/batches.jsonl

The frames are put together by hand from blocks that hold their bytes as they are, so this needs no library of a codec.
"""

import gzip
import json
import struct
import sys
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "differential"))
import batches  # noqa: E402

GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
RECORDS = [(i, i, b"key %d" % i, b"value " * 12) for i in range(4)]
PLAIN = b"".join(batches.record(*r) for r in RECORDS)
HALF = len(PLAIN) // 2
EPOCH = 1_700_000_000_000
M32, M64 = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF


def xxhash(raw, bits):
    if bits == 32:
        p1, p2, p3, p4, p5 = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F, 0x165667B1
        mask, width, form, rotations = M32, 16, "<I", (1, 7, 12, 18)
    else:
        p1, p2, p3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
        p4, p5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
        mask, width, form, rotations = M64, 32, "<Q", (1, 7, 12, 18)

    def rotate(x, r):
        return (x << r | x >> (bits - r)) & mask

    word = bits // 8
    turn = 13 if bits == 32 else 31

    def step(lane, value):
        return rotate((lane + value * p2) & mask, turn) * p1 & mask

    at = 0
    if len(raw) >= width:
        lanes = [(p1 + p2) & mask, p2, 0, -p1 & mask]
        while at + width <= len(raw):
            for i in range(4):
                lanes[i] = step(lanes[i], struct.unpack_from(form, raw, at + i * word)[0])
            at += width
        h = sum(rotate(lane, r) for lane, r in zip(lanes, rotations)) & mask
        if bits == 64:
            for lane in lanes:
                h = ((h ^ step(0, lane)) * p1 + p4) & mask
    else:
        h = p5
    h = (h + len(raw)) & mask
    if bits == 64:
        while at + 8 <= len(raw):
            h = (rotate(h ^ step(0, struct.unpack_from("<Q", raw, at)[0]), 27) * p1 + p4) & mask
            at += 8
        if at + 4 <= len(raw):
            h = (rotate(h ^ struct.unpack_from("<I", raw, at)[0] * p1 & mask, 23) * p2 + p3) & mask
            at += 4
        for byte in raw[at:]:
            h = rotate(h ^ byte * p5 & mask, 11) * p1 & mask
        for shift, prime in ((33, p2), (29, p3)):
            h = (h ^ h >> shift) * prime & mask
        return h ^ h >> 32
    while at + 4 <= len(raw):
        h = rotate((h + struct.unpack_from("<I", raw, at)[0] * p3) & mask, 17) * p4 & mask
        at += 4
    for byte in raw[at:]:
        h = rotate((h + byte * p5) & mask, 11) * p1 & mask
    for shift, prime in ((15, p2), (13, p3)):
        h = (h ^ h >> shift) * prime & mask
    return h ^ h >> 16


def lz4(parts=(PLAIN,), independent=True, block_checksum=None, content_checksum=None, content_size=False, end=True,
        version=1, dictionary=False, header_ok=True, block_max=4, reserved=0):
    flags = version << 6 | independent << 5 | (block_checksum is not None) << 4 | content_size << 3
    flags |= (content_checksum is not None) << 2 | dictionary | reserved
    descriptor = bytes([flags, block_max << 4])
    if content_size:
        descriptor += struct.pack("<Q", sum(map(len, parts)))
    if dictionary:
        descriptor += struct.pack("<I", 7)
    check = xxhash(descriptor, 32) >> 8 & 0xFF
    frame = b"\x04\x22\x4d\x18" + descriptor + bytes([check if header_ok else check ^ 1])
    for part in parts:
        frame += struct.pack("<I", len(part) | 1 << 31) + part
        if block_checksum is not None:
            frame += struct.pack("<I", xxhash(part, 32) ^ (0 if block_checksum else 1))
    if end:
        frame += bytes(4)
    if content_checksum is not None:
        frame += struct.pack("<I", xxhash(b"".join(parts), 32) ^ (0 if content_checksum else 1))
    return frame


def lz4_compressed(part):
    """A block of one run of literals that is marked as compressed."""
    rest = len(part) - 15
    token = b"\xf0" + b"\xff" * (rest // 255) + bytes([rest % 255])
    block = token + part
    return lz4(parts=())[:7] + struct.pack("<I", len(block)) + block + bytes(4)


def lz4_linked():
    """Two blocks of which the second repeats bytes of the first."""
    # `PLAIN` once as literals; then a match that reaches back into the first block could only be read by a linked decoder.
    first, second = PLAIN[:HALF], PLAIN[HALF:]
    return lz4(parts=(first, second), independent=False)


def member(raw, flags=0, extra=b"", crc=None, size=None):
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
    body = deflate.compress(raw) + deflate.flush()
    head = b"\x1f\x8b\x08" + bytes([flags]) + bytes(6) + extra
    if flags & 2:
        right = zlib.crc32(head) & 0xFFFF
        head += struct.pack("<H", right if flags & 0x80 == 0 else right ^ 1)
    return head + body + struct.pack("<II", zlib.crc32(raw) if crc is None else crc, len(raw) if size is None else size)


def snappy_block(raw):
    """A block of literals."""
    out = batches.shapes.varint(len(raw))
    for at in range(0, len(raw), 60):
        piece = raw[at : at + 60]
        out += bytes([(len(piece) - 1) << 2]) + piece
    return out


def xerial(blocks=(PLAIN,), version=1, compatible=1, magic=b"\x82SNAPPY\0"):
    out = magic + struct.pack(">ii", version, compatible)
    for raw in blocks:
        block = snappy_block(raw)
        out += struct.pack(">i", len(block)) + block
    return out


def zstd(raw=PLAIN, window_log=10, checksum=None, size=None, dictionary=None, last=True, single=False):
    descriptor = (checksum is not None) << 2 | (dictionary is not None)
    if size is not None:
        descriptor |= 2 << 6
    if single:
        descriptor |= 1 << 5
    frame = b"\x28\xb5\x2f\xfd" + bytes([descriptor])
    if not single:
        frame += bytes([(window_log - 10) << 3])
    if dictionary is not None:
        frame += bytes([dictionary])
    if size is not None:
        frame += struct.pack("<I", size)
    frame += struct.pack("<I", len(raw) << 3 | last)[:3] + raw
    if checksum is not None:
        frame += struct.pack("<I", (xxhash(raw, 64) & M32) ^ (0 if checksum else 1))
    return frame


SKIPPABLE = b"\x50\x2a\x4d\x18" + struct.pack("<I", 3) + b"abc"
SNAPPY_FRAMED = b"\xff\x06\0\0sNaPpY\x01" + struct.pack("<I", len(PLAIN) + 4)[:3] + bytes(4) + PLAIN

FORMS = [
    (GZIP, "one member", member(PLAIN)),
    (GZIP, "a record cut by two members", member(PLAIN[:HALF]) + member(PLAIN[HALF:])),
    (GZIP, "an empty member before", member(b"") + member(PLAIN)),
    (GZIP, "an empty member behind", member(PLAIN) + member(b"")),
    (GZIP, "zeros behind", member(PLAIN) + bytes(64)),
    (GZIP, "one zero behind", member(PLAIN) + bytes(1)),
    (GZIP, "bytes behind that are no member", member(PLAIN) + b"garbage that is longer than a header"),
    (GZIP, "half a header behind", member(PLAIN) + b"\x1f\x8b\x08"),
    (GZIP, "a second member that is cut off", member(PLAIN) + member(PLAIN)[:40]),
    (GZIP, "a name and a comment", member(PLAIN, 0x18, b"name\0comment\0")),
    (GZIP, "an extra field", member(PLAIN, 4, b"\x03\0abc")),
    (GZIP, "a checksum of the header", member(PLAIN, 2)),
    (GZIP, "a reserved flag", member(PLAIN, 0x20)),
    (GZIP, "a wrong checksum of the header", member(PLAIN, 0x82)),
    (GZIP, "a wrong checksum", member(PLAIN, crc=5)),
    (GZIP, "a wrong size", member(PLAIN, size=5)),
    (GZIP, "without its trailer", member(PLAIN)[:-8]),
    (GZIP, "with half its trailer", member(PLAIN)[:-4]),
    (GZIP, "zlib's frame", zlib.compress(PLAIN)),
    (GZIP, "nothing", b""),
    (SNAPPY, "snappy-java's stream", xerial()),
    (SNAPPY, "snappy-java's stream of two blocks", xerial((PLAIN[:HALF], PLAIN[HALF:]))),
    (SNAPPY, "two of snappy-java's streams", xerial((PLAIN[:HALF],)) + xerial((PLAIN[HALF:],))),
    (SNAPPY, "snappy-java's stream with an empty block", xerial((b"", PLAIN))),
    (SNAPPY, "snappy-java's stream with a length of zero", xerial(()) + bytes(4) + xerial()[16:]),
    (SNAPPY, "snappy-java's stream with a length of zero behind", xerial() + bytes(4)),
    (SNAPPY, "snappy-java's stream with a later version", xerial(version=2)),
    (SNAPPY, "snappy-java's stream of version 0", xerial(version=0, compatible=0)),
    (SNAPPY, "snappy-java's stream that asks for a later version", xerial(version=2, compatible=2)),
    (SNAPPY, "snappy-java's stream with a cut block", xerial()[:-5]),
    (SNAPPY, "snappy-java's stream with half a length behind", xerial() + b"\0\0"),
    (SNAPPY, "snappy-java's stream with bytes behind", xerial() + b"\0\0\0\x07garbage"),
    (SNAPPY, "snappy-java's stream with a negative length", xerial(()) + b"\xff\xff\xff\xff"),
    (SNAPPY, "snappy-java's stream without blocks", xerial(())),
    (SNAPPY, "half of snappy-java's header", xerial()[:12]),
    (SNAPPY, "a bare block", snappy_block(PLAIN)),
    (SNAPPY, "a bare block with bytes behind", snappy_block(PLAIN) + b"\0"),
    (SNAPPY, "a bare block that is cut off", snappy_block(PLAIN)[:-3]),
    (SNAPPY, "the framing format", SNAPPY_FRAMED),
    (SNAPPY, "nothing", b""),
    (LZ4, "independent blocks", lz4()),
    (LZ4, "two independent blocks", lz4((PLAIN[:HALF], PLAIN[HALF:]))),
    (LZ4, "a compressed block", lz4_compressed(PLAIN)),
    (LZ4, "linked blocks", lz4_linked()),
    (LZ4, "one block that is called linked", lz4(independent=False)),
    (LZ4, "the content's size", lz4(content_size=True)),
    (LZ4, "blocks of up to 4 MB", lz4(block_max=7)),
    (LZ4, "blocks of no size", lz4(block_max=3)),
    (LZ4, "checksums of blocks", lz4(block_checksum=True)),
    (LZ4, "wrong checksums of blocks", lz4(block_checksum=False)),
    (LZ4, "a checksum of the content", lz4(content_checksum=True)),
    (LZ4, "a wrong checksum of the content", lz4(content_checksum=False)),
    (LZ4, "without the checksum of the content that it announces", lz4(content_checksum=True)[:-4]),
    (LZ4, "a wrong checksum of the header", lz4(header_ok=False)),
    (LZ4, "without an end", lz4(end=False)),
    (LZ4, "another version", lz4(version=2)),
    (LZ4, "a reserved flag", lz4(reserved=2)),
    (LZ4, "a dictionary", lz4(dictionary=True)),
    (LZ4, "the legacy frame", b"\x02\x21\x4c\x18" + struct.pack("<I", len(PLAIN) + 3) + lz4_compressed(PLAIN)[11:-4]),
    (LZ4, "two frames", lz4((PLAIN[:HALF],)) + lz4((PLAIN[HALF:],))),
    (LZ4, "an empty frame behind", lz4() + lz4(())),
    (LZ4, "bytes behind", lz4() + b"garbage"),
    (LZ4, "a skippable frame before", SKIPPABLE + lz4()),
    (LZ4, "a bare block", lz4_compressed(PLAIN)[11:-4]),
    (LZ4, "nothing", b""),
    (ZSTD, "one frame", zstd()),
    (ZSTD, "a frame in one segment", zstd(single=True, size=len(PLAIN))),
    (ZSTD, "the content's size", zstd(size=len(PLAIN))),
    (ZSTD, "a wrong size of the content", zstd(size=len(PLAIN) + 1)),
    (ZSTD, "a checksum", zstd(checksum=True)),
    (ZSTD, "a wrong checksum", zstd(checksum=False)),
    (ZSTD, "a window of 8 MiB", zstd(window_log=23)),
    (ZSTD, "a window of 16 MiB", zstd(window_log=24)),
    (ZSTD, "a window of 128 MiB", zstd(window_log=27)),
    (ZSTD, "a window of 256 MiB", zstd(window_log=28)),
    (ZSTD, "two frames", zstd(PLAIN[:HALF]) + zstd(PLAIN[HALF:])),
    (ZSTD, "an empty frame behind", zstd() + zstd(b"")),
    (ZSTD, "a skippable frame before", SKIPPABLE + zstd()),
    (ZSTD, "a skippable frame behind", zstd() + SKIPPABLE),
    (ZSTD, "a dictionary", zstd(dictionary=7)),
    (ZSTD, "without a last block", zstd(last=False)),
    (ZSTD, "cut off", zstd()[:-5]),
    (ZSTD, "bytes behind", zstd() + b"garbage"),
    (ZSTD, "zeros behind", zstd() + bytes(8)),
    (ZSTD, "nothing", b""),
]
CODECS = {GZIP: "gzip", SNAPPY: "snappy", LZ4: "lz4", ZSTD: "zstd"}


def whole(codec, compressed):
    """A batch of [`RECORDS`] whose records field is `compressed`."""
    covered = struct.pack(">hiqqqhii", codec, len(RECORDS) - 1, EPOCH, EPOCH + 3, -1, -1, -1, len(RECORDS)) + compressed
    tail = struct.pack(">ibI", -1, 2, batches.crc32c(covered)) + covered
    return struct.pack(">qi", 0, len(tail)) + tail


def main():
    forms = [(f"{CODECS[codec]}: {name}", whole(codec, raw)) for codec, name, raw in FORMS]
    if len(sys.argv) < 2:
        for name, batch in forms:
            print(f"{name}\t{batch.hex()}")
        return
    verdicts = dict(line.rstrip("\n").split("\t")[:2] for line in open(sys.argv[1]))
    out = Path(__file__).resolve().parents[2] / "golden/compressed/batches.jsonl"
    out.parent.mkdir(exist_ok=True)
    with out.open("w") as file:
        for name, batch in forms:
            file.write(json.dumps({"form": name, "kafka": verdicts[name], "batch": batch.hex()}) + "\n")


main()
