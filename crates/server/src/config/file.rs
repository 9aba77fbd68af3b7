//! The configuration file: TOML. Every section and key, and nothing else.

use std::path::PathBuf;

use everywire_base::limits::Limits;
use everywire_base::network::Network;
use everywire_base::rules::{Rules, TopicRule};
use toml::de::DeValue;

use super::bridges::Bridges;
use super::complaint::Complaint;
use super::reader::{self, Fault, Fields, Reader, Value};
use super::settings::{Auth, EngineKind, Listen, LogFormat, Mqtt, Tls};
use super::{bridges, limits, topics, units};
use crate::logs;

/// The content of a configuration file; a key that it leaves out is `None`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct File {
    pub(crate) data: Option<PathBuf>,
    pub(crate) engine: Option<EngineKind>,
    pub(crate) http: Option<Listen>,
    pub(crate) mqtt: Option<Listen>,
    pub(crate) mqtt_settings: Mqtt,
    pub(crate) xmpp: Option<Listen>,
    pub(crate) tcp: Option<Listen>,
    pub(crate) node: Option<String>,
    pub(crate) workers: Option<usize>,
    pub(crate) hosts: Option<Vec<String>>,
    pub(crate) trusted_proxies: Option<Vec<Network>>,
    pub(crate) anonymous: Option<bool>,
    pub(crate) origins: Option<Vec<String>>,
    pub(crate) auth: Auth,
    pub(crate) tls: Option<Tls>,
    pub(crate) log_format: Option<LogFormat>,
    pub(crate) log_level: Option<String>,
    pub(crate) limits: Limits,
    pub(crate) rules: Vec<TopicRule>,
    pub(crate) bridges: Bridges,
}

impl File {
    /// Reads a file's text and finds every fault in it.
    pub fn parse(name: &str, text: &str) -> Result<Self, Vec<Complaint>> {
        let (mut reader, document) = Reader::parse(name, text);
        let file = document_of(&mut reader, Fields::new("", document.get_ref()));
        match reader.finish() {
            complaints if complaints.is_empty() => Ok(file),
            complaints => Err(complaints),
        }
    }

    /// The rules for topics.
    pub fn rules(&self) -> Rules {
        Rules::new(self.rules.clone())
    }
}

fn document_of<'t>(reader: &mut Reader<'t>, mut fields: Fields<'_, 't>) -> File {
    let mut file = File {
        data: fields.take(reader, "data", reader::text(units::path)),
        engine: fields.take(reader, "engine", reader::text(units::engine)),
        xmpp: fields.take(reader, "xmpp", reader::text(units::listen)),
        tcp: fields.take(reader, "tcp", reader::text(units::listen)),
        node: fields.take(reader, "node", reader::text(units::node_name)),
        trusted_proxies: fields.take(reader, "trusted_proxies", reader::list(reader::text(units::network))),
        workers: fields.take(reader, "workers", |v| Ok(units::workers(&reader::count(v)?.to_string())?)),
        ..File::default()
    };
    http(reader, &mut fields, &mut file);
    mqtt(reader, &mut fields, &mut file);
    sections(reader, &mut fields, &mut file);
    fields.end(reader);
    file
}

/// `http = "ADDR"`, or `[http]` with `listen` and `hosts`.
fn http<'t>(reader: &mut Reader<'t>, fields: &mut Fields<'_, 't>, file: &mut File) {
    match fields.raw("http") {
        Some(value) if matches!(value.get_ref(), DeValue::Table(_)) => {
            let Some(mut section) = reader.table("http", value) else { return };
            file.http = section.take(reader, "listen", reader::text(units::listen));
            file.hosts = section.take(reader, "hosts", reader::list(reader::text(units::host)));
            section.end(reader);
        }
        _ => file.http = fields.take(reader, "http", reader::text(units::listen)),
    }
}

/// `mqtt = "ADDR"`, or `[mqtt]` with `listen` and the settings of the protocol.
fn mqtt<'t>(reader: &mut Reader<'t>, fields: &mut Fields<'_, 't>, file: &mut File) {
    match fields.raw("mqtt") {
        Some(value) if matches!(value.get_ref(), DeValue::Table(_)) => {
            let Some(mut section) = reader.table("mqtt", value) else { return };
            file.mqtt = section.take(reader, "listen", reader::text(units::listen));
            file.mqtt_settings = Mqtt {
                server_keep_alive: section.take(reader, "server_keep_alive", seconds),
                receive_maximum: section.take(reader, "receive_maximum", |v| within(reader::count(v)?, 1)),
                topic_alias_maximum: section.take(reader, "topic_alias_maximum", |v| within(reader::count(v)?, 0)),
                maximum_packet_size: section.take(reader, "maximum_packet_size", packet_size),
                session_expiry_max: section.take(reader, "session_expiry_max", reader::duration),
            };
            section.end(reader);
        }
        _ => file.mqtt = fields.take(reader, "mqtt", reader::text(units::listen)),
    }
}

