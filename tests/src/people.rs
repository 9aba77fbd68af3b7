//! People with tokens, as they use rooms.

use std::process::Command;

use serde_json::{Value, json};

use crate::mqtt::{Mqtt, Opening, packet, property, text};
use crate::socket::JsonSocket;
use crate::{EventStream, Request, Response, Server, Wired, binary};

const SECRET: &str = "a secret of at least thirty-two bytes";

/// A server that knows users by tokens, with these further lines.
pub fn configured(more: &str) -> String {
    format!("mqtt = \"127.0.0.1:0\"\ntcp = \"127.0.0.1:0\"\n{more}\n[auth]\nsecret = \"{SECRET}\"\n")
}

/// Starts such a server.
pub fn server(more: &str) -> Server {
    Server::with(&configured(more))
}

/// A user with a token.
#[derive(Clone, Debug)]
pub struct Person {
    /// The user's name.
    pub user: String,
    /// The token that proves the name.
    pub token: String,
}

/// A user of this name.
pub fn person(user: &str) -> Person {
    with_token(user, &[])
}

/// The same with further arguments to `everywire token`.
///
/// # Panics
/// When no token is made.
pub fn with_token(user: &str, more: &[&str]) -> Person {
    let mut command = Command::new(binary());
    command.env_clear().env("EVERYWIRE_AUTH_SECRET", SECRET).args(["token", "--user", user]).args(more);
    let output = command.current_dir("/").output().expect("the binary runs");
    assert!(output.status.success(), "{output:?}");
    let token = String::from_utf8(output.stdout).expect("a token").trim().to_owned();
    Person { user: user.into(), token }
}

impl Person {
    /// Sends a request as this person.
    pub fn send(&self, server: &Server, request: Request) -> Response {
        server.send(&request.header("Authorization", &format!("Bearer {}", self.token)))
    }

    /// Sends JSON.
    pub fn ask(&self, server: &Server, method: &str, target: &str, body: &Value) -> Response {
        let request = Request::new(method, target).header("Content-Type", "application/json");
        self.send(server, request.body(body.to_string()))
    }

    /// Gets something.
    pub fn get(&self, server: &Server, target: &str) -> Response {
        self.send(server, Request::get(target))
    }

    /// The status of what is asked for.
    pub fn does(&self, server: &Server, method: &str, target: &str, body: &Value) -> u16 {
        self.ask(server, method, target, body).status
    }

    /// Founds a room.
    ///
    /// # Panics
    /// When it can't.
    pub fn found(&self, server: &Server, room: &str, wish: &Value) -> Value {
        let answer = self.ask(server, "PUT", &format!("/v1/rooms/{room}"), wish);
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()
    }

    /// Joins a room.
    pub fn join(&self, server: &Server, room: &str) -> u16 {
        self.does(server, "POST", &format!("/v1/rooms/{room}/join"), &json!({}))
    }

    /// Says something in a room.
    pub fn says(&self, server: &Server, room: &str, text: &str) -> u16 {
        let target = format!("/v1/messages?topic=room/{room}&event=chat");
        self.send(server, Request::post(&target, text).header("Content-Type", "text/plain")).status
    }

    /// The bodies of a room's messages.
    pub fn reads(&self, server: &Server, room: &str) -> Result<Vec<String>, u16> {
        let answer = self.get(server, &format!("/v1/messages?topic=room/{room}"));
        match answer.status {
            200 => Ok(answer.bodies()),
            204 => Ok(Vec::new()),
            status => Err(status),
        }
    }

    /// Gives a user a role.
    pub fn give(&self, server: &Server, room: &str, user: &str, role: &str) -> u16 {
        let target = format!("/v1/rooms/{room}/members/{user}");
        match role {
            "none" => self.does(server, "DELETE", &target, &json!({})),
            role => self.does(server, "PUT", &target, &json!({ "role": role })),
        }
    }

    /// Connects over MQTT.
    ///
    /// # Panics
    /// When it isn't let in.
    pub fn mqtt(&self, server: &Server) -> Mqtt {
        Mqtt::open(server.address_of("mqtt"), &Opening::new(&self.user).credentials(&self.user, &self.token))
    }

    /// Connects over MQTT 5.0, and asks for the properties that deliveries can carry.
    ///
    /// # Panics
    /// When it isn't let in.
    pub fn mqtt_5(&self, server: &Server, client_id: &str) -> Mqtt {
        let mut client = Mqtt::dial(server.address_of("mqtt"));
        let connect = [
            &text("MQTT")[..],
            &[5, 0xc2, 0, 0],
            &property("everywire-properties", "1"),
            &text(client_id),
            &text(&self.user),
            &text(&self.token),
        ];
        client.send(&packet(0x10, &connect.concat()));
        assert_eq!(client.packet_of(2).expect("CONNACK")[1], 0);
        client
    }

    /// Connects over WebSocket, logged in.
    ///
    /// # Panics
    /// When it isn't let in.
    pub fn socket(&self, server: &Server) -> JsonSocket {
        let mut socket = JsonSocket::open(server.address());
        socket.send(&json!({"hello": {"token": self.token}}));
        assert_eq!(socket.frame("welcome")["user"], self.user.as_str());
        socket
    }

    /// Opens a stream of events of a topic.
    ///
    /// # Panics
    /// When it isn't let in.
    pub fn events(&self, server: &Server, topic: &str) -> EventStream {
        let request = Request::get(&format!("/v1/events?topic={topic}"));
        EventStream::open(server.address(), &request.header("Authorization", &format!("Bearer {}", self.token)))
    }

    /// Connects over TCP in protobuf, logged in.
    pub fn wired(&self, server: &Server) -> Wired {
        Wired::open(server.address_of("tcp"), &self.token)
    }

    /// Says something to a user.
    pub fn tells(&self, server: &Server, whom: &str, text: &str) -> Response {
        let target = format!("/v1/messages?topic=user/{whom}&event=chat");
        self.send(server, Request::post(&target, text).header("Content-Type", "text/plain"))
    }

    /// The messages of a topic, with their changes folded in.
    ///
    /// # Panics
    /// When they can't be read.
    pub fn folded(&self, server: &Server, topic: &str) -> Vec<Value> {
        let answer = self.get(server, &format!("/v1/messages?topic={topic}&fold=1"));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["messages"].as_array().expect("a list").clone()
    }
}
