//! What a node is started with, and why it may not start.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use everywire_base::limits::Limits;
use everywire_base::network::Network;
use everywire_base::rules::Rules;
use everywire_driver::tls::TlsError;
use everywire_http::HttpConfig;
use everywire_log::OpenError;
use everywire_mqtt::MqttConfig;
use everywire_store::StoreError;
use everywire_wire::Listen;

/// What a node is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's name.
    pub node: String,
    /// Where the HTTP listener is bound; `None` turns it off.
    pub http: Option<Bind>,
    /// Where the native protocol is spoken on TCP; `None` turns it off.
    pub tcp: Option<Bind>,
    /// Where MQTT is spoken on TCP; `None` turns it off.
    pub mqtt: Option<Bind>,
    /// Listeners for the wires of others.
    pub listeners: Vec<Listener>,
    /// TLS, if it is spoken.
    pub tls: Option<Tls>,
    /// Where the log and what is derived from it are kept.
    pub data: PathBuf,
    /// Whether the log goes on in a new epoch: after a backup was restored, or when the log's end is lost for good.
    pub new_epoch: bool,
    /// Who orders and keeps the log.
    pub engine: EngineKind,
    /// How many workers, each a thread.
    pub workers: usize,
    /// Proxies that are believed for whom they speak.
    pub trusted_proxies: Vec<Network>,
    /// Every bound.
    pub limits: Arc<Limits>,
    /// The topic rules.
    pub rules: Rules,
    /// Whether `/v1/echo` answers, for conformance tests of WebSocket.
    pub echo: bool,
    /// Who may say who somebody is.
    pub auth: everywire_auth::Config,
    /// Hosts and origins of the HTTP wire.
    pub http_config: HttpConfig,
    /// What MQTT tells its clients of its bounds.
    pub mqtt_config: MqttConfig,
}

/// A node without listeners, which keeps nothing and lets everybody do everything that its rules allow.
impl Default for Config {
    fn default() -> Self {
        Self {
            node: "node".into(),
            http: None,
            tcp: None,
            mqtt: None,
            listeners: Vec::new(),
            tls: None,
            data: "./everywire-data".into(),
            new_epoch: false,
            engine: EngineKind::Memory,
            workers: 1,
            trusted_proxies: Vec::new(),
            limits: Arc::default(),
            rules: Rules::default(),
            echo: false,
            auth: everywire_auth::Config::default(),
            http_config: HttpConfig::default(),
            mqtt_config: MqttConfig::default(),
        }
    }
}

/// Where a listener is bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bind {
    /// The address; port 0 picks a free one.
    pub address: SocketAddr,
    /// Whether somebody asked for it: then a port in use is an error, else the listener stays off with a warning.
    pub configured: bool,
}

/// A listener for somebody else's wire: implementing [`everywire_wire::Wire`] adds a protocol.
#[derive(Clone)]
pub struct Listener {
    /// Its name among [`crate::Node::addresses`].
    pub name: &'static str,
    /// Where it is bound.
    pub bind: Bind,
    /// Makes the first wire of each connection.
    pub wires: Arc<dyn Listen>,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("name", &self.name).field("bind", &self.bind).finish_non_exhaustive()
    }
}

/// Certificates, and where they are used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tls {
    /// The chain of certificates, PEM.
    pub cert: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
    /// Where HTTPS listens; without it the HTTP listener speaks TLS.
    pub listen: Option<SocketAddr>,
    /// Where the native protocol is spoken over TLS.
    pub tcp: Option<SocketAddr>,
    /// Where MQTT is spoken over TLS.
    pub mqtt: Option<SocketAddr>,
}

/// Who orders and keeps the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum EngineKind {
    /// Our own segment files in the data directory.
    #[default]
    Embedded,
    /// Nothing outlives the process.
    Memory,
}

/// Why a node doesn't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A configured address can't be bound.
    #[error("can't listen on {address}: {source}; end what uses it, or choose another address")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Certificates can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The data directory can't be used.
    #[error("can't use the data directory {}: {source}", path.display())]
    Data {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The log can't be opened.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// Identities can't be checked so.
    #[error(transparent)]
    Auth(#[from] everywire_auth::ConfigError),
    /// The store can't be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A thread or the event loop can't be made.
    #[error("the system gives no {what}: {source}")]
    System {
        /// What was wanted.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}
