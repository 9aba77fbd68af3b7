//! What a request means, apart from HTTP/1.1's framing: from a head to a [`Request`], which becomes an ask.
//!
//! The order of the checks: who may speak at all, the address, the method, the parameters, permission. Size and body
//! are the framing's affair, by [`Request::max_body`].

use everywire_base::limits::Limits;
use everywire_base::rules::Rules;
use everywire_wire::Peer;

use crate::call::{self, Calling};
use crate::classic;
use crate::config::HttpConfig;
use crate::guard;
use crate::head::Head;
use crate::problem::Problem;
use crate::publish::Publication;
use crate::reading::Reading;
use crate::reply::{self, Length, Manner};

/// What a request wants.
pub(crate) enum Request {
    /// A message.
    Publish(Publication),
    /// Many messages.
    Batch,
    /// A poll, a stream, or the classic watch.
    Read(Reading),
    /// The API.
    Call(Calling),
    /// To know what is allowed: answered at once.
    Options(Options),
}

/// What OPTIONS is answered.
pub(crate) struct Options {
    allow: &'static str,
    preflight: bool,
    private_network: bool,
    headers: Box<[u8]>,
}

/// What the wire needs to know to understand a request.
pub(crate) struct Surroundings<'a> {
    pub(crate) config: &'a HttpConfig,
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

const ANY_METHOD: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

impl Route {
    /// The route of a path, and what of the path is a topic.
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

impl Request {
    /// Understands a head; what the guard found about its origin goes into the manner.
    pub(crate) fn understand(
        head: &Head<'_, '_>,
        around: &Surroundings<'_>,
        manner: &mut Manner,
    ) -> Result<Self, Problem> {
        let admitted = guard::admit(head, around.peer, around.config)?;
        manner.origin = admitted.origin;
        let (route, topic) = Route::find(head.target.path);
        if !matches!(route, Route::Api) {
            head.refuse_encoded()?;
        }
        let request = match (route, head.method) {
            (_, "OPTIONS") if Self::is_answered_here(route, head) => Request::Options(Options::of(head, route.allow())),
            (Route::Api, _) => Request::Call(call::understand(head)),
            (Route::Messages, "POST") => Request::Publish(Publication::from_query(head, around.rules)?),
            (Route::Messages, "GET" | "HEAD") => Request::Read(Reading::poll(head, around.limits)?),
            (Route::Batch, "POST") => Request::Batch,
            (Route::Events, "GET" | "HEAD") => Request::Read(Reading::events(head, around.limits)?),
            (Route::Stream, "GET" | "HEAD") => Request::Read(Reading::stream(head, around.limits)?),
            (Route::Watch, "GET" | "HEAD") => Request::Read(classic::watch(head, topic, around.limits)?),
            (Route::ClassicPublish, "GET") => {
                Request::Publish(classic::publish_by_get(head, topic, admitted.caller, around)?)
            }
            (Route::ClassicPublish, "POST") => Request::Publish(classic::publish(head, topic, around.rules)?),
            (route, method) => return Err(Problem::method(method, route.allow())),
        };
        Ok(request)
    }

    /// The API answers OPTIONS itself, except a browser's question before a request.
    fn is_answered_here(route: Route, head: &Head<'_, '_>) -> bool {
        !matches!(route, Route::Api) || head.target.path == "*" || head.fields.preflight_method.is_some()
    }

    /// The longest body that the request may have, and what has that bound.
    pub(crate) fn max_body(&self, limits: &Limits, rules: &Rules) -> (usize, &'static str) {
        match self {
            Request::Publish(publication) => publication.max_body(rules),
            Request::Batch => (limits.http_body_bytes, "a batch has"),
            Request::Call(_) => (limits.http_body_bytes, "a request has"),
            Request::Read(_) | Request::Options(_) => (0, "a request of this method has"),
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
        reply::head(out, manner, 204, Length::None, |out| {
            reply::field(out, "Allow", self.allow.as_bytes());
            if !self.preflight || manner.origin.is_none() {
                return;
            }
            reply::field(out, "Access-Control-Allow-Methods", self.allow.as_bytes());
            if !self.headers.is_empty() {
                reply::field(out, "Access-Control-Allow-Headers", &self.headers);
            }
            if self.private_network {
                reply::field(out, "Access-Control-Allow-Private-Network", b"true");
            }
            reply::field(out, "Access-Control-Max-Age", b"600");
        });
    }
}
