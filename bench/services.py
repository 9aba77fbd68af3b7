"""Services on Redis for measurements: Everywire, and nginx with nchan. Each has two nodes, on loopback."""

import atexit
import contextlib
import http.client
import os
import pathlib
import socket
import subprocess
import threading
import time

from server import Server, cpu_of, until

NCHAN = pathlib.Path(os.environ.get("NCHAN_MODULE", "/usr/lib/nginx/modules/ngx_nchan_module.so"))
KEEP_ALL = '[[topics]]\nmatch = "#"\nhistory = { max_messages = 100000000, max_bytes = "4GiB" }\n'
START_SECONDS = 60
PROMOTION_SECONDS = 30
DOWN_MS = 1000
# A sentinel begins the next failover after twice this time at the earliest.
FAILOVER_MS = 2000
# A port of loopback at which no Redis is.
NOBODY = "1"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Redis:
    """A Redis, or a sentinel, of its own."""

    def __init__(self, folder, *arguments, file=None):
        folder.mkdir(exist_ok=True)
        self.folder, self.arguments, self.file, self.port = folder, arguments, file, free_port()
        self.start()

    def start(self, *more):
        command = ["redis-server", *([self.file] if self.file else []), "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--dir", self.folder, *([] if self.file else ["--save", ""]), *self.arguments, *more]
        self.log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        atexit.register(self.process.kill)
        until(lambda: self.ask("PING") == "PONG", START_SECONDS, "the start of a Redis")

    def ask(self, *words):
        """The answer to a command; empty if there is none."""
        told = subprocess.run(["redis-cli", "-p", str(self.port), *words], capture_output=True, check=False)
        return told.stdout.decode().strip()

    def cpu(self):
        return cpu_of(self.process.pid)

    def kill(self):
        self.process.kill()
        self.process.wait()


def is_replica(redis):
    return "master_link_status:up" in redis.ask("INFO", "replication")


class Replicated:
    """A master with two replicas, and a sentinel that watches over them."""

    def __init__(self, folder):
        folder.mkdir()
        self.all = [Redis(folder / f"redis{n}", "--repl-diskless-sync-delay", "0") for n in range(3)]
        for replica in self.all[1:]:
            replica.ask("REPLICAOF", "127.0.0.1", str(self.all[0].port))
        until(lambda: all(map(is_replica, self.all[1:])), START_SECONDS, "the start of the replicas")
        file = folder / "sentinel.conf"
        file.write_text(
            f"sentinel monitor main 127.0.0.1 {self.all[0].port} 1\n"
            f"sentinel down-after-milliseconds main {DOWN_MS}\nsentinel failover-timeout main {FAILOVER_MS}\n"
        )
        self.sentinel = Redis(folder, "--sentinel", file=file)
        knows = lambda: self.sentinel.ask("SENTINEL", "replicas", "main").count("name") >= 2
        until(knows, START_SECONDS, "the sentinel's list of replicas")

    def master(self):
        port = self.sentinel.ask("SENTINEL", "get-master-addr-by-name", "main").split()[-1]
        return next(redis for redis in self.all if redis.port == int(port))

    def fail_over(self, alone):
        """Kills the master, which has been without replicas for so many seconds, waits for another one, and starts it again as a
        replica of that one; a sentinel alone would take ten seconds to make it one. Returns how long the service had no master.
        """
        master = self.master()
        replicas = [redis for redis in self.all if redis is not master]
        if alone:
            for replica in replicas:
                replica.ask("REPLICAOF", "127.0.0.1", NOBODY)
            time.sleep(alone)
        begun = time.monotonic()
        master.kill()
        until(lambda: self.master() is not master, PROMOTION_SECONDS, "another master")
        took, now = time.monotonic() - begun, self.master()
        master.start("--replicaof", f"127.0.0.1 {now.port}")

        def follow():
            """Asks again: a sentinel may have said something else meanwhile."""
            behind = [redis for redis in self.all if redis is not now and not is_replica(redis)]
            for redis in behind:
                redis.ask("REPLICAOF", "127.0.0.1", str(now.port))
                time.sleep(0.2)
            return not behind

        until(follow, PROMOTION_SECONDS, "replicas of the new master")
        return took

    def end(self):
        for redis in [self.sentinel, *self.all]:
            redis.kill()


