//! The sender of a request (RFC 6750, RFC 7617): the credentials that it shows, and the identity that this connection
//! knows for them.
//!
//! Proxies send requests of several users over one connection, so every request acts for the user whose credentials it
//! shows and for nobody else. The last credentials and the identity that they prove are remembered, since most
//! connections are one user's; other credentials are asked for, and the request waits unread meanwhile.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use everywire_base::ask::{AuthError, Authenticate, Credentials, Login};
use everywire_base::clock::Monotonic;
use everywire_base::id::AskId;
use everywire_base::identity::Identity;
use everywire_wire::{Ask, Context};

use crate::config::HttpConfig;
use crate::head::Head;
use crate::machine::Link;
use crate::problem::{Hint, Problem};
use crate::target::{decode, once};

/// The identities that have sent requests on this connection, as far as they are known.
#[derive(Default)]
pub(crate) struct Known {
    last: Option<(Credentials, Proof)>,
    /// The identity that the registry names as the connection's user.
    registered: Option<Arc<Identity>>,
    /// The time at which the identity of the waiting reader expires.
    pub(crate) expires: Option<Monotonic>,
}

enum Proof {
    Asked(AskId),
    Is(Arc<Identity>),
    Refused(AuthError),
}

/// The sender of a request.
pub(crate) enum Sender {
    /// An identity, or none.
    Is(Option<Arc<Identity>>),
    /// Somebody whose credentials are being checked.
    Asked,
}

/// Addresses on which a token may stand in the query, since a browser can send no header there (RULES 26).
const WITH_TOKEN: [&str; 3] = ["/v1/events", "/v1/stream", "/v1/ws"];

/// Whether a request shows any credentials.
pub(crate) fn are_shown(head: &Head<'_, '_>, config: &HttpConfig) -> bool {
    field(head, config).is_some() || head.target.pairs().any(|p| p.0 == "token")
}

/// `Authorization`, if it is meant for this server.
fn field<'b>(head: &Head<'b, '_>, config: &HttpConfig) -> Option<&'b [u8]> {
    let is_bearer = |value: &[u8]| value.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"Bearer"));
    head.fields.authorization.filter(|value| config.knows_anybody || is_bearer(value))
}

/// The credentials that a request shows.
fn shown(head: &Head<'_, '_>, config: &HttpConfig) -> Result<Option<Credentials>, Problem> {
    let mut token = None;
    for (name, value) in head.target.pairs().filter(|p| p.0 == "token") {
        once(&mut token, decode(value, name)?, name)?;
    }
    if token.is_some() && !WITH_TOKEN.contains(&head.target.path) {
        return Err(Problem::bad("`token=` is not for this address: send it as `Authorization: Bearer …`"));
    }
    let in_query = token.map(|token| Credentials::Token(token.into()));
    let in_head = field(head, config).map(authorization).transpose()?;
    match (in_head, in_query) {
        (Some(one), Some(other)) if one != other => {
            Err(Problem::bad("the token in the address is another than that in `Authorization`"))
        }
        (one, other) => Ok(one.or(other)),
    }
}

/// Reads `Authorization`.
fn authorization(value: &[u8]) -> Result<Credentials, Problem> {
    let wrong = || {
        Problem::new(401, "`Authorization` is understood as `Bearer TOKEN` or `Basic USER:PASSWORD in Base64`")
            .hinting(Hint::Authenticate)
    };
    let text = std::str::from_utf8(value).map_err(|_| wrong())?;
    let (scheme, rest) = text.split_once(' ').ok_or_else(wrong)?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("Bearer") && !rest.is_empty() {
        return Ok(Credentials::Token(rest.into()));
    }
    if !scheme.eq_ignore_ascii_case("Basic") {
        return Err(wrong());
    }
    let pair = STANDARD.decode(rest).ok().and_then(|pair| String::from_utf8(pair).ok()).ok_or_else(wrong)?;
    let (user, password) = pair.split_once(':').ok_or_else(wrong)?;
    Ok(Credentials::Password { user: user.into(), password: password.into() })
}

/// Finds the sender of a request; asks, if it isn't known.
pub(crate) fn sender(head: &Head<'_, '_>, cx: &mut Context<'_>, link: &mut Link<'_>) -> Result<Sender, Problem> {
    let Some(credentials) = shown(head, &link.service.config)? else { return Ok(Sender::Is(None)) };
    let known = link.known.get_or_insert_default();
    match &known.last {
        Some((last, Proof::Is(who))) if *last == credentials && !who.is_expired(cx.now.wall) => {
            return Ok(Sender::Is(Some(Arc::clone(who))));
        }
        Some((last, Proof::Refused(error))) if *last == credentials => {
            let problem = refusal(error);
            // If they are asked for again, the credentials may be known.
            known.last = None;
            return Err(problem);
        }
        _ => {}
    }
    let ask = link.number();
    let asked = Authenticate::new(credentials.clone(), None);
    cx.asks.push((ask, Ask::Authenticate(asked)));
    link.known.get_or_insert_default().last = Some((credentials, Proof::Asked(ask)));
    Ok(Sender::Asked)
}

impl Known {
    /// Whether the registry names somebody as the connection's user.
    pub(crate) fn is_registered(&self) -> bool {
        self.registered.is_some()
    }

    /// The identity that the registry names.
    pub(crate) fn registered(&self) -> Option<Arc<Identity>> {
        self.registered.clone()
    }

    /// Takes the answer to the ask; says whether it was waited for.
    pub(crate) fn proved(&mut self, ask: AskId, result: Result<Arc<Identity>, AuthError>) -> bool {
        let Some((_, proof @ Proof::Asked(_))) = &mut self.last else { return false };
        if !matches!(proof, Proof::Asked(asked) if *asked == ask) {
            return false;
        }
        *proof = result.map_or_else(Proof::Refused, Proof::Is);
        true
    }
}

/// Tells the registry the connection's user, if it doesn't know it yet or knows another: a connection that waits for
/// messages is to be found by its user's name. Anonymous connections stay out of the registry.
pub(crate) fn register(
    agent: Option<Box<str>>,
    who: Option<&Arc<Identity>>,
    cx: &mut Context<'_>,
    link: &mut Link<'_>,
) {
    let registered = link.known.as_ref().and_then(|known| known.registered.as_ref());
    let is_same = match (registered, who) {
        (None, None) => true,
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        _ => false,
    };
    if is_same {
        return;
    }
    link.known.get_or_insert_default().registered = who.cloned();
    let login = Login { identity: who.cloned(), agent, ..Login::default() };
    cx.asks.push((link.number(), Ask::Login(login)));
}

fn refusal(error: &AuthError) -> Problem {
    match error {
        AuthError::Continue { .. } => Problem::new(401, error.to_string()),
        AuthError::Refused(why) => Problem::new(401, why.to_string()).hinting(Hint::InvalidToken),
        AuthError::Mismatch(why) => Problem::new(403, why.to_string()),
        AuthError::Unavailable(why) => Problem::unavailable(1, why.to_string()),
    }
}
