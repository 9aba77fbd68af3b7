//! Wires with a connection both ways: the native protocol (docs/protocol.md), in JSON over WebSocket and in protobuf
//! over TCP, and MQTT.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Start;
use everywire_base::envelope::{Envelope, is_json};
use everywire_base::topic::Filter;
use everywire_native_frames::{
    self as pb, ClientFrame, Encode as _, Length, PREAMBLE, ServerFrame, client_frame::Frame as Asked,
    server_frame::Frame as Said,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest as _;
use tungstenite::{Message, WebSocket};

use crate::address::Server;
use crate::error::{ClientError, Problem};
use crate::mqtt::{self, Mqtt};
use crate::publish::{Publish, Published};
use crate::subscription::{Close, Gap};

const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// The longest silence of a server that is taken: it pings after 25 s of silence.
pub(crate) const SILENCE: Duration = Duration::from_secs(50);
/// The longest frame that is taken, in bytes.
pub(crate) const MAX_FRAME: u64 = 64 << 20;
/// The port of the native protocol, unless the address names one.
const TCP_PORT: u16 = 7222;
/// The port of HTTP and WebSocket, if the address is another wire's.
const HTTP_PORT: u16 = 8080;

/// The wire of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// WebSocket, in JSON.
    WebSocket,
    /// TCP, in protobuf.
    Tcp,
    /// TCP, as MQTT.
    Mqtt,
}

