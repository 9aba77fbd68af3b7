//! The fuzz targets, each a function that uses the public interface. A failure is a panic.
//!
//! The same functions replay the corpus on stable in `crates/wires/http/tests/corpus.rs`.

use std::sync::Arc;

use bytes::Bytes;
use everywire_auth::{Authority, Config, UserSecret, Users};
use everywire_base::ask::Credentials;
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Cursor, Partition, Start};
use everywire_base::record::Record;
use everywire_base::rules::overlaps;
use everywire_base::topic::{Filter, Topic};
use everywire_http::{Http, HttpConfig, Service};
use everywire_mqtt::MqttTcp;
use everywire_mqtt_packets::{Frame, Packet, Side, Version, frame};
use everywire_native::{Native, NativeTcp};
use everywire_native_frames::{Encode as _, Length, PREAMBLE, ServerFrame, length};
use everywire_wire::kit::{Bench, Cut, Pair};
use everywire_wire::{Carried, Upgrade, UpgradeRequest};
use everywire_ws::{Subprotocol, WsUpgrade};

fn pair() -> Pair {
    Pair::new(Bench::new(|limits, now| Box::new(Http::new(Arc::new(Service::default()), limits, now))))
}

/// Plays an input and says all that came of it.
fn play(input: &[u8], cut: Cut) -> (Vec<u8>, usize, bool) {
    let mut pair = pair();
    cut.send(&mut pair, input);
    let (output, closed) = (pair.bench.take_output(), pair.bench.closed().is_some());
    (output, pair.node.published().len(), closed)
}

/// However bytes are cut, the same comes of them; and whatever is said is HTTP.
fn is_the_same_however_it_is_cut(input: &[u8], at: usize) {
    let whole = play(input, Cut::Whole);
    assert!(whole.0.is_empty() || whole.0.starts_with(b"HTTP/1.1 "));
    assert_eq!(whole, play(input, Cut::EveryByte));
    assert_eq!(whole, play(input, Cut::At(at)));
}

/// Any bytes as requests.
pub fn http_head(data: &[u8]) {
    let at = data.first().map_or(0, |b| usize::from(*b) % data.len());
    is_the_same_however_it_is_cut(data, at);
}

/// Any bytes as a chunked body.
pub fn http_body(data: &[u8]) {
    const HEAD: &[u8] = b"POST /v1/messages?topic=a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    is_the_same_however_it_is_cut(&[HEAD, data].concat(), HEAD.len() + data.len() / 2);
}

const HANDSHAKE: &[u8] = b"GET /v1/echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";

/// Any bytes as WebSocket frames to an echo: however they are cut, the same comes back.
pub fn ws_frame(data: &[u8]) {
    let echo = || {
        let upgrade: Arc<dyn Upgrade> = Arc::new(WsUpgrade::new(Vec::new()).with_echo(true));
        let service = Arc::new(Service::new(HttpConfig::default(), vec![upgrade]));
        let mut pair = Pair::new(Bench::new(|limits, now| Box::new(Http::new(service, limits, now))));
        pair.send(HANDSHAKE);
        assert!(pair.bench.take_output().starts_with(b"HTTP/1.1 101 "));
        pair
    };
    let play = |cut: Cut| {
        let mut pair = echo();
        cut.send(&mut pair, data);
        (pair.bench.take_output(), pair.bench.closed().is_some())
    };
    let whole = play(Cut::Whole);
    assert_eq!(whole, play(Cut::At(data.len() / 2)));
}

/// Any bytes as frames of the native protocol on TCP: what comes back is frames.
pub fn native_frame(data: &[u8]) {
    let mut pair = Pair::new(Bench::new(|limits, now| Box::new(NativeTcp::new(limits, now))));
    pair.send(PREAMBLE);
    Cut::At(data.len() / 2).send(&mut pair, data);
    let output = pair.bench.take_output();
    let mut rest = &output[..];
    while !rest.is_empty() {
        let Length::Known(len, at) = length(rest) else { panic!("a frame has a length") };
        let (frame, more) = rest.split_at(at + len as usize);
        assert!(ServerFrame::decode(&frame[at..]).is_ok_and(|frame| frame.frame.is_some()));
        rest = more;
    }
}

