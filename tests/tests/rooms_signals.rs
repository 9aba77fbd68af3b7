//! Signals on each wire: typing, read marks, comings and goings; and calls of the API in frames.

use everywire_tests::native::{field, number};
use everywire_tests::people::{Person, person, server};
use everywire_tests::{EventStream, JsonSocket, Request, Server, until};
use serde_json::{Value, json};

/// The next signal of this kind.
fn signal(socket: &mut JsonSocket, kind: &str) -> Value {
    loop {
        let signal = socket.frame("signal");
        if signal["kind"] == kind {
            return signal;
        }
    }
}

fn event(stream: &mut EventStream, name: &str) -> Value {
    loop {
        let event = stream.event();
        if event.event.as_deref() == Some(name) {
            assert_eq!(event.id, None, "it has no place in the log");
            return event.json();
        }
    }
}

fn subscribe(socket: &mut JsonSocket, topic: &str) {
    socket.send(&json!({"subscribe": {"id": 1, "topics": [topic]}}));
    assert_eq!(socket.frame("subscribed")["id"], 1);
}

/// Publishes a chat, and gives its id and cursor.
fn chat(socket: &mut JsonSocket, topic: &str, body: &str) -> (String, String) {
    socket.send(&json!({"publish": {"id": 2, "topic": topic, "event": "chat", "body": body}}));
    let published = socket.frame("published");
    let text = |name: &str| published[name].as_str().expect("a text").to_owned();
    (text("message"), text("cursor"))
}

/// A room of ann's, with bob.
fn lobby(server: &Server) -> (Person, Person) {
    let (ann, bob) = (person("ann"), person("bob"));
    ann.found(server, "lobby", &json!({}));
    assert_eq!(bob.join(server, "lobby"), 200);
    (ann, bob)
}

#[test]
fn messages_are_changed_and_roles_given_in_frames() {
    let server = server("");
    let (ann, _) = lobby(&server);
    let mut socket = ann.socket(&server);
    let (id, cursor) = chat(&mut socket, "room/lobby", "helo");
    let mut other = ann.socket(&server);
    subscribe(&mut other, "room/lobby");
    socket.send(&json!({"edit": {"id": 5, "message": id, "body": "hello"}}));
    assert_eq!(socket.frame("published")["id"], 5);
    socket.send(&json!({"react": {"id": 6, "message": id, "key": "👍"}}));
    assert_eq!(socket.frame("published")["id"], 6);
    socket.send(&json!({"role": {"id": 7, "room": "lobby", "user": "eve", "role": "banned"}}));
    assert_eq!(socket.frame("done"), json!({"id": 7}));
    socket.send(&json!({"role": {"id": 8, "room": "lobby", "user": "eve", "role": "none"}}));
    assert_eq!(socket.frame("done"), json!({"id": 8}));
    socket.send(&json!({"read": {"id": 9, "conversation": "room/lobby", "cursor": cursor}}));
    assert_eq!(socket.frame("done"), json!({"id": 9}));
    socket.send(&json!({"conversations": {"id": 10, "limit": 10}}));
    let list = socket.frame("conversations");
    let first = &list["conversations"][0];
    assert_eq!((&list["id"], &list["more"]), (&json!(10), &json!(false)));
    assert_eq!((&first["conversation"], &first["last"]["body"]), (&json!("room/lobby"), &json!("hello")));
    socket.send(&json!({"recall": {"id": 11, "message": id}}));
    assert_eq!(socket.frame("published")["id"], 11);
    for (frame, code) in [
        (json!({"edit": {"id": 12, "message": id, "body": "x"}}), 404),
        (json!({"edit": {"id": 12, "message": "nonsense", "body": "x"}}), 400),
        (json!({"recall": {"id": 12}}), 404),
        (json!({"role": {"id": 12, "room": "none such", "user": "eve", "role": "member"}}), 404),
        (json!({"role": {"id": 12, "room": "lobby", "user": "eve", "role": "king"}}), 400),
        (json!({"read": {"id": 12, "conversation": "room/lobby", "cursor": "a:9"}}), 400),
        (json!({"read": {"id": 12, "conversation": "lobby", "cursor": "a:9"}}), 400),
        (json!({"enter": {"id": 12, "room": "none such"}}), 404),
    ] {
        socket.send(&frame);
        let error = socket.frame("error");
        assert_eq!((&error["id"], &error["code"]), (&json!(12), &json!(code)), "{frame}: {error}");
    }
    assert_eq!(other.frame("message")["event"], "edit", "and all of it was told on the topic");
}

