//! The settings that a server is started with: flag, environment, file, default, in that order.

use std::cmp::Ordering;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use everywire_auth::KeysAt;
use everywire_base::bridge::Bridge;
use everywire_base::limits::Limits;
use everywire_base::network::Network;
use everywire_base::rules::{Anonymous, Logins, Rules, TopicRule};

use super::complaint::{Complaint, Place};
use super::file::File;
use super::units::duration_text;
use super::{admission, environment};
use crate::cli::Serve;

/// The engine, which orders and keeps the messages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum EngineKind {
    /// Our own log in the data directory.
    #[default]
    Embedded,
    /// Our own log, in memory alone.
    Memory,
    /// A Redis, which all nodes of the service share.
    Redis(Arc<everywire_redis::Address>),
    /// A Kafka, which all nodes of the service share.
    Kafka(Arc<everywire_kafka::Address>),
}

/// The setting of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// The listener is off.
    Off,
    /// The listener is at this address; port 0 picks a free one.
    At(SocketAddr),
}

/// A listener that is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    /// The address; port 0 picks a free one.
    pub address: SocketAddr,
    /// Whether somebody asked for it: then a port in use is an error, else a warning.
    pub configured: bool,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

impl LogFormat {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(format!("{text:?} is not a log format: use \"text\" or \"json\"")),
        }
    }
}

/// The files and addresses of TLS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// The certificate chain, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// The address of HTTPS; without it the HTTP listener speaks TLS, in place of plain HTTP.
    pub listen: Option<SocketAddr>,
    /// The address of the native protocol over TLS.
    pub tcp: Option<SocketAddr>,
    /// The address of MQTT over TLS.
    pub mqtt: Option<SocketAddr>,
}

/// The settings of the section `[mqtt]` besides its address; one that is left out has its default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mqtt {
    /// The longest keep-alive, in seconds.
    pub server_keep_alive: Option<u16>,
    /// The most messages that a client may have under way.
    pub receive_maximum: Option<u16>,
    /// The most topic aliases, both ways.
    pub topic_alias_maximum: Option<u16>,
    /// The longest packet, in bytes.
    pub maximum_packet_size: Option<u32>,
    /// The longest that a session outlives its connection.
    pub session_expiry_max: Option<Duration>,
}

/// The sources of identities.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Auth {
    /// The secret of HS256.
    pub secret: Option<String>,
    /// The keys of others.
    pub jwks: Option<KeysAt>,
    /// Whether there are static users.
    pub users: Option<bool>,
    /// The application that is asked about logins.
    pub callback: Option<String>,
    /// The server's names: a token must be for one of them.
    pub audience: Option<Vec<String>>,
    /// The issuer that a token must name.
    pub issuer: Option<String>,
    /// Whether people may come as guests; unset, they may where anonymous clients are let in.
    pub guests: Option<bool>,
    /// The rule for a user's earlier logins.
    pub logins: Option<Logins>,
}

/// Secrets never reach a log line.
impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").field("jwks", &self.jwks).field("users", &self.users).finish_non_exhaustive()
    }
}

impl Auth {
    /// Whether anybody can have an identity.
    pub fn knows_anybody(&self) -> bool {
        self.source().is_some() || self.guests == Some(true)
    }

    /// The setting that names a source of identities, if one does.
    pub(crate) fn source(&self) -> Option<&'static str> {
        let sources = [
            ("auth.secret", self.secret.is_some()),
            ("auth.jwks", self.jwks.is_some()),
            ("auth.users", self.users == Some(true)),
            ("auth.callback", self.callback.is_some()),
        ];
        sources.into_iter().find(|source| source.1).map(|source| source.0)
    }
}

