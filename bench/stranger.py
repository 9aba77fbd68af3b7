"""What one stranger can cause: attacks by one anonymous address on a server of its own, beside a well-behaved publisher and
subscriber of another address. Python's standard library only; on loopback only; every attack is bounded in number and time.

    EVERYWIRE_BIN=target/release/everywire python3 bench/stranger.py [--quick] [--json] [--only WORD]...

It prints a table in Markdown: what the server's memory, descriptors, disk and threads came to, what the other client's
publishes and deliveries took before and meanwhile, and what the attacker was told.
"""

import argparse
import http.client
import json
import multiprocessing
import pathlib
import socket
import statistics
import sys
import tempfile
import threading
import time

from attacks import ATTACKS, ATTACKER
from server import Server

MIB = 1 << 20
BEFORE_SECONDS = 1.5
ATTACK_SECONDS = 20  # no attack takes half of it; what takes longer is ended
AFTER_SECONDS = 20
PREPARE_SECONDS = 120
SAMPLE_SECONDS = 0.05
PUBLISH_EVERY = 0.02


class Witness:
    """A publisher over HTTP and a subscriber over SSE, which measure how long a publish and its delivery take."""

    def __init__(self, port):
        self.port = port
        self.sent, self.published, self.delivered = {}, {}, {}
        self.failures = []
        self.ended = threading.Event()
        self.stream = socket.create_connection(("127.0.0.1", port))
        self.stream.sendall(b"GET /v1/events?topic=witness/a&format=body HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert self.stream.recv(65536).startswith(b"HTTP/1.1 200"), "the witness can't subscribe"
        self.threads = [threading.Thread(target=self.publish), threading.Thread(target=self.receive, daemon=True)]
        for thread in self.threads:
            thread.start()

    def publish(self):
        """Publishes a number every few milliseconds, each when the one before is answered."""
        number = 0
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=AFTER_SECONDS)
        while not self.ended.is_set():
            number += 1
            self.sent[number] = time.monotonic()
            try:
                connection.request("POST", "/v1/messages?topic=witness/a", str(number), {"Content-Type": "text/plain"})
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    self.failures.append(answer.status)
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(type(error).__name__)
                connection.close()
            self.published[number] = time.monotonic()
            self.ended.wait(max(0, self.sent[number] + PUBLISH_EVERY - time.monotonic()))
        connection.close()

    def receive(self):
        """Notes when each number comes."""
        rest = b""
        while data := self.read():
            now = time.monotonic()
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if line.startswith(b"data: "):
                    self.delivered.setdefault(int(line[6:]), now)

    def read(self):
        """What has come; nothing when the stream has ended."""
        try:
            return self.stream.recv(65536)
        except ConnectionResetError:
            return b""

    def stop(self):
        """Ends the publisher and waits for what is still to be delivered."""
        self.ended.set()
        self.threads[0].join()
        end = time.monotonic() + AFTER_SECONDS
        while len(self.delivered) + len(self.failures) < len(self.sent) and time.monotonic() < end:
            time.sleep(0.01)
        self.stream.shutdown(socket.SHUT_RDWR)
        self.threads[1].join()
        self.stream.close()

    def between(self, begin, end):
        """Milliseconds of publishes and deliveries of what was sent in this time."""
        numbers = [number for number, at in self.sent.items() if begin <= at < end]
        taken = ({number: when[number] - self.sent[number] for number in numbers if number in when} for when in (self.published, self.delivered))
        return [[seconds * 1000 for seconds in each.values()] for each in taken]

    def lost(self):
        """How many were acknowledged and never came."""
        return len(self.sent) - len(self.delivered) - len(self.failures)


def strike(attack, ports, quick, pipe):
    """The attacker's process: prepares, waits for the word, attacks, tells, and holds what it has until it is ended."""
    told = {}
    if attack.prepare:
        attack.prepare(ports, quick)
    pipe.send("ready")
    pipe.recv()
    try:
        held = attack.run(ports, quick, told)
    except OSError as error:
        held = None
        told[type(error).__name__] = told.get(type(error).__name__, 0) + 1
    pipe.send(told)
    pipe.recv()
    del held


