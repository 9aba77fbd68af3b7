//! The way from settings to a running node: the only file that knows the node's own types.

use std::net::SocketAddr;
use std::sync::Arc;

use everywire_node::{Bind, Config, HttpConfig, MqttConfig, Node, Over, Speaks};
use everywire_redis::Address;

use crate::config::{EngineKind, Listener, Mqtt, Settings};

/// A running node.
pub(crate) struct Running(Node);

/// Starts a node.
pub(crate) fn start(settings: &Settings, new_epoch: bool, admin_token: &str, over: Over) -> Result<Running, String> {
    spare_memory();
    let config = Config { over, ..config(settings, new_epoch, admin_token) };
    Node::start(config).map(Running).map_err(|error| error.to_string())
}

/// Takes memory in small pages. Each thread touches only a few bytes of a huge page (2 MiB), so that huge pages would
/// double the kilobyte of an idle connection.
fn spare_memory() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "transparent huge pages stay");
    }
}

/// Gives memory back that the thread holds of what others have freed: a worker's logins end in the log and the store.
#[allow(unsafe_code, reason = "the allocator's own function")]
fn trim() {
    // SAFETY: it may be called at any time, by any thread.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

fn config(settings: &Settings, new_epoch: bool, admin_token: &str) -> Config {
    Config {
        node: settings.node.clone(),
        listeners: listeners(settings),
        tls: settings.tls.as_ref().map(|tls| everywire_node::Tls { cert: tls.cert.clone(), key: tls.key.clone() }),
        data: settings.data.clone(),
        new_epoch,
        engine: match &settings.engine {
            EngineKind::Embedded => everywire_node::EngineKind::Embedded,
            EngineKind::Memory => everywire_node::EngineKind::Memory,
            EngineKind::Kafka(address) => {
                let kafka = everywire_kafka::Kafka::new(everywire_kafka::Address::clone(address));
                let longest = settings.rules.max_message();
                everywire_node::EngineKind::Elsewhere(Arc::new(kafka.with_longest(longest)))
            }
            EngineKind::Redis(address) => {
                let redis = everywire_redis::Redis::new(Address::clone(address), new_epoch);
                everywire_node::EngineKind::Elsewhere(Arc::new(redis))
            }
        },
        over: Over::default(),
        workers: settings.workers,
        trim,
        trusted_proxies: settings.trusted_proxies.clone(),
        limits: Arc::new(settings.limits.clone()),
        rules: settings.rules.clone(),
        bridges: settings.bridges.clone(),
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

/// The listeners that are on. HTTPS without an address of its own takes that of HTTP.
fn listeners(settings: &Settings) -> Vec<everywire_node::Listener> {
    let tls = settings.tls.as_ref();
    let is_https = tls.is_some_and(|tls| tls.listen.is_none());
    let secure = |address: Option<SocketAddr>| address.map(|address| Listener { address, configured: true });
    let listeners = [
        (settings.http, Speaks::Http, is_https),
        (secure(tls.and_then(|tls| tls.listen)), Speaks::Http, true),
        (settings.tcp, Speaks::Native, false),
        (secure(tls.and_then(|tls| tls.tcp)), Speaks::Native, true),
        (settings.mqtt, Speaks::Mqtt, false),
        (secure(tls.and_then(|tls| tls.mqtt)), Speaks::Mqtt, true),
    ];
    let is_on = |(at, speaks, tls): (Option<Listener>, Speaks, bool)| {
        let Listener { address, configured } = at?;
        Some(everywire_node::Listener { bind: Bind { address, configured }, speaks, tls })
    };
    listeners.into_iter().filter_map(is_on).collect()
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
    /// The addresses of the listeners, by their names.
    pub(crate) fn addresses(&self) -> &[(&'static str, SocketAddr)] {
        self.0.addresses()
    }

    /// Takes over the settings that can change at runtime: rules, certificates, keys.
    pub(crate) fn reload(&self, settings: &Settings) -> Result<(), String> {
        self.0.reload(settings.rules.clone()).map_err(|error| error.to_string())
    }

    /// Stops accepting, tells the clients to come back, and returns when all are gone or the time for it is over.
    pub(crate) fn drain(self) {
        self.0.drain();
    }
}
