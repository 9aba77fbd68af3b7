"""The proxy that docs/http.md documents: its nginx and configuration blocks as they stand, with Debian's nginx before the server.

Only addresses are replaced, since several tests run on one machine, and a certificate is named.
"""

import json
import socket
import ssl
import subprocess
import threading

import httpx
import paho.mqtt.client as paho
import pytest
import requests
import sseclient
from conftest import documented, until
from paho.mqtt.enums import CallbackAPIVersion
from websockets.sync.client import connect

NAME = "push.example.com"
WAIT = 30


def replaced(text, old, new):
    """The text with this in place of that, which must be there."""
    assert old in text, f"{old!r} stands no more in the documentation"
    return text.replace(old, new)


@pytest.fixture
def settings(tmp_path):
    """The server's configuration, as documented."""
    file = tmp_path / "everywire.toml"
    file.write_text(replaced(documented("toml", NAME), "127.0.0.1:8080", "127.0.0.1:0"))
    return {"EVERYWIRE_CONFIG": str(file)}


@pytest.fixture
def token(node, settings):
    """Lets somebody in."""
    command = [node["binary"], "token", "--user", "ann"]
    return subprocess.run(command, env=settings, capture_output=True, check=True, text=True, cwd=node["data"]).stdout.strip()


@pytest.fixture
def certificate(tmp_path):
    """A certificate for the name, and its key."""
    pair = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj".split()
    name = [f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"]
    subprocess.run([*command, *name, "-out", pair[0], "-keyout", pair[1]], check=True, capture_output=True)
    return pair


@pytest.fixture
def proxy(node, tmp_path, certificate, monkeypatch):
    """The address of a running nginx, by the name that clients use."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    listen = f"listen 127.0.0.1:{port} ssl; ssl_certificate {certificate[0]}; ssl_certificate_key {certificate[1]};"
    block = replaced(documented("nginx", "proxy_pass"), "listen 443 ssl;", listen)
    block = replaced(block, "server 127.0.0.1:8080;", f"server {node['http']};")
    folders = "".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    file = tmp_path / "nginx.conf"
    file.write_text(f"daemon off; pid {tmp_path}/pid; error_log stderr; events {{}} http {{ access_log off; {folders} {block} }}")
    process = subprocess.Popen(["nginx", "-p", tmp_path, "-c", file])
    try:

        def listens():
            assert process.poll() is None, "nginx ended"
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        until(listens)
        resolve = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", lambda host, *more, **named: resolve("127.0.0.1" if host == NAME else host, *more, **named))
        yield f"https://{NAME}:{port}"
    finally:
        process.terminate()
        process.wait(timeout=WAIT)


@pytest.fixture
def session(certificate, token):
    """Requests that trust the certificate and show the token."""
    with requests.Session() as session:
        session.verify = str(certificate[0])
        session.trust_env = False  # else REQUESTS_CA_BUNDLE wins
        session.headers["Authorization"] = f"Bearer {token}"
        yield session


def test_publish_poll_and_long_poll(proxy, session):
    address = f"{proxy}/v1/messages?topic=room/42"
    first = session.post(address, data="one", timeout=WAIT)
    assert first.status_code == 200, first.text
    page = session.get(address, timeout=WAIT)
    assert [message["body"] for message in page.json()["messages"]] == ["one"]
    later = threading.Timer(0.3, session.post, (address,), {"data": "two", "timeout": WAIT})
    later.start()
    woken = session.get(f"{address}&after={first.json()['cursor']}&wait=20", timeout=WAIT)
    later.join()
    assert [message["body"] for message in woken.json()["messages"]] == ["two"]


def test_a_page_of_the_public_name_may_publish(proxy, session):
    page = {"Origin": f"https://{NAME}", "Sec-Fetch-Site": "same-origin"}
    assert session.post(f"{proxy}/v1/messages?topic=a", data="x", headers=page, timeout=WAIT).status_code == 200
    other = {"Origin": "https://evil.example.com", "Sec-Fetch-Site": "cross-site"}
    assert session.post(f"{proxy}/v1/messages?topic=a", data="x", headers=other, timeout=WAIT).status_code == 403


def test_nobody_comes_in_without_a_token(proxy, certificate):
    for target in ["/v1/messages?topic=a", "/v1/events?topic=a", "/v1/topics", "/polling/publish/a?message=x"]:
        answer = requests.get(proxy + target, verify=str(certificate[0]), timeout=WAIT)
        assert answer.status_code in (401, 403), f"{target}: {answer.status_code}"
    assert requests.get(f"{proxy}/healthz", verify=str(certificate[0]), timeout=WAIT).status_code == 200


def test_the_registry_shows_the_clients_own_address(proxy, node, certificate, token):
    trust = ssl.create_default_context(cafile=certificate[0])
    # Behind another proxy, which nginx was told of; what the client says itself stands before that.
    head = {"Authorization": f"Bearer {token}", "X-Forwarded-For": "198.51.100.9"}
    operator = {"Authorization": "Bearer " + (node["data"] / "admin.token").read_text().strip()}
    with httpx.stream("GET", f"{proxy}/v1/events?topic=a", headers=head, verify=trust, timeout=WAIT) as response:
        assert response.status_code == 200
        answer = requests.get(f"http://{node['http']}/v1/connections?user=ann", headers=operator, timeout=WAIT)
        [connection] = answer.json()["connections"]
        # nginx has added 127.0.0.1, which is trusted, so that the one before it counts.
        assert connection["address"].startswith("198.51.100.9"), connection


def test_events_come_one_by_one(proxy, session, certificate, token):
    trust = ssl.create_default_context(cafile=certificate[0])
    head = {"Authorization": f"Bearer {token}"}
    with httpx.stream("GET", f"{proxy}/v1/events?topic=a", headers=head, verify=trust, timeout=WAIT) as response:
        stream = (event for event in sseclient.SSEClient(response.iter_bytes()).events() if event.data)
        for body in ["one", "two"]:
            session.post(f"{proxy}/v1/messages?topic=a", data=body, timeout=WAIT)
            assert json.loads(next(stream).data)["body"] == body


def test_websocket(proxy, session, certificate, token):
    trust = ssl.create_default_context(cafile=certificate[0])
    head = {"Authorization": f"Bearer {token}"}
    with connect(proxy.replace("https", "wss") + "/v1/ws", ssl=trust, additional_headers=head) as client:
        client.send(json.dumps({"subscribe": {"id": 1, "topics": ["a"]}}))
        assert json.loads(client.recv(timeout=WAIT))["subscribed"]["id"] == 1
        session.post(f"{proxy}/v1/messages?topic=a", data="hi", timeout=WAIT)
        assert json.loads(client.recv(timeout=WAIT))["message"]["body"] == "hi"


def test_mqtt_over_websocket(proxy, session, certificate, token):
    client = paho.Client(CallbackAPIVersion.VERSION2, transport="websockets")
    # At port 443 paho names the origin so by itself.
    client.ws_set_options(path="/mqtt", headers={"Origin": f"https://{NAME}"})
    client.tls_set(ca_certs=str(certificate[0]))
    client.username_pw_set("ann", token)
    subscribed, arrived, came = threading.Event(), threading.Event(), []
    client.on_connect = lambda *_: client.subscribe("a", 1)
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = lambda _, __, message: (came.append(message.payload), arrived.set())
    client.connect(NAME, int(proxy.rsplit(":", 1)[1]))
    client.loop_start()
    try:
        assert subscribed.wait(WAIT)
        session.post(f"{proxy}/v1/messages?topic=a", data="hi", timeout=WAIT)
        assert arrived.wait(WAIT)
        assert came == [b"hi"]
    finally:
        client.disconnect()
        client.loop_stop()