class Peak:
    """The most that was seen of what the server uses."""

    def __init__(self, server):
        self.server = server
        self.threads = self.descriptors = self.disk = 0
        self.look(disk=True)
        self.before = {"memory": server.memory(), "descriptors": self.descriptors, "disk": self.disk, "threads": self.threads}

    def look(self, disk=False):
        """Looks once; at the disk only when told, since that takes longer."""
        self.threads = max(self.threads, self.server.threads())
        self.descriptors = max(self.descriptors, self.server.descriptors())
        if disk:
            self.disk = max(self.disk, self.server.disk())


def measure(attack, quick):
    """One attack on a fresh server: a row of the table."""
    with tempfile.TemporaryDirectory(prefix="everywire-stranger-") as folder:
        server = Server(pathlib.Path(folder))
        ours, theirs = multiprocessing.Pipe()
        attacker = multiprocessing.Process(target=strike, args=(attack, server.ports, quick, theirs), daemon=True)
        try:
            attacker.start()
            assert ours.poll(PREPARE_SECONDS), f"{attack.name}: can't be prepared"
            ours.recv()
            return watched(attack, server, attacker, ours, quick)
        finally:
            attacker.kill()
            attacker.join()
            server.stop()


def watched(attack, server, attacker, pipe, quick):
    """Lets the attacker go beside a witness and looks on."""
    witness = Witness(server.ports["http"])
    try:
        begin = time.monotonic()
        time.sleep(BEFORE_SECONDS / 5 if quick else BEFORE_SECONDS)
        peak = Peak(server)
        start = time.monotonic()
        pipe.send("go")
        looks = 0
        while not pipe.poll(SAMPLE_SECONDS) and attacker.is_alive() and time.monotonic() < start + ATTACK_SECONDS:
            looks += 1
            peak.look(disk=looks % 10 == 0)
        told = pipe.recv() if pipe.poll() else {"the attacker": "was ended"}
        peak.look(disk=True)
        end = time.monotonic()
    finally:
        witness.stop()
    alive = server.process.poll() is None
    before, during = witness.between(begin, start), witness.between(start, end)
    figures = {"attack": attack.name, "alive": alive, "seconds": round(end - start, 1), "before": peak.before}
    most = {"memory": server.memory("VmHWM") if alive else 0, "descriptors": peak.descriptors, "disk": peak.disk, "threads": peak.threads}
    times = {"publish": [spread(before[0]), spread(during[0])], "delivery": [spread(before[1]), spread(during[1])]}
    return figures | {"peak": most, "told": told, "failures": witness.failures, "lost": witness.lost()} | times


def spread(times):
    """The median and the maximum of milliseconds."""
    return [round(statistics.median(times), 1), round(max(times), 1)] if times else [None, None]


def row(figures):
    """A line of the table."""
    before, peak = figures["before"], figures["peak"]
    mib = lambda name: f"{before[name] / MIB:.0f} → {peak[name] / MIB:.0f}"
    count = lambda name: f"{before[name]} → {peak[name]}"
    times = lambda name: " → ".join(f"{median}/{most}" for median, most in figures[name])
    told = ", ".join(f"{what}: {number}" for what, number in figures["told"].items())
    other = ("" if figures["alive"] else "; **the server ended**") + (f"; other's failures: {figures['failures']}" if figures["failures"] else "") + (f"; other's lost: {figures['lost']}" if figures["lost"] else "")
    cells = [figures["attack"], f"{figures['seconds']} s", mib("memory"), count("descriptors"), mib("disk"), count("threads"), times("publish"), times("delivery"), told + other]
    return "| " + " | ".join(cells) + " |"


def main():
    """Attacks one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller numbers, for tests")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each attack in place of the table")
    parser.add_argument("--only", action="append", default=[], help="attacks whose name has this word")
    options = parser.parse_args()
    if not options.json:
        print(f"The attacker is {ATTACKER}; times in ms, median/maximum, before → meanwhile.\n")
        print("| attack | took | memory, MiB | descriptors | disk, MiB | threads | other's publish | other's delivery | the attacker was told |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for attack in ATTACKS:
        if options.only and not any(word in attack.name for word in options.only):
            continue
        figures = measure(attack, options.quick)
        print(json.dumps(figures) if options.json else row(figures), flush=True)


if __name__ == "__main__":
    sys.exit(main())
