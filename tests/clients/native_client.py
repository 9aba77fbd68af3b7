"""A client of the native protocol on TCP, after docs/protocol.md, on code that protoc makes of proto/everywire.proto."""

import importlib
import pathlib
import socket
import sys

from grpc_tools import protoc

SCHEMA = pathlib.Path(__file__).parents[2] / "proto"


def compile_schema(folder):
    """The module of the schema, made by protoc."""
    arguments = ["protoc", f"-I{SCHEMA}", f"--python_out={folder}", "everywire.proto"]
    assert protoc.main(arguments) == 0
    sys.path.insert(0, str(folder))
    return importlib.import_module("everywire_pb2")


class Client:
    """One connection."""

    def __init__(self, schema, address, tls=None):
        host, port = address.rsplit(":", 1)
        self.schema = schema
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname=host)
        self.stream = self.socket.makefile("rb")
        self.socket.sendall(b"EVERYW/1")
        self.messages = []
        self.last_id = 0

    def send(self, **frame):
        """Sends one frame, by its name."""
        body = self.schema.ClientFrame(**frame).SerializeToString()
        self.socket.sendall(varint(len(body)) + body)

    def receive(self):
        """The next frame: its name and what it holds."""
        body = self.stream.read(self.length())
        frame = self.schema.ServerFrame.FromString(body)
        name = frame.WhichOneof("frame")
        return name, getattr(frame, name)

    def length(self):
        value = shift = 0
        while True:
            byte = self.stream.read(1)
            if not byte:
                raise EOFError("the server has closed the connection")
            value |= (byte[0] & 0x7F) << shift
            if byte[0] < 0x80:
                return value
            shift += 7

    def wait(self, wanted):
        """The next frame of this name; messages that come before it are kept."""
        while True:
            name, frame = self.receive()
            if name == "ping":
                self.send(pong=self.schema.Pong())
            elif name == wanted:
                return frame
            elif name == "message":
                self.messages.append(frame)
            else:
                raise AssertionError(f"{name} instead of {wanted}: {frame}")

    def message(self):
        """The next message."""
        return self.messages.pop(0) if self.messages else self.wait("message")

    def hello(self, **fields):
        self.send(hello=self.schema.Hello(**fields))
        return self.wait("welcome")

    def subscribe(self, *topics, after=""):
        self.last_id += 1
        self.send(subscribe=self.schema.Subscribe(id=self.last_id, topics=topics, after=after))
        done = self.wait("subscribed")
        assert done.id == self.last_id
        return done

    def publish(self, topic, body, **fields):
        self.last_id += 1
        self.send(publish=self.schema.Publish(id=self.last_id, topic=topic, body=body, **fields))
        done = self.wait("published")
        assert done.id == self.last_id
        return done

    def ack(self, message):
        self.send(ack=self.schema.Ack(cursor=message.cursor))

    def ping(self):
        """Waits until the server has handled all that was sent before."""
        self.send(ping=self.schema.Ping())
        self.wait("pong")

    def cut(self):
        """Ends without a word."""
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
