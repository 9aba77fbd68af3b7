//! The decision whether clients without an identity are let in, and its reason.

use everywire_base::rules::Anonymous;

use super::Settings;

/// The rights of clients without an identity, and the setting that decides them, for people.
///
/// They are let in only while nothing says that the server is for others too. A listener that others can reach says so,
/// a source of identities, and a name or an origin that is not of this machine. A proxy on this machine reaches a
/// listener on loopback like any local client.
pub(crate) fn of(settings: &Settings) -> (Anonymous, String) {
    match (settings.anonymous, closed_by(settings)) {
        (Some(false), _) => (Anonymous::Refused, "auth.anonymous = false".to_owned()),
        // Without any other way in, anonymous clients may do what people with an identity may.
        (Some(true), _) if !settings.auth.knows_anybody() => {
            (Anonymous::Everything, "auth.anonymous = true".to_owned())
        }
        (Some(true), _) => (Anonymous::Allowed, "auth.anonymous = true".to_owned()),
        (None, Some(why)) => (Anonymous::Refused, why),
        (None, None) => {
            let why = "every listener is on loopback, and nothing is configured that says who people are".to_owned();
            (Anonymous::Everything, why)
        }
    }
}

/// The decision and its reason in one line.
pub(crate) fn line(settings: &Settings) -> String {
    let (anonymous, why) = of(settings);
    let are = if anonymous == Anonymous::Refused { "are not let in" } else { "are let in" };
    let guests = if settings.takes_guests() { ", and anybody can become a guest" } else { "" };
    format!("anonymous clients {are}: {why}{guests}")
}

/// The reason why nobody could come in, if so.
pub(super) fn refusal(settings: &Settings) -> Option<String> {
    if settings.auth.knows_anybody() {
        return None;
    }
    if settings.anonymous == Some(false) {
        return Some(
            "auth.anonymous = false lets nobody in, since nobody can have an identity: set auth.secret, auth.jwks, \
             auth.users or auth.callback too"
                .into(),
        );
    }
    let why = closed_by(settings).filter(|_| settings.anonymous.is_none())?;
    Some(format!(
        "{why}, and there is no auth section that says who people are; anonymous clients are let in only where nobody \
         else can come: set auth.anonymous = true (EVERYWIRE_AUTH_ANONYMOUS=true) to let everybody in, set auth.secret \
         (EVERYWIRE_AUTH_SECRET) to let those in who have a token, or listen on 127.0.0.1 without it"
    ))
}

/// The first setting because of which anonymous clients aren't let in.
fn closed_by(settings: &Settings) -> Option<String> {
    let open = settings.listeners().into_iter().find(|(_, address)| !address.ip().to_canonical().is_loopback());
    if let Some((name, address)) = open {
        return Some(format!("{name} would listen on {address}, where others can reach it"));
    }
    if let Some(source) = settings.auth.source() {
        return Some(format!("{source} is set"));
    }
    if let Some(host) = settings.hosts.iter().find(|host| !is_local(host)) {
        return Some(format!("http.hosts has {host}, by which others can reach the server"));
    }
    let origin = settings.origins.iter().find(|origin| !is_local_page(origin))?;
    Some(format!("auth.origins has {origin}, whose pages others can open"))
}

/// Whether a host is this machine.
fn is_local(host: &str) -> bool {
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_loopback = inner.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
    is_loopback || host == "localhost" || host.ends_with(".localhost")
}

/// Whether an origin is a page of this machine. Pages of apps run on the devices of others.
fn is_local_page(origin: &str) -> bool {
    let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    rest.is_some_and(|rest| {
        let port = rest.rfind(':').filter(|colon| rest[colon + 1..].bytes().all(|byte| byte.is_ascii_digit()));
        is_local(port.map_or(rest, |colon| &rest[..colon]))
    })
}
