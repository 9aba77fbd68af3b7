"""A client of MQTT 3.1.1 and 5.0 that says exactly what it is told to, also what is wrong, and shows every packet."""

import itertools
import os
import socket
import struct

SECONDS = 10
V3, V5 = 4, 5

KINDS = "RESERVED CONNECT CONNACK PUBLISH PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE SUBACK UNSUBSCRIBE UNSUBACK PINGREQ PINGRESP DISCONNECT AUTH"
KINDS = KINDS.split()
CODES = {kind: code for code, kind in enumerate(KINDS)}
# The flags of the fixed header that a kind must have (§2.1.3).
FLAGS = {"PUBREL": 2, "SUBSCRIBE": 2, "UNSUBSCRIBE": 2}

# Properties (§2.2.2.2): their ids and types.
PROPERTIES = {
    "payload_format": (1, "byte"),
    "message_expiry": (2, "four"),
    "content_type": (3, "text"),
    "response_topic": (8, "text"),
    "correlation": (9, "binary"),
    "subscription_identifier": (11, "varint"),
    "session_expiry": (17, "four"),
    "assigned_client_identifier": (18, "text"),
    "server_keep_alive": (19, "two"),
    "authentication_method": (21, "text"),
    "authentication_data": (22, "binary"),
    "request_problem_information": (23, "byte"),
    "will_delay": (24, "four"),
    "request_response_information": (25, "byte"),
    "response_information": (26, "text"),
    "server_reference": (28, "text"),
    "reason_string": (31, "text"),
    "receive_maximum": (33, "two"),
    "topic_alias_maximum": (34, "two"),
    "topic_alias": (35, "two"),
    "maximum_qos": (36, "byte"),
    "retain_available": (37, "byte"),
    "user": (38, "pair"),
    "maximum_packet_size": (39, "four"),
    "wildcard_subscription_available": (40, "byte"),
    "subscription_identifier_available": (41, "byte"),
    "shared_subscription_available": (42, "byte"),
}
NAMES = {number: (name, kind) for name, (number, kind) in PROPERTIES.items()}
NUMBERS = {"byte": ">B", "two": ">H", "four": ">I"}


def varint(number):
    out = bytearray()
    while True:
        number, low = divmod(number, 128)
        out.append(low | (128 if number else 0))
        if not number:
            return bytes(out)


def binary(data):
    data = data.encode() if isinstance(data, str) else data
    return struct.pack(">H", len(data)) + data


def value(kind, what):
    if kind == "varint":
        return varint(what)
    if kind == "pair":
        return binary(what[0]) + binary(what[1])
    return binary(what) if kind in ("text", "binary") else struct.pack(NUMBERS[kind], what)


def properties(said):
    """Properties as bytes; a list stands for one that comes several times."""
    out = b""
    for name, what in said.items():
        number, kind = PROPERTIES[name]
        for one in what if isinstance(what, list) else [what]:
            out += varint(number) + value(kind, one)
    return varint(len(out)) + out


def packet(kind, body=b"", flags=None):
    code = CODES[kind] << 4 | (FLAGS.get(kind, 0) if flags is None else flags)
    return bytes([code]) + varint(len(body)) + body


class Short(AssertionError):
    """The bytes end in the midst of a field."""


