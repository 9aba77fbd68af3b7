"""The native protocol on TCP, spoken by a client that was written after its documentation."""

import ssl
import subprocess

import requests
from conftest import wait_ready
from native_client import Client


def test_a_message_crosses_wires(node, schema):
    client = Client(schema, node["tcp"])
    client.subscribe("room/+")
    answer = requests.post(f"http://{node['http']}/v1/messages?topic=room/42&event=chat", data="hi", timeout=10).json()
    message = client.message()
    assert (message.id, message.topic, message.event, message.body) == (answer["id"], "room/42", "chat", b"hi")
    done = client.publish("room/43", b"\x00\xff", type="application/octet-stream")
    assert done.durability == "fsync"
    page = requests.get(f"http://{node['http']}/v1/messages?topic=room/43", timeout=10).json()
    assert [m["body_base64"] for m in page["messages"]] == ["AP8="]


def test_a_session_goes_on_where_it_was_acknowledged(node, schema):
    client = Client(schema, node["tcp"])
    welcome = client.hello(session="new", expiry=60)
    assert welcome.session and not welcome.resumed
    client.subscribe("a")
    publisher = Client(schema, node["tcp"])
    for n in range(5):
        publisher.publish("a", str(n).encode())
    got = [client.message() for _ in range(5)]
    assert [m.body for m in got] == [b"0", b"1", b"2", b"3", b"4"]
    client.ack(got[1])
    client.ping()
    client.cut()
    publisher.publish("a", b"5")
    again = Client(schema, node["tcp"])
    assert again.hello(session=welcome.session).resumed
    assert [again.message().body for _ in range(4)] == [b"2", b"3", b"4", b"5"]
    # The other way round: a third connection takes over from the second.
    third = Client(schema, node["tcp"])
    assert third.hello(session=welcome.session).resumed
    closed = again.wait("close")
    assert (closed.reason, closed.reconnect) == ("taken_over", False)
    assert [third.message().body for _ in range(4)] == [b"2", b"3", b"4", b"5"]


def test_what_was_sent_before_the_end_is_published(node, schema):
    """More than may be outstanding, and the client is gone before any answer."""
    count = 3000
    reader = Client(schema, node["tcp"])
    reader.subscribe("burst")
    publisher = Client(schema, node["tcp"])
    for number in range(count):
        publisher.send(publish=schema.Publish(id=number, topic="burst", body=str(number).encode()))
    publisher.cut()
    assert [reader.message().body for _ in range(count)] == [str(number).encode() for number in range(count)]


def test_an_unknown_session_is_a_new_one(node, schema):
    client = Client(schema, node["tcp"])
    welcome = client.hello(session="nobody's")
    assert not welcome.resumed and welcome.session not in ("", "nobody's")


def test_what_is_refused(node, schema):
    client = Client(schema, node["tcp"])
    client.send(subscribe=schema.Subscribe(id=9, topics=["user/ann", "ok"]))
    error = client.wait("error")
    assert (error.id, error.code, error.topic) == (9, 401, "user/ann")
    assert client.wait("subscribed").id == 9
    client.send(ack=schema.Ack(cursor="a:1"))
    assert client.wait("error").code == 409
    client.ping()


def test_tls(tmp_path, node, schema):
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-subj", "/CN=everywire"]
    subprocess.run([*made, "-keyout", "key.pem", "-out", "cert.pem"], cwd=tmp_path, capture_output=True, check=True)
    (tmp_path / "everywire.toml").write_text('[tls]\ncert = "cert.pem"\nkey = "key.pem"\ntcp = "127.0.0.1:0"\n')
    ready = tmp_path / "tls.json"
    arguments = [node["binary"], "serve", "--http", "off", "--tcp", "127.0.0.1:0", "--engine", "memory"]
    process = subprocess.Popen([*arguments, "--ready-file", ready], cwd=tmp_path)
    try:
        addresses = wait_ready(process, ready)
        reader = Client(schema, addresses["tcps"], ssl.create_default_context(cafile=tmp_path / "cert.pem"))
        reader.hello(session="new")
        reader.subscribe("a")
        Client(schema, addresses["tcp"]).publish("a", b"x" * 100_000)
        assert reader.message().body == b"x" * 100_000
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0


def test_a_session_survives_kill_9(tmp_path, node, schema):
    """Nothing that was acknowledged to the publisher is lost, and the session goes on by itself."""

    def start():
        ready = tmp_path / "second.json"
        ready.unlink(missing_ok=True)
        arguments = [node["binary"], "serve", "--http", "off", "--tcp", "127.0.0.1:0"]
        arguments += ["--data", tmp_path / "second", "--ready-file", ready]
        process = subprocess.Popen(arguments, cwd=tmp_path)
        return process, wait_ready(process, ready)["tcp"]

    process, address = start()
    try:
        client = Client(schema, address)
        session = client.hello(session="new").session
        client.subscribe("a")
        published = []
        for round_ in range(3):
            publisher = Client(schema, address)
            published += [publisher.publish("a", f"{round_} {n}".encode()).message for n in range(20)]
            process.kill()
            process.wait(timeout=30)
            process, address = start()
            client = Client(schema, address)
            assert client.hello(session=session).resumed
        got = []
        while published[-1] not in got:
            got.append(client.message().id)
        assert sorted(set(got)) == sorted(published)
        assert got == sorted(got), "in order"
    finally:
        process.kill()
        process.wait(timeout=30)
