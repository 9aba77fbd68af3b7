"""The command line over WebSocket, native TCP and MQTT."""

import subprocess

import pytest


@pytest.mark.parametrize("publish", ["http", "ws", "tcp", "mqtt"])
@pytest.mark.parametrize("read", ["sse", "ws", "tcp", "mqtt"])
def test_what_is_published_over_one_wire_is_read_over_another(node, publish, read):
    def everywire(*arguments, via):
        server = f"{via}://{node[via]}" if via in ("tcp", "mqtt") else f"http://{node['http']}"
        command = [node["binary"], *arguments, "--via", via, "--server", server]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    everywire("pub", "room/42", "hi", "--event", "chat", "--key", "k", via=publish)
    everywire("pub", "room/42", '{"n":1}', "--type", "application/json", via=publish)
    bodies = everywire("sub", "room/#", "--after", "earliest", "--count", "2", via=read)
    assert bodies == 'hi\n{"n":1}\n'


def test_a_refusal_is_told(node):
    for via, server in [("ws", f"http://{node['http']}"), ("tcp", f"tcp://{node['tcp']}"), ("mqtt", f"mqtt://{node['mqtt']}")]:
        command = [node["binary"], "sub", "user/ann", "--via", via, "--server", server]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1
        assert "needs an identity" in done.stderr, done.stderr