/// The settings that a server is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The file that was read, if one was.
    pub file: Option<PathBuf>,
    /// The node's name.
    pub node: String,
    /// The data directory.
    pub data: PathBuf,
    /// The engine.
    pub engine: EngineKind,
    /// The HTTP listener; `None` if it is off.
    pub http: Option<Listener>,
    /// The native protocol's listener; `None` if it is off.
    pub tcp: Option<Listener>,
    /// The listener of MQTT; `None` if it is off.
    pub mqtt: Option<Listener>,
    /// The settings of MQTT, on TCP and on WebSocket.
    pub mqtt_settings: Mqtt,
    /// Whether `/v1/echo` answers, for conformance tests.
    pub echo: bool,
    /// The number of workers.
    pub workers: usize,
    /// Proxies whose word is taken for the address of a client.
    pub trusted_proxies: Vec<Network>,
    /// All bounds.
    pub limits: Limits,
    /// The rules for topics.
    pub rules: Rules,
    /// Bridges to Kafka.
    pub bridges: Vec<Bridge>,
    /// Whether anonymous clients are let in although others can reach a listener.
    pub anonymous: Option<bool>,
    /// The sources of identities.
    pub auth: Auth,
    /// Origins whose pages may talk to the server.
    pub origins: Vec<String>,
    /// Hosts that requests may name besides loopback ones.
    pub hosts: Vec<String>,
    /// TLS, if it is spoken.
    pub tls: Option<Tls>,
    /// The form of log lines.
    pub log_format: LogFormat,
    /// The log lines to write: a level, or directives such as `info,everywire_hub=debug`.
    pub log_level: String,
    /// Warnings: faults that don't forbid to start.
    pub warnings: Vec<String>,
}

/// The file that is read if none is named.
const DEFAULT_FILE: &str = "everywire.toml";

/// The layers that settings come from.
pub(crate) struct Layers<'a> {
    /// The command line; its options have the environment below them already.
    pub(crate) arguments: &'a Serve,
    /// The variables of the environment.
    pub(crate) variable: &'a dyn Fn(&str) -> Option<String>,
}

impl Settings {
    /// Reads all layers.
    pub(crate) fn load(layers: &Layers<'_>) -> Result<Self, Vec<Complaint>> {
        let (path, text) = read_file(layers.arguments.config.as_deref()).map_err(|what| vec![whole(what)])?;
        let name = path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        let (mut file, mut complaints) = match File::parse(&name, &text) {
            Ok(file) => (file, Vec::new()),
            Err(complaints) => (File::default(), complaints),
        };
        complaints.extend(environment::over(&mut file, layers.variable));
        if !complaints.is_empty() {
            return Err(complaints);
        }
        let engine = layers.arguments.engine.clone().or(file.engine.clone()).unwrap_or_default();
        let bridges = std::mem::take(&mut file.bridges).with(&engine)?;
        let mut settings = merge(layers.arguments, file);
        settings.bridges = bridges;
        settings.file = path;
        match settings.refusals() {
            refusals if refusals.is_empty() => Ok(settings),
            refusals => Err(refusals),
        }
    }

    /// All listeners by name.
    pub fn listeners(&self) -> Vec<(&'static str, SocketAddr)> {
        let http = self.http.map(|listener| ("http", listener.address));
        let tls = self.tls.as_ref();
        let https = tls.and_then(|tls| tls.listen).map(|address| ("https", address));
        let tcp = self.tcp.map(|listener| ("tcp", listener.address));
        let tcps = tls.and_then(|tls| tls.tcp).map(|address| ("tcps", address));
        let mqtt = self.mqtt.map(|listener| ("mqtt", listener.address));
        let mqtts = tls.and_then(|tls| tls.mqtt).map(|address| ("mqtts", address));
        [http, https, tcp, tcps, mqtt, mqtts].into_iter().flatten().collect()
    }

    /// Whether people may come as guests: by default, where anonymous clients are let in.
    pub(crate) fn takes_guests(&self) -> bool {
        self.auth.guests.unwrap_or(self.rules.anonymous != Anonymous::Refused)
    }

