"""Clients take one session from each other while messages come: the session is there every time, and no message is lost.

`EVERYWIRE_TAKEOVERS=5000` makes it long.
"""

import asyncio
import json
import os
import struct

import httpx
import pytest
import websockets
from native_client import varint

RIVALS = 8
TAKEOVERS = int(os.environ.get("EVERYWIRE_TAKEOVERS", "120"))
SECONDS = 60
# Less than a topic's history: what a session is farther behind with is lost by rule, and not by a take-over.
AHEAD = 5000


@pytest.fixture
def settings():
    # A claim on one worker, the session's owner on the other.
    return {"EVERYWIRE_WORKERS": "2"}


class Gone(Exception):
    """The connection has ended."""


class Mqtt:
    """MQTT 5.0 at QoS 1, with as little as is needed."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def come(cls, node, session):
        """A connection, and whether the server has the session."""
        host, port = node["mqtt"].rsplit(":", 1)
        client = cls(*await asyncio.open_connection(host, int(port)))
        expiry = b"\x05\x11" + struct.pack(">I", 300)
        name = session.encode()
        client.send(0x10, b"\x00\x04MQTT\x05\x00\x00\x00" + expiry + struct.pack(">H", len(name)) + name)
        kind, body = await client.packet()
        if (kind, body[1]) != (0x20, 0):
            # Another has taken the session over meanwhile.
            await client.leave()
            raise Gone
        return client, body[0] == 1

    async def subscribe(self, topic):
        name = topic.encode()
        self.send(0x82, b"\x00\x01\x00" + struct.pack(">H", len(name)) + name + b"\x01")
        kind, body = await self.packet()
        assert kind == 0x90 and body[-1] == 1, (hex(kind), body)

    async def next(self):
        """The next message, acknowledged."""
        while True:
            kind, body = await self.packet()
            if kind >> 4 == 14:
                raise Gone
            assert kind >> 4 == 3, hex(kind)
            end = 2 + struct.unpack(">H", body[:2])[0]
            self.send(0x40, body[end : end + 2])
            assert body[end + 2] < 128, "properties are short here"
            return body[end + 3 + body[end + 2] :]

    def send(self, kind, body):
        self.writer.write(bytes([kind]) + varint(len(body)) + body)

    async def packet(self):
        try:
            kind, length, shift = (await self.reader.readexactly(1))[0], 0, 0
            while True:
                byte = (await self.reader.readexactly(1))[0]
                length |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    return kind, await self.reader.readexactly(length)
        except (asyncio.IncompleteReadError, OSError) as ended:
            raise Gone from ended

    async def leave(self):
        self.writer.close()


class WebSocket:
    """The native protocol in JSON."""

    def __init__(self, socket):
        self.socket = socket

    @classmethod
    async def come(cls, node, session):
        client = cls(await websockets.connect(f"ws://{node['http']}/v1/ws", ping_interval=None, close_timeout=1))
        await client.send(hello={"session": session, "expiry": 300})
        answer = await client.frame()
        if "welcome" not in answer:
            await client.leave()
            raise Gone
        welcome = answer["welcome"]
        client.session = welcome["session"]
        return client, welcome["resumed"]

    async def subscribe(self, topic):
        await self.send(subscribe={"id": 1, "topics": [topic]})
        assert "subscribed" in await self.frame()

    async def next(self):
        while True:
            frame = await self.frame()
            if "close" in frame:
                raise Gone
            if "ping" in frame:
                await self.send(pong={})
            else:
                assert "message" in frame, frame
                await self.send(ack={"cursor": frame["message"]["cursor"]})
                return frame["message"]["body"].encode()

    async def send(self, **frame):
        try:
            await self.socket.send(json.dumps(frame))
        except websockets.ConnectionClosed as ended:
            raise Gone from ended

    async def frame(self):
        try:
            return json.loads(await self.socket.recv())
        except websockets.ConnectionClosed as ended:
            raise Gone from ended

    async def leave(self):
        await self.socket.close()


class Tcp:
    """The native protocol in protobuf."""

    schema = None

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def come(cls, node, session):
        host, port = node["tcp"].rsplit(":", 1)
        client = cls(*await asyncio.open_connection(host, int(port)))
        client.writer.write(b"EVERYW/1")
        client.send(hello=cls.schema.Hello(session=session, expiry=300))
        name, welcome = await client.frame()
        if name != "welcome":
            await client.leave()
            raise Gone
        client.session = welcome.session
        return client, welcome.resumed

    async def subscribe(self, topic):
        self.send(subscribe=self.schema.Subscribe(id=1, topics=[topic]))
        assert (await self.frame())[0] == "subscribed"

    async def next(self):
        while True:
            name, frame = await self.frame()
            if name == "close":
                raise Gone
            if name == "ping":
                self.send(pong=self.schema.Pong())
            else:
                assert name == "message", name
                self.send(ack=self.schema.Ack(cursor=frame.cursor))
                return frame.body

    def send(self, **frame):
        body = self.schema.ClientFrame(**frame).SerializeToString()
        self.writer.write(varint(len(body)) + body)

    async def frame(self):
        try:
            length, shift = 0, 0
            while True:
                byte = (await self.reader.readexactly(1))[0]
                length |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    break
            frame = self.schema.ServerFrame.FromString(await self.reader.readexactly(length))
            return frame.WhichOneof("frame"), getattr(frame, frame.WhichOneof("frame"))
        except (asyncio.IncompleteReadError, OSError) as ended:
            raise Gone from ended

    async def leave(self):
        self.writer.close()


class Fight:
    """Rivals that take one session from each other until it was taken so often."""

    def __init__(self, wire, node):
        self.wire, self.node = wire, node
        self.got, self.taken, self.missing, self.sent, self.is_over = set(), 0, 0, 0, False

    async def run(self):
        first, resumed = await self.wire.come(self.node, "new" if self.wire is not Mqtt else "fought for")
        assert not resumed
        await first.subscribe("fight")
        self.session = getattr(first, "session", "fought for")
        publisher = asyncio.create_task(self.publish())
        await asyncio.gather(*(self.rival() for _ in range(RIVALS)))
        self.is_over = True
        await publisher
        await self.take_the_rest()
        await first.leave()

    async def rival(self):
        while self.taken < TAKEOVERS:
            client, resumed = await self.come()
            if client is None:
                continue
            self.taken += 1
            self.missing += not resumed
            try:
                # Messages go on coming, so that the last one sees that it is over.
                while self.taken < TAKEOVERS:
                    self.got.add(int(await client.next()))
            except Gone:
                pass
            await client.leave()

    async def come(self):
        """A connection with the session; none if another was quicker."""
        try:
            return await self.wire.come(self.node, self.session)
        except Gone:
            return None, False

    async def publish(self):
        async with httpx.AsyncClient(timeout=SECONDS) as http:
            while not self.is_over:
                if self.sent - len(self.got) >= AHEAD:
                    await asyncio.sleep(0.01)  # the rivals go on meanwhile
                    continue
                answer = await http.post(f"http://{self.node['http']}/v1/messages?topic=fight", content=str(self.sent))
                answer.raise_for_status()
                self.sent += 1

    async def take_the_rest(self):
        client, resumed = await self.wire.come(self.node, self.session)
        self.missing += not resumed
        try:
            while len(self.got) < self.sent:
                self.got.add(int(await asyncio.wait_for(client.next(), SECONDS)))
        except asyncio.TimeoutError:
            print(f"{self.sent - len(self.got)} of {self.sent} messages don't come")
        await client.leave()


@pytest.mark.parametrize("wire", [Mqtt, WebSocket, Tcp], ids=["mqtt", "ws", "tcp"])
def test_a_session_that_is_fought_for_loses_nothing(node, schema, wire):
    Tcp.schema = schema
    fight = Fight(wire, node)
    asyncio.run(fight.run())
    assert fight.missing == 0, f"{fight.missing} of {fight.taken} take-overs found no session"
    assert sorted(set(range(fight.sent)) - fight.got) == [], "no message is lost"
