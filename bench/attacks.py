"""Attacks by one anonymous address, each bounded in number and time. What an attack returns is held until it is ended."""

import base64
import collections
import json
import os
import resource
import selectors
import socket
import struct
import time
import zlib

ATTACKER = "127.0.0.66"
MIB = 1 << 20
PATIENCE = 5.0  # seconds that an attacker waits for one answer

Attack = collections.namedtuple("Attack", "name prepare run")
ATTACKS = []


def attack(name, prepare=None):
    """Enters a function as an attack."""

    def enter(run):
        ATTACKS.append(Attack(name, prepare, run))
        return run

    return enter


def tell(told, what, number=1):
    """Counts an answer."""
    told[what] = told.get(what, 0) + number


def connect(port):
    """A connection from the attacker's address."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    connection = socket.create_connection(("127.0.0.1", port), PATIENCE, (ATTACKER, 0))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def some(number, quick):
    """A number, or a tenth of it."""
    return max(1, number // 10) if quick else number


def seconds(number, quick):
    """The moment at which an attack of so many seconds ends."""
    return time.monotonic() + (1 if quick else number)


# MQTT 5.0, as bytes.


def text(value):
    """A string or binary with its length."""
    value = value.encode() if isinstance(value, str) else value
    return struct.pack(">H", len(value)) + value


def varint(number):
    """A variable byte integer."""
    out = b""
    while True:
        number, low = number >> 7, number & 127
        out += bytes([low | (128 if number else 0)])
        if not number:
            return out


def packet(first, body):
    """A control packet."""
    return bytes([first]) + varint(len(body)) + body


def mqtt_connect(client, clean=True, expiry=0, will=b""):
    """A CONNECT, with a will whose delay has no end if it has a body."""
    flags = (2 if clean else 0) | (4 if will else 0)
    properties = b"\x11" + struct.pack(">I", expiry) if expiry else b""
    body = text("MQTT") + bytes([5, flags]) + struct.pack(">H", 0) + varint(len(properties)) + properties + text(client)
    if will:
        delay = b"\x18" + struct.pack(">I", 0xFFFFFFFF)
        body += varint(len(delay)) + delay + text(f"stranger/will/{client}") + text(will)
    return packet(0x10, body)


def mqtt_publish(topic, body, qos=0, number=0, retain=False):
    """A PUBLISH."""
    middle = struct.pack(">H", number) if qos else b""
    return packet(0x30 | qos << 1 | retain, text(topic) + middle + b"\0" + body)


def mqtt_subscribe(number, filters):
    """A SUBSCRIBE at QoS 0."""
    return packet(0x82, struct.pack(">H", number) + b"\0" + b"".join(text(each) + b"\0" for each in filters))


def mqtt_unsubscribe(number, filters):
    """An UNSUBSCRIBE."""
    return packet(0xA2, struct.pack(">H", number) + b"\0" + b"".join(text(each) for each in filters))


def mqtt(port, client, **how):
    """An MQTT connection that was let in, and CONNACK's reason code."""
    connection = connect(port)
    connection.sendall(mqtt_connect(client, **how))
    answer = connection.recv(1024)
    return connection, answer[3] if len(answer) > 3 else "closed"


# HTTP.


