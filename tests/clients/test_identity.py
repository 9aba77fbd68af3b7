"""Identities, the registry of connections, and ends of connections by an operator: over HTTP, SSE, WebSocket and native TCP."""

import json
import subprocess

import pytest
import requests
import sseclient
from conftest import until
from native_client import Client
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

SECRET = "a secret of at least thirty-two bytes"


@pytest.fixture
def settings():
    """The configuration of the server of these tests."""
    return {"EVERYWIRE_AUTH_SECRET": SECRET, "EVERYWIRE_AUTH_USERS": "true", "EVERYWIRE_AUTH_ANONYMOUS": "true"}


def token(node, *arguments):
    """The token that `everywire token` prints."""
    command = [node["binary"], "token", *arguments]
    environment = {"EVERYWIRE_AUTH_SECRET": SECRET}
    return subprocess.run(command, env=environment, capture_output=True, check=True, text=True, cwd=node["data"]).stdout.strip()


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def operator(node):
    """The header of the token that the server made for whoever runs it."""
    return bearer((node["data"] / "admin.token").read_text().strip())


def websocket(server, token=None):
    return connect(server.replace("http://", "ws://") + "/v1/ws", additional_headers=bearer(token) if token else {})


def receive(socket):
    return json.loads(socket.recv(timeout=30))


def devices(server, operator, user):
    answer = requests.get(f"{server}/v1/users/{user}", headers=operator, timeout=10)
    assert answer.status_code == 200, answer.text
    return answer.json()["devices"]


def test_messages_say_who_published_them(server, node):
    ann = token(node, "--user", "ann")
    answer = requests.post(f"{server}/v1/messages?topic=a", data="hi", headers=bearer(ann), timeout=10)
    assert answer.status_code == 200
    page = requests.get(f"{server}/v1/messages?topic=a", timeout=10).json()
    assert page["messages"][0]["from"] == "ann"


def test_tokens_that_prove_nothing(server, node):
    for wrong in ["forged", token(node, "--user", "ann")[:-3]]:
        answer = requests.get(f"{server}/v1/messages?topic=a", headers=bearer(wrong), timeout=10)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    narrow = token(node, "--user", "ann", "--publish", "room/1")
    for topic, status in [("room/1", 200), ("room/2", 403)]:
        answer = requests.post(f"{server}/v1/messages?topic={topic}", data="x", headers=bearer(narrow), timeout=10)
        assert answer.status_code == status, answer.text


def test_the_inbox_comes_without_asking_and_is_nobody_elses(server, node):
    ann, bob = token(node, "--user", "ann", "--device", "phone"), token(node, "--user", "bob")
    with websocket(server, ann) as socket:
        socket.send(json.dumps({"hello": {}}))
        assert receive(socket)["welcome"]["user"] == "ann"
        for topic in ["user/ann", "user/ann/phone"]:
            requests.post(f"{server}/v1/messages?topic={topic}", data=topic, headers=bearer(bob), timeout=10)
            assert receive(socket)["message"]["body"] == topic
    for who, status in [(bob, 403), (None, 401)]:
        headers = bearer(who) if who else {}
        answer = requests.get(f"{server}/v1/messages?topic=user/ann", headers=headers, timeout=10)
        assert answer.status_code == status


def test_an_operator_sees_and_ends_connections_on_every_wire(server, node, schema, operator):
    ann = token(node, "--user", "ann", "--device", "phone")
    assert requests.get(f"{server}/v1/connections", timeout=10).status_code == 401
    assert requests.get(f"{server}/v1/connections", headers=bearer(ann), timeout=10).status_code == 403
    stream = requests.get(f"{server}/v1/events?topic=a", headers=bearer(ann), stream=True, timeout=30)
    native = Client(schema, node["tcp"])
    native.hello(token=ann)
    with websocket(server, ann) as socket:
        socket.send(json.dumps({"hello": {}}))
        receive(socket)
        (device,) = devices(server, operator, "ann")
        assert device["device"] == "phone" and device["online"]
        assert {c["wire"] for c in device["connections"]} == {"sse", "ws", "tcp"}
        answer = requests.delete(f"{server}/v1/users/ann/connections?reason=enough", headers=operator, timeout=10)
        assert answer.json() == {"kicked": 3}
        closed = receive(socket)["close"]
        assert (closed["reason"], closed["reconnect"], closed["detail"]) == ("kicked", False, "enough")
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=30)
        assert socket.close_code == 4001
    closed = native.wait("close")
    assert (closed.reason, closed.reconnect) == ("kicked", False)
    events = [event for event in sseclient.SSEClient(stream).events() if event.event == "close"]
    assert json.loads(events[0].data)["reason"] == "kicked"

    def remembered():
        return [d for d in devices(server, operator, "ann") if not d["online"] and d["last_seen"]]

    (device,) = until(remembered)
    assert device["last_seen"]["wire"] in ("sse", "ws", "tcp")


def test_who_has_left_was_last_seen_on_the_wire_that_he_spoke(server, node, operator):
    stream = requests.get(f"{server}/v1/events?topic=a", headers=bearer(token(node, "--user", "ann")), stream=True, timeout=30)
    (device,) = devices(server, operator, "ann")
    assert [c["wire"] for c in device["connections"]] == ["sse"]
    requests.delete(f"{server}/v1/users/ann/connections", headers=operator, timeout=10)
    assert [event.event for event in sseclient.SSEClient(stream).events()] == ["close"]
    (device,) = until(lambda: [d for d in devices(server, operator, "ann") if d["last_seen"]])
    assert device["last_seen"]["wire"] == "sse"


def test_a_message_is_traced(server, node, operator):
    with websocket(server) as socket:
        socket.send(json.dumps({"subscribe": {"id": 1, "topics": ["a"]}}))
        receive(socket)
        message = requests.post(f"{server}/v1/messages?topic=a", data="hi", timeout=10).json()["id"]
        receive(socket)
        trace = requests.get(f"{server}/v1/messages/{message}/trace", headers=operator, timeout=10).json()
        assert trace["stored"]["durability"] == "fsync" and trace["complete"]
        (recipient,) = trace["recipients"]
        assert (recipient["wire"], recipient["fate"]) == ("ws", "written") and recipient["written"]


def test_static_users(server, node, operator):
    def everywire(*arguments, password=None):
        command = [node["binary"], "user", *arguments, "--server", server, "--data", node["data"]]
        return subprocess.run(command, input=password, env={}, capture_output=True, text=True)

    assert everywire("add", "ann", password="pencil\n").returncode == 0
    assert everywire("list").stdout == "ann\n"
    answer = requests.get(f"{server}/v1/messages?topic=user/ann", auth=("ann", "pencil"), timeout=30)
    assert answer.status_code == 204
    answer = requests.get(f"{server}/v1/messages?topic=user/ann", auth=("ann", "wrong"), timeout=30)
    assert answer.status_code == 401
    assert everywire("passwd", "ann", password="chalk\n").returncode == 0
    answer = requests.get(f"{server}/v1/messages?topic=user/ann", auth=("ann", "chalk"), timeout=30)
    assert answer.status_code == 204
    assert everywire("remove", "ann").returncode == 0
    assert everywire("remove", "ann").returncode == 1
    assert everywire("list").stdout == ""
