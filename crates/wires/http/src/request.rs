//! The meaning of a request, apart from HTTP/1.1's framing: from a head to a [`Request`], which becomes an ask.
//!
//! The order of the checks: the guard, the address, the method, the parameters, permission. Size and body are the
//! framing's affair, by [`Request::max_body`].

use std::sync::Arc;

use everywire_base::limits::Limits;
use everywire_base::rules::{Caller, Rules};
use everywire_wire::{Peer, Upgrade};

use crate::call::{self, Calling};
use crate::classic;
use crate::config::Service;
use crate::guard;
use crate::head::Head;
use crate::look_back::Backwards;
use crate::problem::Problem;
use crate::publish::Publication;
use crate::reading::Reading;
use crate::reply::{self, Length, Manner};

/// The meaning of a request.
pub(crate) enum Request {
    /// A message.
    Publish(Publication),
    /// Many messages.
    Batch,
    /// A poll, a stream, or the classic watch.
    Read(Reading),
    /// A page before a position.
    LookBack(Backwards),
    /// Another protocol, which this takes over.
    Upgrade(Arc<dyn Upgrade>),
    /// The API.
    Call(Calling),
    /// A question for the allowed methods: answered at once.
    Options(Options),
}

/// The answer to OPTIONS.
pub(crate) struct Options {
    allow: &'static str,
    preflight: bool,
    private_network: bool,
    headers: Box<[u8]>,
}

/// The values that the wire needs to understand a request.
pub(crate) struct Surroundings<'a> {
    pub(crate) service: &'a Service,
    /// The identity that asks.
    pub(crate) who: Caller<'a>,
    pub(crate) limits: &'a Limits,
    pub(crate) rules: &'a Rules,
    pub(crate) peer: &'a Peer,
}

#[derive(Clone, Copy)]
enum Route {
    Messages,
    Batch,
    Events,
    Stream,
    Watch,
    ClassicPublish,
    Api,
}

/// Addresses for the state of the server. They hold no secrets, and every client (an orchestrator by a pod's address, a
/// load balancer without a Host) is answered, whatever it shows.
const FOR_EVERYBODY: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Whether a request asks only for the state of the server.
pub(crate) fn is_for_everybody(head: &Head<'_, '_>) -> bool {
    matches!(head.method, "GET" | "HEAD") && FOR_EVERYBODY.contains(&head.target.path)
}

/// The most characters of a `User-Agent` that the registry keeps.
const MAX_AGENT: usize = 120;
/// The address at which a client without an identity gets one.
const GUESTS: &str = "/v1/guests";
const ANY_METHOD: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

impl Route {
    /// The route of a path, and the part of the path that is a topic.
    fn find(path: &str) -> (Self, &str) {
        let whole = match path {
            "/v1/messages" => Route::Messages,
            "/v1/batch" => Route::Batch,
            "/v1/events" => Route::Events,
            "/v1/stream" => Route::Stream,
            _ => Route::Api,
        };
        let prefixes = [("/polling/watch/", Route::Watch), ("/polling/publish/", Route::ClassicPublish)];
        let classic = prefixes.iter().find_map(|(prefix, route)| Some((*route, path.strip_prefix(prefix)?)));
        classic.unwrap_or((whole, ""))
    }

    fn allow(self) -> &'static str {
        match self {
            Route::Messages => "GET, HEAD, POST, OPTIONS",
            Route::Batch => "POST, OPTIONS",
            Route::Events | Route::Stream | Route::Watch => "GET, HEAD, OPTIONS",
            Route::ClassicPublish => "GET, POST, OPTIONS",
            Route::Api => ANY_METHOD,
        }
    }
}

/// Whether messages are wanted with their later changes.
fn is_folded(head: &Head<'_, '_>) -> bool {
    head.target.pairs().any(|pair| pair == ("fold", "1"))
}