def request(method, target, body=b"", kind="application/json"):
    """A request's bytes."""
    return f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def answer(connection):
    """The status of the next answer; its body is read and thrown away."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return "closed"
        data += more
    head, rest = data.split(b"\r\n\r\n", 1)
    length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(rest) < length:
        more = connection.recv(65536)
        if not more:
            return "closed"
        rest += more
    return int(head.split()[1])


def batches(port, told, end, message, count=1000, most=1000):
    """Batches of messages, each when the one before is answered, until the time is over."""
    connection, number = connect(port), 0
    while time.monotonic() < end and number < most * count:
        messages = [message(number + each) for each in range(count)]
        number += count
        try:
            connection.sendall(request("POST", "/v1/batch", json.dumps({"messages": messages}).encode()))
            status = answer(connection)
        except TimeoutError:
            status = "no answer"
        tell(told, f"batches: {status}")
        if status != 200:
            connection.close()
            connection = connect(port)
    return connection


def flood(connections, data, told, end):
    """Sends the same bytes again and again on all connections, reading nothing, until the time is over."""
    selector, rests = selectors.DefaultSelector(), {}
    for connection in connections:
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_WRITE)
        rests[connection] = memoryview(data)
    while rests and time.monotonic() < end:
        for key, _ in selector.select(0.1):
            try:
                rests[key.fileobj] = rests[key.fileobj][key.fileobj.send(rests[key.fileobj]) :] or memoryview(data)
            except BlockingIOError:
                pass
            except OSError:
                tell(told, "closed")
                selector.unregister(key.fileobj)
                del rests[key.fileobj]
    tell(told, "held", len(rests))


def unfinished(port, number, data, told):
    """Connections that send all but the end of something and stay."""
    held = []
    for _ in range(number):
        connection = connect(port)
        held.append(connection)
        try:
            connection.sendall(data)
        except OSError:
            pass
    time.sleep(0.3)
    for connection in held:
        connection.setblocking(False)
        tell(told, said(connection))
    return held


def said(connection):
    """What has become of a connection: what HTTP says, or whether it is still held."""
    try:
        while data := connection.recv(65536):
            if data.startswith(b"HTTP"):
                return f"HTTP {data.split()[1].decode()}"
    except BlockingIOError:
        return "held"
    except OSError:
        pass
    return "closed"


def websocket(port, extensions=""):
    """A WebSocket connection of the native protocol."""
    connection = connect(port)
    head = f"Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n{extensions}"
    connection.sendall(f"GET /v1/ws HTTP/1.1\r\n{head}\r\n".encode())
    return connection, answer(connection)


def frame(payload, first=0x81):
    """A client's frame, masked with zeros."""
    size = len(payload)
    length = bytes([128 | size]) if size < 126 else b"\xfe" + struct.pack(">H", size) if size < 65536 else b"\xff" + struct.pack(">Q", size)
    return bytes([first]) + length + bytes(4) + payload


# The attacks.


@attack("3,000 MQTT clients with wills of 60 kB and endless delay, gone at once; as many as come in 9 s")
def wills(ports, quick, told):
    end = seconds(9, quick)
    for first in range(0, some(3000, quick), 100):
        if time.monotonic() > end:
            break
        many = [connect(ports["mqtt"]) for _ in range(100)]
        for number, connection in enumerate(many, first):
            connection.sendall(mqtt_connect(f"w{number}", expiry=0xFFFFFFFF, will=bytes(60000)))
        for connection in many:
            tell(told, f"CONNACK {(connection.recv(1024) + bytes(4))[3]}")
            connection.close()


@attack("400 MQTT packets of 1 MB without their last byte")
def packets(ports, quick, told):
    whole = mqtt_connect("") + mqtt_publish("stranger/a", bytes(MIB - 100))
    return unfinished(ports["mqtt"], some(400, quick), whole[:-1], told)


@attack("50 batches of 4 MB without their last byte")
def batch_bodies(ports, quick, told):
    return unfinished(ports["http"], some(50, quick), request("POST", "/v1/batch", bytes(4 * MIB))[:-1], told)


@attack("50 bodies of 4 MB for the API without their last byte")
def api_bodies(ports, quick, told):
    return unfinished(ports["http"], some(50, quick), request("POST", "/v1/users/query", bytes(4 * MIB))[:-1], told)


@attack("2,000 frames of 1 MB on WebSocket without their last byte")
def frames(ports, quick, told):
    held, data = [], frame(bytes(MIB - 100))[:-1]
    end = seconds(6, quick)
    for _ in range(some(2000, quick)):
        if time.monotonic() > end:
            break
        connection, status = websocket(ports["http"])
        held.append(connection)
        try:
            connection.sendall(data)
        except OSError:
            pass
    for connection in held:
        connection.setblocking(False)
        tell(told, said(connection))
    return held


@attack("3,000 connections that say nothing")
def idle(ports, quick, told):
    held = [connect(ports[("http", "mqtt", "tcp")[number % 3]]) for number in range(some(3000, quick))]
    time.sleep(1)
    for connection in held:
        connection.setblocking(False)
        tell(told, said(connection))
    return held


@attack("1,000 heads, a byte at a time")
def slow_heads(ports, quick, told):
    held, head = [connect(ports["http"]) for _ in range(some(1000, quick))], request("GET", "/v1/messages?topic=a")
    end, at = seconds(8, quick), 0
    while time.monotonic() < end:
        for connection in held:
            try:
                connection.send(head[at : at + 1])
            except OSError:
                tell(told, "closed")
        at += 1
        time.sleep(0.2)
    return held


@attack("SUBSCRIBE and UNSUBSCRIBE with 1,500 filters and 2,000 PUBRECs in one segment, on 20 connections, for 5 s")
def many_in_one(ports, quick, told):
    filters = [f"stranger/{number}/+" for number in range(1500)]
    pubrecs = b"".join(packet(0x50, struct.pack(">H", number)) for number in range(1, 2001))
    data = mqtt_subscribe(1, filters) + pubrecs + mqtt_unsubscribe(2, filters)
    held = [mqtt(ports["mqtt"], "")[0] for _ in range(some(20, quick))]
    flood(held, data, told, seconds(5, quick))
    return held


