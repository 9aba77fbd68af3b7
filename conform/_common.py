"""Shared bits of the checks: result counting, MQTT packet reading."""
import socket
import struct
import sys
import time
import traceback


class Suite:
    """Counts named checks, prints one line each and the final `NAME: P passed, F failed`."""

    def __init__(self, name, only=None, expect_fail=()):
        self.name, self.only = name, only
        self.expect_fail = set(expect_fail)
        self.passed, self.failed, self.skipped = [], [], []

    def wants(self, label):
        return not self.only or any(o in label for o in self.only)

    def ok(self, label, good=True, note=""):
        if not self.wants(label):
            return good
        (self.passed if good else self.failed).append(label)
        print(("PASS " if good else "FAIL ") + label + (("  -- " + str(note)) if note else ""), flush=True)
        return good

    def skip(self, label, why=""):
        self.skipped.append(label)
        print("SKIP %s  -- %s" % (label, why), flush=True)

    def run(self, label, fn, *args):
        """fn returns None/True for a pass, False or an exception for a failure."""
        if not self.wants(label):
            return None
        t = time.time()
        try:
            r = fn(*args)
            return self.ok(label, r is None or bool(r), "%.1fs" % (time.time() - t))
        except Exception as e:
            tb = traceback.extract_tb(e.__traceback__)[-1]
            return self.ok(label, False, "%s: %s (line %s)" % (type(e).__name__, str(e)[:300], tb.lineno))

    def finish(self):
        if self.skipped:
            print("(%d skipped)" % len(self.skipped))
        if self.failed:
            print("failed: " + ", ".join(self.failed))
        print("%s: %d passed, %d failed" % (self.name, len(self.passed), len(self.failed)), flush=True)
        sys.exit(1 if self.failed or not self.passed else 0)


# ---- MQTT wire helpers -------------------------------------------------------

def recv_exact(sock, n):
    buf = b""
    while len(buf) < n:
        d = sock.recv(n - len(buf))
        if not d:
            return buf
        buf += d
    return buf


def read_packet(sock):
    """One whole MQTT packet as bytes; b'' at end of stream."""
    first = recv_exact(sock, 1)
    if not first:
        return b""
    head, mult, rl = first, 1, 0
    while True:
        b = recv_exact(sock, 1)
        if not b:
            return head
        head += b
        rl += (b[0] & 127) * mult
        mult *= 128
        if b[0] & 128 == 0 or len(head) > 5:
            break
    return head + recv_exact(sock, rl)


def split_packets(data):
    out, i = [], 0
    while i < len(data):
        j, mult, rl = i + 1, 1, 0
        while j < len(data):
            rl += (data[j] & 127) * mult
            mult *= 128
            j += 1
            if data[j - 1] & 128 == 0:
                break
        out.append(data[i:j + rl])
        i = j + rl
    return out


def _varint(b, i):
    mult, v = 1, 0
    while True:
        v += (b[i] & 127) * mult
        mult *= 128
        i += 1
        if b[i - 1] & 128 == 0:
            return v, i


_PROP = {0x01: "B", 0x02: "I", 0x03: "s", 0x08: "s", 0x09: "b", 0x0B: "v", 0x11: "I", 0x12: "s", 0x13: "H",
         0x15: "s", 0x16: "b", 0x17: "B", 0x18: "I", 0x19: "B", 0x1A: "s", 0x1C: "s", 0x1F: "s", 0x21: "H",
         0x22: "H", 0x23: "H", 0x24: "B", 0x25: "B", 0x26: "p", 0x27: "I", 0x28: "B", 0x29: "B", 0x2A: "B"}


def props(b, i):
    """MQTT 5 property block at i -> (list of (id, value), next index)."""
    n, i = _varint(b, i)
    end, out = i + n, []
    while i < end:
        pid, i = _varint(b, i)
        k = _PROP[pid]
        if k in "BHI":
            size = struct.calcsize("!" + k)
            out.append((pid, struct.unpack("!" + k, b[i:i + size])[0]))
            i += size
        elif k == "v":
            v, i = _varint(b, i)
            out.append((pid, v))
        else:
            vals = []
            for _ in range(2 if k == "p" else 1):
                ln = struct.unpack("!H", b[i:i + 2])[0]
                vals.append(b[i + 2:i + 2 + ln])
                i += 2 + ln
            out.append((pid, tuple(vals)))
    if i != end:
        raise ValueError("property length")
    return out, i


def normal(pkt, ver):
    """A packet's meaning, leaving out what a server may choose freely: CONNACK properties, reason strings and
    user properties on acks, the short form of acks, and 'no matching subscribers' (0x10) versus success."""
    t = pkt[0] >> 4
    _, i = _varint(pkt, 1)
    if t == 2:
        return (2, pkt[i] & 1, pkt[i + 1])
    if t == 3:
        qos = (pkt[0] >> 1) & 3
        ln = struct.unpack("!H", pkt[i:i + 2])[0]
        topic = pkt[i + 2:i + 2 + ln]
        i += 2 + ln
        mid = 0
        if qos:
            mid = struct.unpack("!H", pkt[i:i + 2])[0]
            i += 2
        pr = []
        if ver == 5:
            pr, i = props(pkt, i)
        # a message expiry may have counted down by a second or so
        pr = sorted((p, "~") if p == 2 else (p, v) for p, v in pr if p != 0x26) + [x for x in pr if x[0] == 0x26]
        return (3, pkt[0] & 15, topic, mid, tuple(pr), pkt[i:])
    if t in (4, 5, 6, 7):
        mid = struct.unpack("!H", pkt[i:i + 2])[0]
        rc = pkt[i + 2] if len(pkt) > i + 2 else 0
        return (t, pkt[0] & 15, mid, 0 if rc == 0x10 else rc)
    if t in (9, 11):
        mid = struct.unpack("!H", pkt[i:i + 2])[0]
        i += 2
        if ver == 5:
            _, i = props(pkt, i)
        return (t, mid, pkt[i:])
    if t in (14, 15):
        return (t, pkt[i] if len(pkt) > i else 0)
    return (t, pkt[i:])


def same_packet(got, want):
    if got == want:
        return True
    for ver in (5, 4):
        try:
            if normal(got, ver) == normal(want, ver):
                return True
        except (IndexError, struct.error, KeyError, ValueError):
            pass
    return False


def wait_port(host, port, timeout=20):
    end = time.time() + timeout
    while time.time() < end:
        try:
            socket.create_connection((host, port), 1).close()
            return True
        except OSError:
            time.sleep(0.1)
    return False
