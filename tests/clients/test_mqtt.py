"""MQTT as paho-mqtt, aiomqtt and mosquitto's clients speak it, over TCP and WebSocket, and across wires."""

import asyncio
import base64
import hashlib
import hmac
import json
import queue
import socket
import subprocess

import aiomqtt
import paho.mqtt.client as paho
import pytest
import requests
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from websockets.sync.client import connect as websocket

WAIT = 30
VERSIONS = [paho.MQTTv311, paho.MQTTv5]
WAYS = ["tcp", "/mqtt", "/v1/ws"]
SECRET = "a secret of the tests, long enough for HS256"


def address(server):
    host, port = server.rsplit(":", 1)
    return host, int(port)


class Client:
    """A paho client on a thread of its own; what happens to it stands in queues."""

    def __init__(self, node, name, version=paho.MQTTv5, way="tcp", user=None, clean=True, expiry=0, will=None, asks=False):
        transport = "tcp" if way == "tcp" else "websockets"
        options = {"clean_session": clean} if version == paho.MQTTv311 else {}
        self.paho = paho.Client(CallbackAPIVersion.VERSION2, name, protocol=version, transport=transport, **options)
        if way != "tcp":
            self.paho.ws_set_options(path=way)
        if user:
            self.paho.username_pw_set(*user)
        if will:
            self.paho.will_set(*will)
        self.messages, self.answers, self.ends = queue.Queue(), queue.Queue(), queue.Queue()
        self.paho.on_connect = lambda _, __, flags, reason, ___: self.answers.put((flags, reason))
        self.paho.on_message = lambda _, __, message: self.messages.put(message)
        self.paho.on_subscribe = lambda _, __, ___, reasons, ____: self.answers.put(reasons)
        self.paho.on_unsubscribe = lambda _, __, ___, reasons, ____: self.answers.put(reasons)
        self.paho.on_disconnect = lambda _, __, ___, reason, ____: self.ends.put(reason)
        host, port = address(node["mqtt"] if way == "tcp" else node["http"])
        more = {}
        if version == paho.MQTTv5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = expiry
            if asks:
                properties.UserProperty = ASKS
            more = {"clean_start": clean, "properties": properties}
        self.paho.connect(host, port, **more)
        self.paho.loop_start()
        self.flags, self.reason = self.answers.get(timeout=WAIT)

    def __enter__(self):
        assert self.reason == "Success", self.reason
        return self

    def __exit__(self, *_):
        self.paho.disconnect()
        self.paho.loop_stop()

    def subscribe(self, *arguments, **more):
        self.paho.subscribe(*arguments, **more)
        return self.answers.get(timeout=WAIT)

    def publish(self, topic, body, qos=1, **more):
        self.paho.publish(topic, body, qos, **more).wait_for_publish(WAIT)

    def hear(self):
        return self.messages.get(timeout=WAIT)

    def cut(self):
        """The network is gone: no goodbye."""
        self.paho.on_disconnect = None
        self.paho.loop_stop()
        self.paho.socket().shutdown(socket.SHUT_RDWR)


def user_properties(message):
    return getattr(message.properties, "UserProperty", [])


def with_user_properties(kind, *pairs):
    """Properties of a packet with these user properties, in their order."""
    properties = Properties(kind)
    properties.UserProperty = list(pairs)
    return properties


ASKS = ("everywire-properties", "1")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("way", WAYS)
def test_every_qos_both_ways(node, version, way):
    with Client(node, "a", version, way) as reader, Client(node, "b", version, way) as writer:
        reader.subscribe("room/#", 2)
        for qos in range(3):
            writer.publish("room/42", f"qos {qos}", qos)
            message = reader.hear()
            assert (message.payload.decode(), message.qos, message.retain) == (f"qos {qos}", qos, False)
        writer.publish("room/42", b"\xff" * 200_000)
        assert len(reader.hear().payload) == 200_000


