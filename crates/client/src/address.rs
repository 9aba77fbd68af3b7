//! The address of a server.

use std::fmt;
use std::net::IpAddr;

use crate::error::ClientError;

/// A server's address, from `http://host[:port]`, or `tcp://host:port` and `mqtt://host:port` for
/// these wires alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    /// Host and port, as the header `Host` has them.
    authority: String,
    host: String,
    port: u16,
    /// `http`, `tcp` or `mqtt`.
    scheme: &'static str,
}

impl Server {
    /// Parses an address.
    pub fn parse(url: &str) -> Result<Self, ClientError> {
        let wrong = |why: &str| ClientError::Address(format!("{url:?} {why}: write it like \"http://127.0.0.1:8080\""));
        if url.starts_with("https://") {
            return Err(wrong("needs TLS, which this client does not speak in this version"));
        }
        let of = |scheme: &'static str| Some((scheme, url.strip_prefix(scheme)?.strip_prefix("://")?));
        let known = ["http", "tcp", "mqtt"].into_iter().find_map(of);
        let (scheme, rest) = known.ok_or_else(|| wrong("does not begin with http://"))?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        if authority.is_empty() || !authority.chars().all(plain) {
            return Err(wrong("is not the address of a server: it has a host and perhaps a port, nothing else"));
        }
        let (host, port) = split(authority).ok_or_else(|| wrong("has no valid port"))?;
        Ok(Self { authority: authority.to_owned(), host: host.to_owned(), port, scheme })
    }

    /// Host and port, as the header `Host` has them.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Whether it is this machine.
    pub fn is_on_loopback(&self) -> bool {
        let is_loopback = |ip: IpAddr| ip.to_canonical().is_loopback();
        self.host.eq_ignore_ascii_case("localhost") || self.host.parse().is_ok_and(is_loopback)
    }

    /// The address of a wire: this one, if it is that wire's, else the same host with the wire's own port.
    pub(crate) fn of_wire(&self, scheme: &'static str, port: u16) -> Self {
        if self.scheme == scheme {
            return self.clone();
        }
        let host = &self.host;
        let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        Self { authority, host: host.clone(), port, scheme }
    }

    /// The host and port that a socket connects to.
    pub(crate) fn place(&self) -> (&str, u16) {
        (&self.host, self.port)
    }
}

/// Host, without brackets, and port.
fn split(authority: &str) -> Option<(&str, u16)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        let port = port.strip_prefix(':').map_or(Some(80), |port| port.parse().ok())?;
        return (port != 0).then_some((host, port));
    }
    match authority.split_once(':') {
        None => Some((authority, 80)),
        Some(("", _)) => None,
        Some((host, port)) => Some((host, port.parse().ok().filter(|port| *port != 0)?)),
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (url, host, port) in [
            ("http://127.0.0.1:8080", "127.0.0.1", 8080),
            ("http://localhost/", "localhost", 80),
            ("http://[::1]:8080", "::1", 8080),
            ("http://[::1]", "::1", 80),
        ] {
            assert_eq!(Server::parse(url).unwrap().place(), (host, port), "{url}");
        }
        let of_mqtt = |url: &str| Server::parse(url).unwrap().of_wire("mqtt", 1883).to_string();
        assert_eq!(of_mqtt("http://[::1]:8080"), "mqtt://[::1]:1883");
        assert_eq!(of_mqtt("mqtt://localhost:2883"), "mqtt://localhost:2883");
        for url in [
            "",
            "127.0.0.1:8080",
            "https://x",
            "http://",
            "http://:80",
            "http://x:0",
            "http://x:99999",
            "http://x/path",
            "http://a b",
            "http://u@x",
            "http://[::1",
            "http://a:1:2",
        ] {
            assert!(matches!(Server::parse(url), Err(ClientError::Address(_))), "{url}");
        }
    }
}
