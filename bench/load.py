"""Load for several nodes of one service, as `kafka.py` and `redis.py` share it."""

import http.client
import re
import selectors
import socket
import threading
import time

from server import until

BODY = "x" * 90  # with a number about 100 bytes
ONE_BY_ONE = 500
PAUSE_SECONDS = 0.01


def percentiles(what, seconds):
    """Prints the median and the 99th percentile of some times."""
    took = sorted(second * 1000 for second in seconds)
    print(f"{what}: p50 {took[len(took) // 2]:.2f} ms, p99 {took[len(took) * 99 // 100]:.2f} ms", flush=True)


class Listener:
    """A stream of messages `number N;`, with the time at which each came first."""

    def __init__(self, port, path, headers=None):
        self.came = {}
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", path, headers=headers or {})
        self.stream = connection.getresponse()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for text in self.stream:
            for number in re.findall(rb"number (\d+);", text):
                self.came.setdefault(int(number), time.monotonic())


def latency(here, others, publish="/v1/messages?topic=latency", listen="/v1/stream?topic=latency", count=ONE_BY_ONE):
    """From the publish at one node to the event at each of the others, by their names, one message at a time."""
    listeners = {name: Listener(other.port, listen) for name, other in others.items()}
    publisher, sent, answered = http.client.HTTPConnection("127.0.0.1", here.port), [], []
    for n in range(count):
        sent.append(time.monotonic())
        publisher.request("POST", publish, f"number {n};")
        answer = publisher.getresponse()
        assert answer.read() is not None and answer.status < 300, answer.status
        answered.append(time.monotonic() - sent[-1])
        time.sleep(PAUSE_SECONDS)
    percentiles("published at A, answered at A", answered)
    for name, listener in listeners.items():
        until(lambda all=listener.came: len(all) >= count)
        percentiles(f"published at A, delivered at {name}", [listener.came[n] - sent[n] for n in range(count)])


def rate(servers, pipelined, seconds):
    """Acknowledged publishes of eight connections over all nodes, each with so many under way."""
    selector, count, cpu = selectors.DefaultSelector(), 0, sum(server.cpu() for server in servers)
    for n in range(8):
        connection = socket.create_connection(("127.0.0.1", servers[n % len(servers)].port))
        request = f"POST /v1/messages?topic=load/{n} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(BODY)}\r\n\r\n{BODY}".encode()
        selector.register(connection, selectors.EVENT_READ, request)
        connection.sendall(request * pipelined)
    begun = time.monotonic()
    while time.monotonic() < begun + seconds:
        for key, _ in selector.select(1):
            answers = key.fileobj.recv(1 << 20)
            assert b" 503 " not in answers, answers[:500]
            done = answers.count(b"HTTP/1.1 200")
            count += done
            key.fileobj.sendall(key.data * done)
    wall, used = time.monotonic() - begun, sum(server.cpu() for server in servers) - cpu
    each = used / count * 1e6
    print(f"{8 * pipelined} in flight: {count / wall:,.0f} acknowledged/s, {each:.1f} µs of CPU each in all nodes", flush=True)
