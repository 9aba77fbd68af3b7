"""A server of Everywire's for measurements, in a folder of its own. Python's standard library only; on loopback only.

The binary is the one that `EVERYWIRE_BIN` names.
"""

import atexit
import http.client
import json
import os
import pathlib
import subprocess
import time

READY_SECONDS = 120
PATIENCE_SECONDS = 600
TICKS = os.sysconf("SC_CLK_TCK")
LISTENERS = ("http", "mqtt", "tcp")


def until(holds, seconds=PATIENCE_SECONDS, what="what is waited for"):
    """Waits until something holds; says what, if it doesn't come."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.02)


def cpu_of(pid):
    """Seconds of the processor that a process has used."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Server:
    """A server with these lines as its configuration, and these further arguments."""

    def __init__(self, folder, config="", *arguments):
        folder.mkdir(exist_ok=True)
        self.folder, self.data, self.arguments = folder, folder / "data", arguments
        self.ports = dict.fromkeys(LISTENERS, 0)
        (folder / "everywire.toml").write_text(config)
        self.start()

    def start(self):
        """Starts it, or another life of it at the same ports."""
        folder, ready = self.folder, self.folder / "ready.json"
        ready.unlink(missing_ok=True)
        binary = pathlib.Path(os.environ["EVERYWIRE_BIN"]).resolve()
        listeners = [part for name, port in self.ports.items() for part in (f"--{name}", f"127.0.0.1:{port}")]
        files = ["--config", folder / "everywire.toml", "--data", self.data, "--ready-file", ready]
        self.log = (folder / "log").open("ab")
        self.process = subprocess.Popen([binary, "serve", *listeners, *files, *self.arguments], cwd=folder, stdout=self.log, stderr=self.log)
        atexit.register(self.process.kill)

        def is_ready():
            assert self.process.poll() is None, (folder / "log").read_text()
            try:
                said = json.loads(ready.read_text())
            except (OSError, ValueError):
                return False
            self.ports = {name: int(said[name].rsplit(":", 1)[1]) for name in LISTENERS}
            return True

        until(is_ready, READY_SECONDS, "a server's start")
        self.port = self.ports["http"]

    def ask(self, method, path, body=None, headers=None):
        """An answer's status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()

    def metric(self, name):
        """The sum of a metric over its labels; 0 if nothing has been counted yet."""
        lines = self.ask("GET", "/metrics")[1].decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((name + " ", name + "{")))

    def cpu(self):
        """Seconds of the processor that it has used."""
        return cpu_of(self.process.pid)

    def memory(self, field="VmRSS"):
        """Bytes of resident memory; of their maximum with VmHWM."""
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.split(f"{field}:")[1].split()[0]) << 10

    def threads(self):
        """How many threads it has."""
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    def descriptors(self):
        """How many files and sockets it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def disk(self):
        """Bytes of blocks that its data takes."""
        total = 0
        for folder, _, files in os.walk(self.data):
            for file in files:
                try:
                    total += os.stat(os.path.join(folder, file)).st_blocks * 512
                except OSError:
                    pass
        return total

    def end(self):
        """Ends it in good order."""
        self.process.terminate()
        self.process.wait(READY_SECONDS)
        self.log.close()

    def stop(self):
        """Ends it at once; a drain is of no interest."""
        self.process.kill()
        self.process.wait()
        self.log.close()
