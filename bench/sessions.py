"""Lasting sessions of MQTT for measurements: each has one subscription, and its client is gone. Python's standard library only."""

import contextlib
import selectors
import socket
import struct
import time

UNDER_WAY = 512
PATIENCE_SECONDS = 30
# So many connections come from one address of loopback: a closed one holds its port for a minute.
PORTS = 20_000
CONNACK, SUBACK, DISCONNECT, UNAVAILABLE = 0x20, 0x90, b"\xe0\0", b"\3"


def text(value):
    return struct.pack(">H", len(value)) + value.encode()


def connect(number):
    """A CONNECT of MQTT 3.1.1 that makes or resumes a session."""
    body = text("MQTT") + b"\4\0" + struct.pack(">H", 0) + text(f"device-{number}")
    return bytes([0x10, len(body)]) + body


def subscribe(number):
    """A SUBSCRIBE at QoS 1."""
    body = struct.pack(">H", 1) + text(f"device/{number}/orders") + b"\1"
    return bytes([0x82, len(body)]) + body


def beginning(number, port):
    """A connection that is being made, from an address of its many."""
    client = socket.socket()
    client.setblocking(False)
    client.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
    client.bind((f"127.{1 + number // PORTS // 250}.{number // PORTS % 250}.1", 0))
    with contextlib.suppress(BlockingIOError):
        client.connect(("127.0.0.1", port))
    return client


def make(port, numbers):
    """Makes a session for each number; returns how often a client was told to come later, or got no answer."""
    selector, rest, later, waiting, told = selectors.EpollSelector(), iter(numbers), [], 0, 0

    def begin():
        number = later.pop() if later else next(rest, None)
        if number is None:
            return 0
        selector.register(beginning(number, port), selectors.EVENT_WRITE, number)
        return 1

    for _ in range(UNDER_WAY):
        waiting += begin()
    while waiting:
        ready = selector.select(PATIENCE_SECONDS)
        assert ready, f"{waiting} clients wait for their answers in vain"
        for key, events in ready:
            if events & selectors.EVENT_WRITE:
                key.fileobj.send(connect(key.data) + subscribe(key.data))
                selector.modify(key.fileobj, selectors.EVENT_READ, (key.data, b""))
                continue
            number, came = key.data
            came += key.fileobj.recv(64)
            if not came or came[3:4] == UNAVAILABLE:
                told += 1
                assert told < UNDER_WAY * 10, "the server takes no sessions"
                selector.unregister(key.fileobj)
                key.fileobj.close()
                later.append(number)
                time.sleep(0.05)
                waiting += begin() - 1
                continue
            assert came and came[0] == CONNACK and (len(came) < 4 or came[3] == 0), (number, came)
            if len(came) < 9:  # CONNACK and SUBACK
                selector.modify(key.fileobj, selectors.EVENT_READ, (number, came))
                continue
            assert came[4] == SUBACK and came[8] < 3, (number, came)
            selector.unregister(key.fileobj)
            key.fileobj.send(DISCONNECT)
            key.fileobj.close()
            waiting += begin() - 1
    return told


def resumed(port, number):
    """What comes first to a client that resumes its session: whether the session was there, and the packet after that."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as client:
        client.sendall(connect(number))
        came, end = b"", time.monotonic() + PATIENCE_SECONDS
        while len(came) < 6 or len(came) < 6 + came[5]:
            assert time.monotonic() < end, "nothing comes after CONNACK"
            more = client.recv(4096)
            assert more, came
            came += more
        client.sendall(DISCONNECT)
        return came[2] == 1, came[4:]
