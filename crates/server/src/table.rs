//! The table that `serve` shows when it is ready: the listeners with their addresses, and the page's address.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use crate::config::{EngineKind, Settings, admission};

const WHAT: &[(&str, &str)] = &[
    ("http", "web page, publish, short poll, long poll, SSE, stream, WebSocket"),
    ("https", "the same over TLS"),
    ("tcp", "the native protocol"),
    ("tcps", "the same over TLS"),
    ("mqtt", "MQTT 3.1.1 and 5.0"),
    ("mqtts", "the same over TLS"),
];

/// The operator's way in.
pub(crate) enum Operator<'a> {
    /// With this token, which is shown.
    Token(&'a str),
    /// With the token in this file.
    At(PathBuf),
}

/// The lines of the table. The names of the listeners are the schemes of their addresses.
pub(crate) fn of(settings: &Settings, addresses: &[(&'static str, SocketAddr)], operator: &Operator<'_>) -> String {
    let workers = settings.workers;
    let kept = match &settings.engine {
        EngineKind::Embedded => format!("engine embedded, data in {}", settings.data.display()),
        EngineKind::Memory => "engine memory, which keeps nothing".to_owned(),
        EngineKind::Kafka(address) => {
            format!("engine kafka, topics {}.…, this node's copy in {}", address.prefix, settings.data.display())
        }
        EngineKind::Redis(address) => format!("engine {address}, this node's copy in {}", settings.data.display()),
    };
    let mut lines = format!(
        "everywire {}: node {}, {kept}, {workers} worker{}\n",
        env!("CARGO_PKG_VERSION"),
        settings.node,
        if workers == 1 { "" } else { "s" }
    );
    for (name, what) in WHAT {
        let bound = addresses.iter().find(|(bound, _)| bound == name).map(|(_, address)| *address);
        // Writing to a string can't fail.
        let _ = match bound {
            Some(address) => writeln!(lines, "  {name:<6} {:<28} {what}", page(name, address)),
            None => writeln!(lines, "  {name:<6} off"),
        };
    }
    let _ = writeln!(lines, "  {}", admission::line(settings));
    if let Some((name, address)) = addresses.first().filter(|(name, _)| name.starts_with("http")) {
        // A browser doesn't send the part after the #.
        let _ = match operator {
            Operator::Token(token) => writeln!(lines, "  operator's page: {}#token={token}", page(name, *address)),
            Operator::At(file) => {
                writeln!(
                    lines,
                    "  operator's page: {}#token=… with the token in {}",
                    page(name, *address),
                    file.display()
                )
            }
        };
    }
    lines
}

/// The address that a browser on this machine can open.
fn page(scheme: &str, address: SocketAddr) -> String {
    let near = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("{scheme}://{}/", SocketAddr::new(near, address.port()))
}
