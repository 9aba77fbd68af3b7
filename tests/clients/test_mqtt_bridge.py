"""A bridge of Debian's mosquitto to this server, with its default settings and others: both ways, and what it says of itself."""

import queue
import shutil
import socket
import subprocess

import paho.mqtt.client as paho
import pytest
import requests
from conftest import until
from paho.mqtt.enums import CallbackAPIVersion

WAIT = 30
STATE = "$SYS/broker/connection/home.everywire/state"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Reader:
    """A client of either server; what comes stands in a queue."""

    def __init__(self, port, *filters):
        self.messages, answers = queue.Queue(), queue.Queue()
        self.paho = paho.Client(CallbackAPIVersion.VERSION2)
        self.paho.on_message = lambda _, __, message: self.messages.put((message.topic, message.payload.decode(), message.retain))
        self.paho.on_subscribe = lambda *_: answers.put(True)
        self.paho.connect("127.0.0.1", port)
        self.paho.loop_start()
        for one in filters:
            self.paho.subscribe(one, 2)
            assert answers.get(timeout=WAIT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.paho.disconnect()
        self.paho.loop_stop()

    def publish(self, topic, body, qos, retain=False):
        self.paho.publish(topic, body, qos, retain).wait_for_publish(WAIT)

    def hear(self):
        return self.messages.get(timeout=WAIT)


class Mosquitto:
    """mosquitto with a bridge to this server."""

    def __init__(self, node, folder, *settings):
        binary = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
        assert binary, "mosquitto isn't installed: ./dev/install"
        self.port, self.folder = free_port(), folder
        lines = [f"listener {self.port} 127.0.0.1", "allow_anonymous true", "connection everywire", f"address {node['mqtt']}"]
        lines += ["remote_clientid home.everywire", "topic both/# both 2", "topic # out 1 local/ remote/", *settings]
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
        self.process = subprocess.Popen([binary, "-c", folder / "mosquitto.conf"], stderr=subprocess.DEVNULL)

        def listens():
            try:
                return socket.create_connection(("127.0.0.1", self.port))
            except OSError:
                return None

        until(listens).close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(timeout=WAIT)


# The default is 3.1.1 with the bit of a bridge in its level.
WAYS = {
    "default": [],
    "not private": ["try_private false"],
    "3.1": ["bridge_protocol_version mqttv31"],
    "3.1, not private": ["bridge_protocol_version mqttv31", "try_private false"],
    "5.0": ["bridge_protocol_version mqttv50"],
}


@pytest.mark.parametrize("way", WAYS)
def test_messages_go_both_ways_and_the_bridge_says_whether_it_is_there(node, tmp_path, way):
    port = int(node["mqtt"].rsplit(":", 1)[1])
    with Reader(port, STATE, "both/#", "remote/#") as here:
        with Mosquitto(node, tmp_path, *WAYS[way]) as mosquitto, Reader(mosquitto.port, "both/#") as there:
            # The state before the bridge is connected, if it was quick enough; then that it is.
            while here.hear() != (STATE, "1", False):
                pass
            for qos in range(3):
                there.publish("both/out", f"out {qos}", qos)
                assert there.hear() == ("both/out", f"out {qos}", False), "its own client has it at once"
                assert here.hear() == ("both/out", f"out {qos}", False)
                # A message from the bridge goes back only where the server isn't told that the client is one.
                if way in ("not private", "3.1, not private"):
                    assert there.hear() == ("both/out", f"out {qos}", False)
                here.publish("both/in", f"in {qos}", qos)
                assert here.hear() == ("both/in", f"in {qos}", False)
                assert there.hear() == ("both/in", f"in {qos}", False)
            there.publish("local/temperature", "21", 1)
            assert here.hear() == ("remote/temperature", "21", False)
            answer = requests.post(f"http://{node['http']}/v1/messages?topic=both/in", data="by HTTP", timeout=WAIT)
            assert answer.ok
            assert here.hear() == ("both/in", "by HTTP", False)
            assert there.hear() == ("both/in", "by HTTP", False)
            with Reader(port, STATE) as late:
                assert late.hear() == (STATE, "1", True), "its state is retained"
        # Killed: its will says that it is gone.
        assert here.hear() == (STATE, "0", False)


def test_without_notifications_it_says_nothing_of_itself(node, tmp_path):
    port = int(node["mqtt"].rsplit(":", 1)[1])
    with Reader(port, "$SYS/broker/connection/#", "remote/#") as here, Mosquitto(node, tmp_path, "notifications false") as mosquitto:
        with Reader(mosquitto.port) as there:
            there.publish("local/a", "through", 1)
            assert here.hear() == ("remote/a", "through", False)


def test_a_retained_message_stays_retained_over_a_bridge(node, tmp_path):
    port = int(node["mqtt"].rsplit(":", 1)[1])
    with Reader(port, STATE) as here, Mosquitto(node, tmp_path) as mosquitto:
        while here.hear() != (STATE, "1", False):
            pass
        here.publish("both/lamp", "on", 1, retain=True)

        def retained():
            with Reader(mosquitto.port, "both/lamp") as late:
                try:
                    return late.messages.get(timeout=1) == ("both/lamp", "on", True)
                except queue.Empty:
                    return False

        until(retained)