@pytest.mark.parametrize("version", VERSIONS)
def test_many_come_in_order(node, version):
    with Client(node, "a", version) as reader, Client(node, "b", version) as writer:
        reader.subscribe("many", 1)
        sent = [writer.paho.publish("many", str(n), 1) for n in range(5000)]
        assert [int(reader.hear().payload) for _ in sent] == list(range(5000))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_retained_message_greets_until_it_is_removed(node, version):
    with Client(node, "a", version) as client:
        client.publish("state", "on", retain=True)
        with Client(node, "b", version) as reader:
            reader.subscribe("state", 1)
            message = reader.hear()
            assert (message.payload, message.retain) == (b"on", True)
        stream = requests.get(f"http://{node['http']}/v1/events?topic=state", stream=True, timeout=WAIT)
        data = next(line for line in stream.iter_lines() if line.startswith(b"data:"))
        assert json.loads(data[5:])["body"] == "on"
        client.publish("state", "", retain=True)
        with Client(node, "c", version) as reader:
            reader.subscribe("state", 1)
            client.publish("state", "live")
            message = reader.hear()
            assert (message.payload, message.retain) == (b"live", False)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_goes_on_with_what_was_missed(node, version):
    lasting = {"version": version, "clean": False, "expiry": 600}
    with Client(node, "sleeper", **lasting) as sleeper:
        assert not sleeper.flags.session_present
        sleeper.subscribe("a", 2)
    with Client(node, "b", version) as writer:
        for qos in range(3):
            writer.publish("a", str(qos), qos)
    with Client(node, "sleeper", **lasting) as sleeper:
        assert sleeper.flags.session_present
        # A delivery at most once isn't kept for the session.
        assert [sleeper.hear().payload for _ in range(2)] == [b"1", b"2"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_will_is_published_when_the_network_goes_and_not_after_a_goodbye(node, version):
    with Client(node, "heir", version) as heir:
        heir.subscribe("will", 1)
        with Client(node, "polite", version, will=("will", "never", 1)):
            pass
        Client(node, "cut", version, will=("will", "gone", 1)).cut()
        assert heir.hear().payload == b"gone"
        heir.publish("will", "fence")
        assert heir.hear().payload == b"fence"


def test_the_second_of_a_name_takes_over(node):
    with Client(node, "same") as first:
        # One that reconnects at once would take it back.
        first.paho.reconnect_delay_set(60, 60)
        with Client(node, "same") as second:
            assert first.ends.get(timeout=WAIT) == "Session taken over"
            second.subscribe("a", 1)
            second.publish("a", "mine")
            assert second.hear().payload == b"mine"


class TestIdentity:
    @pytest.fixture
    def settings(self):
        return {"EVERYWIRE_AUTH_SECRET": SECRET, "EVERYWIRE_AUTH_USERS": "true", "EVERYWIRE_AUTH_ANONYMOUS": "false"}

    def run(self, node, *arguments, **more):
        environment = {"EVERYWIRE_AUTH_SECRET": SECRET, "PATH": "/usr/bin:/bin"}
        command = [node["binary"], *arguments]
        return subprocess.run(command, env=environment, check=True, text=True, capture_output=True, timeout=WAIT, **more).stdout.strip()

    def token(self, node, user, *more):
        return self.run(node, "token", "--user", user, *more)

    def test_tokens_and_passwords(self, node):
        operator = (node["data"] / "admin.token").read_text().strip()
        server = f"http://{node['http']}"
        self.run(node, "user", "add", "bob", "--server", server, "--token", operator, input="his password\n")
        with Client(node, "phone", user=("ann", self.token(node, "ann")), asks=True) as ann, Client(node, "pad", user=("bob", "his password")) as bob:
            ann.subscribe("a", 1)
            bob.publish("a", "from bob")
            assert ("everywire-from", "bob") in user_properties(ann.hear())
            # The inbox is subscribed without asking.
            bob.publish("user/ann", "for her")
            assert ann.hear().payload == b"for her"
            bob.publish("user/ann/phone", "for her phone")
            assert ann.hear().payload == b"for her phone"
            page = requests.get(f"{server}/v1/connections?wire=mqtt&user=ann", headers={"Authorization": f"Bearer {operator}"}, timeout=WAIT).json()
            connection = page["connections"][0]
            assert (connection["device"], connection["wire"]) == ("phone", "mqtt")
            requests.delete(f"{server}/v1/connections/{connection['id']}?reason=enough", headers={"Authorization": f"Bearer {operator}"}, timeout=WAIT)
            assert ann.ends.get(timeout=WAIT) == "Administrative action"

    @pytest.mark.parametrize("version", VERSIONS)
    def test_who_proves_nothing_is_not_let_in(self, node, version):
        for user, reason in [(("bob", "wrong"), "Bad user name or password"), (("ann", "e30.e30.e30"), "Bad user name or password"), (None, "Not authorized")]:
            client = Client(node, "x", version, user=user)
            assert client.reason == reason, user
            client.paho.loop_stop()

    def test_a_token_says_where(self, node):
        token = self.token(node, "ann", "--subscribe", "a/#", "--publish", "b")
        with Client(node, "x", user=("ann", token)) as ann:
            assert [str(reason) for reason in ann.subscribe([("a/b", 1), ("c", 1)])] == ["Granted QoS 1", "Not authorized"]


    def test_scram_needs_no_password_on_the_wire(self, node):
        operator = (node["data"] / "admin.token").read_text().strip()
        self.run(node, "user", "add", "bob", "--server", f"http://{node['http']}", "--token", operator, input="pencil\n")
        for password, expected in [(b"pencil", 0), (b"wrong", 0x86)]:
            assert scram(address(node["mqtt"]), "bob", password) == expected


def field(data):
    return len(data).to_bytes(2, "big") + data


def counted(body):
    """With its length before it (MQTT-5.0 §1.5.5)."""
    length = len(body)
    return (bytes([length]) if length < 128 else bytes([length % 128 | 128, length // 128])) + body


def scram(where, user, password):
    """SCRAM-SHA-256 (RFC 7677) in MQTT's AUTH; gives the reason code of CONNACK."""

    def properties(data):
        return counted(b"\x15" + field(b"SCRAM-SHA-256") + b"\x16" + field(data))

    def mac(key, text):
        return hmac.digest(key, text, "sha256")

    bare = f"n={user},r=fyko".encode()
    with socket.create_connection(where, WAIT) as link:
        link.sendall(b"\x10" + counted(field(b"MQTT") + b"\x05\x02\0\x0a" + properties(b"n,," + bare) + field(b"")))
        first = link.recv(4096)
        assert first[0] == 0xF0
        challenge = first[first.index(b"r=fyko") :]
        nonce, salt, rounds = (part[2:] for part in challenge.split(b","))
        without_proof = b"c=biws,r=" + nonce
        signed = b",".join([bare, challenge, without_proof])
        salted = hashlib.pbkdf2_hmac("sha256", password, base64.b64decode(salt), int(rounds))
        key = mac(salted, b"Client Key")
        signature = mac(hashlib.sha256(key).digest(), signed)
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True)))
        link.sendall(b"\xf0" + counted(b"\x18" + properties(without_proof + b",p=" + proof)))
        last = link.recv(4096)
        assert last[0] == 0x20
        code = last[3 if last[1] < 128 else 4]
        if code == 0:
            assert b"v=" + base64.b64encode(mac(mac(salted, b"Server Key"), signed)) in last
        return code


class TestAcrossWires:
    def test_what_http_publishes_comes_with_its_fields(self, node):
        server = f"http://{node['http']}"
        with Client(node, "a", asks=True) as client, Client(node, "plain") as plain:
            plain.subscribe("a", 1)
            client.subscribe("a", 1)
            answer = requests.post(f"{server}/v1/messages?topic=a&event=chat&ttl=60", data="hi", headers={"Content-Type": "text/plain"}, timeout=WAIT).json()
            message = client.hear()
            assert message.properties.ContentType == "text/plain"
            assert 55 <= message.properties.MessageExpiryInterval <= 60
            told = {"everywire-event": "chat", "everywire-id": answer["id"], "everywire-cursor": answer["cursor"]}
            assert dict(user_properties(message)) == told
            assert user_properties(plain.hear()) == []
            for body in ["two", "three"]:
                client.publish("a", body)
                client.hear()
        with Client(node, "b") as late:
            after = with_user_properties(PacketTypes.SUBSCRIBE, ("everywire-after", answer["cursor"]))
            late.subscribe("a", qos=1, properties=after)
            assert [late.hear().payload for _ in range(2)] == [b"two", b"three"]

    def test_what_mqtt_publishes_is_read_over_http(self, node):
        with Client(node, "a") as client:
            properties = with_user_properties(PacketTypes.PUBLISH, ("everywire-event", "reading"))
            properties.ContentType = "application/json"
            client.publish("sensor/1", '{"t": 21}', properties=properties)
        page = requests.get(f"http://{node['http']}/v1/messages?topic=sensor/1", timeout=WAIT).json()
        message = page["messages"][0]
        assert (message["body"], message["event"], message["type"]) == ({"t": 21}, "reading", "application/json")


class TestUserProperties:
    """User properties of a client arrive as they were published (MQTT-3.3.2-17, -18)."""

    OWN = [("key", "sensor-17"), ("event", "open"), ("id", "7"), ("from", "hall"), ("cursor", "x"), ("key", "sensor-17"), ("after", "y"), ("key", "other"), ("", "")]

    def message(self):
        return with_user_properties(PacketTypes.PUBLISH, *self.OWN)

    def test_each_of_several_with_the_same_key_arrives_at_each_qos(self, node):
        with Client(node, "reader") as reader, Client(node, "writer") as writer:
            reader.subscribe("a", 2)
            for n in range(9):
                writer.publish("a", str(n), n % 3, properties=self.message())
            got = [reader.hear() for _ in range(9)]
            # A client hands over a message of QoS 2 when its handshake is complete, perhaps after a later one of QoS 0.
            of_each = [[int(message.payload) for message in got if message.qos == qos] for qos in range(3)]
            assert of_each == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
            assert all(user_properties(message) == self.OWN for message in got)

    def test_they_survive_history_sessions_and_being_retained(self, node):
        lasting = {"clean": False, "expiry": 600}
        with Client(node, "sleeper", **lasting) as sleeper:
            sleeper.subscribe("a", 1)
        with Client(node, "writer") as writer:
            writer.publish("a", "kept", properties=self.message(), retain=True)
            # Other wires read it, and are not disturbed.
            page = requests.get(f"http://{node['http']}/v1/messages?topic=a", timeout=WAIT).json()["messages"]
            assert [(message["body"], message.get("event")) for message in page] == [("kept", None)]
        with Client(node, "sleeper", **lasting) as sleeper:
            assert user_properties(sleeper.hear()) == self.OWN
        with Client(node, "late") as late:
            late.subscribe("a", 1)
            message = late.hear()
            assert (message.retain, user_properties(message)) == (True, self.OWN)
        with Client(node, "historian") as historian:
            earliest = with_user_properties(PacketTypes.SUBSCRIBE, ("everywire-after", "earliest"))
            historian.subscribe("a", qos=1, properties=earliest)
            assert user_properties(historian.hear())[: len(self.OWN)] == self.OWN

    def test_a_will_keeps_them(self, node):
        with Client(node, "heir") as heir:
            heir.subscribe("will", 1)
            own = with_user_properties(PacketTypes.WILLMESSAGE, *self.OWN)
            Client(node, "cut", will=("will", "gone", 1, False, own)).cut()
            assert user_properties(heir.hear()) == self.OWN

    def test_the_servers_key_publishes_once(self, node):
        with Client(node, "reader") as reader, Client(node, "writer") as writer:
            reader.subscribe("a", 1)
            for _ in range(3):
                writer.publish("a", "once", properties=with_user_properties(PacketTypes.PUBLISH, ("everywire-key", "k")))
            writer.publish("a", "end")
            assert [reader.hear().payload for _ in range(2)] == [b"once", b"end"]

    def test_a_retained_message_carries_the_cursor_of_who_gets_it(self, node):
        with Client(node, "writer") as writer:
            writer.publish("a", "old", retain=True)
            for n in range(3):
                writer.publish("b", str(n))
            head = requests.get(f"http://{node['http']}/v1/messages?topic=b", timeout=WAIT).json()["cursor"]
        with Client(node, "reader", asks=True) as reader:
            reader.subscribe("a", 1)
            message = reader.hear()
            assert message.retain
            offset = int(dict(user_properties(message))["everywire-cursor"].split(":")[1])
            assert offset >= int(head.split(":")[1]), "a client that comes back with it gets nothing old"


class TestShared:
    def test_each_message_goes_to_one_and_a_dying_members_to_the_others(self, node):
        with Client(node, "one") as one, Client(node, "w") as writer:
            two = Client(node, "two")
            for member in [one, two]:
                member.subscribe("$share/g/t", 1)
            for n in range(100):
                writer.publish("t", str(n))
            got = [int(member.messages.get(timeout=WAIT).payload) for member in [one, two] for _ in range(10)]
            two.cut()
            # It may have got more than it has handed out.
            got += [int(message.payload) for message in two.messages.queue]
            while len(set(got)) < 100:
                got.append(int(one.hear().payload))


@pytest.mark.parametrize("version", VERSIONS)
def test_credentials_that_nobody_needs_do_no_harm(node, version):
    for user in [("ann", "secret"), ("ann", ""), ("", ""), ("ann", "eyJhbGciOiJIUzI1NiJ9.e30.x")]:
        with Client(node, "x", version, user=user) as client:
            client.publish("a", "let in")


def test_a_client_of_old_asks_for_another_subprotocol(node):
    for path in ["/mqtt", "/v1/ws"]:
        with websocket(f"ws://{node['http']}{path}", subprotocols=["mqttv3.1"]) as link:
            assert link.subprotocol == "mqttv3.1"
            link.send(b"\x10\x0f\0\x06MQIsdp\x03\x02\0\x0a\0\x01c")
            assert link.recv(timeout=WAIT) == b"\x20\x02\0\0"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_may_have_very_many_filters(node, version):
    filters = [(f"many/{n}", 1) for n in range(5000)]
    with Client(node, "many", version, clean=False, expiry=600) as client:
        assert {str(reason) for reason in client.subscribe(filters)} == {"Granted QoS 1"}
        client.publish("many/4999", "the last")
        assert client.hear().payload == b"the last"
        client.paho.unsubscribe([name for name, _ in filters])
        client.answers.get(timeout=WAIT)


def test_the_node_tells_of_itself(node):
    with Client(node, "operator") as client:
        client.subscribe("#", 0)
        client.subscribe("$SYS/broker/clients/connected", 0)
        message = client.hear()
        assert (message.topic, message.payload) == ("$SYS/broker/clients/connected", b"1")


def test_aiomqtt(node):
    host, port = address(node["mqtt"])

    async def talk():
        async with aiomqtt.Client(host, port, identifier="aio") as client:
            await client.subscribe("a/+", qos=2)
            for qos in range(3):
                await client.publish("a/b", f"qos {qos}", qos=qos)
            got = []
            async for message in client.messages:
                got.append((message.payload.decode(), message.qos))
                if len(got) == 3:
                    return got

    assert asyncio.run(asyncio.wait_for(talk(), WAIT)) == [("qos 0", 0), ("qos 1", 1), ("qos 2", 2)]


@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
def test_mosquitto(node, version):
    host, port = address(node["mqtt"])
    common = ["-h", host, "-p", str(port), "-V", version]
    reader = subprocess.Popen(["stdbuf", "-oL", "mosquitto_sub", *common, "-t", "a/#", "-q", "2", "-C", "3", "-F", "%q %p", "-d"], stdout=subprocess.PIPE, text=True)
    lines = iter(reader.stdout.readline, "")
    assert any(line.startswith("Subscribed") for line in lines)
    for qos in range(3):
        subprocess.run(["mosquitto_pub", *common, "-t", "a/b", "-m", f"hello {qos}", "-q", str(qos)], check=True, timeout=WAIT)
    got = [line.strip() for line in lines if line[0].isdigit()]
    assert got == ["0 hello 0", "1 hello 1", "2 hello 2"]
    assert reader.wait(timeout=WAIT) == 0


class TestGoodbyes:
    """Messages that a client has sent before its goodbye arrive, however many, and its will isn't published (MQTT-3.14.4-3)."""

    COUNT = 3000

    @pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
    @pytest.mark.parametrize("qos", [0, 1, 2])
    def test_all_lines_of_mosquitto_pub(self, node, qos, version):
        host, port = address(node["mqtt"])
        lines = "".join(f"{n}\n" for n in range(self.COUNT))
        with Client(node, "reader") as reader:
            reader.subscribe([("lines", 2), ("gone", 2)])
            command = ["mosquitto_pub", "-h", host, "-p", str(port), "-V", version, "-q", str(qos), "-t", "lines", "-l"]
            subprocess.run([*command, "--will-topic", "gone", "--will-payload", "x"], input=lines, text=True, check=True, timeout=10 * WAIT)
            # All lines are waited for first: what another client sends meanwhile may come between them.
            assert [reader.hear().payload for _ in range(self.COUNT)] == [b"%d" % n for n in range(self.COUNT)]
            reader.publish("gone", "end", 2)
            assert reader.hear().payload == b"end"

    def burst(self, qos):
        """A whole life in one piece: CONNECT with a will, many messages, DISCONNECT."""
        connect = field(b"MQTT") + b"\x04\x06\0\x0a" + field(b"burst") + field(b"gone") + field(b"x")
        messages = []
        for n in range(self.COUNT):
            number = (n + 1).to_bytes(2, "big") if qos else b""
            messages.append(bytes([0x30 | qos << 1]) + counted(field(b"lines") + number + b"%d" % n))
        return b"\x10" + counted(connect) + b"".join(messages) + b"\xe0\0"

    @pytest.mark.parametrize("qos", [0, 1, 2])
    @pytest.mark.parametrize("way", WAYS)
    def test_a_whole_life_in_one_piece(self, node, way, qos):
        with Client(node, "reader") as reader:
            reader.subscribe([("lines", 2), ("gone", 2)])
            if way == "tcp":
                with socket.create_connection(address(node["mqtt"]), WAIT) as link:
                    link.sendall(self.burst(qos))
            else:
                with websocket(f"ws://{node['http']}{way}", subprotocols=["mqtt"]) as link:
                    link.send(self.burst(qos))
            assert [int(reader.hear().payload) for _ in range(self.COUNT)] == list(range(self.COUNT))
            reader.publish("gone", "end", 2)
            assert reader.hear().payload == b"end", "no will"