class Reader:
    """Takes fields from bytes."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if self.at + count > len(self.data):
            raise Short(f"{count} bytes are wanted at {self.at} of {len(self.data)}")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, layout):
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def varint(self):
        number, shift = 0, 0
        while True:
            byte = self.number(">B")
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number

    def binary(self):
        return self.take(self.number(">H"))

    def text(self):
        return self.binary().decode()

    def left(self):
        return len(self.data) - self.at

    def properties(self):
        whole = Reader(self.take(self.varint()))
        found = {}
        while whole.left():
            name, kind = NAMES[whole.varint()]
            if kind == "varint":
                what = whole.varint()
            elif kind == "pair":
                what = (whole.text(), whole.text())
            elif kind in NUMBERS:
                what = whole.number(NUMBERS[kind])
            else:
                what = whole.text() if kind == "text" else whole.binary()
            if name in ("user", "subscription_identifier"):
                found.setdefault(name, []).append(what)
            else:
                assert name not in found, f"{name} comes twice"
                found[name] = what
        return found


class Packet(dict):
    """A packet that came: its kind, and its fields by name."""

    def __init__(self, version, first, body):
        self.kind = KINDS[first >> 4]
        super().__init__(flags=first & 15, properties={})
        fields = Reader(body)
        has_properties = version == V5
        if self.kind == "CONNACK":
            self["present"], self["reason"] = fields.number(">B"), fields.number(">B")
        elif self.kind == "PUBLISH":
            self["qos"], self["dup"], self["retain"] = first >> 1 & 3, first >> 3 & 1, first & 1
            self["topic"] = fields.text()
            self["id"] = fields.number(">H") if self["qos"] else None
        elif self.kind in ("PUBACK", "PUBREC", "PUBREL", "PUBCOMP"):
            self["id"] = fields.number(">H")
            self["reason"] = fields.number(">B") if fields.left() else 0
            has_properties = fields.left() > 0
        elif self.kind in ("SUBACK", "UNSUBACK"):
            self["id"] = fields.number(">H")
        elif self.kind in ("DISCONNECT", "AUTH"):
            self["reason"] = fields.number(">B") if fields.left() else 0
            has_properties = fields.left() > 0
        if has_properties and self.kind != "PINGRESP":
            self["properties"] = fields.properties()
        if self.kind == "PUBLISH":
            self["payload"] = fields.take(fields.left())
        elif self.kind in ("SUBACK", "UNSUBACK"):
            self["reasons"] = list(fields.take(fields.left()))
        assert not fields.left(), f"{self.kind} has {fields.left()} bytes too many"

    def __getattr__(self, name):
        return self[name]

    def __str__(self):
        return f"{self.kind} {dict(self)}"


class Client:
    """A connection."""

    counter = itertools.count(1)

    def __init__(self, address, version):
        self.version, self.rest, self.early, self.ids = version, b"", [], itertools.count(1)
        self.socket = socket.create_connection(address, SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @classmethod
    def name(cls):
        """A client id that nobody had before."""
        return f"case-{os.getpid()}-{next(cls.counter)}"

    def send(self, data):
        self.socket.sendall(data)

    def properties(self, said):
        return properties(said) if self.version == V5 else b""

    def say_connect(self, client_id=None, clean=True, keep_alive=60, will=None, login=(None, None), flags=0, **said):
        """Says CONNECT. A will is `(topic, payload, qos, retain, properties)`."""
        client_id = self.name() if client_id is None else client_id
        flags |= 2 if clean else 0
        payload = binary(client_id)
        if will:
            topic, message, qos, retain, of_will = will
            flags |= 4 | qos << 3 | retain << 5
            payload += self.properties(of_will) + binary(topic) + binary(message)
        for bit, text in zip((128, 64), login):
            if text is not None:
                flags |= bit
                payload += binary(text)
        head = binary("MQTT") + bytes([self.version, flags]) + struct.pack(">H", keep_alive)
        self.send(packet("CONNECT", head + self.properties(said) + payload))

    def connect(self, *args, **more):
        """Says CONNECT; gives CONNACK."""
        self.say_connect(*args, **more)
        return self.receive("CONNACK")

    def publish(self, topic, payload=b"", qos=0, retain=0, dup=0, number=None, **said):
        """Says PUBLISH; gives its packet id."""
        number = number or (next(self.ids) if qos else None)
        body = binary(topic) + (struct.pack(">H", number) if qos else b"") + self.properties(said)
        body += payload.encode() if isinstance(payload, str) else payload
        self.send(packet("PUBLISH", body, dup << 3 | qos << 1 | retain))
        return number

    def publish_whole(self, topic, payload=b"", qos=1, **more):
        """Publishes, to the last acknowledgement."""
        number = self.publish(topic, payload, qos, **more)
        if qos:
            # 0x10 says that nobody is subscribed, where a server likes to say so.
            assert self.receive("PUBACK" if qos == 1 else "PUBREC", id=number).reason in (0, 0x10)
        if qos == 2:
            self.ack("PUBREL", number)
            self.receive("PUBCOMP", id=number, reason=0)

    def ack(self, kind, number, reason=0):
        self.send(packet(kind, struct.pack(">H", number) + (bytes([reason]) if reason else b"")))

    def subscribe(self, *filters, **said):
        """Says SUBSCRIBE with `(filter, options)` or filters at QoS 2; gives the reasons of SUBACK."""
        number = next(self.ids)
        pairs = [one if isinstance(one, tuple) else (one, 2) for one in filters]
        body = b"".join(binary(text) + bytes([options]) for text, options in pairs)
        self.send(packet("SUBSCRIBE", struct.pack(">H", number) + self.properties(said) + body))
        return self.receive("SUBACK", id=number).reasons

    def unsubscribe(self, *filters):
        number = next(self.ids)
        body = b"".join(binary(text) for text in filters)
        self.send(packet("UNSUBSCRIBE", struct.pack(">H", number) + self.properties({}) + body))
        return self.receive("UNSUBACK", id=number).reasons

    def disconnect(self, reason=None, **said):
        """Says DISCONNECT, and waits for the end."""
        body = b"" if reason is None and not said else bytes([reason or 0]) + self.properties(said)
        self.send(packet("DISCONNECT", body))
        self.ended()

    def cut(self):
        """Goes without a word."""
        self.socket.close()

    def more(self):
        """More bytes; nothing at the end of the connection."""
        try:
            return self.socket.recv(65536)
        except ConnectionError:
            return b""

    def next_bytes(self):
        """The next packet's first byte and its body; None at the end of the connection."""
        while True:
            fields = Reader(self.rest)
            try:
                first, length = fields.number(">B"), fields.varint()
                body = fields.take(length)
            except Short:
                data = self.more()
                if not data:
                    return None
                self.rest += data
                continue
            self.rest = self.rest[fields.at :]
            return first, body

    def next_packet(self):
        """The next packet; None at the end of the connection."""
        if self.early:
            return self.early.pop(0)
        found = self.next_bytes()
        return found and Packet(self.version, *found)

    def receive(self, kind, **fields):
        """The next packet, which is of this kind and has these fields."""
        found = self.next_packet()
        assert found is not None, f"the connection ended instead of {kind} {fields}"
        assert found.kind == kind and all(found[name] == what for name, what in fields.items()), f"{found} instead of {kind} {fields}"
        return found

    def message(self, payload, **fields):
        """The next packet is this message; acknowledges it to the end."""
        payload = payload.encode() if isinstance(payload, str) else payload
        found = self.receive("PUBLISH", payload=payload, **fields)
        self.complete(found)
        return found

    def complete(self, found):
        """Acknowledges a message to the end."""
        if found.qos == 1:
            self.ack("PUBACK", found.id)
        if found.qos == 2:
            self.ack("PUBREC", found.id)
            early = []
            while (other := self.next_packet()) and other.kind == "PUBLISH":
                early.append(other)
            self.early += early
            assert other and other.kind == "PUBREL" and other.id == found.id, f"{other} instead of the release of {found}"
            self.ack("PUBCOMP", found.id)

    def quiet(self):
        """Nothing was under way: the next that comes is the answer to a ping."""
        self.send(packet("PINGREQ"))
        self.receive("PINGRESP")

    def refused(self, *reasons):
        """CONNACK, of whatever version, names one of these reasons, or nothing is said; then the connection ends."""
        found = self.next_bytes()
        if found is not None:
            assert found[0] >> 4 == CODES["CONNACK"] and found[1][1] in reasons, f"{found} instead of {reasons}"
            self.ended()

    def ended(self, *reasons):
        """The connection ends; with reasons, 5.0's DISCONNECT names one of them before, or nothing is said."""
        while (found := self.next_packet()) is not None:
            if reasons and found.kind == "DISCONNECT":
                assert found.reason in reasons, f"{found} instead of {[hex(reason) for reason in reasons]}"
            elif reasons:
                raise AssertionError(f"{found} instead of the end")
        self.socket.close()
