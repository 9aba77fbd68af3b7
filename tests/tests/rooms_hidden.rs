//! Rooms that show their users to admins alone (`see` is `admins`): everybody else sees an alias and a nick, on every
//! wire and in every answer.

use everywire_tests::mqtt::{Mqtt, Opening, packet, text};
use everywire_tests::native::{field, number};
use everywire_tests::people::{Person, configured, person, server};
use everywire_tests::{Cluster, EventStream, JsonSocket, LineStream, Request, Server, Wired, until};
use serde_json::{Value, json};

/// The owner of the room, and a member: names that occur nowhere else.
const NAMES: [&str; 2] = ["annabel", "bobrov"];

/// A room of annabel's that hides its users, with bobrov as Robin and cidonia without a nick.
fn masked(server: &Server) -> [Person; 3] {
    let all = ["annabel", "bobrov", "cidonia"].map(person);
    let [annabel, bobrov, cidonia] = &all;
    assert_eq!(annabel.found(server, "mask", &json!({"see": "admins"}))["see"], "admins");
    let joins = |who: &Person, wish: &Value| who.ask(server, "POST", "/v1/rooms/mask/join", wish);
    until("the room is known", || joins(bobrov, &json!({"nick": "Robin"})).status == 200);
    until("the room is known", || joins(cidonia, &json!({})).status == 200);
    all
}

/// The alias of a user.
fn alias(who: &Person, server: &Server) -> String {
    who.get(server, "/v1/rooms/mask").json()["as"].as_str().expect("an alias").to_owned()
}

/// Says something in the room, and gives its id and cursor.
fn say(who: &Person, server: &Server, more: &str, body: &str) -> (String, String) {
    let request = Request::post(&format!("/v1/messages?topic=room/mask{more}"), body);
    let answer = who.send(server, request.header("Content-Type", "text/plain"));
    assert_eq!(answer.status, 200, "{answer:?}");
    let part = |name: &str| answer.json()[name].as_str().expect("a text").to_owned();
    (part("id"), part("cursor"))
}

/// The connections of a reader, and all that has come to them.
struct Ears {
    socket: JsonSocket,
    wired: Wired,
    client: Mqtt,
    events: EventStream,
    lines: LineStream,
    heard: Vec<(&'static str, Vec<u8>)>,
}

impl Ears {
    fn open(who: &Person, server: &Server) -> Self {
        let mut socket = who.socket(server);
        socket.send(&json!({"subscribe": {"id": 1, "topics": ["$conversations", "room/mask/#", "marker"]}}));
        socket.frame("subscribed");
        let mut wired = who.wired(server);
        let topics = ["room/mask", "room/mask/#", "marker"].map(|topic| field(2, topic.as_bytes()));
        wired.send(&field(2, &[number(1, 1), topics.concat()].concat()));
        wired.frame(2);
        let mut client = who.mqtt_5(server, "reader");
        let filters = ["room/#", "marker"].map(|filter| [text(filter), vec![0]].concat());
        client.send(&packet(0x82, &[&[0, 1, 0][..], &filters.concat()].concat()));
        client.packet_of(9).expect("SUBACK");
        let query = "topic=room/mask&topic=room/mask/%23&topic=marker";
        let request = Request::get(&format!("/v1/stream?{query}"));
        let request = request.header("Authorization", &format!("Bearer {}", who.token));
        let lines = LineStream::open(server.address(), &request);
        Self { socket, wired, client, events: who.events(server, &query["topic=".len()..]), lines, heard: Vec::new() }
    }

    /// Reads frames of the socket until one is meant.
    fn until(&mut self, is_meant: impl Fn(&Value) -> bool) -> Value {
        loop {
            let frame = self.socket.receive().expect("a frame");
            self.heard.push(("WebSocket", frame.to_string().into()));
            if is_meant(&frame) {
                return frame;
            }
        }
    }

