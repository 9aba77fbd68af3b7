//! MQTT 5.0 over TCP, at least once both ways (docs/mqtt.md).

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use everywire_base::cursor::Start;
use everywire_base::envelope::{Envelope, is_json};
use everywire_base::id::MessageId;
use everywire_base::topic::Filter;
use everywire_mqtt_packets::{
    Ack, AckKind, Connack, Connect, Disconnect, Frame, Id, Options, Packet, Properties, Publish, Reason, Side, Suback,
    Subscribe, Version, frame, names,
};
use serde_json::Value;

use crate::error::{ClientError, Problem};
use crate::native::{MAX_FRAME, SILENCE, Told};
use crate::publish;
use crate::subscription::Close;

/// The port of MQTT, unless the address names one.
pub(crate) const PORT: u16 = 1883;
/// The longest silence of the client, in seconds.
const KEEP_ALIVE: u16 = 25;
/// The packet identifier: only one is under way at a time.
const NUMBER: NonZeroU16 = NonZeroU16::MIN;

/// A connection.
#[derive(Debug)]
pub(crate) struct Mqtt {
    stream: TcpStream,
    /// The bytes of a packet that has not come whole.
    bytes: Vec<u8>,
    /// The time at which the server was last heard.
    heard: Instant,
}

impl Mqtt {
    /// Logs in, with a token as the password.
    pub(crate) fn login(stream: TcpStream, token: Option<&str>) -> Result<Self, ClientError> {
        let ping = Duration::from_secs(KEEP_ALIVE.into());
        stream.set_read_timeout(Some(ping)).map_err(|error| reading(&error))?;
        let mut mqtt = Self { stream, bytes: Vec::new(), heard: Instant::now() };
        mqtt.send(&Packet::Connect(Box::new(Connect {
            version: Version::V5,
            is_bridge: false,
            clean_start: true,
            keep_alive: KEEP_ALIVE,
            client_id: "".into(),
            will: None,
            user_name: None,
            password: token.map(|token| token.to_owned().into()),
            properties: Properties::default().with_pair(names::ASKS, "1"),
        })))?;
        let login = |packet: &Packet<'_>| match packet {
            Packet::Connack(Connack { reason: Reason::Success, .. }) => Some(Ok(())),
            Packet::Connack(Connack { reason, properties, .. }) => Some(Err(refused(*reason, properties))),
            _ => None,
        };
        loop {
            if let Some(done) = mqtt.next(login)? {
                return done.map(|()| mqtt);
            }
        }
    }

    /// Asks for topics.
    pub(crate) fn subscribe(&mut self, topics: &[Filter], start: &Start) -> Result<(), ClientError> {
        let properties = match start {
            Start::Latest => Properties::default(),
            Start::Earliest => Properties::default().with_pair(names::AFTER, "earliest"),
            Start::After(cursor) => Properties::default().with_pair(names::AFTER, &cursor.to_string()),
        };
        let options = Options { qos: 1, ..Options::default() };
        let filters = topics.iter().map(|filter| (filter.as_str().into(), options)).collect();
        self.send(&Packet::Subscribe(Subscribe { packet_id: NUMBER, filters, properties }))
    }

    /// Publishes a message, and waits for its acknowledgement.
    pub(crate) fn publish(&mut self, message: &publish::Publish) -> Result<(), ClientError> {
        let mut properties = Properties::default();
        if let Some(ttl) = message.ttl {
            let seconds = u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX);
            properties = properties.with(Id::MessageExpiryInterval, seconds);
        }
        if let Some(content_type) = &message.content_type {
            properties = properties.with_text(Id::ContentType, content_type);
        }
        for (name, value) in [(names::EVENT, &message.event), (names::KEY, &message.key), (names::REF, &message.about)]
        {
            if let Some(value) = value {
                properties = properties.with_pair(name, value);
            }
        }
        self.send(&Packet::Publish(Publish {
            dup: false,
            qos: 1,
            retain: message.retain,
            topic: message.topic.as_str(),
            packet_id: Some(NUMBER),
            properties,
            payload: &message.body,
        }))?;
        let acknowledged = |packet: &Packet<'_>| match packet {
            Packet::Ack(ack) if ack.reason.is_failure() => Some(Err(refused(ack.reason, &ack.properties))),
            Packet::Ack(_) => Some(Ok(())),
            _ => None,
        };
        loop {
            if let Some(done) = self.next(acknowledged)? {
                return done;
            }
        }
    }

    /// The next frame from the server.
    pub(crate) fn receive(&mut self) -> Result<Told, ClientError> {
        let (told, acknowledges) = self.next(|packet| match packet {
            Packet::Publish(publish) => {
                let number = publish.packet_id.filter(|_| publish.qos == 1);
                (Told::Message(Box::new(envelope(publish)), publish.retain), number)
            }
            Packet::Suback(suback) => (subscribed(suback), None),
            Packet::Disconnect(disconnect) => (Told::Close(close(disconnect)), None),
            _ => (Told::Other, None),
        })?;
        if let Some(number) = acknowledges {
            self.send(&Packet::Ack(Ack::new(AckKind::Puback, number, Reason::Success)))?;
        }
        Ok(told)
    }

    fn send(&mut self, packet: &Packet<'_>) -> Result<(), ClientError> {
        let mut bytes = Vec::new();
        packet.write(Version::V5, &mut bytes);
        self.stream.write_all(&bytes).map_err(|error| ClientError::io("writing".to_owned(), &error))
    }

    /// Takes the next packet. If the server is silent, pings it.
    fn next<T>(&mut self, take: impl FnOnce(&Packet<'_>) -> T) -> Result<T, ClientError> {
        loop {
            match frame(&self.bytes) {
                Frame::Malformed => return Err(ClientError::Protocol("a packet has no length".to_owned())),
                Frame::Known { header, body, .. } if (header + body) as u64 > MAX_FRAME => {
                    return Err(ClientError::Protocol("a packet is too long".to_owned()));
                }
                Frame::Known { first, header, body } if self.bytes.len() >= header + body => {
                    let rest = self.bytes.split_off(header + body);
                    let whole = std::mem::replace(&mut self.bytes, rest);
                    let packet = Packet::read(Version::V5, Side::Server, first, &whole[header..]);
                    return packet
                        .map(|packet| take(&packet))
                        .map_err(|error| ClientError::Protocol(error.to_string()));
                }
                Frame::Known { .. } | Frame::Unknown => self.fill()?,
            }
        }
    }

    fn fill(&mut self) -> Result<(), ClientError> {
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(reading(&ErrorKind::UnexpectedEof.into())),
            Ok(count) => {
                self.bytes.extend_from_slice(&buffer[..count]);
                self.heard = Instant::now();
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if self.heard.elapsed() > SILENCE {
                    return Err(reading(&ErrorKind::TimedOut.into()));
                }
                self.send(&Packet::Pingreq)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(reading(&error)),
        }
    }
}

