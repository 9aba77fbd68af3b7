//! Unread counts are the same on three devices of one user, on three wires, through cuts and `kill -9`.

use everywire_tests::mqtt::{self, Mqtt, Opening};
use everywire_tests::people::{Person, configured, person};
use everywire_tests::{Chance, EventStream, JsonSocket, Request, Server, Setup};
use serde_json::{Value, json};

const ROUNDS: usize = 4;

/// A device's own view of the room: the chats of others that came, each once, and the read mark.
#[derive(Default)]
struct Device {
    chats: Vec<(u64, String)>,
    read: u64,
}

impl Device {
    fn hear(&mut self, message: &Value, owner: &Person) {
        let (at, body) = (offset(text(message, "cursor")), text(message, "body"));
        assert!(self.chats.last().is_none_or(|(last, _)| *last < at), "{body} comes once, and in its place");
        if message["from"] != owner.user.as_str() {
            self.chats.push((at, body.to_owned()));
        }
    }

    fn unread(&self) -> u64 {
        self.chats.iter().filter(|(at, _)| *at > self.read).count() as u64
    }
}

fn offset(cursor: &str) -> u64 {
    cursor.rsplit(':').next().and_then(|text| text.parse().ok()).expect("a cursor")
}

/// The server's count, over HTTP.
fn counted(bob: &Person, server: &Server) -> u64 {
    let answer = bob.get(server, "/v1/conversations/room%2Flobby").json();
    assert_eq!(answer["exact"], true);
    answer["unread"].as_u64().expect("a number")
}

/// The server's count, in a frame.
fn framed(socket: &mut JsonSocket) -> u64 {
    socket.send(&json!({"conversations": {"id": 7}}));
    let list = socket.frame("conversations");
    let lobby = list["conversations"].as_array().expect("a list").iter().find(|c| c["conversation"] == "room/lobby");
    lobby.expect("the room")["unread"].as_u64().expect("a number")
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().expect("a text")
}

/// Goes on over SSE from the last event, and reads up to the last message.
fn read_events(bob: &Person, server: &Server, from: &mut Option<String>, last: &str, device: &mut Device) {
    let mut request = Request::get("/v1/events?topic=$conversations&after=earliest");
    if let Some(id) = &from {
        request = request.header("Last-Event-ID", id);
    }
    let request = request.header("Authorization", &format!("Bearer {}", bob.token));
    let mut stream = EventStream::open(server.address(), &request);
    while device.chats.last().is_none_or(|(_, body)| body != last) {
        let event = stream.event();
        if event.event.as_deref() == Some("chat") {
            let message = event.json();
            from.clone_from(&event.id);
            device.hear(&message, bob);
        }
    }
}

/// The same over WebSocket.
fn read_frames(bob: &Person, socket: &mut JsonSocket, after: &str, last: &str, device: &mut Device) -> String {
    let mut cursor = after.to_owned();
    socket.send(&json!({"subscribe": {"id": 1, "topics": ["$conversations"], "after": after}}));
    while device.chats.last().is_none_or(|(_, body)| body != last) {
        let message = socket.frame("message");
        if message["event"] == "chat" {
            text(&message, "cursor").clone_into(&mut cursor);
            device.hear(&message, bob);
        }
    }
    cursor
}

/// The same for a lasting session over MQTT. Messages that come again are skipped.
fn read_packets(client: &mut Mqtt, last: &str, bodies: &mut Vec<String>) {
    while bodies.last().is_none_or(|body| body != last) {
        let packet = client.packet_of(3).expect("a message");
        let topic = usize::from(packet[0]) << 8 | usize::from(packet[1]);
        let (tag, body) = packet[2 + topic..].split_at(2);
        client.send(&mqtt::packet(0x40, tag));
        let body = String::from_utf8(body.to_vec()).expect("a text");
        if !bodies.contains(&body) {
            bodies.push(body);
        }
    }
}

#[test]
fn what_is_unread_is_the_same_on_three_devices_after_cuts_and_kills() {
    let mut server = Setup::new().config(&configured("")).start();
    let (ann, bob) = (person("ann"), person("bob"));
    ann.found(&server, "lobby", &json!({}));
    assert_eq!(bob.join(&server, "lobby"), 200);
    let mut random = Chance::new(17);
    let (mut web, mut stream, mut packets) = (Device::default(), Device::default(), Vec::new());
    let (mut after, mut event) = ("earliest".to_owned(), None);
    let opening = || Opening { clean: false, ..Opening::new("meter").credentials("bob", &bob.token) };
    let mut client = Mqtt::open(server.address_of("mqtt"), &opening());
    client.send(&mqtt::packet(0x82, &[&[0, 1][..], &mqtt::text("room/lobby"), &[1]].concat()));
    client.packet_of(9).expect("SUBACK");
    for round in 0..ROUNDS {
        let count = 3 + random.below(5);
        for n in 0..count {
            assert_eq!(ann.says(&server, "lobby", &format!("{round}.{n}")), 200);
        }
        let last = format!("{round}.{}", count - 1);
        assert_eq!(bob.says(&server, "lobby", "mine"), 200, "what one says oneself is not unread");
        let mut socket = bob.socket(&server);
        after = read_frames(&bob, &mut socket, &after, &last, &mut web);
        read_events(&bob, &server, &mut event, &last, &mut stream);
        read_packets(&mut client, &last, &mut packets);
        // One device reads some of the chats. The others take over its read mark.
        let chat = web.chats[web.chats.len() - 1 - random.below(count) as usize].0;
        let cursor = format!("{}:{chat}", after.rsplit_once(':').expect("a cursor").0);
        socket.send(&json!({"read": {"id": 3, "conversation": "room/lobby", "cursor": cursor}}));
        assert_eq!(socket.frame("done")["id"], 3);
        (web.read, stream.read) = (web.read.max(chat), stream.read.max(chat));
        let counts = [framed(&mut socket), counted(&bob, &server), web.unread(), stream.unread()];
        assert_eq!(counts, [counts[0]; 4], "{round}");
        let received: Vec<&String> = packets.iter().filter(|body| *body != "mine").collect();
        assert_eq!(received.len(), web.chats.len());
        // All connections are cut, and the server is killed.
        drop(socket);
        drop(client);
        server = server.kill().start();
        assert_eq!(counted(&bob, &server), counts[0], "after the kill");
        client = Mqtt::dial(server.address_of("mqtt"));
        client.send(&opening().bytes());
    }
}