#[test]
fn frames_in_protobuf_say_the_same() {
    let server = server("");
    let (ann, bob) = lobby(&server);
    let mut socket = ann.socket(&server);
    let (id, cursor) = chat(&mut socket, "room/lobby", "helo");
    let mut wired = ann.wired(&server);
    wired.send(&field(11, &[number(1, 5), field(2, id.as_bytes()), field(3, b"hello")].concat()));
    assert_eq!(wired.frame(4).last().map(String::as_str), Some("fsync"));
    let read = |conversation: &[u8], cursor: &str| {
        field(9, &[number(1, 9), field(2, conversation), field(3, cursor.as_bytes())].concat())
    };
    wired.send(&read(b"room/lobby", &cursor));
    assert!(wired.frame(12).is_empty(), "done");
    wired.send(&read(b"room/none", &cursor));
    assert!(wired.frame(6)[0].contains("no such room"));
    wired.send(&field(15, &[number(1, 7), number(4, 10)].concat()));
    let list = wired.frame(13);
    assert!(list[0].contains("room/lobby") && list[0].contains("hello"), "{list:?}");
    wired.send(&field(16, &[number(1, 8), field(2, b"lobby"), field(3, b"Annie")].concat()));
    assert_eq!(wired.frame(14)[..3], ["lobby", "Annie", "moderator"]);
    wired.send(&field(2, &[number(1, 1), field(2, b"room/lobby")].concat()));
    wired.frame(2);
    let mut other = bob.socket(&server);
    other.send(&json!({"typing": {"conversation": "room/lobby"}}));
    while wired.frame(15) != ["room/lobby", "typing", "bob"] {}
    subscribe(&mut other, "room/lobby");
    wired.send(&field(18, &field(1, b"room/lobby")));
    assert_eq!(signal(&mut other, "typing")["user"], "ann");
}

#[test]
fn typing_is_told_on_every_wire_and_once_in_a_while() {
    let server = server("");
    let (ann, bob) = lobby(&server);
    let (mut typist, mut reader) = (ann.socket(&server), bob.socket(&server));
    subscribe(&mut reader, "room/lobby");
    let mut stream = bob.events(&server, "room/lobby");
    for _ in 0..3 {
        typist.send(&json!({"typing": {"conversation": "room/lobby"}}));
    }
    let expected = json!({"conversation": "room/lobby", "kind": "typing", "user": "ann"});
    assert_eq!(signal(&mut reader, "typing"), expected);
    let told = loop {
        let told = event(&mut stream, "signal");
        if told["kind"] == "typing" {
            break told;
        }
    };
    assert_eq!(told, expected);
    // The message comes next: the signal was told once.
    chat(&mut typist, "room/lobby", "hi");
    loop {
        let frame = reader.receive().expect("a frame");
        assert_ne!(frame["signal"]["kind"], "typing", "{frame}");
        if frame["message"]["body"] == "hi" {
            break;
        }
    }
    // A signal isn't kept.
    let bodies = bob.get(&server, "/v1/messages?topic=room/lobby").bodies();
    assert_eq!(bodies, ["hi"]);
    // HTTP sends signals too. The receiver knows the exchange by the sender's name.
    let mut own = ann.socket(&server);
    assert_eq!(bob.does(&server, "POST", "/v1/conversations/user%2Fann/typing", &json!({})), 200);
    let expected = json!({"conversation": "user/bob", "kind": "typing", "user": "bob"});
    assert_eq!(signal(&mut own, "typing"), expected);
    let eve = person("eve");
    assert_eq!(ann.give(&server, "lobby", "eve", "banned"), 200);
    assert_eq!(eve.does(&server, "POST", "/v1/conversations/room%2Flobby/typing", &json!({})), 403);
}

