"""What several nodes on one Redis take, and nginx with nchan on a Redis beside them. Python's standard library and Debian's
redis-server; on loopback.

    EVERYWIRE_BIN=target/release/everywire python3 bench/redis.py nodes [SECONDS]    three nodes: latency, acknowledged/s, idle
    EVERYWIRE_BIN=target/release/everywire python3 bench/redis.py fanout [MESSAGES]  one message to many readers at another node
    EVERYWIRE_BIN=target/release/everywire python3 bench/redis.py failovers [KILLS [MS]]  what is lost when masters of Redis
        are killed, each after MS milliseconds in which its replicas got nothing (0)
    EVERYWIRE_BIN=target/release/everywire python3 bench/redis.py join [SESSIONS]    a node with an empty disk joins so many sessions

`fanout` and `failovers` measure both, one after the other, if nchan is there: `apt-get install libnginx-mod-nchan` (Debian), or
`NCHAN_MODULE=…/ngx_nchan_module.so` of an unpacked package, for the nginx that is installed. Both have one worker, and Redis
without a file.

CPU is user and system time of the processes: it says something on a busy machine too, which the wall clock doesn't.
"""

import http.client
import pathlib
import re
import socket
import sys
import tempfile
import threading
import time

from load import BODY, Listener, latency, percentiles, rate
from server import Server, until
from services import KEEP_ALL, NCHAN, Everywire, Nchan, Redis, Replicated
from sessions import make, resumed

EVENTS = {"Accept": "text/event-stream"}
READERS = 200
PUBLISH_EVERY = 0.005
SETTLE_SECONDS = 30
AGAIN_SECONDS = 90
TRIM_SECONDS = 300
JOIN_SECONDS = 120
MIB = 1 << 20
MADE_AT_ONCE = 50_000
CHECKED = 50
# The log of more sessions is longer than the window that Redis keeps by default.
WHOLE_LOG = 250_000


def both():
    """What is measured: Everywire, and nchan if it is there."""
    if not NCHAN.exists():
        print(f"nchan isn't measured: {NCHAN} isn't there (apt-get install libnginx-mod-nchan)", flush=True)
    return [Everywire, Nchan] if NCHAN.exists() else [Everywire]


def nodes(folder, seconds):
    for setup, arguments in [("appendfsync always", ["--appendonly", "yes", "--appendfsync", "always"]), ("without a file", [])]:
        print(f"Redis, {setup}:", flush=True)
        place = folder / setup.replace(" ", "-")
        place.mkdir()
        redis = Redis(place / "redis", *arguments)
        url = f"redis://127.0.0.1:{redis.port}"
        three = [Server(place / name, KEEP_ALL, "--engine", url, "--node", name) for name in "abc"]
        time.sleep(1)
        before, of_redis, begun = [server.cpu() for server in three], redis.cpu(), time.monotonic()
        time.sleep(seconds)
        passed = time.monotonic() - begun
        idle = sum(server.cpu() - cpu for server, cpu in zip(three, before)) / len(three) / passed
        print(f"idle: {idle * 1e3:.2f} ms of CPU a second and node, {(redis.cpu() - of_redis) / passed * 1e3:.2f} ms in Redis", flush=True)
        latency(three[0], {"B": three[1], "C": three[2]})
        for pipelined in (32, 256):
            rate(three, pipelined, seconds)
        for server in three:
            server.stop()
        redis.kill()