    /// Warnings, for people, about topics that take shorter or longer messages than MQTT announces to its clients.
    pub(crate) fn mqtt_bounds(&self) -> Vec<String> {
        let default = u32::try_from(self.limits.message_bytes).unwrap_or(u32::MAX);
        let announced = self.mqtt_settings.maximum_packet_size.unwrap_or(default) as usize;
        let of_rule = |rule: &TopicRule| {
            let (filter, most) = (rule.filter.as_str(), rule.max_message);
            match most.cmp(&announced) {
                Ordering::Less => Some(format!(
                    "MQTT announces packets of {announced} bytes, and topics of {filter:?} take messages of {most}: longer \
                     ones are refused, which clients of 3.1.1 can't be told"
                )),
                Ordering::Greater => Some(format!(
                    "topics of {filter:?} take messages of {most} bytes, and MQTT packets of {announced}: longer ones neither \
                     come nor go over MQTT"
                )),
                Ordering::Equal => None,
            }
        };
        self.rules.all().filter_map(of_rule).collect()
    }

    /// The keys that differ and that a running server can't change.
    pub(crate) fn need_restart(&self, fresh: &Self) -> Vec<&'static str> {
        let checks = [
            ("node", self.node != fresh.node),
            ("data", self.data != fresh.data),
            ("engine", self.engine != fresh.engine),
            ("http", self.http != fresh.http),
            ("tcp", self.tcp != fresh.tcp),
            ("mqtt", (self.mqtt, self.mqtt_settings) != (fresh.mqtt, fresh.mqtt_settings)),
            ("workers", self.workers != fresh.workers),
            ("trusted_proxies", self.trusted_proxies != fresh.trusted_proxies),
            ("limits", self.limits != fresh.limits),
            ("auth.anonymous", self.anonymous != fresh.anonymous),
            ("auth", self.auth != Auth { logins: self.auth.logins, ..fresh.auth.clone() }),
            ("auth.origins", self.origins != fresh.origins),
            ("http.hosts", self.hosts != fresh.hosts),
            ("tls", self.tls != fresh.tls),
            ("bridge", self.bridges != fresh.bridges),
            ("log.format", self.log_format != fresh.log_format),
        ];
        checks.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }

    /// The same settings, but anonymous clients are let in or not as before: that depends on settings that need a
    /// restart.
    pub(crate) fn with_door_of(mut self, running: &Self) -> Self {
        self.rules.anonymous = running.rules.anonymous;
        self
    }

    /// Takes over the settings that a running server has changed.
    pub(crate) fn take_reloadable(&mut self, fresh: Self) {
        self.rules = fresh.rules;
        self.log_level = fresh.log_level;
    }

    /// The complaints that forbid to start although each value is right.
    fn refusals(&self) -> Vec<Complaint> {
        let mut refusals = Vec::new();
        if self.listeners().is_empty() {
            refusals.push(whole("every listener is off: set http (EVERYWIRE_HTTP) to an address".into()));
        }
        refusals.extend(admission::refusal(self).map(whole));
        let Limits { page_messages_default, page_messages_max, long_poll_default, long_poll_max, .. } = self.limits;
        for (name, wrong) in [
            ("page_messages", page_messages_default > page_messages_max),
            ("long_poll", long_poll_default > long_poll_max),
        ] {
            if wrong {
                refusals.push(whole(format!("limits.{name}_default is more than limits.{name}_max: make it less")));
            }
        }
        refusals.extend(self.tls.iter().flat_map(unreadable).map(whole));
        refusals
    }
}

fn whole(what: String) -> Complaint {
    Complaint { place: Place::Whole, what }
}

fn unreadable(tls: &Tls) -> Vec<String> {
    let files = [("tls.cert", &tls.cert), ("tls.key", &tls.key)].into_iter();
    let failed = files.filter_map(|(key, path)| Some((key, path, std::fs::File::open(path).err()?)));
    failed.map(|(key, path, error)| format!("{key}: {} can't be read: {error}", path.display())).collect()
}