#[test]
fn authors_and_own_devices_hear_what_is_read() {
    let server = server("");
    let (ann, bob) = lobby(&server);
    let carl = person("carl");
    assert_eq!(carl.join(&server, "lobby"), 200);
    let (mut author, mut own, mut other) = (ann.socket(&server), bob.socket(&server), carl.socket(&server));
    for socket in [&mut author, &mut own, &mut other] {
        subscribe(socket, "room/lobby");
    }
    let (_, cursor) = chat(&mut author, "room/lobby", "who reads this?");
    let target = "/v1/conversations/room%2Flobby/read";
    assert_eq!(bob.does(&server, "PUT", target, &json!({"cursor": cursor})), 200);
    let expected = json!({"conversation": "room/lobby", "kind": "read", "user": "bob", "cursor": cursor});
    assert_eq!(signal(&mut author, "read"), expected);
    assert_eq!(signal(&mut own, "read"), expected);
    // In an exchange of two the signal names the other, and its cursor covers the author's own copy.
    let (_, cursor) = chat(&mut author, "user/bob", "and this?");
    let copy = ann.get(&server, "/v1/messages?topic=user/ann").json()["messages"][0]["cursor"].clone();
    let mut exchange = own.frame("message");
    while exchange["topic"] != "user/bob" {
        exchange = own.frame("message");
    }
    own.send(&json!({"received": {"id": 3, "conversation": "user/ann", "cursor": cursor}}));
    assert_eq!(own.frame("done")["id"], 3);
    let received = json!({"conversation": "user/bob", "kind": "received", "user": "bob", "cursor": copy});
    assert_eq!(signal(&mut author, "received"), received);
    own.send(&json!({"read": {"id": 4, "conversation": "user/ann", "cursor": cursor}}));
    let read = json!({"conversation": "user/bob", "kind": "read", "user": "bob", "cursor": copy});
    assert_eq!(signal(&mut author, "read"), read);
    // A user who wrote nothing got none of these signals.
    chat(&mut author, "room/lobby", "over");
    loop {
        let frame = other.receive().expect("a frame");
        assert_ne!(frame["signal"]["kind"], "read", "{frame}");
        if frame["message"]["body"] == "over" {
            break;
        }
    }
}

#[test]
fn a_room_is_entered_and_left() {
    let server = server("");
    let (ann, bob) = lobby(&server);
    let (mut first, mut second) = (ann.socket(&server), bob.socket(&server));
    subscribe(&mut first, "room/lobby");
    second.send(&json!({"enter": {"id": 1, "room": "lobby", "nick": "Bobby"}}));
    let entered = second.frame("entered");
    assert_eq!((&entered["nick"], &entered["voice"]), (&json!("Bobby"), &json!("participant")));
    let told = signal(&mut first, "entered");
    let expected = json!({"conversation": "room/lobby", "kind": "entered", "user": "bob", "nick": "Bobby"});
    assert_eq!(told, expected);
    first.send(&json!({"enter": {"id": 2, "room": "lobby", "nick": "bobby"}}));
    assert_eq!(first.frame("error")["code"], 409, "the nick is taken");
    first.send(&json!({"enter": {"id": 3, "room": "lobby"}}));
    assert_eq!(first.frame("entered")["voice"], "moderator");
    // Another connection of the same user shares the nick, and is no news.
    let mut third = bob.socket(&server);
    third.send(&json!({"enter": {"id": 4, "room": "lobby", "nick": "Robert"}}));
    assert_eq!(third.frame("entered")["nick"], "Bobby");
    let occupants = ann.get(&server, "/v1/rooms/lobby/occupants").json();
    let expected = json!([
        {"user": "ann", "nick": "ann", "voice": "moderator", "connections": 1},
        {"user": "bob", "nick": "Bobby", "voice": "participant", "connections": 2},
    ]);
    assert_eq!(occupants, json!({"occupants": expected, "more": false}));
    assert_eq!(ann.get(&server, "/v1/rooms/lobby").json()["occupants"], 2);
    assert_eq!(person("eve").get(&server, "/v1/rooms/none/occupants").status, 404);
    for socket in [&mut second, &mut third] {
        socket.send(&json!({"leave": {"id": 5, "room": "lobby"}}));
        assert_eq!(socket.frame("done"), json!({"id": 5}));
    }
    assert_eq!(signal(&mut first, "left")["user"], "bob");
    assert_eq!(server.metric("everywire_rooms_occupied").round() as i64, 1);
}