def fanout(folder, messages):
    for what in both():
        redis = Redis(folder / what.__name__)
        service = what(folder / f"{what.__name__}-nodes", redis)
        here, there = service.nodes
        publisher = http.client.HTTPConnection("127.0.0.1", here.port)
        assert service.publish(publisher, "many", "first")
        crowd = [socket.create_connection(("127.0.0.1", there.port)) for _ in range(READERS)]
        for connection in crowd:
            connection.sendall(f"GET {service.listen('many')} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode())
        for connection in crowd:
            while b"first" not in connection.recv(65536):
                pass
        cpu = [sum(node.cpu() for node in service.nodes), redis.cpu()]
        ends = [threading.Thread(target=drain, args=(connection, b"last;")) for connection in crowd]
        for thread in ends:
            thread.start()
        took = []
        for n in range(messages):
            begun = time.monotonic()
            assert service.publish(publisher, "many", f"number {n};{BODY}")
            took.append(time.monotonic() - begun)
        assert service.publish(publisher, "many", "last;")
        for thread in ends:
            thread.join()
        delivered = messages * READERS
        used = (sum(node.cpu() for node in service.nodes) - cpu[0]) / delivered
        of_redis = (redis.cpu() - cpu[1]) / messages
        print(f"{service.name}, {messages:,} messages to {READERS} readers at the other node:", flush=True)
        print(f"{used * 1e6:.2f} µs of CPU for each delivery in both nodes, {of_redis * 1e6:.1f} µs for each message in Redis", flush=True)
        percentiles("published at A, answered at A", took)
        listener = Listener(there.port, service.listen("latency"), EVENTS)
        sent = []
        for n in range(500):
            sent.append(time.monotonic())
            assert service.publish(publisher, "latency", f"number {n};")
            time.sleep(0.01)
        until(lambda all=listener.came: len(all) >= len(sent))
        percentiles("published at A, delivered at B, one at a time", [listener.came[n] - at for n, at in enumerate(sent)])
        service.end()
        redis.kill()


def drain(connection, mark):
    """Reads until the mark has come."""
    rest = b""
    while mark not in rest:
        rest = rest[-len(mark) :] + connection.recv(1 << 18)


class Reader:
    """A reader that comes back with the last event's id whenever its stream ends."""

    def __init__(self, port, path):
        self.port, self.path, self.last, self.numbers, self.cuts = port, path, None, [], 0
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
                headers = EVENTS | ({"Last-Event-ID": self.last} if self.last else {})
                connection.request("GET", self.path, headers=headers)
                for line in connection.getresponse():
                    if line.startswith(b"id:"):
                        self.last = line[3:].strip().decode()
                    self.numbers += [int(number) for number in re.findall(rb"number (\d+);", line)]
            except (OSError, http.client.HTTPException):
                pass
            self.cuts += 1
            time.sleep(0.1)


class Publisher:
    """Publishes numbers one after the other, each until it is acknowledged."""

    def __init__(self, service):
        self.service, self.acknowledged, self.is_over = service, [], threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        connection, n = http.client.HTTPConnection("127.0.0.1", self.service.nodes[0].port, timeout=15), 0
        while not self.is_over.is_set():
            try:
                if self.service.publish(connection, "t", f"number {n};"):
                    self.acknowledged.append((n, time.monotonic()))
                    n += 1
            except (OSError, http.client.HTTPException):
                connection.close()
            time.sleep(PUBLISH_EVERY)

    def end(self):
        self.is_over.set()
        self.thread.join()

    def waits(self, more, what):
        """Waits until so many more are acknowledged."""
        before = len(self.acknowledged)
        until(lambda: len(self.acknowledged) > before + more, AGAIN_SECONDS, what)


SETTINGS = [(Everywire, ""), (Everywire, "?wait=1&too_few=hold"), (Nchan, "")]


def failovers(folder, kills, alone_ms=0):
    there = both()
    for number, (what, options) in enumerate(SETTINGS):
        if what in there:
            place = folder / f"{number}"
            place.mkdir()
            try:
                fail_over_often(place, what, options, kills, alone_ms / 1000)
            except AssertionError as error:
                print(f"{what.name} {options}: the measurement ends: {error}", flush=True)


def fail_over_often(folder, what, options, kills, alone):
    redis = Replicated(folder / "redis")
    service = what(folder / "nodes", redis, options)
    name = f"{service.name} {options or 'as it comes'}"
    publisher = Publisher(service)
    publisher.waits(10, "the first acknowledged messages")
    reader = Reader(service.nodes[1].port, service.listen("t"))
    done = 0
    try:
        for kill in range(kills):
            publisher.waits(100, f"acknowledged messages before kill {kill + 1}")
            begun, took = time.monotonic(), redis.fail_over(alone)
            publisher.waits(50, f"acknowledged messages after kill {kill + 1}")
            print(f"{name}, kill {kill + 1}: another master after {took:.1f} s, all went on after {time.monotonic() - begun:.1f} s", flush=True)
            done += 1
    finally:
        publisher.end()
        wanted = {n for n, _ in publisher.acknowledged}
        end = time.monotonic() + SETTLE_SECONDS
        while not wanted <= set(reader.numbers) and time.monotonic() < end:
            time.sleep(0.1)
        tell_losses(f"{name}, {done} masters of Redis killed", service, publisher, reader)
        service.end()
        redis.end()


def tell_losses(name, service, publisher, reader):
    times = [at for _, at in publisher.acknowledged]
    wanted, got = len(times), set(reader.numbers)
    lost = sum(n not in got for n, _ in publisher.acknowledged)
    print(
        f"{name} under a publisher of {wanted:,} messages: {lost} acknowledged messages lost for a reader at the other node, "
        f"{len(reader.numbers) - len(got)} doubled, {reader.cuts} cuts of its stream, {service.lives - 2} further lives of nodes, "
        f"nothing acknowledged for {max(after - at for at, after in zip(times, times[1:])):.1f} s at most",
        flush=True,
    )


def join(folder, sessions):
    redis = Redis(folder / "redis")
    url = f"redis://127.0.0.1:{redis.port}"
    config = KEEP_ALL + '[limits]\nsession_bytes_each = "16GiB"\n'
    first = Server(folder / "a", config, "--engine", url + "?window=all", "--node", "a")
    begun, told = time.monotonic(), 0
    for from_ in range(0, sessions, MADE_AT_ONCE):
        told += make(first.ports["mqtt"], range(from_, min(from_ + MADE_AT_ONCE, sessions)))
    took, log = time.monotonic() - begun, int(redis.ask("MEMORY", "USAGE", "{everywire}s", "SAMPLES", "1000"))
    print(f"{sessions:,} sessions made in {took:.0f} s ({told} times a client had to come later), the log takes {log / MIB:.0f} MiB of Redis", flush=True)
    if sessions <= WHOLE_LOG:
        joined(folder / "replay", config, url + "?window=all", sessions, first, "by the whole log")
    first.end()
    # Its next life keeps little of the log: it takes two snapshots, and has Redis let go of what is below them.
    begun = time.monotonic()
    first = Server(folder / "a", config, "--engine", url + "?window=64KiB", "--node", "a")
    print(f"node A started again in {time.monotonic() - begun:.1f} s", flush=True)
    begun = time.monotonic()

    def is_trimmed():
        assert first.ask("POST", "/v1/messages?topic=filler", BODY * 100)[0] == 200
        return first.metric("everywire_engine_trims_total") > 0

    until(is_trimmed, TRIM_SECONDS, "two snapshots and a trim")
    took, log = time.monotonic() - begun, int(redis.ask("MEMORY", "USAGE", "{everywire}s", "SAMPLES", "1000"))
    size = first.metric("everywire_snapshot_bytes") / MIB
    print(f"snapshots of {size:.1f} MiB; after {took:.1f} s the log takes {log / MIB:.1f} MiB", flush=True)
    print(f"peak of A's memory with that {first.memory('VmHWM') / MIB:.0f} MiB", flush=True)
    joined(folder / "snapshot", config, url + "?window=64KiB", sessions, first, "by a snapshot")
    first.stop()
    redis.kill()


def joined(folder, config, url, sessions, other, how):
    """A node with an empty disk joins; some of the sessions go on at it."""
    begun = time.monotonic()
    node = Server(folder, config, "--engine", url, "--node", folder.name)
    until(lambda: node.ask("GET", "/readyz")[0] == 200, JOIN_SECONDS, "a node that is ready")
    took, cpu, peak = time.monotonic() - begun, node.cpu(), node.memory("VmHWM") / MIB
    print(f"a node joins {how}: ready after {took:.1f} s, {cpu:.1f} s of CPU, peak of memory {peak:.0f} MiB", flush=True)
    print(f"it read {node.metric('everywire_replayed_records'):,.0f} records of the log", flush=True)
    for number in range(0, sessions, max(sessions // CHECKED, 1)):
        assert other.ask("POST", f"/v1/messages?topic=device/{number}/orders", f"{how}: {number};")[0] == 200
        was_there, packet = resumed(node.ports["mqtt"], number)
        assert was_there and f"{number};".encode() in packet, (number, was_there, packet)
    node.stop()


def main():
    what, numbers = sys.argv[1], [int(number) for number in sys.argv[2:]]
    measures = {"nodes": (nodes, 10), "fanout": (fanout, 5000), "failovers": (failovers, 20), "join": (join, 100_000)}
    measure, usual = measures[what]
    with tempfile.TemporaryDirectory(prefix="everywire-bench-") as folder:
        measure(pathlib.Path(folder), *(numbers or [usual]))


if __name__ == "__main__":
    main()