/// A frame from the server.
pub(crate) enum Told {
    Subscribed(String),
    Published(Published),
    Message(Box<Envelope>, bool),
    Gap(Gap),
    Close(Close),
    Error(Problem),
    Other,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Native {
    link: Link,
    server: String,
}

#[derive(Debug)]
enum Link {
    WebSocket(Box<WebSocket<TcpStream>>),
    Tcp(TcpStream),
    Mqtt(Mqtt),
}

/// A frame in JSON.
#[derive(Deserialize)]
struct Frame {
    subscribed: Option<Subscribed>,
    published: Option<PublishedFrame>,
    message: Option<Value>,
    gap: Option<Gap>,
    close: Option<Close>,
    error: Option<ErrorFrame>,
}

#[derive(Deserialize)]
struct Subscribed {
    cursor: String,
}

#[derive(Deserialize)]
struct PublishedFrame {
    #[serde(default)]
    message: String,
    #[serde(default)]
    cursor: String,
    durability: String,
}

#[derive(Deserialize)]
struct ErrorFrame {
    code: u16,
    reason: String,
    retry_after_ms: Option<u64>,
}

impl From<ErrorFrame> for Problem {
    fn from(error: ErrorFrame) -> Self {
        let retry_after = error.retry_after_ms.map(Duration::from_millis);
        Self { status: error.code, title: String::new(), detail: error.reason, retry_after }
    }
}

impl Native {
    /// Connects, and logs in with a token.
    pub(crate) fn connect(server: &Server, over: Over, token: Option<&str>) -> Result<Self, ClientError> {
        let server = &match over {
            Over::WebSocket => server.of_wire("http", HTTP_PORT),
            Over::Tcp => server.of_wire("tcp", TCP_PORT),
            Over::Mqtt => server.of_wire("mqtt", mqtt::PORT),
        };
        let what = || format!("connecting to {server}");
        let mut addresses = server.place().to_socket_addrs().map_err(|error| ClientError::io(what(), &error))?;
        let address = addresses.next().ok_or_else(|| ClientError::Address(format!("{server} has no address")))?;
        let stream = TcpStream::connect_timeout(&address, CONNECT_WITHIN);
        let stream = stream.map_err(|error| ClientError::io(what(), &error))?;
        let prepared = stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(SILENCE)));
        prepared
            .and_then(|()| stream.set_write_timeout(Some(SILENCE)))
            .map_err(|error| ClientError::io(what(), &error))?;
        let link = match over {
            Over::WebSocket => websocket(server, stream, token)?,
            Over::Tcp => Link::Tcp(stream),
            Over::Mqtt => Link::Mqtt(Mqtt::login(stream, token)?),
        };
        let mut native = Self { link, server: server.to_string() };
        if let Link::Tcp(stream) = &mut native.link {
            stream.write_all(PREAMBLE).map_err(|error| ClientError::io(what(), &error))?;
            if let Some(token) = token {
                native.send(&json!({}), Asked::Hello(pb::Hello { token: token.to_owned(), ..pb::Hello::default() }))?;
            }
        }
        Ok(native)
    }

    /// Asks for topics.
    pub(crate) fn subscribe(&mut self, topics: &[Filter], start: &Start) -> Result<(), ClientError> {
        if let Link::Mqtt(mqtt) = &mut self.link {
            return mqtt.subscribe(topics, start);
        }
        let topics: Vec<String> = topics.iter().map(|filter| filter.as_str().to_owned()).collect();
        let after = match start {
            Start::Latest => "latest".to_owned(),
            Start::Earliest => "earliest".to_owned(),
            Start::After(cursor) => cursor.to_string(),
        };
        let json = json!({"subscribe": {"id": 1, "topics": topics, "after": after}});
        self.send(&json, Asked::Subscribe(pb::Subscribe { id: 1, topics, after }))
    }

    /// Publishes a message, and waits for its acknowledgement.
    pub(crate) fn publish(&mut self, message: &Publish) -> Result<Published, ClientError> {
        if let Link::Mqtt(mqtt) = &mut self.link {
            // A PUBACK says nothing else.
            let topic = message.topic.to_string();
            return mqtt.publish(message).map(|()| Published { topic, ..Published::default() });
        }
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (topic, ttl) = (message.topic.to_string(), message.ttl.map_or(0, |ttl| ttl.as_secs()));
        let mut fields = json!({
            "id": 1, "topic": topic, "event": message.event, "key": message.key, "type": message.content_type,
            "ttl": ttl, "retain": message.retain, "ref": message.about, "body_base64": STANDARD.encode(&message.body),
        });
        if let Value::Object(fields) = &mut fields {
            fields.retain(|_, value| !value.is_null());
        }
        let frame = pb::Publish {
            id: 1,
            topic: topic.clone(),
            body: message.body.clone(),
            r#type: text(&message.content_type),
            event: text(&message.event),
            key: text(&message.key),
            ttl,
            retain: message.retain,
            r#ref: text(&message.about),
        };
        self.send(&json!({"publish": fields}), Asked::Publish(frame))?;
        loop {
            match self.receive()? {
                Told::Published(published) => return Ok(Published { topic, ..published }),
                Told::Error(problem) => return Err(ClientError::Refused(problem)),
                Told::Close(close) => return Err(self.ended(&close.reason)),
                _ => {}
            }
        }
    }

    fn send(&mut self, json: &Value, frame: Asked) -> Result<(), ClientError> {
        let sent = match &mut self.link {
            Link::WebSocket(socket) => socket.send(Message::text(json.to_string())).map_err(|error| error.to_string()),
            Link::Tcp(stream) => {
                let mut bytes = Vec::new();
                pb::frame(&ClientFrame { frame: Some(frame) }.encode_to_vec(), &mut bytes);
                stream.write_all(&bytes).map_err(|error| error.to_string())
            }
            // MQTT has packets of its own.
            Link::Mqtt(_) => Ok(()),
        };
        sent.map_err(|message| self.cut(message))
    }

    /// The next frame from the server.
    pub(crate) fn receive(&mut self) -> Result<Told, ClientError> {
        match &mut self.link {
            Link::Mqtt(mqtt) => mqtt.receive(),
            Link::WebSocket(socket) => match socket.read() {
                Ok(Message::Text(text)) => told(text.as_str()),
                Ok(Message::Close(_)) => Err(self.ended("it closed the WebSocket")),
                Ok(_) => Ok(Told::Other),
                Err(tungstenite::Error::Io(error)) => {
                    Err(ClientError::io(format!("reading from {}", self.server), &error))
                }
                Err(error) => Err(self.cut(error.to_string())),
            },
            Link::Tcp(stream) => {
                let frame = read_frame(stream)
                    .map_err(|error| ClientError::io(format!("reading from {}", self.server), &error))?;
                let frame =
                    ServerFrame::decode(&frame[..]).map_err(|error| ClientError::Protocol(error.to_string()))?;
                match frame.frame {
                    Some(Said::Ping(_)) => {
                        self.send(&json!({}), Asked::Pong(pb::Pong {}))?;
                        Ok(Told::Other)
                    }
                    Some(frame) => Ok(told_by(frame)),
                    None => Ok(Told::Other),
                }
            }
        }
    }

    fn cut(&self, message: String) -> ClientError {
        let what = format!("the connection with {}", self.server);
        ClientError::Unreachable { what, kind: std::io::ErrorKind::ConnectionReset, message }
    }

    fn ended(&self, why: &str) -> ClientError {
        self.cut(why.to_owned())
    }
}

