//! From settings to a running node: the only file that knows the node's own types.

use std::net::SocketAddr;
use std::sync::Arc;

use everywire_node::{Bind, Config, HttpConfig, MqttConfig, Node};

use crate::config::{EngineKind, Listener, Mqtt, Settings};

/// A running node.
pub(crate) struct Running(Node);

/// Starts a node.
pub(crate) fn start(settings: &Settings, new_epoch: bool, admin_token: &str) -> Result<Running, String> {
    spare_memory();
    Node::start(config(settings, new_epoch, admin_token)).map(Running).map_err(|error| error.to_string())
}

/// Memory is taken in small pages: among pages of 2 MiB, of which each thread touches a few bytes here and there, the
/// kilobyte of an idle connection would be two.
fn spare_memory() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "transparent huge pages stay");
    }
}

fn config(settings: &Settings, new_epoch: bool, admin_token: &str) -> Config {
    let bind = |listener: Option<Listener>| {
        listener.map(|listener| Bind { address: listener.address, configured: listener.configured })
    };
    Config {
        node: settings.node.clone(),
        http: bind(settings.http),
        tcp: bind(settings.tcp),
        mqtt: bind(settings.mqtt),
        listeners: Vec::new(),
        tls: settings.tls.as_ref().map(|tls| everywire_node::Tls {
            cert: tls.cert.clone(),
            key: tls.key.clone(),
            listen: tls.listen,
            tcp: tls.tcp,
            mqtt: tls.mqtt,
        }),
        data: settings.data.clone(),
        new_epoch,
        engine: match settings.engine {
            EngineKind::Embedded => everywire_node::EngineKind::Embedded,
            EngineKind::Memory => everywire_node::EngineKind::Memory,
        },
        workers: settings.workers,
        trusted_proxies: settings.trusted_proxies.clone(),
        limits: Arc::new(settings.limits.clone()),
        rules: settings.rules.clone(),
        echo: settings.echo,
        auth: everywire_auth::Config {
            secret: settings.auth.secret.as_deref().map(Into::into),
            keys: settings.auth.jwks.clone(),
            audience: settings.auth.audience.iter().flatten().map(|name| name.as_str().into()).collect(),
            guests: settings.takes_guests(),
            issuer: settings.auth.issuer.as_deref().map(Into::into),
            users: settings.auth.users == Some(true),
            callback: settings.auth.callback.as_deref().map(Into::into),
            admin_token: Some(admin_token.into()),
            quota: settings.limits.per_user,
            within: None,
        },
        http_config: HttpConfig {
            hosts: settings.hosts.iter().map(|host| host.as_str().into()).collect(),
            origins: settings.origins.iter().map(|origin| origin.as_str().into()).collect(),
            anonymous_everywhere: settings.anonymous == Some(true),
            knows_anybody: settings.auth.knows_anybody(),
        },
        mqtt_config: mqtt(&settings.mqtt_settings),
    }
}

fn mqtt(said: &Mqtt) -> MqttConfig {
    let default = MqttConfig::default();
    MqttConfig {
        server_keep_alive: said.server_keep_alive,
        receive_maximum: said.receive_maximum.unwrap_or(default.receive_maximum),
        topic_alias_maximum: said.topic_alias_maximum.unwrap_or(default.topic_alias_maximum),
        maximum_packet_size: said.maximum_packet_size,
        session_expiry_max: said.session_expiry_max,
    }
}

impl Running {
    /// What listens where, by the listener's name.
    pub(crate) fn addresses(&self) -> &[(&'static str, SocketAddr)] {
        self.0.addresses()
    }

    /// Takes over what can change while it runs: rules, certificates, keys.
    pub(crate) fn reload(&self, settings: &Settings) -> Result<(), String> {
        self.0.reload(settings.rules.clone()).map_err(|error| error.to_string())
    }

    /// Stops accepting, tells the clients to come back, and returns when all are gone or the time for it is over.
    pub(crate) fn drain(self) {
        self.0.drain();
    }
}
