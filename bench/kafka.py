"""What bridges and the engine Kafka take, on the brokers of `dev/kafka start`. Python's standard library and kcat; on loopback.

    EVERYWIRE_BIN=target/release/everywire python3 bench/kafka.py in [RECORDS]     records of Kafka's become messages
    EVERYWIRE_BIN=target/release/everywire python3 bench/kafka.py out [RECORDS]    messages become records of Kafka's
    EVERYWIRE_BIN=target/release/everywire python3 bench/kafka.py nodes [SECONDS]  three nodes on one log in Kafka
    EVERYWIRE_BIN=target/release/everywire python3 bench/kafka.py leaders [KILLS]  how long nothing is acknowledged when a leader dies

CPU is user and system time of the server's process: it says something on a busy machine too, which the wall clock doesn't.
"""

import itertools
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time

from load import BODY, latency, rate
from server import Server, until

ROOT = pathlib.Path(__file__).resolve().parent.parent
BROKERS = "127.0.0.1:19092,127.0.0.2:19092,127.0.0.3:19092"
KEEP_ALL = '[[topics]]\nmatch = "#"\nhistory = { max_messages = 100000000, max_bytes = "4GiB" }\n'
KEYS = 1000
PARTITIONS = 4


def carried(server):
    """How many messages its bridge has carried."""
    return server.metric("everywire_bridge_records_total")


def new_topic(name):
    """Makes a topic of Kafka's of a new name."""
    name = f"{name}-{os.getpid()}-{time.time_ns()}"
    tool = ["tool", "org.apache.kafka.tools.TopicCommand", "--bootstrap-server", BROKERS, "--create"]
    more = ["--topic", name, "--partitions", str(PARTITIONS), "--replication-factor", "3"]
    subprocess.run([ROOT / "dev/kafka", *tool, *more], check=True, stdout=subprocess.DEVNULL)
    return name


def line(what, count, server, begun, cpu):
    """A line of the result."""
    wall, used = time.monotonic() - begun, server.cpu() - cpu
    took = f"{count / wall:,.0f}/s by the clock, {used / count * 1e6:.1f} µs of CPU each"
    print(f"{what}: {count:,} in {wall:.1f} s: {took}, {count / used:,.0f}/s on one core", flush=True)


def bridge_in(folder, records):
    topic = new_topic("bench")
    lines = "".join(f"k{n % KEYS}:{n}{BODY}\n" for n in range(records))
    kcat = ["kcat", "-P", "-b", BROKERS, "-t", topic, "-K", ":", "-X", "acks=all", "-X", "linger.ms=20", "-z", "lz4"]
    subprocess.run(kcat, input=lines.encode(), check=True)
    config = f'[[bridge]]\nbrokers = "{BROKERS}"\nfrom = "{topic}"\ntopic = "order/{{key}}"\n'
    server = Server(folder / "in", KEEP_ALL + config)
    begun, cpu = time.monotonic(), server.cpu()
    until(lambda: carried(server) >= records)
    line("in", records, server, begun, cpu)
    server.end()


def bridge_out(folder, records):
    topic, server = new_topic("bench"), Server(folder / "out", KEEP_ALL)
    for first in range(0, records, 1000):
        messages = [{"topic": f"room/{n % KEYS}", "body": f"{n}{BODY}"} for n in range(first, min(first + 1000, records))]
        status, answer = server.ask("POST", "/v1/batch", json.dumps({"messages": messages}))
        assert status == 200, answer
    server.end()
    config = f'[[bridge]]\nbrokers = "{BROKERS}"\nfilter = "room/#"\nto = "{topic}"\nstart = "earliest"\n'
    server = Server(folder / "out", KEEP_ALL + config)
    begun, cpu = time.monotonic(), server.cpu()
    until(lambda: carried(server) >= records)
    line("out", records, server, begun, cpu)
    server.end()


def nodes(folder, seconds):
    engine = f"kafka://{BROKERS}/bench-{os.getpid()}-{time.time_ns()}"
    three = [Server(folder / name, KEEP_ALL, "--engine", engine, "--node", name) for name in "abc"]
    latency(three[0], {"B": three[1]})
    for pipelined in (32, 256):
        rate(three, pipelined, seconds)
    for server in three:
        server.end()


def leaders(folder, kills):
    prefix = f"bench-{os.getpid()}-{time.time_ns()}"
    engine = f"kafka://{BROKERS}/{prefix}"
    server = Server(folder / "a", KEEP_ALL, "--engine", engine, "--node", "a")
    answered, is_over = [time.monotonic()], threading.Event()

    def publish(name):
        for n in itertools.count():
            while not is_over.is_set():
                try:
                    headers = {"Idempotency-Key": f"{name}.{n}"}
                    if server.ask("POST", f"/v1/messages?topic=t/{name}", "x", headers)[0] == 200:
                        break
                except OSError:
                    pass
                time.sleep(0.02)
            if is_over.is_set():
                return
            answered.append(time.monotonic())

    for name in range(8):
        threading.Thread(target=publish, args=(name,), daemon=True).start()
    for _ in range(kills):
        time.sleep(3)
        told = subprocess.run(["kcat", "-b", BROKERS, "-L", "-t", f"{prefix}.log"], check=True, capture_output=True).stdout
        leader = re.search(rb"leader (\d+)", told)[1].decode()
        before = len(answered)
        subprocess.run([ROOT / "dev/kafka", "kill", leader], check=True)
        until(lambda: len(answered) > before + 200)
        moments = answered[before - 1 :]
        gap = max(after - moment for moment, after in zip(moments, moments[1:]))
        print(f"broker {leader}, the leader, is killed: nothing is acknowledged for {gap:.1f} s", flush=True)
        subprocess.run([ROOT / "dev/kafka", "start", leader], check=True, stdout=subprocess.DEVNULL)
    is_over.set()
    server.end()


def main():
    what, number = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None
    with tempfile.TemporaryDirectory(prefix="everywire-bench-") as folder:
        folder = pathlib.Path(folder)
        if what == "in":
            bridge_in(folder, number or 1_000_000)
        elif what == "out":
            bridge_out(folder, number or 1_000_000)
        elif what == "leaders":
            leaders(folder, number or 5)
        else:
            nodes(folder, number or 10)


if __name__ == "__main__":
    main()