#[test]
fn whoever_is_banned_is_no_occupant_any_more() {
    let server = server("");
    let (ann, bob) = lobby(&server);
    let (mut first, mut second) = (ann.socket(&server), bob.socket(&server));
    subscribe(&mut first, "room/lobby");
    second.send(&json!({"enter": {"id": 1, "room": "lobby"}}));
    second.frame("entered");
    assert_eq!(ann.give(&server, "lobby", "bob", "banned"), 200);
    assert_eq!(signal(&mut first, "left")["user"], "bob");
    assert_eq!(ann.get(&server, "/v1/rooms/lobby/occupants").json()["occupants"], json!([]));
    second.send(&json!({"enter": {"id": 2, "room": "lobby"}}));
    assert_eq!(second.frame("error")["code"], 403);
}

#[test]
fn a_users_own_devices_hear_of_the_users_role_also_of_a_ban() {
    let server = server("");
    let (ann, bob) = lobby(&server);
    let mut socket = bob.socket(&server);
    let mut stream = bob.events(&server, "user/bob");
    let mut mine = bob.events(&server, "$conversations");
    let mut wired = bob.wired(&server);
    let mut anns = ann.socket(&server);
    subscribe(&mut anns, "room/lobby");
    let of_role = |stream: &mut EventStream| loop {
        let told = event(stream, "signal");
        if told["kind"] == "role" {
            return told;
        }
    };
    for role in ["admin", "banned", "none", "member"] {
        assert_eq!(ann.give(&server, "lobby", "bob", role), 200);
        let told = json!({"conversation": "room/lobby", "kind": "role", "user": "bob", "role": role});
        assert_eq!(signal(&mut socket, "role"), told);
        assert_eq!(of_role(&mut stream), told);
        assert_eq!(of_role(&mut mine), told);
        let texts = std::iter::repeat_with(|| wired.frame(15)).find(|texts| texts[1] == "role");
        assert_eq!(texts.expect("a signal"), ["room/lobby", "role", "bob", role]);
    }
    anns.send(&json!({"typing": {"conversation": "user/bob"}}));
    anns.send(&json!({"ping": {}}));
    while let Some(frame) = anns.receive() {
        assert_ne!(frame["signal"]["kind"], "role", "it is bob's own");
        if frame["pong"].is_object() {
            break;
        }
    }
}

