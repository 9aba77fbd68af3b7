//! The address of Redis, with its options: `redis://`, `rediss://`, `redis-sentinel://`, `redis-cluster://`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use everywire_log::remote::Window;
use percent_encoding::percent_decode_str;

/// The schemes, and the form of each, for messages.
const FORMS: &str = "redis://[:PASSWORD@]HOST[:PORT][/DB], rediss://… for TLS, redis-sentinel://HOST:PORT,…/MASTER, \
                     redis-cluster://HOST:PORT,…, each with ?prefix=everywire&wait=1&…";
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
/// The highest number of a database.
const MAX_DATABASE: i64 = 65_535;
/// The most replicas that are waited for.
const MAX_WAIT: u32 = 16;
const MAX_PREFIX: usize = 64;

/// The address of a service's Redis, with its options.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// The servers that are asked.
    pub servers: Servers,
    /// Whether TLS is used, with all of them.
    pub tls: bool,
    /// The certificate authorities, PEM; `None` is those of the system.
    pub ca: Option<PathBuf>,
    /// The user of Redis' access control; `None` is the default one.
    pub user: Option<Box<str>>,
    /// The password.
    pub password: Option<Box<str>>,
    /// The sentinels' password.
    pub sentinel_password: Option<Box<str>>,
    /// The number of the database.
    pub database: i64,
    /// The prefix of the names of all keys: services with different prefixes don't see each other.
    pub prefix: Box<str>,
    /// The number of replicas that shall have a record before it is acknowledged.
    pub wait: u32,
    /// The longest time to wait for them.
    pub wait_timeout: Duration,
    /// The handling of a message that too few replicas have.
    pub too_few: TooFew,
    /// The part of the log that is kept.
    pub window: Window,
    /// Whether each write is synced before Redis answers, for servers whose `CONFIG GET` doesn't tell.
    pub synced: Option<bool>,
}

/// The servers that are asked for the log's place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Servers {
    /// This server.
    One(Host),
    /// Sentinels, which know the master of this name.
    Sentinels(Vec<Host>, Box<str>),
    /// Some nodes of a cluster; each of them knows the node that has the log's slot.
    Cluster(Vec<Host>),
}

/// A host with its port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    /// A name or an address.
    pub name: Box<str>,
    /// Its port.
    pub port: u16,
}

/// The handling of a message that fewer replicas have than are waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TooFew {
    /// The message is acknowledged, and the answer has the lower promise.
    Say,
    /// The message isn't acknowledged until enough replicas have it.
    Hold,
}

/// The fault of an address; the password is never repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AddressError(String);

fn wrong<T>(what: impl Into<String>) -> Result<T, AddressError> {
    Err(AddressError(what.into()))
}

impl Address {
    /// Parses an address.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return wrong(format!("it is no address of a Redis: write {FORMS}"));
        };
        let (rest, options) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let default_port = if scheme == "redis-sentinel" { SENTINEL_PORT } else { PORT };
        let hosts = hosts.split(',').map(|host| Host::parse(host, default_port)).collect::<Result<Vec<_>, _>>()?;
        let (servers, database) = servers(scheme, hosts, path)?;
        let mut address = Self {
            servers,
            tls: scheme == "rediss",
            ca: None,
            user: decoded(user)?,
            password: decoded(password)?,
            sentinel_password: None,
            database,
            prefix: "everywire".into(),
            wait: 0,
            wait_timeout: Duration::from_secs(1),
            too_few: TooFew::Say,
            window: Window::default(),
            synced: None,
        };
        for option in options.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            address.set(name, &decoded(value)?.unwrap_or_default())?;
        }
        Ok(address)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), AddressError> {
        let text = || Some(value.into()).filter(|_| !value.is_empty());
        match name {
            "prefix" => self.prefix = prefix(value)?,
            "wait" => self.wait = number(name, value, MAX_WAIT)?,
            "wait_timeout" => self.wait_timeout = time(name, value)?,
            "too_few" => self.too_few = choice(name, value, &[("say", TooFew::Say), ("hold", TooFew::Hold)])?,
            "window" => self.window = window(value)?,
            "synced" => self.synced = Some(choice(name, value, &[("true", true), ("false", false)])?),
            "tls" => self.tls = choice(name, value, &[("true", true), ("false", false)])?,
            "ca" => self.ca = text().map(|path: String| path.into()),
            "sentinel_password" => self.sentinel_password = text().map(String::into_boxed_str),
            _ => {
                return wrong(format!(
                    "it has no option {name:?}: there are prefix, wait, wait_timeout, too_few, window, synced, tls, \
                     ca and sentinel_password"
                ));
            }
        }
        Ok(())
    }

    /// The name of a key. The braces keep all of them in one slot of a cluster.
    pub(crate) fn key(&self, rest: &str) -> String {
        format!("{{{}}}{rest}", self.prefix)
    }
}