fn read_file(named: Option<&Path>) -> Result<(Option<PathBuf>, String), String> {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    match std::fs::read_to_string(path) {
        Ok(text) => Ok((Some(path.to_owned()), text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => Ok((None, String::new())),
        Err(error) => Err(format!("the configuration file {} can't be read: {error}", path.display())),
    }
}

/// The default address of HTTP.
const HTTP: SocketAddr = near(8080);
/// The default address of the native protocol.
const TCP: SocketAddr = near(7222);
/// The default address of MQTT.
const MQTT: SocketAddr = near(1883);

const fn near(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// The listener that was asked for, or the default one.
fn listener(asked: Option<Listen>, default: SocketAddr) -> Option<Listener> {
    match asked {
        Some(Listen::Off) => None,
        Some(Listen::At(address)) => Some(Listener { address, configured: true }),
        None => Some(Listener { address: default, configured: false }),
    }
}

fn merge(arguments: &Serve, file: File) -> Settings {
    let mut rules = file.rules();
    rules.logins = file.auth.logins.unwrap_or_default();
    let later = [("xmpp", arguments.xmpp.or(file.xmpp))];
    let mut settings = Settings {
        file: None,
        echo: arguments.echo,
        node: arguments.node.clone().or(file.node).unwrap_or_else(machine),
        data: arguments.data.clone().or(file.data).unwrap_or_else(|| "./everywire-data".into()),
        engine: arguments.engine.clone().or(file.engine).unwrap_or_default(),
        http: listener(arguments.http.or(file.http), HTTP),
        tcp: listener(arguments.tcp.or(file.tcp), TCP),
        mqtt: listener(arguments.mqtt.or(file.mqtt), MQTT),
        mqtt_settings: file.mqtt_settings,
        workers: arguments.workers.or(file.workers).unwrap_or_else(processors),
        trusted_proxies: file.trusted_proxies.unwrap_or_default(),
        limits: file.limits,
        rules,
        bridges: Vec::new(),
        anonymous: file.anonymous,
        auth: file.auth,
        origins: file.origins.unwrap_or_default(),
        hosts: file.hosts.unwrap_or_default(),
        tls: file.tls,
        log_format: arguments.log_format.or(file.log_format).unwrap_or_default(),
        log_level: arguments.log_level.clone().or(file.log_level).unwrap_or_else(|| "info".into()),
        warnings: warnings(&later),
    };
    settings.rules.anonymous = admission::of(&settings).0;
    settings.warnings.extend(beyond_window(&settings));
    settings
}

fn warnings(later: &[(&str, Option<Listen>)]) -> Vec<String> {
    let asked = later.iter().filter(|(_, listen)| matches!(listen, Some(Listen::At(_))));
    asked.map(|(name, _)| format!("{name} is not available in this version: its listener stays off")).collect()
}

/// Warns of history that only nodes have which were there when it came: the engine keeps less of it.
fn beyond_window(settings: &Settings) -> Option<String> {
    let EngineKind::Redis(address) = &settings.engine else { return None };
    let window = address.window;
    let mut rules: Vec<&TopicRule> = settings.rules.all().collect();
    // The last one is for topics of which nothing is said.
    rules.pop();
    rules.retain(|rule| window.is_trimmed && rule.keeps_history() && rule.history.max_age > window.age);
    let longest = rules.iter().map(|rule| rule.history.max_age).max()?;
    let names: Vec<&str> = rules.iter().map(|rule| rule.filter.as_str()).collect();
    Some(format!(
        "the history of {} is up to {} long, and Redis keeps {} of the log: a node that begins without a copy of its own \
         lacks what is older (docs/scale.md; ?window= of the engine says how much is kept)",
        names.join(", "),
        duration_text(longest),
        duration_text(window.age),
    ))
}

/// The machine's name, in the letters that a node's name may have.
fn machine() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    super::units::node_name(&name).unwrap_or_else(|_| "node".into())
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get().min(256))
}