fn reading(error: &std::io::Error) -> ClientError {
    ClientError::io("reading from the server".to_owned(), error)
}

/// The refusal, in the words that all wires share.
fn refused(reason: Reason, properties: &Properties) -> ClientError {
    ClientError::Refused(problem(reason, properties))
}

fn problem(reason: Reason, properties: &Properties) -> Problem {
    let status = match reason {
        Reason::BadUserNameOrPassword => 401,
        Reason::NotAuthorized | Reason::Banned => 403,
        Reason::QuotaExceeded => 429,
        Reason::ServerBusy | Reason::ServerUnavailable => 503,
        _ => 400,
    };
    let detail = properties.text(Id::ReasonString).unwrap_or_default().to_owned();
    Problem { status, title: reason.as_str().to_owned(), detail, retry_after: None }
}

fn subscribed(suback: &Suback) -> Told {
    match suback.reasons.iter().find(|reason| reason.is_failure()) {
        Some(reason) => Told::Error(problem(*reason, &suback.properties)),
        None => Told::Subscribed(suback.properties.pair(names::CURSOR).unwrap_or_default().to_owned()),
    }
}

fn close(disconnect: &Disconnect) -> Close {
    let reconnect = !matches!(
        disconnect.reason,
        Reason::NotAuthorized | Reason::AdministrativeAction | Reason::SessionTakenOver | Reason::Banned
    );
    let reason = disconnect.properties.text(Id::ReasonString).unwrap_or(disconnect.reason.as_str());
    Close { reason: reason.to_owned(), reconnect, delay_ms: 0 }
}

/// The envelope that other wires would carry.
fn envelope(publish: &Publish<'_>) -> Envelope {
    let properties = &publish.properties;
    let said = |name: &str| properties.pair(name).map(str::to_owned);
    let id = said(names::MESSAGE_ID).unwrap_or_default();
    let time = id.parse::<MessageId>().map(|id| id.time().to_string()).unwrap_or_default();
    let content_type = properties.text(Id::ContentType).map(str::to_owned);
    let json = content_type.as_deref().filter(|text| is_json(text));
    let json = json.and_then(|_| serde_json::from_slice(publish.payload).ok());
    let (body, body_base64) = match (json, std::str::from_utf8(publish.payload)) {
        (Some(json), _) => (Some(json), None),
        (None, Ok(text)) => (Some(Value::String(text.to_owned())), None),
        (None, Err(_)) => (None, Some(STANDARD.encode(publish.payload))),
    };
    Envelope {
        id,
        topic: publish.topic.to_owned(),
        cursor: said(names::CURSOR).unwrap_or_default(),
        time,
        from: said(names::FROM),
        nick: said(names::NICK),
        to: said(names::TO),
        about: said(names::REF),
        event: said(names::EVENT),
        content_type,
        body,
        body_base64,
    }
}