#[test]
fn subscribers_are_occupants_where_the_rule_says_so() {
    let server = server("[[topics]]\nmatch = \"room/#\"\npresence = true");
    let (ann, bob) = lobby(&server);
    let mut first = ann.socket(&server);
    subscribe(&mut first, "room/lobby");
    assert_eq!(signal(&mut first, "entered")["user"], "ann");
    let stream = bob.events(&server, "room/lobby");
    assert_eq!(signal(&mut first, "entered")["user"], "bob");
    drop(stream);
    first.send(&json!({"unsubscribe": {"id": 2, "topics": ["room/lobby"]}}));
    let users = || {
        let list = ann.get(&server, "/v1/rooms/lobby/occupants").json()["occupants"].clone();
        list.as_array().expect("a list").iter().map(|one| one["user"].clone()).collect::<Vec<_>>()
    };
    // A user who is cut off may come back for a while. A user who leaves is gone at once.
    until("ann has left", || users() == ["bob"]);
}

#[test]
fn members_see_who_is_there() {
    let server = server("");
    let (ann, bob) = lobby(&server);
    let mut first = ann.socket(&server);
    subscribe(&mut first, "room/lobby");
    let presence = |who: &Person, user: &str| {
        let list = who.get(&server, "/v1/rooms/lobby/members").json()["members"].clone();
        let member = list.as_array().expect("a list").iter().find(|one| one["user"] == user).cloned();
        member.expect("a member")["presence"].clone()
    };
    until("ann is there", || presence(&bob, "ann") == "here");
    assert_eq!(presence(&ann, "bob"), "left");
    let mut second = bob.socket(&server);
    assert_eq!(signal(&mut first, "here"), json!({"conversation": "user/bob", "kind": "here", "user": "bob"}));
    second.send(&json!({"active": {"active": false}}));
    assert_eq!(signal(&mut first, "away")["user"], "bob");
    assert_eq!(presence(&ann, "bob"), "away");
    second.send(&json!({"active": {"active": true}}));
    assert_eq!(signal(&mut first, "here")["user"], "bob");
    // A blocked user doesn't see it.
    assert_eq!(bob.does(&server, "PUT", "/v1/blocked/ann", &json!({})), 200);
    assert_eq!(presence(&ann, "bob"), Value::Null);
}

#[test]
fn members_see_the_wires_of_members_and_how_far_they_have_read() {
    let server = server("");
    let (ann, bob) = lobby(&server);
    let member = |who: &Person, user: &str| {
        let list = who.get(&server, "/v1/rooms/lobby/members").json()["members"].clone();
        list.as_array().expect("a list").iter().find(|one| one["user"] == user).cloned().expect("a member")
    };
    assert_eq!((&member(&ann, "bob")["wires"], &member(&ann, "bob")["read"]), (&Value::Null, &Value::Null));
    let (mut socket, phone) = (bob.socket(&server), bob.mqtt(&server));
    let _events = bob.events(&server, "room/lobby");
    until("bob is there over three wires", || member(&ann, "bob")["wires"] == json!(["mqtt", "sse", "ws"]));
    phone.end();
    until("the phone is off", || member(&ann, "bob")["wires"] == json!(["sse", "ws"]));
    let mut writer = ann.socket(&server);
    let (_, cursor) = chat(&mut writer, "room/lobby", "hi");
    socket.send(&json!({"read": {"id": 1, "conversation": "room/lobby", "cursor": cursor}}));
    socket.frame("done");
    assert_eq!(member(&ann, "bob")["read"], cursor.as_str());
    assert_eq!(person("eve").get(&server, "/v1/rooms/lobby/members").json()["members"][1]["read"], Value::Null);
    // Between two, the mark is told as it is in one's own inbox.
    let between = |who: &Person, other: &str| who.get(&server, &format!("/v1/conversations/user%2F{other}")).json();
    assert_eq!(ann.tells(&server, "bob", "psst").status, 200);
    assert_eq!(between(&ann, "bob")["theirs"], Value::Null);
    let last = |who: &Person, other: &str| between(who, other)["last"]["cursor"].clone();
    let read = json!({"cursor": last(&bob, "ann")});
    assert_eq!(bob.does(&server, "PUT", "/v1/conversations/user%2Fann/read", &read), 200);
    assert_eq!(between(&ann, "bob")["theirs"], last(&ann, "bob"));
    assert_eq!(between(&ann, "bob")["wires"], json!(["sse", "ws"]));
    assert_eq!(bob.does(&server, "PUT", "/v1/blocked/ann", &json!({})), 200);
    assert_eq!((&between(&ann, "bob")["theirs"], &between(&ann, "bob")["wires"]), (&Value::Null, &Value::Null));
}