/// Seconds of two bytes: their number, or a duration in quotes.
fn seconds(value: &Value<'_>) -> Result<u16, Fault> {
    let seconds = match value.get_ref() {
        DeValue::Integer(_) => reader::count(value)?,
        _ => reader::duration(value)?.as_secs(),
    };
    within(seconds, 1)
}

/// A number of two bytes, from `least`.
fn within(number: u64, least: u16) -> Result<u16, Fault> {
    let number = u16::try_from(number).ok().filter(|number| *number >= least);
    number.ok_or_else(|| format!("it is from {least} to 65535").into())
}

/// The least bound of a packet: any CONNECT fits.
const LEAST_PACKET: u64 = 64;
/// The longest packet (MQTT-5.0 §2.1.4).
const LONGEST_PACKET: u64 = 268_435_460;

fn packet_size(value: &Value<'_>) -> Result<u32, Fault> {
    let bytes = reader::bytes(value)?;
    let bytes = u32::try_from(bytes).ok().filter(|_| (LEAST_PACKET..=LONGEST_PACKET).contains(&bytes));
    bytes.ok_or_else(|| format!("a packet's bound is from {LEAST_PACKET} to {LONGEST_PACKET} bytes").into())
}

fn sections<'t>(reader: &mut Reader<'t>, fields: &mut Fields<'_, 't>, file: &mut File) {
    if let Some(mut auth) = fields.raw("auth").and_then(|value| reader.table("auth", value)) {
        file.anonymous = auth.take(reader, "anonymous", reader::flag);
        file.origins = auth.take(reader, "origins", reader::list(reader::text(units::origin)));
        file.auth.secret = auth.take(reader, "secret", reader::text(units::secret));
        file.auth.jwks = auth.take(reader, "jwks", reader::text(units::keys));
        file.auth.users = auth.take(reader, "users", reader::flag);
        file.auth.callback = auth.take(reader, "callback", reader::text(units::url));
        file.auth.audience = auth.take(reader, "audience", reader::list(reader::text(units::claim)));
        file.auth.issuer = auth.take(reader, "issuer", reader::text(units::claim));
        file.auth.guests = auth.take(reader, "guests", reader::flag);
        file.auth.logins = auth.take(reader, "logins", reader::text(units::logins));
        auth.end(reader);
    }
    if let Some(value) = fields.raw("tls") {
        file.tls = tls(reader, value);
    }
    if let Some(limits) = fields.raw("limits").and_then(|value| reader.table("limits", value)) {
        file.limits = limits::read(reader, limits);
    }
    if let Some(mut log) = fields.raw("log").and_then(|value| reader.table("log", value)) {
        file.log_format = log.take(reader, "format", reader::text(LogFormat::parse));
        file.log_level = log.take(reader, "level", reader::text(logs::level));
        log.end(reader);
    }
    if let Some(value) = fields.raw("topics") {
        file.rules = topics::read(reader, value);
    }
    if let Some(value) = fields.raw("bridge") {
        file.bridges = bridges::read(reader, value, &file.limits);
    }
}

fn tls<'t>(reader: &mut Reader<'t>, value: &Value<'t>) -> Option<Tls> {
    let mut fields = reader.table("tls", value)?;
    for name in ["cert", "key"] {
        if fields.raw(name).is_none() {
            reader.complain(value.span(), format!("tls.{name} is missing: it names a PEM file"));
        }
    }
    let cert = fields.take(reader, "cert", reader::text(units::path));
    let key = fields.take(reader, "key", reader::text(units::path));
    let listen = fields.take(reader, "listen", reader::text(units::address));
    let tcp = fields.take(reader, "tcp", reader::text(units::address));
    let mqtt = fields.take(reader, "mqtt", reader::text(units::address));
    fields.end(reader);
    Some(Tls { cert: cert?, key: key?, listen, tcp, mqtt })
}
