"""People, a bot and a device in one room, each over another wire."""

import json
import pathlib
import subprocess
import sys
import urllib.request

BOT = pathlib.Path(__file__).parents[2] / "examples" / "room_bot.py"


def ask(server, method, path, body=None, token=None, kind="application/json"):
    headers = {"Content-Type": kind} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode() if body is not None else None
    with urllib.request.urlopen(urllib.request.Request(server + path, data, headers, method=method), timeout=60) as answer:
        return json.loads(answer.read() or b"null")


def test_a_bot_answers_a_guest_and_a_device(server, node):
    ann = ask(server, "POST", "/v1/guests", {"name": "Ann"})["token"]
    ask(server, "PUT", "/v1/rooms/lobby", {"title": "Lobby"}, ann)
    bot = subprocess.Popen([sys.executable, BOT, "--server", server, "--room", "lobby"], stdout=subprocess.PIPE, text=True)
    try:
        assert "listens in room/lobby" in bot.stdout.readline()
        ask(server, "POST", "/v1/messages?topic=room/lobby&event=chat", "!ping", ann, "text/plain")
        command = [node["binary"], "pub", "room/lobby", "!who", "--event", "chat", "--via", "mqtt"]
        subprocess.run([*command, "--server", f"mqtt://{node['mqtt']}", "--token", ann], timeout=60, check=True)
        bodies, cursor = [], "earliest"
        while len(bodies) < 4:
            page = ask(server, "GET", f"/v1/messages?topic=room/lobby&after={cursor}&wait=20", token=ann)
            bodies += [message["body"] for message in page["messages"]]
            cursor = page["cursor"]
    finally:
        bot.terminate()
        bot.wait(timeout=60)
    assert sorted(bodies)[:2] == ["!ping", "!who"] and "pong" in bodies, bodies
    assert any("Bot" in body for body in bodies), bodies
    members = ask(server, "GET", "/v1/rooms/lobby/members", token=ann)["members"]
    assert {member["role"] for member in members} == {"owner", "member"}


def test_an_operator_sees_to_rooms_from_the_command_line(server, node):
    ann, bob = (ask(server, "POST", "/v1/guests", {"name": name}) for name in ("Ann", "Bob"))
    ask(server, "PUT", "/v1/rooms/a%2Fb", {"title": "A to B", "join": "members", "listed": False}, ann["token"])
    ask(server, "PUT", f"/v1/rooms/a%2Fb/members/{bob['user']}", {"role": "member"}, ann["token"])

    def room(*arguments):
        command = [node["binary"], "room", *arguments, "--server", server, "--data", node["data"]]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    assert room("list") == "a/b\t2\tmembers\tA to B\n"
    assert "topic\troom/a%2Fb\n" in room("show", "a/b")
    assert [line.split("\t")[:2] for line in room("members", "a/b").splitlines()] == sorted([[ann["user"], "owner"], [bob["user"], "member"]])
    room("kick", "a/b", bob["user"])
    assert len(room("members", "a/b").splitlines()) == 1
