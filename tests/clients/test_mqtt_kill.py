"""The server is killed again and again under load, or every connection is cut: at least once loses nothing, exactly once
is exactly once, end to end."""

import os
import random
import subprocess
import threading
import time

import paho.mqtt.client as paho
import pytest
import requests
from conftest import until, wait_ready
from paho.mqtt.enums import CallbackAPIVersion, MessageState
from proxy import Proxy

KILLS = 25
CUTS = 10


class Victim:
    """A server that is killed and started again on its data and its port."""

    def __init__(self, folder):
        self.folder, self.port = folder, 0
        self.start()

    def start(self):
        ready = self.folder / "ready.json"
        ready.unlink(missing_ok=True)
        arguments = [os.environ["EVERYWIRE_BIN"], "serve", "--http", "127.0.0.1:0", "--tcp", "off"]
        arguments += ["--mqtt", f"127.0.0.1:{self.port}", "--data", self.folder / "data", "--ready-file", ready]
        self.process = subprocess.Popen(arguments, cwd=self.folder)
        addresses = wait_ready(self.process, ready)
        self.port, self.http = int(addresses["mqtt"].rsplit(":", 1)[1]), addresses["http"]

    def registry(self):
        """How the server sees its connections."""
        operator = {"Authorization": f"Bearer {(self.folder / 'data' / 'admin.token').read_text().strip()}"}
        return requests.get(f"http://{self.http}/v1/connections", headers=operator, timeout=10).text

    def kill(self):
        self.process.kill()
        self.process.wait()


class Client(paho.Client):
    """Paho's, but a release that is to be sent again stays one when connecting fails: paho 2.1 publishes the message anew
    after the second attempt, against MQTT-4.4.0-1 and MQTT-4.3.3-7."""

    def _messages_reconnect_reset_out(self):
        releases = [m for m in self._out_messages.values() if m.state == MessageState.MQTT_MS_RESEND_PUBREL]
        super()._messages_reconnect_reset_out()
        for message in releases:
            message.state = MessageState.MQTT_MS_RESEND_PUBREL


class Pair:
    """A publisher that counts, and a subscriber whose session lasts."""

    def __init__(self, victim, port, qos):
        self.victim, self.qos, self.got, self.sent = victim, qos, [], 0
        self.reader, self.writer = self.client(f"reader {qos}", port), self.client(f"writer {qos}", port)
        subscribed = threading.Event()
        self.reader.on_subscribe = lambda *_: subscribed.set()
        self.reader.on_message = lambda _, __, message: self.got.append(int(message.payload))
        self.reader.subscribe(f"count/{qos}", qos)
        assert subscribed.wait(30)

    def client(self, name, port):
        client = Client(CallbackAPIVersion.VERSION2, name, protocol=paho.MQTTv311, clean_session=False)
        # With 20 acknowledgements under way it waits for room, so that nothing is sent blindly.
        client.max_inflight_messages_set(20)
        client.reconnect_delay_set(1, 1)
        connected = threading.Event()
        client.on_connect = lambda *_: connected.set()
        client.connect("127.0.0.1", port)
        client.loop_start()
        assert connected.wait(30)
        return client

    def publish(self, count):
        for _ in range(count):
            self.last = self.writer.publish(f"count/{self.qos}", str(self.sent), self.qos)
            self.sent += 1

    def await_got(self, count):
        def came():
            return len(set(self.got)) >= count

        try:
            until(came)
        except AssertionError as stalled:
            for client in (self.reader, self.writer):
                under_way = [(m.mid, m.state.name) for m in [*client._out_messages.values(), *client._in_messages.values()]]
                stalled.add_note(f"connected: {client.is_connected()}, under way: {under_way}")
            stalled.add_note(f"{len(set(self.got))} of {self.sent} came; {self.victim.registry()}")
            raise

    def finish(self):
        self.await_got(self.sent)
        for client in (self.reader, self.writer):
            client.disconnect()
            client.loop_stop()

    def check(self):
        assert sorted(set(self.got)) == list(range(self.sent)), "nothing is lost"
        if self.qos == 2:
            assert sorted(self.got) == list(range(self.sent)), "nothing comes twice"


@pytest.mark.parametrize("qos", [1, 2])
def test_kills_lose_nothing(tmp_path, qos):
    moments = random.Random(qos)
    victim = Victim(tmp_path)
    pair = Pair(victim, victim.port, qos)
    try:
        for _ in range(KILLS):
            # So that it dies at any point of the exchange.
            pair.publish(moments.randrange(1, 40))
            time.sleep(moments.random() / 10)
            victim.kill()
            victim.start()
            until(pair.writer.is_connected)
            until(pair.reader.is_connected)
        pair.finish()
    finally:
        victim.kill()
    pair.check()


@pytest.mark.parametrize("qos", [1, 2])
def test_cuts_lose_nothing(tmp_path, qos):
    victim = Victim(tmp_path)
    proxy = Proxy(victim.port)
    pair = Pair(victim, proxy.port, qos)
    try:
        for _ in range(CUTS):
            pair.publish(200)
            pair.await_got(pair.sent - 100)
            proxy.cut()
        pair.finish()
    finally:
        victim.kill()
    pair.check()
