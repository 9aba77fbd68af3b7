"""A server of its own for each test, on the built binary."""

import functools
import json
import os
import pathlib
import re
import subprocess
import time

import pytest
from native_client import compile_schema

READY_SECONDS = 30


@pytest.fixture
def server(node):
    """The address of a running server's HTTP."""
    return f"http://{node['http']}"


@pytest.fixture
def settings():
    """Variables for the server; a module says its own."""
    return {}


@pytest.fixture(scope="session")
def schema(tmp_path_factory):
    """The schema of the native protocol, made by protoc."""
    return compile_schema(tmp_path_factory.mktemp("schema"))


@pytest.fixture
def node(tmp_path, settings):
    """The addresses of a running server."""
    binary = pathlib.Path(os.environ["EVERYWIRE_BIN"])
    assert binary.is_file(), f"there is no binary at {binary}: cargo build -p everywire-server"
    ready = tmp_path / "ready.json"
    arguments = [binary, "serve", "--http", "127.0.0.1:0", "--tcp", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--data", tmp_path / "data", "--ready-file", ready]
    process = subprocess.Popen(arguments, cwd=tmp_path, env=os.environ | settings)
    try:
        drain = functools.cache(process.terminate)
        yield wait_ready(process, ready) | {"drain": drain, "binary": binary, "data": tmp_path / "data"}
    finally:
        # Once: a second signal ends it at once.
        drain()
        assert process.wait(timeout=READY_SECONDS) == 0


def documented(language, marker):
    """The block of docs/http.md in this language that holds a marker."""
    text = (pathlib.Path(__file__).parents[2] / "docs" / "http.md").read_text()
    blocks = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return next(block for block in blocks if marker in block)


def wait_ready(process, file):
    """Waits for the ready file; gives what it says."""

    def said():
        assert process.poll() is None, "the server ended instead of getting ready"
        try:
            return json.loads(file.read_text())
        except (OSError, ValueError):
            return None

    return until(said)


def until(found):
    """Asks until the answer is true; gives the answer. Looks are counted, so that a machine that stands still loses one."""
    for _ in range(READY_SECONDS * 100):
        if answer := found():
            return answer
        time.sleep(0.01)
    raise AssertionError(f"{found.__name__}: not within {READY_SECONDS} seconds")