fn websocket(server: &Server, stream: TcpStream, token: Option<&str>) -> Result<Link, ClientError> {
    let wrong = |error: &dyn std::fmt::Display| ClientError::Address(format!("{server}: {error}"));
    let url = format!("ws://{}/v1/ws", server.authority());
    let mut request = url.into_client_request().map_err(|error| wrong(&error))?;
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().map_err(|_| wrong(&"the token has characters that none has"))?;
        request.headers_mut().insert("Authorization", value);
    }
    match tungstenite::client(request, stream) {
        Ok((socket, _)) => Ok(Link::WebSocket(Box::new(socket))),
        Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(response))) => {
            let status = response.status().as_u16();
            let known = response.body().as_ref().and_then(|body| serde_json::from_slice::<Problem>(body).ok());
            let title = response.status().to_string();
            let unknown = || Problem { status, title, detail: String::new(), retry_after: None };
            Err(ClientError::Refused(known.unwrap_or_else(unknown)))
        }
        Err(error) => Err(ClientError::Unreachable {
            what: format!("connecting to {server}"),
            kind: std::io::ErrorKind::ConnectionReset,
            message: error.to_string(),
        }),
    }
}

fn read_frame(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    loop {
        match everywire_native_frames::length(&head) {
            Length::Known(len, _) if len <= MAX_FRAME => {
                let mut frame = vec![0; len as usize];
                stream.read_exact(&mut frame)?;
                return Ok(frame);
            }
            Length::Unknown => {
                let mut byte = [0];
                stream.read_exact(&mut byte)?;
                head.push(byte[0]);
            }
            Length::Known(..) | Length::Malformed => return Err(std::io::ErrorKind::InvalidData.into()),
        }
    }
}

fn told(text: &str) -> Result<Told, ClientError> {
    let wrong = |error: serde_json::Error| ClientError::Protocol(format!("a frame is not understood: {error}"));
    let frame: Frame = serde_json::from_str(text).map_err(wrong)?;
    Ok(match frame {
        Frame { message: Some(message), .. } => {
            let retained = message.get("retained") == Some(&Value::Bool(true));
            Told::Message(serde_json::from_value(message).map_err(wrong)?, retained)
        }
        Frame { subscribed: Some(subscribed), .. } => Told::Subscribed(subscribed.cursor),
        Frame { published: Some(p), .. } => Told::Published(Published {
            id: p.message,
            topic: String::new(),
            cursor: p.cursor,
            durability: p.durability,
        }),
        Frame { gap: Some(gap), .. } => Told::Gap(gap),
        Frame { close: Some(close), .. } => Told::Close(close),
        Frame { error: Some(error), .. } => Told::Error(error.into()),
        _ => Told::Other,
    })
}

fn told_by(frame: Said) -> Told {
    let some = |text: String| (!text.is_empty()).then_some(text);
    match frame {
        Said::Message(m) => {
            let content_type = some(m.r#type);
            let parsed =
                content_type.as_deref().filter(|t| is_json(t)).and_then(|_| serde_json::from_slice(&m.body).ok());
            let text = String::from_utf8(m.body);
            let (body, body_base64) = match (parsed, text) {
                (Some(json), _) => (Some(json), None),
                (None, Ok(text)) => (Some(Value::String(text)), None),
                (None, Err(bytes)) => (None, Some(STANDARD.encode(bytes.as_bytes()))),
            };
            let envelope = Envelope {
                id: m.id,
                topic: m.topic,
                cursor: m.cursor,
                time: UnixMillis(m.time).to_string(),
                from: some(m.from),
                nick: some(m.nick),
                to: some(m.to),
                about: some(m.r#ref),
                event: some(m.event),
                content_type,
                body,
                body_base64,
            };
            Told::Message(Box::new(envelope), m.retained)
        }
        Said::Subscribed(s) => Told::Subscribed(s.cursor),
        Said::Published(p) => Told::Published(Published {
            id: p.message,
            topic: String::new(),
            cursor: p.cursor,
            durability: p.durability,
        }),
        Said::Gap(g) => Told::Gap(Gap { topic: some(g.topic), after: some(g.after), earliest: some(g.earliest) }),
        Said::Close(c) => Told::Close(Close { reason: c.reason, reconnect: c.reconnect, delay_ms: c.delay_ms }),
        Said::Error(e) => {
            let code = u16::try_from(e.code).unwrap_or(500);
            let retry_after_ms = (e.retry_after_ms > 0).then_some(e.retry_after_ms);
            Told::Error(ErrorFrame { code, reason: e.reason, retry_after_ms }.into())
        }
        _ => Told::Other,
    }
}
