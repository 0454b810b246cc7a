"""A connection to one of the two brokers, and the names of what differs between them: ids of topics and members."""

import socket
import struct
import uuid


class Peer:
    """One broker under test."""

    def __init__(self, name, address, codec):
        self.name = name
        self.address = address
        self.codec = codec
        self.correlation = 0
        self.socket = None
        self.topics = {}
        self.members = {}

    def connect(self):
        host, _, port = self.address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self):
        if self.socket:
            self.socket.close()
        self.socket = None

    def send(self, key, version, value):
        if self.socket is None:
            self.connect()
        self.correlation += 1
        frame = self.codec.request(key, version, self.correlation, "differential", self.own(value))
        self.socket.sendall(struct.pack(">i", len(frame)) + frame)

    def receive(self, key, version):
        """The response's value; a text where the broker closed the connection or wrote what is no response."""
        try:
            (size,) = struct.unpack(">i", self.exactly(4))
            frame = self.exactly(size)
        except (ConnectionError, socket.timeout) as error:
            self.close()
            return "no answer" if isinstance(error, socket.timeout) else "closed"
        if struct.unpack(">i", frame[:4])[0] != self.correlation:
            return "another correlation id"
        try:
            if key == 18 and frame[4:6] == b"\0\x23":
                version = 0
            return self.codec.response(key, version, frame)
        except (ValueError, UnicodeDecodeError) as error:
            return f"unreadable: {error}"

    def exactly(self, count):
        parts = bytearray()
        while len(parts) < count:
            part = self.socket.recv(count - len(parts))
            if not part:
                raise ConnectionError
            parts += part
        return bytes(parts)

    def call(self, key, version, value):
        self.send(key, version, value)
        return self.receive(key, version)

    def own(self, value):
        """A request's value with this broker's own ids in the place of their names."""
        if isinstance(value, dict):
            return {name: self.own(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self.own(item) for item in value]
        if isinstance(value, TopicId):
            return self.topics.get(value.topic, uuid.uuid5(uuid.NAMESPACE_DNS, value.topic))
        if isinstance(value, MemberId):
            return self.members.get(value.name, value.name)
        return value

    def named(self, found):
        """The name of an id, `None` where this broker gave no such id."""
        for name, own in self.topics.items():
            if own == found:
                return f"<id of {name}>"
        return None

    def learn_topics(self):
        """Asks for all topics and their ids."""
        answer = self.call(3, 12, {"Topics": None})
        for topic in answer["Topics"]:
            self.topics[topic["Name"]] = topic["TopicId"]


class TopicId:
    """The id of a topic, whatever it is at a broker."""

    def __init__(self, topic):
        self.topic = topic

    def __repr__(self):
        return f"<id of {self.topic}>"


class MemberId:
    """The id of a group's member, whatever it is at a broker."""

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return f"<member {self.name}>"