@attack("JSON of 100,000 levels, published and as frames, for 5 s")
def deep(ports, quick, told):
    body = b"[" * 100_000 + b"]" * 100_000
    post = request("POST", "/v1/messages?topic=stranger/deep", body)
    end = seconds(5, quick)
    one, (two, _) = connect(ports["http"]), websocket(ports["http"])
    two.settimeout(0.2)
    while time.monotonic() < end:
        one.sendall(post)
        status = answer(one)
        tell(told, status)
        if status == "closed":
            one = connect(ports["http"])
        try:
            two.sendall(frame(b'{"publish":{"id":1,"topic":"a","body":' + body + b"}}"))
            two.recv(65536)
        except TimeoutError:
            pass
        except OSError:
            tell(told, "frames: closed")
            two, _ = websocket(ports["http"])
            two.settimeout(0.2)


@attack("frames of 1 KB that inflate to 1 MB, on 20 connections, for 5 s")
def bombs(ports, quick, told):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = (packer.compress(b" " * (MIB - 100)) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]
    held = [websocket(ports["http"], "Sec-WebSocket-Extensions: permessage-deflate\r\n")[0] for _ in range(some(20, quick))]
    flood(held, frame(data, 0xC1), told, seconds(5, quick))
    return held


@attack("retained messages on ever new topics, in batches, for 5 s")
def retained(ports, quick, told):
    batches(ports["http"], told, seconds(5, quick), lambda number: {"topic": f"stranger/retained/{number}", "body": "x" * 100, "retain": True})


@attack("new lasting sessions, each with 100 filters, for 5 s")
def sessions(ports, quick, told):
    end, number = seconds(5, quick), 0
    while time.monotonic() < end:
        number += 1
        connection, reason = mqtt(ports["mqtt"], f"s{number}", clean=False, expiry=0xFFFFFFFF)
        connection.sendall(mqtt_subscribe(1, [f"stranger/{number}/{each}/#" for each in range(100)]) + packet(0xE0, b""))
        connection.close()
        tell(told, f"CONNACK {reason}")


@attack("idempotency keys, in batches, for 6 s")
def keys(ports, quick, told):
    batches(ports["http"], told, seconds(6, quick), lambda number: {"topic": "stranger/key", "body": "x", "key": f"key {number}"})


@attack("messages of 250 KB as fast as they go, on 8 connections, for 5 s")
def large(ports, quick, told):
    held = [connect(ports["http"]) for _ in range(8)]
    flood(held, request("POST", "/v1/messages?topic=stranger/large", bytes(250_000), "text/plain"), told, seconds(5, quick))
    return held


@attack("messages of 1 byte on 20 MQTT connections as fast as they go, QoS 0, for 5 s")
def small(ports, quick, told):
    held = [mqtt(ports["mqtt"], "")[0] for _ in range(20)]
    flood(held, mqtt_publish("stranger/small", b"x") * 5000, told, seconds(5, quick))
    return held


def long_log(ports, quick):
    """Fills the log."""
    batches(ports["http"], {}, time.monotonic() + 60, lambda number: {"topic": f"stranger/{number % 1000}/a", "body": "x"}, most=some(200, quick))


def many_topics(ports, quick):
    """Fills the table of topics."""
    batches(ports["http"], {}, time.monotonic() + 60, lambda number: {"topic": f"stranger/topic/{number}", "body": "x"}, most=some(100, quick))


def many_retained(ports, quick):
    """Fills the table of retained messages."""
    batches(ports["http"], {}, time.monotonic() + 60, lambda number: {"topic": f"stranger/{number}", "body": "x" * 100, "retain": True}, most=some(50, quick))


@attack("60 polls of +/nothing/# over 200,000 messages, at the same time", long_log)
def polls(ports, quick, told):
    held = [connect(ports["http"]) for _ in range(some(60, quick))]
    for connection in held:
        connection.sendall(request("GET", "/v1/messages?topic=%2B/nothing/%23&after=earliest"))
    time.sleep(2)
    for connection in held:
        connection.settimeout(0.1)
        try:
            tell(told, answer(connection))
        except TimeoutError:
            tell(told, "waits")
    return held


@attack("/v1/topics?limit=1 over 100,000 topics, on 60 connections, for 5 s", many_topics)
def topics(ports, quick, told):
    held = [connect(ports["http"]) for _ in range(some(60, quick))]
    flood(held, request("GET", "/v1/topics?limit=1&filter=nothing/%2B"), told, seconds(5, quick))
    return held