#[test]
fn members_hear_that_their_room_has_ended() {
    let server = server("");
    let (ann, bob) = lobby(&server);
    let mut devices = [bob.socket(&server), bob.socket(&server), ann.socket(&server)];
    for socket in &mut devices {
        subscribe(socket, "$conversations");
    }
    let mut eve = person("eve").socket(&server);
    subscribe(&mut eve, "room/lobby");
    assert_eq!(ann.does(&server, "DELETE", "/v1/rooms/lobby", &json!({})), 200);
    for (socket, user) in devices.iter_mut().zip(["bob", "bob", "ann"]) {
        let expected = json!({"conversation": "room/lobby", "kind": "role", "user": user, "role": "none"});
        assert_eq!(signal(socket, "role"), expected);
    }
    // The topic is nobody's now: it isn't theirs any more.
    let request = |topic: &str| Request::post(&format!("/v1/messages?topic={topic}"), topic);
    assert_eq!(ann.send(&server, request("room/lobby")).status, 200);
    assert_eq!(ann.send(&server, request("user/bob")).status, 200);
    assert_eq!(devices[0].frame("message")["topic"], "user/bob");
    assert_eq!(eve.frame("message")["topic"], "room/lobby");
}

#[test]
fn departures_beyond_their_bound_are_counted() {
    let server = server("[limits]\npresence_departures = 1\nroom_crowd = 1\n");
    let (ann, bob) = lobby(&server);
    let untold = || server.metric("everywire_presence_untold_total");
    assert!(untold() < 1.0);
    drop([ann.socket(&server), bob.socket(&server)]);
    until("the second is counted", || untold() >= 1.0);
}

#[test]
fn one_subscription_brings_everything_of_mine() {
    let server = server("");
    let (ann, bob) = lobby(&server);
    let mut writer = ann.socket(&server);
    let (mut socket, mut stream) = (bob.socket(&server), bob.events(&server, "$conversations"));
    subscribe(&mut socket, "$conversations");
    let (_, cursor) = chat(&mut writer, "room/lobby", "one");
    assert_eq!(socket.frame("message")["body"], "one");
    assert_eq!(event_body(&mut stream), "one");
    // A room that is joined later is subscribed too, and one that is left is not any more.
    ann.found(&server, "later", &json!({}));
    assert_eq!(bob.join(&server, "later"), 200);
    assert_eq!(socket.frame("conversation")["conversation"], "room/later");
    chat(&mut writer, "room/later", "two");
    assert_eq!(socket.frame("message")["body"], "two");
    assert_eq!(event_body(&mut stream), "two");
    chat(&mut writer, "user/bob", "three");
    assert_eq!(socket.frame("message")["body"], "three");
    assert_eq!(event_body(&mut stream), "three");
    assert_eq!(bob.does(&server, "POST", "/v1/rooms/later/leave", &json!({})), 200);
    chat(&mut writer, "room/later", "four");
    let target = "/v1/conversations/room%2Flobby/read";
    assert_eq!(bob.does(&server, "PUT", target, &json!({"cursor": cursor})), 200);
    // A read mark or a setting of another device is told with the number of unread messages.
    let told = loop {
        let frame = socket.receive().expect("a frame");
        assert_ne!(frame["message"]["body"], "four", "it is not mine any more");
        if frame["conversation"]["conversation"] == "room/lobby" {
            break frame["conversation"].clone();
        }
    };
    assert_eq!((&told["read"], &told["unread"]), (&json!(cursor), &json!(0)));
    assert_eq!(bob.does(&server, "PATCH", "/v1/conversations/room%2Flobby", &json!({"muted": true})), 200);
    assert_eq!(socket.frame("conversation")["muted"], true);
    assert_eq!(event(&mut stream, "conversation")["conversation"], "room/lobby");
    // A client without a user has no conversations.
    let mut nobody = JsonSocket::open(server.address());
    nobody.send(&json!({"subscribe": {"id": 3, "topics": ["$conversations"]}}));
    assert_eq!(nobody.frame("error")["code"], 401);
}

