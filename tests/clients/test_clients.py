"""Clients in wide use: curl, requests, httpx and sseclient, none of which knows Everywire."""

import json
import subprocess
import threading

import httpx
import requests
import sseclient
from conftest import documented

TOPIC = {"topic": "room/42"}


def publish(server, body):
    """Publishes a text with requests; gives its cursor."""
    response = requests.post(f"{server}/v1/messages", params=TOPIC, data=body, timeout=10)
    assert response.status_code == 200, response.text
    return response.json()["cursor"]


def curl(*arguments):
    """The output of curl."""
    done = subprocess.run(["curl", "-sS", "--max-time", "30", *arguments], capture_output=True, check=True, text=True)
    return done.stdout


def test_curl_publishes_and_reads(server):
    """The two commands of the README."""
    answer = json.loads(curl("-d", "hi", f"{server}/v1/messages?topic=room/42"))
    assert answer["durability"] == "fsync"
    page = json.loads(curl(f"{server}/v1/messages?topic=room/42"))
    assert [message["body"] for message in page["messages"]] == ["hi"]


def test_curl_follows_a_stream(server):
    """curl -N shows each event as it comes."""
    address = f"{server}/v1/events?topic=room/42&after=earliest&format=body"
    publish(server, "first")
    with subprocess.Popen(["curl", "-sSN", address], stdout=subprocess.PIPE, text=True) as process:
        seen = lines(process.stdout, "data: first")
        publish(server, "second")
        seen += lines(process.stdout, "data: second")
        process.kill()
    assert [line for line in seen if line.startswith("data:")] == ["data: first\n", "data: second\n"]


def lines(stream, last):
    """The lines up to this one."""
    seen = []
    for line in stream:
        seen.append(line)
        if line.rstrip("\n") == last:
            return seen
    raise AssertionError(f"the stream ended before {last!r}: {seen}")


def test_curl_sends_large_bodies_with_expect(server):
    """curl asks with Expect: 100-continue before it sends more than a MiB, and always with this field."""
    for size, status in ((200_000, "200"), (300_000, "413"), (2_000_000, "413")):
        command = ["-o", "/dev/null", "-w", "%{http_code}", "-H", "Expect: 100-continue", "-d", "@-"]
        address = f"{server}/v1/messages?topic=room/42"
        done = subprocess.run(["curl", "-sS", *command, address], input="x" * size, capture_output=True, check=True, text=True)
        assert done.stdout == status


def test_requests_polls_short_and_long(server):
    """A session keeps its connection; a waiting poll wakes."""
    with requests.Session() as session:
        address = f"{server}/v1/messages"
        cursor = session.get(address, params=TOPIC, timeout=10).headers["Everywire-Cursor"]
        assert session.get(address, params={**TOPIC, "after": cursor}, timeout=10).status_code == 204
        later = threading.Timer(0.2, publish, (server, "woken"))
        later.start()
        woken = session.get(address, params={**TOPIC, "after": cursor, "wait": 25}, timeout=30)
        later.join()
        assert [message["body"] for message in woken.json()["messages"]] == ["woken"]


def test_the_documented_follower_reads_topics_with_spaces(server):
    """The Python of docs/http.md, without its last lines, which never end."""
    names = {}
    exec(documented("python", "def follow").partition("\nfor message in")[0], names)  # noqa: S102
    form = {"topic": "Living Room/Lamp 1", "event": "on off"}
    address = f"{server}/v1/messages"
    cursor = requests.get(address, params=form, timeout=10).headers["Everywire-Cursor"]
    assert requests.post(address, params=form, data="on", timeout=10).json()["topic"] == form["topic"]
    page = requests.get(address, params={**form, "after": cursor, "wait": 20}, timeout=30).json()
    assert [(message["topic"], message["event"]) for message in page["messages"]] == [(form["topic"], form["event"])]
    follower = names["follow"](server, form["topic"])
    threading.Timer(0.5, requests.post, (address,), {"params": form, "data": "off", "timeout": 10}).start()
    assert next(follower)["body"] == "off"


def test_sseclient_resumes(server):
    """ids, event names, and Last-Event-ID, as an SSE library sees them.

    Over httpx: requests reads an answer without a length in pieces of 128 bytes, so that the last event would wait for
    the next.
    """
    for body in ("one", "two\nlines", "three"):
        publish(server, body)
    address = f"{server}/v1/events"

    def events(count, query, headers):
        with httpx.stream("GET", address, params={**TOPIC, **query}, headers=headers, timeout=10) as response:
            assert response.headers["Content-Type"].startswith("text/event-stream")
            stream = sseclient.SSEClient(response.iter_bytes()).events()
            return [next(stream) for _ in range(count)]

    first = events(1, {"after": "earliest"}, {})[0]
    assert json.loads(first.data)["body"] == "one"
    rest = events(2, {}, {"Last-Event-ID": first.id})
    assert [json.loads(event.data)["body"] for event in rest] == ["two\nlines", "three"]


def test_httpx_streams_lines(server):
    """Newline-delimited JSON."""
    publish(server, "one")
    query = {**TOPIC, "after": "earliest"}
    with httpx.stream("GET", f"{server}/v1/stream", params=query, timeout=10) as response:
        bodies = (line for line in response.iter_lines() if line)  # empty lines are heartbeats
        assert json.loads(next(bodies))["body"] == "one"
        publish(server, "two")
        assert json.loads(next(bodies))["body"] == "two"


def test_httpx_reuses_its_connections(server):
    """Many publishes over a few kept-alive connections."""
    with httpx.Client(limits=httpx.Limits(max_connections=2), timeout=10) as client:
        for number in range(100):
            assert client.post(f"{server}/v1/messages", params=TOPIC, content=str(number)).status_code == 200
        page = client.get(f"{server}/v1/messages", params=TOPIC).json()
        assert [message["body"] for message in page["messages"]] == [str(number) for number in range(100)]
