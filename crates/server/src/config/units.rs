//! The words of single values: sizes, durations, addresses, engines.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use everywire_auth::{ConfigError, KeysAt, MIN_SECRET_BYTES};
use everywire_base::network::{Network, NetworkError};
use everywire_base::rules::Logins;

use super::settings::{EngineKind, Listen};

const SIZES: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
];

/// `64MiB`, `10MB`, `512B`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let unit = SIZES.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
    let number = unit.and_then(|(digits, factor)| digits.trim_end().parse::<u64>().ok()?.checked_mul(factor));
    number.ok_or_else(|| format!("{text:?} is not a size: write it like \"64MiB\", \"256KiB\" or \"512B\""))
}

const DURATIONS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];

/// `7d`, `90s`, `1h30m`, `500ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let millis = millis(text).map(Duration::from_millis);
    millis.ok_or_else(|| format!("{text:?} is not a duration: write it like \"7d\", \"12h\", \"1h30m\" or \"90s\""))
}

/// A duration as people write it: in its largest unit that has no rest.
pub(crate) fn duration_text(time: Duration) -> String {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let mut whole = DURATIONS.iter().filter(|(name, unit)| *name != "w" && millis.is_multiple_of(*unit));
    let (name, unit) = whole.next_back().copied().unwrap_or(("ms", 1));
    format!("{}{name}", millis / unit)
}

fn millis(text: &str) -> Option<u64> {
    let (mut rest, mut sum) = (text, 0u64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let factor = DURATIONS.iter().find(|(name, _)| *name == &rest[..unit])?.1;
        sum = sum.checked_add(number.checked_mul(factor)?)?;
        rest = &rest[unit..];
    }
    (!text.is_empty()).then_some(sum)
}

/// The secret of HS256.
pub(crate) fn secret(text: &str) -> Result<String, String> {
    if text.len() < MIN_SECRET_BYTES {
        // The secret itself is never shown.
        return Err(ConfigError::ShortSecret.to_string());
    }
    Ok(text.to_owned())
}

/// The place of keys: a file, or an address.
pub(crate) fn keys(text: &str) -> Result<KeysAt, String> {
    if text.contains("://") { url(text).map(|url| KeysAt::Url(url.into())) } else { path(text).map(KeysAt::File) }
}

/// The address of another server.
pub(crate) fn url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let is_one =
        rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && !text.contains(char::is_whitespace));
    if is_one {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not an address: it begins with http:// or https://"))
    }
}

/// The value that a claim of a token must have, compared by its bytes.
pub(crate) fn claim(text: &str) -> Result<String, String> {
    if text.is_empty() {
        Err("it is empty: write what the tokens say, or leave it out".into())
    } else {
        Ok(text.into())
    }
}

/// The rule for a user's earlier logins.
pub(crate) fn logins(text: &str) -> Result<Logins, String> {
    match text {
        "all" => Ok(Logins::All),
        "one-per-device" => Ok(Logins::OnePerDevice),
        "one-per-user" => Ok(Logins::OnePerUser),
        _ => Err(format!("{text:?} is none of all, one-per-device, one-per-user")),
    }
}

/// An address with its port.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    let local = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
    let local = local.map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    let address = local.or_else(|| text.parse().ok());
    address.ok_or_else(|| {
        format!("{text:?} is not an address with a port: write it like \"127.0.0.1:8080\" or \"[::1]:8080\"")
    })
}

/// An address with its port, or `off`.
pub(crate) fn listen(text: &str) -> Result<Listen, String> {
    match text {
        "off" => Ok(Listen::Off),
        text => address(text).map(Listen::At).map_err(|why| format!("{why}, or \"off\"")),
    }
}

/// The engine, by its word or its address.
pub(crate) fn engine(text: &str) -> Result<EngineKind, String> {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    match (text, scheme) {
        ("embedded", _) => Ok(EngineKind::Embedded),
        ("memory", _) => Ok(EngineKind::Memory),
        (_, Some("redis" | "rediss" | "redis-sentinel" | "redis-cluster")) => {
            let address = everywire_redis::Address::parse(text);
            address.map(|address| EngineKind::Redis(Arc::new(address))).map_err(|why| why.to_string())
        }
        (_, Some("kafka")) => {
            let address = everywire_kafka::Address::parse(text);
            address.map(|address| EngineKind::Kafka(Arc::new(address))).map_err(|why| why.to_string())
        }
        // The rest of an address may hold a password, so that only its scheme is shown.
        (_, Some(scheme)) => Err(format!(
            "{scheme}:// is not an engine: use \"embedded\", \"memory\", or the address of a Redis or a Kafka, redis://…, kafka://…"
        )),
        _ => Err(format!(
            "{text:?} is not an engine: use \"embedded\", \"memory\", or the address of a Redis or a Kafka, redis://…, kafka://…"
        )),
    }
}

/// A node's name.
pub(crate) fn node_name(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=64).contains(&text.len()) && text.chars().all(good) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not a node's name: use 1 to 64 letters, digits, `-`, `_` and `.`"))
    }
}

/// A file's or a folder's path.
pub(crate) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("the path is empty: name a place".into()) } else { Ok(text.into()) }
}