    /// The next signal of this kind.
    fn signal(&mut self, kind: &str) -> Value {
        self.until(|frame| frame["signal"]["kind"] == kind)["signal"].clone()
    }

    /// Everything that comes before the marker.
    fn all(mut self) -> Vec<(&'static str, Vec<u8>)> {
        self.until(|frame| frame["message"]["body"] == "end");
        loop {
            let frame = self.wired.receive();
            let is_end = String::from_utf8_lossy(&frame).contains("marker");
            self.heard.push(("TCP", frame));
            if is_end {
                break;
            }
        }
        loop {
            let (_, body) = self.client.packet().expect("a packet");
            let is_end = body.ends_with(b"end");
            self.heard.push(("MQTT", body));
            if is_end {
                break;
            }
        }
        loop {
            let event = self.events.event();
            let text = event.data.unwrap_or_default();
            self.heard.push(("events", text.clone().into()));
            if text.contains("\"end\"") {
                break;
            }
        }
        loop {
            let line = self.lines.next_line();
            self.heard.push(("stream", line.to_string().into()));
            if line["body"] == "end" {
                return self.heard;
            }
        }
    }
}

/// Asserts that none of the names is in what has come.
fn names_nobody(wire: &str, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    assert!(!NAMES.iter().any(|name| text.contains(name)), "{wire}: {text}");
}

/// The texts of all answers that tell of the room or of its messages.
fn answers(who: &Person, server: &Server) -> Vec<(String, Vec<u8>)> {
    let targets = [
        "/v1/rooms/mask",
        "/v1/rooms?member=me",
        "/v1/rooms?listed=1",
        "/v1/rooms/mask/members",
        "/v1/rooms/mask/members?after=cidonia",
        "/v1/rooms/mask/occupants",
        "/v1/conversations",
        "/v1/conversations/room%2Fmask",
        "/v1/messages?topic=room/mask&after=earliest",
        "/v1/messages?topic=room/mask&before=latest",
        "/v1/messages?topic=room/mask/%23&after=earliest",
        "/v1/messages?topic=room/mask&fold=1",
        "/v1/messages?topic=room/mask&after=earliest&wait=1",
    ];
    let answer = |target: &str| {
        let answer = who.get(server, target);
        assert!(answer.status == 200, "{target}: {answer:?}");
        (target.to_owned(), answer.body)
    };
    targets.into_iter().map(answer).collect()
}

#[test]
fn no_wire_and_no_answer_names_a_user() {
    let server = server("");
    let [annabel, bobrov, cidonia] = masked(&server);
    let robin = alias(&bobrov, &server);
    say(&bobrov, &server, "/notice&retain=1", "retained");
    let mut ears = Ears::open(&cidonia, &server);
    let mut socket = bobrov.socket(&server);
    socket.send(&json!({"enter": {"id": 1, "room": "mask"}}));
    assert_eq!(socket.frame("entered")["nick"], "Robin");
    let entered = ears.signal("entered");
    assert_eq!((&entered["user"], &entered["nick"]), (&json!(robin), &json!("Robin")));
    socket.send(&json!({"typing": {"conversation": "room/mask"}}));
    assert_eq!(ears.signal("typing")["user"], robin.as_str());
    let (_, cursor) = say(&cidonia, &server, "&event=chat", "a question");
    socket.send(&json!({"read": {"id": 2, "conversation": "room/mask", "cursor": cursor}}));
    assert_eq!(ears.signal("read")["user"], robin.as_str());
    let (id, _) = say(&bobrov, &server, "&event=chat", "an answer");
    let message = ears.until(|frame| frame["message"]["body"] == "an answer");
    assert_eq!((&message["message"]["from"], &message["message"]["nick"]), (&json!(robin), &json!("Robin")));
    let target = format!("/v1/messages/{id}");
    assert_eq!(cidonia.does(&server, "PATCH", &target, &json!({"body": "mine"})), 403);
    assert_eq!(bobrov.does(&server, "PATCH", &target, &json!({"body": "edited"})), 200);
    assert_eq!(bobrov.does(&server, "PUT", &format!("{target}/reactions/yes"), &json!({})), 200);
    assert_eq!(annabel.does(&server, "PATCH", "/v1/rooms/mask", &json!({"subject": "Venice"})), 200);
    let (recalled, _) = say(&bobrov, &server, "&event=chat", "oops");
    assert_eq!(annabel.does(&server, "DELETE", &format!("/v1/messages/{recalled}"), &json!({})), 200);
    let opening = Opening::new("bobrov").credentials("bobrov", &bobrov.token).will("room/mask", "gone");
    Mqtt::open(server.address_of("mqtt"), &opening).end();
    ears.until(|frame| frame["message"]["body"] == "gone");
    for (wire, bytes) in answers(&cidonia, &server) {
        names_nobody(&wire, &bytes);
    }
    socket.send(&json!({"leave": {"id": 3, "room": "mask"}}));
    assert_eq!(ears.signal("left")["user"], robin.as_str());
    assert_eq!(cidonia.send(&server, Request::post("/v1/messages?topic=marker", "end")).status, 200);
    let all = ears.all();
    for wire in ["WebSocket", "TCP", "MQTT", "events", "stream"] {
        let came: Vec<_> =
            all.iter().filter(|heard| heard.0 == wire).map(|heard| String::from_utf8_lossy(&heard.1)).collect();
        let count = |text: &str| came.iter().filter(|bytes| bytes.contains(text)).count();
        assert!(count(&robin) >= 5 && count("Robin") >= 4 && count("retained") >= 1, "{wire}: {came:?}");
    }
    for (wire, bytes) in &all {
        names_nobody(wire, bytes);
    }
    let folded = cidonia.folded(&server, "room/mask");
    let answer = folded.iter().find(|message| message["id"] == id.as_str()).expect("the answer");
    assert_eq!((&answer["body"], &answer["reactions"]), (&json!("edited"), &json!({"yes": [robin]})));
    // Own messages are not unread, under whatever name they are told.
    let unread = |who: &Person| who.get(&server, "/v1/conversations/room%2Fmask").json()["unread"].clone();
    assert_eq!((unread(&bobrov), unread(&cidonia)), (json!(0), json!(2)));
}

#[test]
fn admins_see_who_is_who_as_long_as_they_are_admins() {
    let server = server("");
    let [annabel, bobrov, cidonia] = masked(&server);
    let robin = alias(&bobrov, &server);
    let (id, _) = say(&bobrov, &server, "&event=chat", "hi");
    let sees = |who: &Person| {
        let members = who.get(&server, "/v1/rooms/mask/members").json()["members"].clone();
        let robin = members.as_array().expect("a list").iter().find(|member| member["nick"] == "Robin");
        let member = robin.expect("a member").clone();
        let author = who.folded(&server, "room/mask")[0]["author"].clone();
        (member["user"].clone(), member["as"].clone(), author, member["presence"].clone())
    };
    let (hidden, shown) = (
        (json!(robin), Value::Null, Value::Null, Value::Null),
        (json!("bobrov"), json!(robin), json!("bobrov"), Value::Null),
    );
    assert_eq!([sees(&annabel), sees(&cidonia)], [shown.clone(), hidden.clone()]);
    assert_eq!(annabel.give(&server, "mask", "cidonia", "admin"), 200);
    assert_eq!(sees(&cidonia), shown);
    assert_eq!(annabel.give(&server, "mask", "cidonia", "member"), 200);
    assert_eq!(sees(&cidonia), hidden);
    // An alias is enough to act on its user.
    assert_eq!(cidonia.give(&server, "mask", &robin, "banned"), 403);
    assert_eq!(annabel.does(&server, "DELETE", &format!("/v1/messages/{id}"), &json!({})), 200);
    assert_eq!(annabel.give(&server, "mask", &robin, "banned"), 200);
    assert_eq!(bobrov.says(&server, "mask", "again"), 403);
}

#[test]
fn nobody_finds_out_by_trying_who_is_in_a_room_that_hides_its_users() {
    let server = server("");
    let [annabel, bobrov, cidonia] = masked(&server);
    let join = |nick: &str| cidonia.does(&server, "POST", "/v1/rooms/mask/join", &json!({ "nick": nick }));
    assert_eq!([join("bobrov"), join("dan"), join("robin")], [200, 200, 409]);
    assert_eq!(join(&alias(&bobrov, &server)), 409, "nobody passes as another");
    assert_eq!(annabel.give(&server, "mask", "eve", "banned"), 200);
    for user in ["bobrov", "eve", "dan"] {
        let answer = cidonia.ask(&server, "POST", "/v1/rooms/mask/invites", &json!({ "user": user }));
        assert_eq!((answer.status, answer.json()["role"].clone()), (200, json!("invited")), "{user}");
    }
    let invited = person("dan").get(&server, "/v1/messages?topic=user/dan");
    assert_eq!(invited.json()["messages"][0]["from"], alias(&cidonia, &server).as_str());
    assert_eq!(annabel.does(&server, "PATCH", "/v1/rooms/mask", &json!({"see": "all"})), 409);
    assert_eq!(annabel.does(&server, "PATCH", "/v1/rooms/mask", &json!({"see": "admins", "title": "M"})), 200);
    annabel.found(&server, "open", &json!({}));
    assert_eq!(annabel.does(&server, "PATCH", "/v1/rooms/open", &json!({"see": "admins"})), 409);
    annabel.found(&server, "other", &json!({"see": "admins"}));
    let other = annabel.get(&server, "/v1/rooms/other").json()["as"].clone();
    assert_ne!(other, alias(&annabel, &server).as_str(), "another alias in each room");
}

#[test]
fn a_room_that_hides_its_users_begins_where_nothing_was_said_before() {
    let annabel = person("annabel");
    let refused = |server: &Server, room: &str, target: &str| {
        let said = annabel.send(server, Request::post(&format!("/v1/messages?topic=room/{target}"), "before"));
        assert_eq!(said.status, 200);
        annabel.does(server, "PUT", &format!("/v1/rooms/{room}"), &json!({"see": "admins"}))
    };
    let keeps = server("");
    assert_eq!([refused(&keeps, "old", "old"), refused(&keeps, "older", "older/minutes")], [409; 2]);
    let keeps_the_last = server("[[topics]]\nmatch = \"room/#\"\nhistory = { max_messages = 0 }\n");
    assert_eq!(refused(&keeps_the_last, "old", "old&retain=1"), 409);
    assert_eq!(refused(&keeps_the_last, "new", "new"), 201, "nothing is kept of it");
}

#[test]
fn a_user_has_one_alias_on_all_nodes() {
    let cluster = Cluster::with(&configured(""));
    let [a, b, c] = &cluster.nodes[..] else { panic!("three nodes") };
    let [_, bobrov, cidonia] = masked(a);
    until("the node knows the room", || bobrov.get(b, "/v1/rooms/mask").json()["nick"] == "Robin");
    until("the node knows the room", || cidonia.get(c, "/v1/rooms/mask").json()["role"] == "member");
    let robin = alias(&bobrov, b);
    let mut socket = cidonia.socket(c);
    socket.send(&json!({"subscribe": {"id": 1, "topics": ["$conversations"]}}));
    socket.frame("subscribed");
    for node in [a, b] {
        say(&bobrov, node, "&event=chat", "hi");
        let message = socket.frame("message");
        assert_eq!((&message["from"], &message["nick"]), (&json!(robin), &json!("Robin")));
    }
    for (target, bytes) in answers(&cidonia, c) {
        names_nobody(&target, &bytes);
    }
    assert_eq!(alias(&bobrov, a), robin);
}
