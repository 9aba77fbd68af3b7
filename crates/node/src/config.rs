//! The configuration of a node, and the reasons why it may not start.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use everywire_base::bridge::Bridge;
use everywire_base::limits::Limits;
use everywire_base::network::Network;
use everywire_base::rules::Rules;
use everywire_driver::tls::TlsError;
use everywire_http::HttpConfig;
use everywire_log::OpenError;
use everywire_log::follower::FollowError;
use everywire_log::remote::Connect;
use everywire_mqtt::MqttConfig;
use everywire_store::StoreError;
use everywire_wire::Listen;

/// The configuration of a node.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's name.
    pub node: String,
    /// The listeners, in the order in which they are bound.
    pub listeners: Vec<Listener>,
    /// The certificates of the listeners that speak TLS.
    pub tls: Option<Tls>,
    /// The directory of the log and of what is derived from it.
    pub data: PathBuf,
    /// Whether the log goes on in a new epoch: after a backup was restored, or when the log's end is lost for good.
    pub new_epoch: bool,
    /// The engine, which orders and keeps the log.
    pub engine: EngineKind,
    /// The function that is called when this life of the node is over and the node must be started again.
    pub over: Over,
    /// The number of workers, each a thread.
    pub workers: usize,
    /// Gives memory that the calling thread doesn't use back to the system; workers call it when they rest after work.
    pub trim: fn(),
    /// Proxies whose word is taken for the address of a client.
    pub trusted_proxies: Vec<Network>,
    /// Every bound.
    pub limits: Arc<Limits>,
    /// The topic rules.
    pub rules: Rules,
    /// Bridges to Kafka.
    pub bridges: Vec<Bridge>,
    /// Whether `/v1/echo` answers, for conformance tests of WebSocket.
    pub echo: bool,
    /// The sources of identities: secrets, keys, users, the application.
    pub auth: everywire_auth::Config,
    /// Hosts and origins of the HTTP wire.
    pub http_config: HttpConfig,
    /// The bounds that MQTT announces to its clients.
    pub mqtt_config: MqttConfig,
}

/// A node without listeners, which keeps nothing and lets everybody do everything that its rules allow.
impl Default for Config {
    fn default() -> Self {
        Self {
            node: "node".into(),
            listeners: Vec::new(),
            tls: None,
            data: "./everywire-data".into(),
            new_epoch: false,
            engine: EngineKind::Memory,
            over: Over::default(),
            workers: 1,
            trim: || {},
            trusted_proxies: Vec::new(),
            limits: Arc::default(),
            rules: Rules::default(),
            bridges: Vec::new(),
            echo: false,
            auth: everywire_auth::Config::default(),
            http_config: HttpConfig::default(),
            mqtt_config: MqttConfig::default(),
        }
    }
}

/// The address of a listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bind {
    /// The address; port 0 picks a free one.
    pub address: SocketAddr,
    /// Whether somebody asked for it: then a port in use is an error, else the listener stays off with a warning.
    pub configured: bool,
}

/// A listener.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The address of the listener.
    pub bind: Bind,
    /// The protocol of its clients.
    pub speaks: Speaks,
    /// Whether the protocol is spoken within TLS.
    pub tls: bool,
}

/// The protocol of a listener.
#[derive(Clone)]
pub enum Speaks {
    /// HTTP, and WebSocket.
    Http,
    /// The native protocol on TCP.
    Native,
    /// MQTT on TCP.
    Mqtt,
    /// Somebody else's protocol, by its name and the maker of each connection's first wire: implementing
    /// [`everywire_wire::Wire`] adds a protocol.
    Other(&'static str, Arc<dyn Listen>),
}

impl Listener {
    /// The name among [`crate::Node::addresses`].
    pub(crate) fn name(&self) -> &'static str {
        match (&self.speaks, self.tls) {
            (Speaks::Http, false) => "http",
            (Speaks::Http, true) => "https",
            (Speaks::Native, false) => "tcp",
            (Speaks::Native, true) => "tcps",
            (Speaks::Mqtt, false) => "mqtt",
            (Speaks::Mqtt, true) => "mqtts",
            (Speaks::Other(name, _), _) => name,
        }
    }
}

impl fmt::Debug for Speaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Speaks::Http => "Http",
            Speaks::Native => "Native",
            Speaks::Mqtt => "Mqtt",
            Speaks::Other(name, _) => name,
        })
    }
}

/// Certificates.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tls {
    /// The chain of certificates, PEM.
    pub cert: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
}

/// The function that is called, with a reason, when a node's engine has no use for this life of it any more.
#[derive(Clone, Default)]
pub struct Over(Option<Arc<dyn Fn(&'static str) + Send + Sync>>);

impl Over {
    /// Calls `tell`, which must not block.
    pub fn new(tell: impl Fn(&'static str) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }

    pub(crate) fn tell(&self, why: &'static str) {
        if let Some(tell) = &self.0 {
            tell(why);
        } else {
            tracing::error!("{why}");
        }
    }
}

impl fmt::Debug for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Over").finish_non_exhaustive()
    }
}

/// The engine that orders and keeps the log.
#[derive(Clone, Default)]
pub enum EngineKind {
    /// Our own segment files in the data directory.
    #[default]
    Embedded,
    /// Our own log in memory: nothing outlives the process.
    Memory,
    /// An engine elsewhere, which all nodes of a service share; the data directory has this node's copy.
    Elsewhere(Arc<dyn Connect>),
}

impl fmt::Debug for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EngineKind::Embedded => "Embedded",
            EngineKind::Memory => "Memory",
            EngineKind::Elsewhere(connect) => connect.name(),
        })
    }
}

/// The reason why a node doesn't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A configured address can't be bound.
    #[error("can't listen on {address}: {source}; end what uses it, or choose another address")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// A listener speaks TLS, and there are no certificates.
    #[error("the listener at {0} speaks TLS: give the node a certificate and its key (`Config::tls`)")]
    NoCertificates(SocketAddr),
    /// Certificates can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The data directory can't be used.
    #[error("can't use the data directory {}: {source}", path.display())]
    Data {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The log can't be opened.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The log elsewhere can't be followed.
    #[error(transparent)]
    Follow(#[from] FollowError),
    /// The sources of identities can't be used.
    #[error(transparent)]
    Auth(#[from] everywire_auth::ConfigError),
    /// The store can't be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Rooms and memberships can't be read.
    #[error(
        "rooms and their members can't be read from the store: remove its directory `store`, it is made anew from the log"
    )]
    Rooms,
    /// A thread or the event loop can't be made.
    #[error("the system gives no {what}: {source}")]
    System {
        /// The part that was wanted.
        what: &'static str,
        /// The system's reason.
        source: io::Error,
    },
}
