"""What rooms cost: the list of a thousand conversations, one message to ten thousand members of whom nobody is there, the
memory of members who are there and say nothing, and the processor for a room that a thousand have entered, beside a plain
topic with as many subscribers. Python's standard library only; on loopback only.

    EVERYWIRE_BIN=target/release/everywire python3 bench/rooms.py [--members 10000] [--conversations 1000] [--messages 4000]
        [--idle 4000] [--occupants 1000]

It prints a table in Markdown.
"""

import argparse
import base64
import hashlib
import hmac
import http.client
import json
import pathlib
import selectors
import socket
import statistics
import struct
import tempfile
import threading
import time

from server import Server

SECRET = "a secret of at least thirty-two bytes"
USERS = f'[auth]\nsecret = "{SECRET}"\n'
LISTS = 50
CLIENTS = 16
# Messages into a room that many have entered.
ROUNDS = 200


def token(user):
    """A token of this user."""

    def part(value):
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    claims = {"sub": user, "exp": int(time.time()) + 3600}
    signed = b".".join(part(json.dumps(value).encode()) for value in ({"alg": "HS256", "typ": "JWT"}, claims))
    return (signed + b"." + part(hmac.digest(SECRET.encode(), signed, hashlib.sha256))).decode()


class Client:
    """One connection of a user."""

    def __init__(self, server, user):
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        self.headers = {"Authorization": f"Bearer {token(user)}"} if user else {}

    def ask(self, method, target, body=None, raw=False):
        """Asks, and gives the answer."""
        kind = "text/plain" if isinstance(body, str) else "application/json"
        data = body if isinstance(body, str) or body is None else json.dumps(body)
        headers = self.headers | ({"Content-Type": kind} if data is not None else {})
        self.connection.request(method, target, data, headers)
        answer = self.connection.getresponse()
        text = answer.read()
        assert answer.status < 300, (method, target, answer.status, text)
        return text if raw else json.loads(text or b"null")


def each(server, user, things, do):
    """Does something for each thing, over several connections."""
    shares = [things[n::CLIENTS] for n in range(CLIENTS)]

    def work(share):
        client = Client(server, user)
        for thing in share:
            do(client, thing)

    threads = [threading.Thread(target=work, args=(share,)) for share in shares]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def listing(server, count):
    """The milliseconds of a list of so many conversations: median and the slowest."""
    rooms = [f"c{n}" for n in range(count)]

    def make(client, room):
        client.ask("PUT", f"/v1/rooms/{room}", {})
        client.ask("PUT", f"/v1/rooms/{room}/members/bob", {"role": "member"})
        client.ask("POST", f"/v1/messages?topic=room/{room}&event=chat", "hi @bob")

    each(server, "ann", rooms, make)
    client, times = Client(server, "bob"), []
    for _ in range(LISTS):
        begin = time.perf_counter()
        page = client.ask("GET", "/v1/conversations?limit=1000", raw=True)
        times.append((time.perf_counter() - begin) * 1000)
    assert len(json.loads(page)["conversations"]) == min(count, 1000)
    return statistics.median(times), max(times)


