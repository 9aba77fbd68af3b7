"""The proxy of these tests: an end on either side comes out on the other, and a cut on both."""

import contextlib
import socket

import pytest
from proxy import Proxy

WAIT = 30


@pytest.fixture
def link():
    """Both ends of a connection through the proxy, and the proxy."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy = Proxy(server.getsockname()[1])
        with socket.create_connection(("127.0.0.1", proxy.port), WAIT) as client:
            far, _ = server.accept()
            far.settimeout(WAIT)
            with far:
                client.sendall(b"to")
                assert far.recv(9) == b"to"
                far.sendall(b"fro")
                assert client.recv(9) == b"fro"
                yield client, far, proxy


@pytest.mark.parametrize("first", [0, 1])
def test_an_end_on_one_side_is_an_end_on_the_other(link, first):
    one, other = link[first], link[1 - first]
    one.shutdown(socket.SHUT_WR)
    assert other.recv(9) == b""
    other.sendall(b"still there")
    assert one.recv(99) == b"still there"
    other.close()
    assert one.recv(9) == b""


def test_a_cut_ends_both_sides(link):
    client, far, proxy = link
    proxy.cut()
    for end in (client, far):
        with contextlib.suppress(ConnectionError):
            assert end.recv(9) == b""


def test_a_server_that_is_away_is_an_end():
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    proxy = Proxy(port)
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", proxy.port), WAIT) as client, contextlib.suppress(ConnectionError):
            assert client.recv(9) == b""
