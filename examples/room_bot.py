#!/usr/bin/env python3
"""A bot that answers in a room, over HTTP and Server-Sent Events, with nothing but the standard library.

    python3 examples/room_bot.py --room lobby                      # as a guest, where guests are taken
    python3 examples/room_bot.py --room lobby --token "$TOKEN"

It answers `!ping`, `!dice` and `!who`. It follows the room by its cursor, so that a cut loses nothing, and publishes under
keys made of the message that it answers, so that nothing is answered twice.
"""

import argparse
import hashlib
import json
import time
import urllib.error
import urllib.parse
import urllib.request


class Api:
    def __init__(self, server, token):
        self.server, self.token = server.rstrip("/"), token

    def ask(self, method, path, body=None, kind="application/json", **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()} | {"Content-Type": kind}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.server + path, data, headers, method=method)
        return urllib.request.urlopen(request, timeout=60)

    def json(self, *args, **kwargs):
        with self.ask(*args, **kwargs) as answer:
            return json.load(answer)


def events(api, topic, cursor):
    """The messages of a topic above a cursor, and after a cut above the last one."""
    while True:
        try:
            path = f"/v1/events?topic={urllib.parse.quote(topic, safe='')}&after={urllib.parse.quote(cursor)}"
            with api.ask("GET", path) as stream:
                event = {}
                for line in stream:
                    name, _, value = line.decode().rstrip("\n").partition(": ")
                    if name:
                        event[name] = value
                    elif "data" in event and event.get("event") not in ("gap", "close", "signal"):
                        message, event = json.loads(event["data"]), {}
                        cursor = message["cursor"]
                        yield message
                    else:
                        event = {}
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise SystemExit(f"the server says {error.code}: {error.read().decode()}") from error
        except OSError:
            pass
        time.sleep(1)


def answer(api, room, message):
    """What the bot says to a message, if it says anything."""
    words = str(message.get("body", "")).split()
    if words[:1] == ["!ping"]:
        return "pong"
    if words[:1] == ["!dice"]:
        # Made of the message, so that whoever asks again gets the same.
        return f"{message['from']} rolls a {hashlib.sha256(message['id'].encode()).digest()[0] % 6 + 1}"
    if words[:1] == ["!who"]:
        return ", ".join(member["nick"] for member in api.json("GET", f"/v1/rooms/{room}/members")["members"])
    return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", default="http://127.0.0.1:8080")
    parser.add_argument("--room", required=True)
    parser.add_argument("--token")
    parser.add_argument("--nick", default="Bot")
    options = parser.parse_args()
    api, room = Api(options.server, options.token), urllib.parse.quote(options.room, safe="")
    if not api.token:
        api.token = api.json("POST", "/v1/guests", {"name": options.nick})["token"]
    joined = api.json("POST", f"/v1/rooms/{room}/join", {"nick": options.nick})
    print(f"{joined['user']} listens in {joined['topic']}", flush=True)
    for message in events(api, joined["topic"], joined["cursor"]):
        if message.get("event", "chat") != "chat" or message.get("from") in (None, joined["user"]):
            continue
        if (text := answer(api, room, message)) is not None:
            path = f"/v1/messages?topic={urllib.parse.quote(joined['topic'], safe='')}&event=chat"
            api.ask("POST", path, text, "text/plain", Idempotency_Key=f"answer-{message['id']}").close()


if __name__ == "__main__":
    main()
