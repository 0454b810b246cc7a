"""Kafka's messages by their schemas: encodes requests and decodes responses of every version.

The shapes are those that the broker itself checks requests with (src/wire/data/schemas.jsonl). A value is a dictionary with the
schema's field names; absent fields have their defaults.
"""

import json
import struct
import uuid
from pathlib import Path

SCHEMAS = Path(__file__).resolve().parents[3] / "src/wire/data/schemas.jsonl"
NUMBERS = {"int8": ">b", "int16": ">h", "uint16": ">H", "int32": ">i", "int64": ">q", "float64": ">d"}
ZERO_ID = uuid.UUID(int=0)


def versions(text):
    """The inclusive range of a schema's version text."""
    if text is None or text == "none":
        return range(0)
    if text.endswith("+"):
        return range(int(text[:-1]), 1 << 15)
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


class Field:
    """A field of a message, its version texts parsed."""

    def __init__(self, schema, structs):
        self.name = schema["name"]
        self.entity = schema.get("entityType")
        self.default = schema.get("default")
        self.versions = versions(schema["versions"])
        self.nullable = versions(schema.get("nullableVersions"))
        self.tagged = versions(schema.get("taggedVersions"))
        self.tag = schema.get("tag")
        kind = schema["type"]
        self.array = kind.startswith("[]")
        self.kind = kind[2:] if self.array else kind
        inner = schema.get("fields") or structs.get(self.kind)
        self.fields = [Field(f, structs) for f in inner] if inner else None


class Message:
    """One request or response."""

    def __init__(self, schema):
        structs = {s["name"]: s["fields"] for s in schema.get("commonStructs", [])}
        self.versions = versions(schema["validVersions"])
        self.flexible = versions(schema.get("flexibleVersions"))
        self.fields = [Field(f, structs) for f in schema["fields"]]


def load():
    """All requests and responses, by (API key, direction), and the APIs' names by key."""
    messages, names = {}, {}
    for line in SCHEMAS.read_text().splitlines():
        schema = json.loads(line)
        if schema["type"] in ("request", "response"):
            messages[schema["apiKey"], schema["type"]] = Message(schema)
            names[schema["apiKey"]] = schema["name"].removesuffix("Response").removesuffix("Request")
    return messages, names


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


class Writer:
    def __init__(self, version, flexible):
        self.out = bytearray()
        self.version = version
        self.flexible = flexible

    def length(self, count, compact, short=False):
        """A length; `None` stands for null."""
        if compact:
            self.out += varint(0 if count is None else count + 1)
        else:
            self.out += struct.pack(">h" if short else ">i", -1 if count is None else count)

    def fields(self, fields, value):
        tagged = []
        for field in fields:
            if self.version not in field.versions:
                continue
            if self.version in field.tagged:
                if field.name in value:
                    tagged.append(field)
                continue
            self.field(field, value.get(field.name, default(field, self.version)))
        if self.flexible:
            self.out += varint(len(tagged))
            for field in sorted(tagged, key=lambda f: f.tag):
                inner = Writer(self.version, True)
                inner.field(field, value[field.name])
                self.out += varint(field.tag) + varint(len(inner.out)) + inner.out

    def field(self, field, value):
        if not field.array:
            self.one(field, value)
            return
        self.length(None if value is None else len(value), self.flexible)
        for item in value or []:
            self.one(field, item)

    def one(self, field, value):
        if field.fields is not None:
            # Only a struct that may be null says whether it is there.
            if not field.array and self.version in field.nullable:
                self.out.append(0xFF if value is None else 1)
            if value is not None:
                self.fields(field.fields, value)
        elif field.kind == "string":
            raw = None if value is None else value.encode()
            self.length(None if raw is None else len(raw), self.flexible, short=True)
            self.out += raw or b""
        elif field.kind in ("bytes", "records"):
            self.length(None if value is None else len(value), self.flexible)
            self.out += value or b""
        elif field.kind == "bool":
            self.out.append(int(value))
        elif field.kind == "uuid":
            self.out += value.bytes
        else:
            self.out += struct.pack(NUMBERS[field.kind], value)


def default(field, version):
    """The value of a field that a request does not name."""
    if field.array:
        return None if field.default == "null" and version in field.nullable else []
    if field.fields is not None:
        return None if version in field.nullable else {}
    if field.kind == "string":
        return None if field.default == "null" else field.default or ""
    if field.kind in ("bytes", "records"):
        return None if version in field.nullable else b""
    if field.kind == "bool":
        return str(field.default).lower() == "true"
    if field.kind == "uuid":
        return ZERO_ID
    if field.kind == "float64":
        return float(field.default or 0)
    return int(str(field.default or 0), 0)


class Reader:
    def __init__(self, raw, version, flexible):
        self.raw = raw
        self.at = 0
        self.version = version
        self.flexible = flexible

    def take(self, count):
        if count < 0 or self.at + count > len(self.raw):
            raise ValueError(f"{count} bytes at {self.at} of {len(self.raw)}")
        self.at += count
        return self.raw[self.at - count : self.at]

    def varint(self):
        number, shift = 0, 0
        while True:
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7

    def length(self, short=False):
        if self.flexible:
            return self.varint() - 1
        return struct.unpack(">h", self.take(2))[0] if short else struct.unpack(">i", self.take(4))[0]

    def fields(self, fields):
        value, tagged = {}, {}
        for field in fields:
            if self.version in field.versions:
                if self.version in field.tagged:
                    tagged[field.tag] = field
                else:
                    value[field.name] = self.field(field)
        if self.flexible:
            for _ in range(self.varint()):
                tag, size = self.varint(), self.varint()
                end = self.at + size
                if tag in tagged:
                    value[tagged[tag].name] = self.field(tagged[tag])
                else:
                    value[f"tag {tag}"] = self.take(size).hex()
                if self.at != end:
                    raise ValueError(f"tag {tag} has another size")
        return value

    def field(self, field):
        if not field.array:
            return self.one(field)
        count = self.length()
        return None if count < 0 else [self.one(field) for _ in range(count)]

    def one(self, field):
        if field.fields is not None:
            if not field.array and self.version in field.nullable and self.take(1)[0] != 1:
                return None
            return self.fields(field.fields)
        if field.kind == "string":
            count = self.length(short=True)
            return None if count < 0 else self.take(count).decode()
        if field.kind in ("bytes", "records"):
            count = self.length()
            return None if count < 0 else self.take(count)
        if field.kind == "bool":
            return self.take(1)[0] != 0
        if field.kind == "uuid":
            return uuid.UUID(bytes=bytes(self.take(16)))
        form = NUMBERS[field.kind]
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]


class Codec:
    """Frames of requests and responses."""

    def __init__(self):
        self.messages, self.names = load()

    def request(self, key, version, correlation, client, value):
        """A whole frame without its size."""
        message = self.messages[key, "request"]
        flexible = version in message.flexible
        header = struct.pack(">hhi", key, version, correlation)
        raw = client.encode()
        header += struct.pack(">h", len(raw)) + raw + (b"\0" if flexible else b"")
        writer = Writer(version, flexible)
        writer.fields(message.fields, value)
        return header + bytes(writer.out)

    def response(self, key, version, frame):
        """The value of a frame without its size, and the bytes that are left over."""
        message = self.messages[key, "response"]
        flexible = version in message.flexible
        # ApiVersions always has the oldest header.
        start = 5 if flexible and key != 18 else 4
        reader = Reader(frame[start:], version, flexible)
        value = reader.fields(message.fields)
        left = len(reader.raw) - reader.at
        if left:
            raise ValueError(f"{left} bytes follow the response")
        return value