fn servers(scheme: &str, mut hosts: Vec<Host>, path: &str) -> Result<(Servers, i64), AddressError> {
    match scheme {
        "redis" | "rediss" => {
            let Some(host) = hosts.pop().filter(|_| hosts.is_empty()) else {
                return wrong(
                    "it names several hosts: several are redis-sentinel://… or redis-cluster://…, since nodes that write to \
                     different masters are different services",
                );
            };
            let database = if path.is_empty() { Some(0) } else { path.parse().ok() };
            match database.filter(|database| (0..=MAX_DATABASE).contains(database)) {
                Some(database) => Ok((Servers::One(host), database)),
                None => wrong(format!("{path:?} is no number of a database: write /0, or nothing")),
            }
        }
        "redis-sentinel" if path.is_empty() => wrong("it names no master: write redis-sentinel://HOST:PORT,…/MASTER"),
        "redis-sentinel" => Ok((Servers::Sentinels(hosts, decoded(path)?.unwrap_or_default()), 0)),
        "redis-cluster" if path.is_empty() => Ok((Servers::Cluster(hosts), 0)),
        "redis-cluster" => wrong(format!("a cluster has no databases, so that /{path} means nothing")),
        _ => wrong(format!("{scheme}:// is no scheme of Redis: write {FORMS}")),
    }
}

impl Host {
    fn parse(text: &str, default_port: u16) -> Result<Self, AddressError> {
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => (name, port.parse().ok().filter(|port| *port > 0)),
            _ => (text, Some(default_port)),
        };
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        let is_good = if bare.len() < name.len() {
            bare.parse::<std::net::Ipv6Addr>().is_ok()
        } else {
            !name.is_empty() && name.chars().all(is_name)
        };
        match port {
            Some(port) if is_good => Ok(Self { name: bare.into(), port }),
            _ => wrong(
                "a host in it is none: write HOST:PORT, as 10.0.0.7:6379 or [::1]:6379; an @ or a / in the password is written %40 or %2F",
            ),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}

/// The address for people, without passwords.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |hosts: &[Host]| hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        match &self.servers {
            Servers::One(host) => {
                write!(f, "{}://{host}/{}", if self.tls { "rediss" } else { "redis" }, self.database)?;
            }
            Servers::Sentinels(hosts, master) => write!(f, "redis-sentinel://{}/{master}", list(hosts))?,
            Servers::Cluster(hosts) => write!(f, "redis-cluster://{}", list(hosts))?,
        }
        write!(f, "?prefix={}", self.prefix)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn decoded(text: &str) -> Result<Option<Box<str>>, AddressError> {
    match percent_decode_str(text).decode_utf8() {
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => Ok(Some(text.into())),
        Err(_) => wrong("something in it isn't UTF-8 once its % are decoded"),
    }
}

fn prefix(text: &str) -> Result<Box<str>, AddressError> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/');
    if (1..=MAX_PREFIX).contains(&text.len()) && text.chars().all(good) {
        Ok(text.into())
    } else {
        wrong(format!("prefix={text:?} is none: use 1 to {MAX_PREFIX} letters, digits and any of - _ . : /"))
    }
}

fn number(name: &str, text: &str, most: u32) -> Result<u32, AddressError> {
    match text.parse().ok().filter(|number| *number <= most) {
        Some(number) => Ok(number),
        None => wrong(format!("{name}={text:?} is no number from 0 to {most}")),
    }
}

/// Parses milliseconds or seconds: `500ms`, `2s`.
fn time(name: &str, text: &str) -> Result<Duration, AddressError> {
    let millis = text.strip_suffix("ms").and_then(|digits| digits.parse::<u64>().ok());
    let seconds = || text.strip_suffix('s').and_then(|digits| digits.parse::<u64>().ok()?.checked_mul(1000));
    match millis.or_else(seconds).filter(|millis| (1..=60_000).contains(millis)) {
        Some(millis) => Ok(Duration::from_millis(millis)),
        None => wrong(format!("{name}={text:?} is no time from 1ms to 60s")),
    }
}

