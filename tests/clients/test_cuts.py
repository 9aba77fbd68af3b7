"""Readers whose connections are cut again and again: they come back by themselves, and miss nothing."""

import subprocess

import pytest
import requests
from conftest import until
from proxy import Proxy

CUTS = 6
BATCH = 50


@pytest.mark.parametrize("via", ["sse", "ws", "tcp", "mqtt"])
def test_a_reader_that_is_cut_gets_everything_once_and_in_order(node, server, via):
    scheme = via if via in ("tcp", "mqtt") else "http"
    proxy = Proxy(int(node[scheme].rsplit(":", 1)[1]))
    address = f"{scheme}://127.0.0.1:{proxy.port}"
    command = [node["binary"], "sub", "t", "--after", "earliest", "--count", str(CUTS * BATCH), "--via", via, "--server", address]
    reader = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    with requests.Session() as session:
        for cut in range(CUTS):
            for n in range(BATCH):
                session.post(f"{server}/v1/messages?topic=t", data=str(cut * BATCH + n), timeout=10).raise_for_status()
                if n == BATCH // 2:
                    until(lambda: proxy.pairs)
                    proxy.cut()
    out, _ = reader.communicate(timeout=60)
    assert out.split() == [str(n) for n in range(CUTS * BATCH)]