class Everywire:
    """Two nodes, under a supervisor: a node whose log has lost its end ends, and is started again."""

    name = "Everywire"

    def __init__(self, folder, redis, options=""):
        folder.mkdir()
        self.is_over, self.lives = threading.Event(), 2
        if isinstance(redis, Replicated):
            url = f"redis-sentinel://127.0.0.1:{redis.sentinel.port}/main"
        else:
            url = f"redis://127.0.0.1:{redis.port}"
        arguments = ["--engine", url + options, "--workers", "1"]
        self.nodes = [Server(folder / n, KEEP_ALL, *arguments, "--node", n) for n in "ab"]
        self.supervisor = threading.Thread(target=self.supervise, daemon=True)
        self.supervisor.start()

    def supervise(self):
        while not self.is_over.wait(0.05):
            for node in self.nodes:
                if node.process.poll() is not None:
                    self.lives += 1
                    # One that ends at its start is started again.
                    with contextlib.suppress(AssertionError):
                        node.start()

    def publish(self, connection, topic, body):
        """Whether a message is acknowledged; a key makes it safe to send it again."""
        connection.request("POST", f"/v1/messages?topic={topic}", body, {"Idempotency-Key": body})
        answer = connection.getresponse()
        answer.read()
        return answer.status == 200

    def listen(self, topic):
        return f"/v1/events?topic={topic}&after=earliest&format=body"

    def end(self):
        self.is_over.set()
        self.supervisor.join()
        for node in self.nodes:
            node.stop()


class Nginx:
    """A server of nginx with nchan."""

    def __init__(self, folder, redis):
        folder.mkdir()
        servers = redis.all if isinstance(redis, Replicated) else [redis]
        names = "".join(f"nchan_redis_server redis://127.0.0.1:{one.port};\n" for one in servers)
        self.port = free_port()
        (folder / "nginx.conf").write_text(f"""
load_module {NCHAN};
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 8192; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream redis {{ {names} }}
  server {{
    listen 127.0.0.1:{self.port} reuseport;
    nchan_message_buffer_length 1000000; nchan_message_timeout 1h; nchan_channel_timeout 1h;
    location ~ ^/pub/(.+)$ {{ nchan_publisher http; nchan_channel_id $1; nchan_redis_pass redis; }}
    location ~ ^/sub/(.+)$ {{
      nchan_subscriber eventsource; nchan_channel_id $1; nchan_subscriber_first_message oldest; nchan_redis_pass redis;
    }}
  }}
}}
""")
        self.log = (folder / "log").open("wb")
        self.process = subprocess.Popen(["nginx", "-p", folder, "-c", folder / "nginx.conf"], stdout=self.log, stderr=self.log)
        atexit.register(self.process.terminate)
        until(self.is_there, START_SECONDS, "nginx's first message in Redis")

    def is_there(self):
        assert self.process.poll() is None, (pathlib.Path(self.log.name)).read_text()
        try:
            # It listens before it has its Redis.
            one = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            one.request("POST", "/pub/ready", "x")
            return one.getresponse().status in (200, 201, 202)
        except OSError:
            return False

    def cpu(self):
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return sum(cpu_of(pid) for pid in [self.process.pid, *children])

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


class Nchan:
    """Two servers of nginx with nchan."""

    name = "nginx with nchan"

    def __init__(self, folder, redis, _=""):
        folder.mkdir()
        self.lives = 2
        self.nodes = [Nginx(folder / n, redis) for n in "ab"]

    def publish(self, connection, topic, body):
        connection.request("POST", f"/pub/{topic}", body)
        answer = connection.getresponse()
        answer.read()
        return answer.status in (200, 201, 202)

    def listen(self, topic):
        return f"/sub/{topic}"

    def end(self):
        for node in self.nodes:
            node.stop()