/// Reads any bytes as packets of MQTT, after a byte that gives the version and the sender. A packet that is written and
/// read again is the same.
pub fn mqtt_packet(data: &[u8]) {
    let Some((how, mut rest)) = data.split_first() else { return };
    let mut version = if how & 1 == 0 { Version::V3 } else { Version::V5 };
    let side = if how & 2 == 0 { Side::Client } else { Side::Server };
    while let Frame::Known { first, header, body } = frame(rest) {
        let Some(whole) = rest.get(header..header + body) else { return };
        rest = &rest[header + body..];
        let Ok(packet) = Packet::read(version, side, first, whole) else { continue };
        if let Packet::Connect(connect) = &packet {
            version = connect.version;
        }
        let mut bytes = Vec::new();
        packet.write(version, &mut bytes);
        let Frame::Known { first, header, .. } = frame(&bytes) else { panic!("a packet has a length") };
        assert_eq!(Packet::read(version, side, first, &bytes[header..]), Ok(packet));
    }
}

/// Sends any bytes after a CONNECT of either version. The answers are packets of a server.
pub fn mqtt_session(data: &[u8]) {
    let Some((how, data)) = data.split_first() else { return };
    let (version, hello): (_, &[u8]) = match how & 1 {
        0 => (Version::V3, b"\x10\x0d\0\x04MQTT\x04\x00\0\x0a\0\x01c"),
        _ => (Version::V5, b"\x10\x11\0\x04MQTT\x05\x02\0\x0a\x03\x22\0\x02\0\x01c"),
    };
    let mut pair = Pair::new(Bench::new(|limits, now| Box::new(MqttTcp::new(Arc::default(), limits, now))));
    pair.send(hello);
    Cut::At(data.len() / 2).send(&mut pair, data);
    let output = pair.bench.take_output();
    let mut rest = &output[..];
    while !rest.is_empty() {
        let Frame::Known { first, header, body } = frame(rest) else { panic!("a packet has a length") };
        assert!(Packet::read(version, Side::Server, first, &rest[header..header + body]).is_ok());
        rest = &rest[header + body..];
    }
}

/// Any bytes as a text message of the native protocol: it is answered, or ends in order.
pub fn json_frame(data: &[u8]) {
    let native =
        |request: &UpgradeRequest<'_>| -> Box<dyn Carried> { Box::new(Native::json(request.identity.clone(), None)) };
    let upgrade: Arc<dyn Upgrade> =
        Arc::new(WsUpgrade::new(vec![Subprotocol { name: "json", also: None, make: Box::new(native) }]));
    let service = Arc::new(Service::new(HttpConfig::default(), vec![upgrade]));
    let mut pair = Pair::new(Bench::new(|limits, now| Box::new(Http::new(service, limits, now))));
    pair.send(&String::from_utf8_lossy(HANDSHAKE).replace("/v1/echo", "/v1/ws").into_bytes());
    pair.bench.take_output();
    let len = data.len().min(0xffff);
    let mut frame = vec![0x81, 0xfe];
    frame.extend_from_slice(&(len as u16).to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(&data[..len]);
    // A short frame in the long form is an error of its own.
    if len > 125 {
        pair.send(&frame);
    } else {
        frame.splice(1..4, [0x80 | len as u8]);
        pair.send(&frame);
    }
}

/// Any text as a token: nobody is believed for it.
pub fn token(data: &[u8]) {
    struct Nobody;
    impl Users for Nobody {
        fn find(&self, _: &str) -> Option<UserSecret> {
            None
        }
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let config = Config { secret: Some("a secret that no fuzzer finds by itself".into()), ..Config::default() };
    let authority = Authority::new(config, Arc::new(Nobody)).expect("a long secret");
    assert!(authority.check(&Credentials::Token(text.into()), None, UnixMillis(0)).is_err());
}

/// Any text as a cursor: what is one survives its own text.
pub fn cursor(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = text.parse::<Start>();
    if let Ok(cursor) = text.parse::<Cursor>() {
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
    }
}

/// Any two texts, by lines, as topic and filter: a match implies an overlap, and a topic matches itself.
pub fn topic_filter(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (topic, filter) = text.split_once('\n').unwrap_or((text, text));
    let (topic, filter) = (Topic::parse(topic), Filter::parse(filter));
    if let Ok(topic) = &topic {
        assert!(Filter::parse(topic.as_str()).is_ok_and(|exact| exact.matches(topic)));
    }
    if let (Ok(topic), Ok(filter)) = (topic, filter)
        && filter.matches(&topic)
    {
        assert!(overlaps(filter.as_str(), topic.as_str()));
    }
}

/// Any bytes as a stored record: what is one survives being stored again.
pub fn record(data: &[u8]) {
    let Ok(record) = Record::decode(Partition(0), Bytes::copy_from_slice(data)) else { return };
    let mut stored = Vec::new();
    record.encode(&mut stored);
    assert_eq!(Record::decode(Partition(0), stored.into()), Ok(record));
}
