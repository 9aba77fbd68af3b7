"""WebSocket as the package `websockets`, and curl's library, speak it: the native protocol in JSON."""

import json

import pytest
import requests
from curl_cffi import requests as curl
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect


def address(server):
    return server.replace("http://", "ws://") + "/v1/ws"


def ask(socket, frame):
    socket.send(json.dumps(frame))
    return json.loads(socket.recv(timeout=30))


@pytest.mark.parametrize("compression", ["deflate", None])
def test_a_message_crosses_wires(server, compression):
    with connect(address(server), compression=compression) as socket:
        assert ask(socket, {"subscribe": {"id": 1, "topics": ["room/42"]}})["subscribed"]["id"] == 1
        for body in ["hi", "long " * 1000]:
            requests.post(f"{server}/v1/messages?topic=room/42", data=body.encode(), timeout=10)
            assert json.loads(socket.recv(timeout=30))["message"]["body"] == body
        published = ask(socket, {"publish": {"id": 2, "topic": "other", "body": {"n": 1}}})["published"]
        assert published["durability"] == "fsync"
    page = requests.get(f"{server}/v1/messages?topic=other", timeout=10).json()
    assert page["messages"][0]["body"] == {"n": 1}


def test_a_retained_message_carries_where_the_subscription_begins(server):
    """A client that resumes there reads nothing again."""
    topic = f"{server}/v1/messages?topic=room/42"
    requests.post(f"{topic}&retain=1", data="state", timeout=10)
    requests.post(topic, data="passing", timeout=10)
    with connect(address(server)) as socket:
        cursor = ask(socket, {"subscribe": {"id": 1, "topics": ["room/42"]}})["subscribed"]["cursor"]
        kept = json.loads(socket.recv(timeout=30))["message"]
        assert (kept["body"], kept["retained"], kept["cursor"]) == ("state", True, cursor)
    with connect(address(server)) as socket:
        ask(socket, {"subscribe": {"id": 1, "topics": ["room/42"], "after": kept["cursor"]}})
        requests.post(topic, data="new", timeout=10)
        assert json.loads(socket.recv(timeout=30))["message"]["body"] == "new"


def test_what_was_sent_before_a_goodbye_is_published(server):
    """More than may be outstanding, and the client is gone before any answer."""
    count = 3000
    with connect(address(server), max_queue=None) as reader:
        ask(reader, {"subscribe": {"id": 1, "topics": ["burst"]}})
        with connect(address(server), compression=None, max_queue=None) as socket:
            for number in range(count):
                socket.send(json.dumps({"publish": {"id": number, "topic": "burst", "body": str(number)}}))
        bodies = [json.loads(reader.recv(timeout=30))["message"]["body"] for _ in range(count)]
    assert bodies == [str(number) for number in range(count)]


def test_curl_publishes_and_receives(server):
    with curl.Session() as session:
        socket = session.ws_connect(address(server))
        socket.send_str(json.dumps({"subscribe": {"id": 1, "topics": ["room/42"]}}))
        assert json.loads(socket.recv_str())["subscribed"]["id"] == 1
        socket.send_str(json.dumps({"publish": {"id": 2, "topic": "room/42", "body": "by curl"}}))
        frames = [json.loads(socket.recv_str()) for _ in range(2)]
        assert [frame["message"]["body"] for frame in frames if "message" in frame] == ["by curl"]
        assert [frame["published"]["id"] for frame in frames if "published" in frame] == [2]
        socket.close()


def test_a_session_goes_on_over_another_socket(server):
    with connect(address(server)) as socket:
        session = ask(socket, {"hello": {"session": "new"}})["welcome"]["session"]
        ask(socket, {"subscribe": {"id": 1, "topics": ["a"]}})
        requests.post(f"{server}/v1/messages?topic=a", data="first", timeout=10)
        assert json.loads(socket.recv(timeout=30))["message"]["body"] == "first"
    requests.post(f"{server}/v1/messages?topic=a", data="second", timeout=10)
    with connect(address(server)) as socket:
        assert ask(socket, {"hello": {"session": session}})["welcome"]["resumed"] is True
        bodies = [json.loads(socket.recv(timeout=30))["message"]["body"] for _ in range(2)]
        assert bodies == ["first", "second"]


def test_subprotocols(server):
    with connect(address(server), subprotocols=["everywire.json"]) as socket:
        assert socket.subprotocol == "everywire.json"
    with pytest.raises(InvalidStatus) as refused:
        connect(address(server), subprotocols=["soap"]).__enter__()
    assert refused.value.response.status_code == 400


def test_a_foreign_page_is_refused(server):
    with pytest.raises(InvalidStatus) as refused:
        connect(address(server), origin="https://evil.example.com").__enter__()
    assert refused.value.response.status_code == 403


def test_a_message_over_the_bound_closes(server):
    with connect(address(server), compression=None) as socket:
        socket.send("x" * ((1 << 20) + 1))
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=30)
        assert socket.close_code == 1009


def test_a_drain_is_told(node, server):
    with connect(address(server)) as socket:
        ask(socket, {"ping": {}})
        node["drain"]()
        closed = json.loads(socket.recv(timeout=30))["close"]
        assert (closed["reason"], closed["reconnect"]) == ("drain", True)
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=30)
        assert socket.close_code == 1012