impl Request {
    /// Understands a head whose origin the guard has checked.
    pub(crate) fn understand(head: &Head<'_, '_>, around: &Surroundings<'_>) -> Result<Self, Problem> {
        if let Some(upgrade) = around.service.upgrades.iter().find(|u| u.serves(head.target.path)) {
            let config = &around.service.config;
            // If somebody can have an identity, it can still be shown in the other protocol's words.
            if !config.knows_anybody {
                guard::refuse_forwarded(head, config, around.who)?;
            }
            return Ok(Request::Upgrade(Arc::clone(upgrade)));
        }
        let (route, topic) = Route::find(head.target.path);
        if !matches!(route, Route::Api) {
            head.refuse_encoded()?;
        }
        if !matches!(route, Route::Api) && head.method != "OPTIONS" {
            // No body is read for a client that isn't let in.
            around.rules.may_enter(around.who)?;
            guard::refuse_forwarded(head, &around.service.config, around.who)?;
        }
        let request = match (route, head.method) {
            (_, "OPTIONS") if Self::is_answered_here(route, head) => Request::Options(Options::of(head, route.allow())),
            (Route::Api, _) => Request::Call(Self::call(head, around)?),
            (Route::Messages, "POST") => Request::Publish(Publication::from_query(head, around)?),
            // Later changes of messages are known beside the hot path.
            (Route::Messages, "GET" | "HEAD") if is_folded(head) => Request::Call(Self::call(head, around)?),
            (Route::Messages, "GET" | "HEAD") if Backwards::is_asked(head) => {
                Request::LookBack(Backwards::understand(head, around.limits)?)
            }
            (Route::Messages, "GET" | "HEAD") => Self::read(Reading::poll(head, around.limits)?, head),
            (Route::Batch, "POST") => Request::Batch,
            (Route::Events, "GET" | "HEAD") => Self::read(Reading::events(head, around.limits)?, head),
            (Route::Stream, "GET" | "HEAD") => Self::read(Reading::stream(head, around.limits)?, head),
            (Route::Watch, "GET" | "HEAD") => Self::read(classic::watch(head, topic, around.limits)?, head),
            (Route::ClassicPublish, "GET") => Request::Publish(classic::publish_by_get(head, topic, around)?),
            (Route::ClassicPublish, "POST") => Request::Publish(classic::publish(head, topic, around)?),
            (route, method) => return Err(Problem::method(method, route.allow())),
        };
        Ok(request)
    }

    /// A request to read, with the software that asks.
    fn read(reading: Reading, head: &Head<'_, '_>) -> Self {
        let agent =
            head.fields.user_agent.map(|agent| String::from_utf8_lossy(agent).chars().take(MAX_AGENT).collect());
        Request::Read(Reading { agent, ..reading })
    }

    /// A call of the API. Everybody may have what isn't data, and the state of the server; the API itself checks
    /// permissions.
    fn call(head: &Head<'_, '_>, around: &Surroundings<'_>) -> Result<Calling, Problem> {
        let (config, path) = (&around.service.config, head.target.path);
        if path.starts_with("/v1/") && path != GUESTS {
            around.rules.may_enter(around.who)?;
        }
        // Guests are let in through a proxy only if the operator has set up identities.
        if path.starts_with("/v1/") && (path != GUESTS || !config.knows_anybody) {
            guard::refuse_forwarded(head, config, around.who)?;
        }
        let max_body = (around.service.longest_body)(head.method, head.target.path, around.who)?;
        Ok(call::understand(head, max_body))
    }

    /// Whether OPTIONS is answered here: the API answers it itself, except a browser's question before a request.
    fn is_answered_here(route: Route, head: &Head<'_, '_>) -> bool {
        !matches!(route, Route::Api) || head.target.path == "*" || head.fields.preflight_method.is_some()
    }

    /// The longest body that the request may have, and the words that name its kind.
    pub(crate) fn max_body(&self, limits: &Limits, rules: &Rules) -> (usize, &'static str) {
        match self {
            Request::Publish(publication) => publication.max_body(rules),
            Request::Batch => (limits.http_body_bytes, "a batch has"),
            Request::Call(call) => (call.max_body().min(limits.http_body_bytes), "a request has"),
            Request::Read(_) | Request::LookBack(_) | Request::Options(_) | Request::Upgrade(_) => {
                (0, "a request of this method has")
            }
        }
    }
}

impl Options {
    fn of(head: &Head<'_, '_>, allow: &'static str) -> Self {
        Self {
            allow,
            preflight: head.fields.preflight_method.is_some(),
            private_network: head.fields.preflight_private.is_some(),
            headers: head.fields.preflight_headers.unwrap_or_default().into(),
        }
    }

    /// Appends the whole reply.
    pub(crate) fn reply(&self, manner: &Manner, out: &mut Vec<u8>) {
        reply::head(out, manner, 204, Length::None, |fields| {
            fields.add("Allow", self.allow.as_bytes());
            if !self.preflight || manner.origin.is_none() {
                return;
            }
            fields.add("Access-Control-Allow-Methods", self.allow.as_bytes());
            if !self.headers.is_empty() {
                fields.add("Access-Control-Allow-Headers", &self.headers);
            }
            if self.private_network {
                fields.add("Access-Control-Allow-Private-Network", b"true");
            }
            fields.add("Access-Control-Max-Age", b"600");
        });
    }
}
