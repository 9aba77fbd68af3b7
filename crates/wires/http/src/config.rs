//! The configuration of the HTTP listeners, and the listener that hands out wires.

use std::sync::Arc;

use everywire_base::clock::Now;
use everywire_base::limits::Limits;
use everywire_base::rules::{Caller, Refusal};
use everywire_wire::{Listen, Peer, Upgrade, Wire};

use crate::machine::Http;

/// The configuration of the HTTP listeners.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HttpConfig {
    /// Names under which the server may be asked besides the loopback ones, without port, compared without case.
    pub hosts: Vec<Box<str>>,
    /// Foreign origins that may use the API from a browser, as `https://app.example.com[:port]`.
    pub origins: Vec<Arc<str>>,
    /// Whether anonymous clients are let in from everywhere (`auth.anonymous`), also through a proxy. Then a `Host` may
    /// also be an address literal, which no name can be rebound to.
    pub anonymous_everywhere: bool,
    /// Whether somebody can have an identity. Else credentials that aren't a bearer token, such as the `Basic` that a
    /// proxy passes on, are meant for another server and ignored here.
    pub knows_anybody: bool,
}

/// The longest body of a call of the API, by method and path, or the reason why this caller may send none: it is asked
/// before any of the body is read.
pub(crate) type LongestBody = fn(&str, &str, Caller<'_>) -> Result<usize, Refusal>;

/// The service that all connections of the HTTP listeners share.
#[derive(Clone)]
pub struct Service {
    pub(crate) config: HttpConfig,
    pub(crate) upgrades: Vec<Arc<dyn Upgrade>>,
    pub(crate) longest_body: LongestBody,
}

impl Default for Service {
    fn default() -> Self {
        Self::new(HttpConfig::default(), Vec::new())
    }
}

impl Service {
    /// A service with these upgrades, which take over requests for other protocols.
    pub fn new(config: HttpConfig, upgrades: Vec<Arc<dyn Upgrade>>) -> Self {
        Self { config, upgrades, longest_body: |_, _, _| Ok(usize::MAX) }
    }

    /// The same service, with the bound of the bodies of calls.
    #[must_use]
    pub fn with_longest_body(self, longest_body: fn(&str, &str, Caller<'_>) -> Result<usize, Refusal>) -> Self {
        Self { longest_body, ..self }
    }
}

impl From<HttpConfig> for Service {
    fn from(config: HttpConfig) -> Self {
        Self::new(config, Vec::new())
    }
}

/// Makes an [`Http`] for each connection that is accepted.
#[derive(Clone)]
pub struct HttpListener {
    service: Arc<Service>,
    limits: Arc<Limits>,
}

impl HttpListener {
    /// A listener for this service.
    pub fn new(service: Arc<Service>, limits: Arc<Limits>) -> Self {
        Self { service, limits }
    }
}

impl Listen for HttpListener {
    fn accept(&self, _peer: &Peer, now: Now) -> Box<dyn Wire> {
        Box::new(Http::new(Arc::clone(&self.service), &self.limits, now))
    }
}
