//! The guard, before anything is routed (RULES 21): a page of another site must not reach a local server, neither by a
//! request of its own nor by a name that it rebinds to loopback.

use std::net::IpAddr;
use std::sync::Arc;

use everywire_base::rules::Caller;
use everywire_wire::Peer;

use crate::config::HttpConfig;
use crate::head::Head;
use crate::problem::{Hint, Problem};

/// Refuses a request that the page of another site has sent; else gives the foreign origin that may read the response.
/// A browser adds no credentials of its own, so a request that shows some may use any name of the server.
pub(crate) fn admit(
    head: &Head<'_, '_>,
    peer: &Peer,
    config: &HttpConfig,
    is_anonymous: bool,
) -> Result<Option<Arc<str>>, Problem> {
    if is_anonymous {
        check_host(head, config)?;
    }
    check_origin(head, peer, config)
}

fn check_host(head: &Head<'_, '_>, config: &HttpConfig) -> Result<(), Problem> {
    let host = head.authority().map(|a| split_port(a).0).unwrap_or_default();
    let configured = config.hosts.iter().any(|h| h.eq_ignore_ascii_case(host));
    let open = config.anonymous_everywhere && literal(host).is_some();
    if configured || open || is_loopback(host) {
        return Ok(());
    }
    Err(Problem::new(403, "this server is not known under that Host: ask it by a loopback name, or configure the name"))
}

fn check_origin(head: &Head<'_, '_>, peer: &Peer, config: &HttpConfig) -> Result<Option<Arc<str>>, Problem> {
    let refused = |what: &str| {
        Problem::new(403, format!("{what} may not use this server: allow its origin in the configuration"))
    };
    if let Some(origin) = head.fields.origin {
        let mut origins = config.origins.iter().filter(|o| &***o != "null");
        if let Some(known) = origins.find(|o| o.as_bytes().eq_ignore_ascii_case(origin)) {
            return Ok(Some(Arc::clone(known)));
        }
        if !is_same_origin(origin, head.authority().unwrap_or_default(), peer.tls) {
            return Err(refused("the page that sent this"));
        }
    }
    match head.fields.sec_fetch_site {
        None | Some(b"none" | b"same-origin") => Ok(None),
        Some(_) => Err(refused("a page of another site")),
    }
}

/// Refuses an anonymous request that a proxy has passed on, unless everybody may come in: its sender isn't on this
/// machine, though the proxy is.
pub(crate) fn refuse_forwarded(head: &Head<'_, '_>, config: &HttpConfig, who: Caller<'_>) -> Result<(), Problem> {
    let is_let_in = who.is_some() || config.anonymous_everywhere;
    if is_let_in || !head.fields.is_forwarded {
        return Ok(());
    }
    let detail = "a proxy has passed this on, and anonymous clients are let in from this machine alone: set auth.secret and \
                  send a token, or set auth.anonymous = true to let everybody in";
    Err(Problem::new(401, detail).hinting(Hint::Authenticate))
}

/// Whether somebody at this machine has sent a request on purpose: not through a proxy, and not as a part of a page. A
/// page's `<img>` comes without `Origin`, and from some pages as if the user had typed its address.
pub(crate) fn is_of_this_machine(head: &Head<'_, '_>, peer: &Peer) -> bool {
    let host = head.authority().map(|a| split_port(a).0).unwrap_or_default();
    let fields = &head.fields;
    let on_purpose = matches!(fields.sec_fetch_mode, None | Some(b"navigate" | b"cors" | b"same-origin"))
        && matches!(fields.sec_fetch_dest, None | Some(b"document" | b"empty"));
    peer.address.ip().to_canonical().is_loopback() && is_loopback(host) && !fields.is_forwarded && on_purpose
}

fn is_same_origin(origin: &[u8], authority: &str, tls: bool) -> bool {
    let (scheme, default_port): (&[u8], _) = if tls { (b"https://", "443") } else { (b"http://", "80") };
    let Some(theirs) = origin.strip_prefix(scheme).and_then(|o| std::str::from_utf8(o).ok()) else { return false };
    let ((their_host, their_port), (our_host, our_port)) = (split_port(theirs), split_port(authority));
    their_host.eq_ignore_ascii_case(our_host) && their_port.unwrap_or(default_port) == our_port.unwrap_or(default_port)
}

/// Host and port of an authority; brackets stay with the host.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port))
            if port.bytes().all(|b| b.is_ascii_digit()) && (!host.contains(':') || host.ends_with(']')) =>
        {
            (host, Some(port))
        }
        _ => (authority, None),
    }
}

fn literal(host: &str) -> Option<IpAddr> {
    let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    inner.map_or_else(|| host.parse().ok().filter(IpAddr::is_ipv4), |h| h.parse().ok())
}

fn is_loopback(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let name = host.rsplit('.').next().unwrap_or_default();
    name.eq_ignore_ascii_case("localhost") || literal(host).is_some_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_names() {
        for host in ["localhost", "LOCALHOST", "a.localhost", "localhost.", "127.0.0.1", "127.9.9.9", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["", "localhost.evil.com", "127.0.0.1.evil.com", "10.0.0.1", "[::2]", "::1", "notlocalhost"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn same_origin_means_scheme_host_and_port() {
        for (origin, authority, tls, same) in [
            ("http://localhost:8080", "localhost:8080", false, true),
            ("http://localhost", "localhost:80", false, true),
            ("https://localhost", "localhost", true, true),
            ("http://localhost:8081", "localhost:8080", false, false),
            ("https://localhost:8080", "localhost:8080", false, false),
            ("http://[::1]:8080", "[::1]:8080", false, true),
            ("null", "localhost:8080", false, false),
            ("http://localhost:8080@evil", "localhost:8080", false, false),
        ] {
            assert_eq!(is_same_origin(origin.as_bytes(), authority, tls), same, "{origin} {authority}");
        }
    }
}