/// The most workers.
const MAX_WORKERS: usize = 256;

/// The number of workers.
pub(crate) fn workers(text: &str) -> Result<usize, String> {
    let workers = text.parse().ok().filter(|n| (1..=MAX_WORKERS).contains(n));
    workers.ok_or_else(|| format!("{text:?} is not a number of workers: use 1 to {MAX_WORKERS}"))
}

/// `true` or `false`.
pub(crate) fn flag(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("{text:?} is neither \"true\" nor \"false\"")),
    }
}

/// An origin whose pages may use the server: scheme, host and port, nothing else (RFC 6454 §6.2). Apps have schemes of
/// their own (`capacitor://localhost`), and some of them have no host (`tauri://`).
pub(crate) fn origin(text: &str) -> Result<String, String> {
    let good = |(scheme, rest): (&str, &str)| {
        let is_web = matches!(scheme, "http" | "https" | "ws" | "wss");
        let mut letters = scheme.chars();
        // RFC 3986 §3.1.
        letters.next().is_some_and(|first| first.is_ascii_lowercase())
            && letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '+' | '-' | '.'))
            && (!rest.is_empty() || !is_web)
            && rest.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '/' | '?' | '#' | '@' | '*' | '\\' | ','))
    };
    if text.split_once("://").is_some_and(good) && *text == text.to_ascii_lowercase() {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "{text:?} is not an origin: write scheme, host and port in small letters, like \"https://app.example.com\" or \
             \"capacitor://localhost\""
        ))
    }
}

/// An address, or a range of them.
pub(crate) fn network(text: &str) -> Result<Network, String> {
    text.parse().map_err(|error: NetworkError| format!("{text:?} is {error}"))
}

/// A host name that requests may name, without a port.
pub(crate) fn host(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let v6 = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).is_some_and(|t| t.parse::<IpAddr>().is_ok());
    if v6 || (!text.is_empty() && text.chars().all(good)) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(format!("{text:?} is not a host: write its name without scheme and port, like \"push.example.com\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("64MiB", 64 << 20), ("256KiB", 256 << 10), ("1 GiB", 1 << 30), ("10MB", 10_000_000), ("0B", 0)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "64", "MiB", "64mib", "-1B", "1.5MiB", "99999999999999999999B", "18446744073709551615KiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, millis) in
            [("7d", 604_800_000), ("24h", 86_400_000), ("1h30m", 5_400_000), ("90s", 90_000), ("500ms", 500), ("0s", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "7", "d", "7 d", "7days", "-1s", "1.5h", "1h30", "99999999999999999999s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses() {
        assert_eq!(listen("off"), Ok(Listen::Off));
        assert_eq!(listen("localhost:80"), Ok(Listen::At("127.0.0.1:80".parse().unwrap())));
        assert_eq!(listen("[::1]:0"), Ok(Listen::At("[::1]:0".parse().unwrap())));
        for text in ["", "8080", ":8080", "127.0.0.1", "example.com:80", "127.0.0.1:99999", "OFF"] {
            assert!(listen(text).is_err(), "{text}");
        }
    }

    #[test]
    fn hosts_and_origins() {
        assert_eq!(host("Push.Example.com"), Ok("push.example.com".into()));
        assert_eq!(host("[::1]"), Ok("[::1]".into()));
        assert!(host("http://x").is_err() && host("x:80").is_err() && host("").is_err());
        for text in [
            "https://app.example.com:8443",
            "http://[::1]:8080",
            "capacitor://localhost",
            "ionic://localhost",
            "tauri://localhost",
            "tauri://",
            "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
            "moz-extension://c9a6f3d0-0000-4000-8000-000000000000",
            "app+x.y-z://a",
        ] {
            assert_eq!(origin(text).as_deref(), Ok(text));
        }
        for text in [
            "app.example.com",
            "https://app.example.com/",
            "https://",
            "https:///",
            "*",
            "https://*",
            "null",
            "https://A.com",
            "https://a@b",
            "capacitor:localhost",
            "1app://x",
            "://x",
            "a b://x",
            "tauri://local host",
            "https://a,https://b",
        ] {
            assert!(origin(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_written_as_they_are_read() {
        for text in ["7d", "90s", "36h", "61m", "1500ms", "1h"] {
            assert_eq!(duration_text(duration(text).unwrap()), text);
        }
    }

    #[test]
    fn engines_to_come_are_told_apart_from_nonsense() {
        assert!(matches!(engine("redis-sentinel://a:1/main"), Ok(EngineKind::Redis(_))));
        assert!(engine("redis://a?wiat=1").unwrap_err().contains("there are prefix, wait"));
        assert!(matches!(engine("kafka://localhost:9092/everywire"), Ok(EngineKind::Kafka(_))));
        assert!(engine("kafka://localhost:9092").unwrap_err().contains("names no prefix"));
        assert!(engine("mongo").unwrap_err().contains("not an engine"));
        let refused = engine("mongo://:secret@a").unwrap_err();
        assert!(refused.contains("mongo:// is not an engine") && !refused.contains("secret"), "{refused}");
    }
}
