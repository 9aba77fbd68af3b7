"""A network between a client and a server that fails when it is told to."""

import contextlib
import socket
import threading


class Proxy:
    """Passes bytes on, and the end of either side, and cuts all connections when it is told to."""

    def __init__(self, port):
        self.target, self.pairs = ("127.0.0.1", port), []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(near,), daemon=True).start()

    def serve(self, near):
        """One connection to its end. A socket is closed only when nobody reads it any more: until then no FIN would go out."""
        with near:
            try:
                far = socket.create_connection(self.target)
            except OSError:
                return
            with far:
                self.pairs.append((near, far))
                back = threading.Thread(target=pump, args=(far, near), daemon=True)
                back.start()
                pump(near, far)
                back.join()

    def cut(self):
        pairs, self.pairs = self.pairs, []
        for pair in pairs:
            shut(*pair)


def pump(one, other):
    """Passes on what one side says until it ends, and then that it has ended."""
    try:
        while data := one.recv(65536):
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)
    except OSError:
        shut(one, other)


def shut(*ends):
    """Ends connections in both directions, whoever reads them."""
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