@attack("subscribing # again and again over 50,000 retained messages, on 20 connections, for 5 s", many_retained)
def greetings(ports, quick, told):
    held = [mqtt(ports["mqtt"], "")[0] for _ in range(some(20, quick))]
    flood(held, mqtt_subscribe(1, ["#"]), told, seconds(5, quick))
    return held


@attack("200 connections with 500 overlapping filters each, and a publisher for 5 s")
def overlapping(ports, quick, told):
    parts, filters = "a/b/c/d/e/f/g/h/i".split("/"), []
    for number in range(500):
        filters.append("/".join("+" if number >> place & 1 else part for place, part in enumerate(parts)))
    held = []
    for _ in range(some(200, quick)):
        connection, _ = mqtt(ports["mqtt"], "")
        connection.sendall(mqtt_subscribe(1, filters))
        held.append(connection)
    flood([connect(ports["http"])], request("POST", "/v1/messages?topic=a/b/c/d/e/f/g/h/i", b"x"), told, seconds(5, quick))
    return held


@attack("pages of 1 MB asked for without being read, on 100 connections, for 5 s", lambda ports, quick: large(ports, True, {}))
def unread(ports, quick, told):
    held = [connect(ports["http"]) for _ in range(some(100, quick))]
    flood(held, request("GET", "/v1/messages?topic=stranger/large&after=earliest"), told, seconds(5, quick))
    return held


@attack("a subscription of its own and none read, on 500 connections, while 250 KB messages come for 5 s")
def unread_streams(ports, quick, told):
    held = [connect(ports["http"]) for _ in range(some(500, quick))]
    for connection in held:
        connection.sendall(request("GET", "/v1/events?topic=stranger/large"))
    flood([connect(ports["http"])], request("POST", "/v1/messages?topic=stranger/large", bytes(250_000), "text/plain"), told, seconds(5, quick))
    return held


@attack("QoS 2 messages that are never released, on 200 connections")
def unreleased(ports, quick, told):
    held = []
    for _ in range(some(200, quick)):
        connection, reason = mqtt(ports["mqtt"], "")
        held.append(connection)
        try:
            connection.sendall(b"".join(mqtt_publish("stranger/two", b"x", 2, number) for number in range(1, 3001)))
        except OSError:
            tell(told, "closed")
        tell(told, f"CONNACK {reason}")
    return held


@attack("topic aliases of 32 topics of 1,000 bytes, on 2,000 connections")
def aliases(ports, quick, told):
    held, end = [], seconds(7, quick)
    data = b"".join(packet(0x30, text(f"stranger/{number}/".ljust(1000, "x")) + b"\x03\x23" + struct.pack(">H", number) + b"x") for number in range(1, 33))
    for _ in range(some(2000, quick)):
        if time.monotonic() > end:
            break
        connection, reason = mqtt(ports["mqtt"], "")
        held.append(connection)
        connection.sendall(data)
        tell(told, f"CONNACK {reason}")
    return held


@attack("12,000 filters on each of 100 connections")
def filters(ports, quick, told):
    held, end = [], seconds(8, quick)
    for one in range(some(100, quick)):
        if time.monotonic() > end:
            break
        connection, reason = mqtt(ports["mqtt"], "")
        held.append(connection)
        for part in range(12):
            connection.sendall(mqtt_subscribe(part + 1, [f"stranger/{one}/{part}/{number}" for number in range(1000)]))
        tell(told, f"CONNACK {reason}")
    return held


@attack("SUBSCRIBE with 1,000 filters from 1,000 connections at the same time")
def subscribers(ports, quick, told):
    data = mqtt_connect("") + mqtt_subscribe(1, [f"a/{number}" for number in range(1000)])
    held, end = [connect(ports["mqtt"]) for _ in range(some(1000, quick))], seconds(9, quick)
    for connection in held:
        connection.sendall(data)
    for connection in held:
        size = 0
        while size < 1000 and time.monotonic() < end:
            try:
                size += len(connection.recv(65536)) or 1000
            except TimeoutError:
                pass
        tell(told, "SUBACK" if size >= 1000 else "no answer")
    return held


@attack("connections that come and go, for 5 s")
def herd(ports, quick, told):
    end = seconds(5, quick)
    while time.monotonic() < end:
        try:
            connection, reason = mqtt(ports["mqtt"], "")
            tell(told, f"CONNACK {reason}")
            connection.close()
        except OSError as error:
            tell(told, type(error).__name__)