def publishing(server, members, messages):
    """The processor's microseconds of a publish into a room with so many members, and the log's records of each."""
    room = f"m{members}"
    Client(server, "owner").ask("PUT", f"/v1/rooms/{room}", {})
    users = [f"u{n}" for n in range(members)]
    role = {"role": "member"}
    each(server, "owner", users, lambda client, user: client.ask("PUT", f"/v1/rooms/{room}/members/{user}", role))
    writer = Client(server, "owner")

    def publish(count):
        for _ in range(count):
            answer = writer.ask("POST", f"/v1/messages?topic=room/{room}&event=chat", "hello")
        return int(answer["cursor"].rsplit(":", 1)[1])

    first = publish(messages // 10)
    before = server.metric("process_cpu_seconds_total")
    last = publish(messages)
    spent = server.metric("process_cpu_seconds_total") - before
    return spent / messages * 1e6, (last - first) / messages


class Socket:
    """A WebSocket of a user, which reads JSON frames."""

    def __init__(self, server, user):
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        self.buffer = b""
        key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        self.socket.sendall(
            f"GET /v1/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{key}\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self.buffer:
            self.buffer += self.socket.recv(4096)
        self.buffer = self.buffer.split(b"\r\n\r\n", 1)[1]
        self.say({"hello": {"token": token(user)}}, "welcome")

    def say(self, frame, answer):
        """Sends a frame, and waits for a frame of this name."""
        data = json.dumps(frame).encode()
        length = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + struct.pack(">H", len(data))
        self.socket.sendall(b"\x81" + length + b"\0\0\0\0" + data)
        while answer not in self.frame():
            pass

    def frame(self):
        """The next frame."""
        while True:
            if len(self.buffer) >= 2:
                length, at = self.buffer[1], 2
                if length == 126 and len(self.buffer) >= 4:
                    length, at = struct.unpack(">H", self.buffer[2:4])[0], 4
                if length != 126 and len(self.buffer) >= at + length:
                    frame, self.buffer = self.buffer[at : at + length], self.buffer[at + length :]
                    return json.loads(frame)
            more = self.socket.recv(65536)
            assert more, "the server has ended the connection"
            self.buffer += more

    def end(self):
        """Ends it."""
        self.socket.close()


def join_all(server, room, users):
    """Makes these users members of a room of the owner's."""
    Client(server, "owner").ask("PUT", f"/v1/rooms/{room}", {})
    role = {"role": "member"}
    each(server, "owner", users, lambda client, user: client.ask("PUT", f"/v1/rooms/{room}/members/{user}", role))


def idle(server, count):
    """The bytes of memory for each member who is there, follows all conversations and says nothing."""
    users = [f"i{n}" for n in range(count)]
    join_all(server, "idle", users)
    # The first connections take what a server takes once.
    first = [follower(server, user) for user in users[: count // 10]]
    before = server.memory()
    rest = [follower(server, user) for user in users[count // 10 :]]
    time.sleep(2)
    spent = server.memory() - before
    for one in first + rest:
        one.end()
    return spent / len(rest)


def follower(server, user):
    """A connection that follows all conversations of its user."""
    one = Socket(server, user)
    one.say({"subscribe": {"id": 1, "topics": ["$conversations"]}}, "subscribed")
    return one


def occupied(server, count, is_room):
    """The processor's microseconds of a message to so many readers, at 20 a second: occupants of a room, or subscribers of
    a plain topic."""
    users, topic = [f"o{n}" for n in range(count)], "room/full" if is_room else "plain/full"
    if is_room:
        join_all(server, "full", users)
    readers = []
    for user in users:
        one = Socket(server, user)
        one.say({"subscribe": {"id": 1, "topics": [topic]}}, "subscribed")
        if is_room:
            one.say({"enter": {"id": 2, "room": "full"}}, "entered")
        readers.append(one)
    writer, selector, got = Client(server, "owner"), selectors.DefaultSelector(), 0
    time.sleep(3)
    for one in readers:
        one.socket.setblocking(False)
        selector.register(one.socket, selectors.EVENT_READ)

    def drain(until):
        nonlocal got
        while (left := until - time.perf_counter()) > 0:
            for key, _ in selector.select(left):
                got += key.fileobj.recv(1 << 20).count(b"\"body\":\"measured\"")

    drain(time.perf_counter() + 1)
    before, begin = server.metric("process_cpu_seconds_total"), time.perf_counter()
    for n in range(ROUNDS):
        writer.ask("POST", f"/v1/messages?topic={topic}&event=chat", "measured")
        drain(begin + (n + 1) / 20)
    drain(time.perf_counter() + 2)
    spent = server.metric("process_cpu_seconds_total") - before
    assert got == ROUNDS * count, (got, ROUNDS * count)
    for one in readers:
        one.end()
    return spent / ROUNDS * 1e6


def main():
    """Measures all of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("members", 10_000), ("conversations", 1000), ("messages", 4000), ("idle", 4000), ("occupants", 1000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(pathlib.Path(folder), USERS)
        try:
            print("| | |\n| --- | --- |")
            for members in (10, options.members):
                cpu, records = publishing(server, members, options.messages)
                print(f"| a message to {members:,} members, nobody there: CPU, records | {cpu:.0f} µs, {records:.2f} |")
            print(f"| a member who is there and says nothing: memory | {idle(server, options.idle):.0f} B |")
            floor, room = (occupied(server, options.occupants, is_room) for is_room in (False, True))
            what = f"{options.occupants:,} subscribers of a plain topic, as many occupants of a room"
            print(f"| a message to {what}: CPU | {floor:.0f} µs, {room:.0f} µs ({room / floor:.2f} times) |")
            middle, slowest = listing(server, options.conversations)
            print(f"| {options.conversations:,} conversations listed: median, slowest of {LISTS} | {middle:.1f} ms, {slowest:.1f} ms |")
        finally:
            server.end()


if __name__ == "__main__":
    main()