fn event_body(stream: &mut EventStream) -> String {
    loop {
        let event = stream.event();
        if event.event.as_deref() == Some("chat") {
            return event.body();
        }
    }
}

#[test]
fn a_room_is_joined_by_its_password() {
    let server = server("");
    let (ann, bob) = (person("ann"), person("bob"));
    assert_eq!(ann.does(&server, "PUT", "/v1/rooms/club", &json!({"join": "password"})), 400, "it needs one");
    let room = ann.found(&server, "club", &json!({"join": "password", "password": "sesame", "greet": 2}));
    assert_eq!((&room["join"], &room["greet"], room.get("password")), (&json!("password"), &json!(2), None));
    assert_eq!((ann.says(&server, "club", "psst"), bob.reads(&server, "club")), (200, Err(403)));
    let join = |password: Value| bob.does(&server, "POST", "/v1/rooms/club/join", &json!({"password": password}));
    assert_eq!(
        [join(Value::Null), join(json!("")), join(json!("Sesame")), join(json!("sesame"))],
        [403, 403, 403, 200]
    );
    assert_eq!(bob.reads(&server, "club"), Ok(vec!["psst".into()]));
    let mut socket = bob.socket(&server);
    socket.send(&json!({"enter": {"id": 1, "room": "club"}}));
    assert_eq!(socket.frame("entered")["greet"], 2);
    // After a change of the password the old one lets nobody in. Members stay.
    let change = json!({"password": "open sesame"});
    assert_eq!(ann.does(&server, "PATCH", "/v1/rooms/club", &change), 200);
    let eve = person("eve");
    let join = |password: &str| eve.does(&server, "POST", "/v1/rooms/club/join", &json!({"password": password}));
    assert_eq!([join("sesame"), join("open sesame")], [403, 200]);
    assert_eq!(ann.does(&server, "PATCH", "/v1/rooms/club", &json!({"join": "open", "password": "x"})), 400);
}

#[test]
fn what_is_asked_of_rooms_counts_as_publishing() {
    const ASKED: usize = 40;
    let server = server("[limits]\nuser_publishes_per_second = 2\n");
    let ann = person("ann");
    let found = |n: usize| ann.does(&server, "PUT", &format!("/v1/rooms/r{n}"), &json!({}));
    assert_eq!(found(0), 201);
    // All at once: a slow machine asks no more than it may, one by one.
    let founded: Vec<u16> = std::thread::scope(|scope| {
        let all: Vec<_> = (1..ASKED).map(|n| scope.spawn(move || found(n))).collect();
        all.into_iter().map(|one| one.join().expect("an answer")).collect()
    });
    assert!(founded.contains(&429), "{founded:?}");
    assert!(founded.iter().all(|status| [201, 429].contains(status)), "{founded:?}");
    // Reading doesn't count.
    assert_eq!(ann.get(&server, "/v1/rooms").status, 200);
    let mut socket = ann.socket(&server);
    for _ in 0..ASKED {
        socket.send(&json!({"role": {"id": 1, "room": "r0", "user": "eve", "role": "banned"}}));
    }
    let answers = (0..ASKED).map(|_| socket.receive().expect("a frame"));
    let error = answers.map(|frame| frame["error"].clone()).find(Value::is_object).expect("too many");
    assert_eq!((&error["code"], &error["id"]), (&json!(429), &json!(1)));
}