/// Parses a window: a size, a time, both with a comma between them, or `all`.
fn window(text: &str) -> Result<Window, AddressError> {
    if text == "all" {
        return Ok(Window { is_trimmed: false, ..Window::default() });
    }
    let of = |part: &str, units: &[(&str, u64)]| {
        units.iter().find_map(|(unit, times)| part.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(*times))
    };
    let mut window = Window::default();
    for part in text.split(',') {
        let bytes = of(part, &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)]);
        let seconds = of(part, &[("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)]);
        match (bytes, seconds) {
            (Some(bytes @ 65_536..), _) => window.bytes = bytes,
            (_, Some(seconds @ 10..)) => window.age = Duration::from_secs(seconds),
            _ => {
                return wrong(format!(
                    "window={text:?} is none: say a size from 64KiB, a time from 10s, both as in 1GiB,1h, or all"
                ));
            }
        }
    }
    Ok(window)
}

fn choice<T: Copy>(name: &str, text: &str, choices: &[(&str, T)]) -> Result<T, AddressError> {
    if let Some(choice) = choices.iter().find(|choice| choice.0 == text) {
        return Ok(choice.1);
    }
    let words: Vec<&str> = choices.iter().map(|choice| choice.0).collect();
    wrong(format!("{name}={text:?} is none of {}", words.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, port: u16) -> Host {
        Host { name: name.into(), port }
    }

    #[test]
    fn addresses_and_what_they_mean() {
        let plain = Address::parse("redis://localhost").unwrap();
        assert_eq!((&plain.servers, plain.database, plain.tls), (&Servers::One(host("localhost", 6379)), 0, false));
        assert_eq!((&*plain.prefix, plain.wait, plain.too_few), ("everywire", 0, TooFew::Say));
        assert_eq!(plain.key("log"), "{everywire}log");
        let full = Address::parse(
            "rediss://ann:p%40ss@[::1]:7000/3?prefix=a:b&wait=2&wait_timeout=250ms&too_few=hold&ca=/ca.pem",
        );
        let full = full.unwrap();
        assert_eq!((&full.servers, full.database, full.tls), (&Servers::One(host("::1", 7000)), 3, true));
        assert_eq!((full.user.as_deref(), full.password.as_deref()), (Some("ann"), Some("p@ss")));
        assert_eq!((&*full.prefix, full.wait, full.wait_timeout), ("a:b", 2, Duration::from_millis(250)));
        assert_eq!((full.too_few, full.ca), (TooFew::Hold, Some("/ca.pem".into())));
        let sentinel = Address::parse("redis-sentinel://:pw@a,b:7/main?sentinel_password=x&tls=true").unwrap();
        let hosts = vec![host("a", 26379), host("b", 7)];
        assert_eq!((sentinel.servers, sentinel.tls), (Servers::Sentinels(hosts, "main".into()), true));
        assert_eq!((sentinel.user, sentinel.sentinel_password.as_deref()), (None, Some("x")));
        let cluster = Address::parse("redis-cluster://a:1,b:2?synced=true").unwrap();
        assert_eq!((cluster.servers, cluster.synced), (Servers::Cluster(vec![host("a", 1), host("b", 2)]), Some(true)));
    }

    #[test]
    fn what_is_wrong_is_said_and_passwords_are_not() {
        for (text, word) in [
            ("localhost:6379", "redis://"),
            ("http://localhost", "no scheme"),
            ("redis://", "HOST:PORT"),
            ("redis://a:0", "HOST:PORT"),
            ("redis://a:99999", "HOST:PORT"),
            ("redis://:top@secret@a b", "%40"),
            ("redis://a,b", "redis-sentinel"),
            ("redis://a/x", "database"),
            ("redis://a/-1", "database"),
            ("redis://[zz]:1", "HOST:PORT"),
            ("redis-sentinel://a:1", "MASTER"),
            ("redis-cluster://a:1/2", "no databases"),
            ("redis://a?perfix=x", "there are prefix"),
            ("redis://a?prefix=", "letters"),
            ("redis://a?prefix={x}", "letters"),
            ("redis://a?wait=17", "0 to 16"),
            ("redis://a?wait_timeout=2", "1ms to 60s"),
            ("redis://a?too_few=503", "say, hold"),
            ("redis://a?window=5", "1GiB,1h"),
            ("redis://a?window=1h,x", "1GiB,1h"),
            ("redis://:%ff@a", "UTF-8"),
        ] {
            let error = Address::parse(text).unwrap_err().to_string();
            assert!(error.contains(word) && !error.contains("secret"), "{text}: {error}");
        }
        let shown = format!("{:?}", Address::parse("redis://ann:secret@a?sentinel_password=secret").unwrap());
        assert_eq!(shown, "redis://a:6379/0?prefix=everywire");
    }
}
