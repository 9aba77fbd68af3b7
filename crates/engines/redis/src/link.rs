//! A connection to the master that has the log: the search for it, and the check of its version and settings.

use std::fs;
use std::time::Duration;

use everywire_log::remote::{Refusal, RemoteError};
use redis::{Client, Cmd, Connection, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo};
use redis::{TlsCertificates, Value};

use crate::address::{Address, Host, Servers};
use crate::fault::{self, Under};
use crate::promise::Setup;
use crate::script::Script;

/// The longest time of a connection's opening, with the login.
const CONNECT: Duration = Duration::from_secs(2);
/// The longest time of an answer, apart from the time that it waits by itself.
const ANSWER: Duration = Duration::from_secs(5);
/// The first version with all commands that the log needs.
const MIN_VERSION: (u32, u32) = (7, 0);

/// A connection to the master.
pub(crate) struct Link {
    connection: Connection,
    host: Host,
    /// The read timeout that is set.
    patience: Duration,
    /// The settings of that Redis.
    pub(crate) setup: Setup,
}

impl Link {
    /// Finds the master, connects and checks it.
    pub(crate) fn open(address: &Address, script: &Script) -> Result<Self, RemoteError> {
        let mut failed = None;
        let (hosts, ask): (&[Host], Finder) = match &address.servers {
            Servers::One(host) => (std::slice::from_ref(host), |address, script, host| {
                Self::dial(address, host)?.checked(address, script)
            }),
            Servers::Sentinels(hosts, _) => (hosts, by_sentinel),
            Servers::Cluster(hosts) => (hosts, by_node),
        };
        for host in hosts {
            match ask(address, script, host) {
                Ok(link) => return Ok(link),
                Err(error) => {
                    let error = located(error, host);
                    tracing::debug!(%host, %error, "no way to the log's Redis");
                    failed = Some(worse(failed, error));
                }
            }
        }
        Err(failed.unwrap_or_else(|| RemoteError::Cut("no host is named".into())))
    }

    fn dial(address: &Address, host: &Host) -> Result<Self, RemoteError> {
        let mut login = RedisConnectionInfo::default().set_db(address.database);
        if let Some(user) = &address.user {
            login = login.set_username(user);
        }
        if let Some(password) = &address.password {
            login = login.set_password(password);
        }
        Self::connect(address, host, login)
    }

    fn connect(address: &Address, host: &Host, login: RedisConnectionInfo) -> Result<Self, RemoteError> {
        let connect = |error| fault::of_call(&error, Under::Connecting);
        let client = client(address, host, login)?;
        let connection = client.get_connection_with_timeout(CONNECT).map_err(connect)?;
        connection.set_write_timeout(Some(ANSWER)).map_err(connect)?;
        connection.set_read_timeout(Some(ANSWER)).map_err(connect)?;
        Ok(Self { connection, host: host.clone(), patience: ANSWER, setup: Setup::default() })
    }

    /// Checks this Redis: its version, its settings, that it knows the script.
    fn checked(mut self, address: &Address, script: &Script) -> Result<Self, RemoteError> {
        let mut info = redis::cmd("INFO");
        info.arg("server");
        // The node that has the slot is the only one of a cluster that answers this.
        let answers = self.ask(&[script.fields(&["format"]), info, Script::load(), Setup::ask()], Duration::ZERO)?;
        let [stored, info, loaded, settings] = &answers[..] else { return Err(RemoteError::Cut("no answer".into())) };
        refused(stored)?;
        refused(info)?;
        refused(loaded)?;
        check_version(text_of(info))?;
        self.setup = Setup::of(settings, address.synced);
        if self.setup.evicts_the_log() && self.setup.max_memory > 0 {
            return unusable(format!(
                "Redis throws away the log when its memory is full (maxmemory-policy {}): set maxmemory-policy noeviction",
                self.setup.eviction
            ));
        }
        Ok(self)
    }

    /// Asks all of these commands at once. An answer that is an error stands among the answers; a failure here ends the
    /// link.
    pub(crate) fn ask(&mut self, commands: &[Cmd], wait: Duration) -> Result<Vec<Value>, RemoteError> {
        let lost = |error: redis::RedisError| fault::of_call(&error, Under::Asking);
        let patience = ANSWER + wait;
        if patience != self.patience {
            self.connection.set_read_timeout(Some(patience)).map_err(lost)?;
            self.patience = patience;
        }
        let mut bytes = Vec::new();
        for command in commands {
            command.write_packed_command(&mut bytes);
        }
        self.connection.send_packed_command(&bytes).map_err(lost)?;
        commands.iter().map(|_| self.connection.recv_response().map_err(lost)).collect()
    }

    /// The host that it is connected to.
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }
}

/// A function that finds the master over one of several hosts.
type Finder = fn(&Address, &Script, &Host) -> Result<Link, RemoteError>;

fn by_sentinel(address: &Address, script: &Script, sentinel: &Host) -> Result<Link, RemoteError> {
    let Servers::Sentinels(_, name) = &address.servers else { return Err(RemoteError::Cut("no sentinel".into())) };
    let mut login = RedisConnectionInfo::default();
    if let Some(password) = &address.sentinel_password {
        login = login.set_password(password);
    }
    let mut link = Link::connect(address, sentinel, login)?;
    let mut question = redis::cmd("SENTINEL");
    question.arg("get-master-addr-by-name").arg(&**name);
    let answer = link.ask(&[question], Duration::ZERO)?.remove(0);
    refused(&answer)?;
    let Value::Array(parts) = &answer else {
        return unusable(format!(
            "the sentinel at {sentinel} knows no master {name:?}: check the name behind the last /"
        ));
    };
    let (Some(host), Some(port)) =
        (parts.first().map(text_of), parts.get(1).and_then(|port| text_of(port).parse().ok()))
    else {
        return Err(RemoteError::Cut("the sentinel's answer is none".into()));
    };
    let mut link = Link::dial(address, &Host { name: host.into(), port })?;
    // The host may have lost that role, and the sentinel may not know yet.
    let answer = link.ask(&[redis::cmd("ROLE")], Duration::ZERO)?.remove(0);
    refused(&answer)?;
    match &answer {
        Value::Array(parts) if parts.first().is_some_and(|role| text_of(role) == "master") => {
            link.checked(address, script)
        }
        _ => Err(RemoteError::Cut("what the sentinels take for the master is none: they are choosing another".into())),
    }
}

fn by_node(address: &Address, script: &Script, node: &Host) -> Result<Link, RemoteError> {
    let mut link = Link::dial(address, node)?;
    let answer = link.ask(&[script.fields(&["format"])], Duration::ZERO)?.remove(0);
    let Value::ServerError(error) = answer else { return link.checked(address, script) };
    if error.code() != "MOVED" {
        return Err(fault::of_answer(&error));
    }
    // The detail has the slot and the node that has it; a node that doesn't know its own address leaves the host out.
    let place = error.details().and_then(|detail| detail.split_once(' ')?.1.rsplit_once(':'));
    let Some((host, Ok(port))) = place.map(|(host, port)| (host, port.parse())) else {
        return Err(RemoteError::Cut("the cluster doesn't say who has the log".into()));
    };
    let name = if host.is_empty() { node.name.clone() } else { host.trim_matches(['[', ']']).into() };
    Link::dial(address, &Host { name, port })?.checked(address, script)
}

fn client(address: &Address, host: &Host, login: RedisConnectionInfo) -> Result<Client, RemoteError> {
    let name = host.name.to_string();
    let wrong = |error: redis::RedisError| fault::of_call(&error, Under::Connecting);
    let at = if address.tls {
        ConnectionAddr::TcpTls { host: name, port: host.port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(name, host.port)
    };
    let info: ConnectionInfo =
        at.into_connection_info().map_err(wrong)?.set_redis_settings(login.set_skip_set_lib_name());
    let Some(ca) = address.ca.as_ref().filter(|_| address.tls) else { return Client::open(info).map_err(wrong) };
    match fs::read(ca) {
        Ok(pem) => {
            let certificates = TlsCertificates { client_tls: None, root_cert: Some(pem) };
            Client::build_with_tls(info, certificates).map_err(wrong)
        }
        Err(error) => unusable(format!("the certificate authorities of {} can't be read: {error}", ca.display())),
    }
}

fn check_version(info: &str) -> Result<(), RemoteError> {
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or_default().trim();
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found >= MIN_VERSION {
        return Ok(());
    }
    unusable(format!("Redis {version} is too old: it must be {} or newer, or Valkey", MIN_VERSION.0))
}

/// Turns an answer that is an error into one.
pub(crate) fn refused(answer: &Value) -> Result<(), RemoteError> {
    match answer {
        Value::ServerError(error) => Err(fault::of_answer(error)),
        _ => Ok(()),
    }
}

/// The text of an answer; empty if it has none.
pub(crate) fn text_of(value: &Value) -> &str {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).unwrap_or_default(),
        Value::SimpleString(text) => text,
        _ => "",
    }
}

fn unusable<T>(what: String) -> Result<T, RemoteError> {
    Err(RemoteError::Refused(Refusal::Unusable(what.into())))
}

/// The same error with its host.
fn located(error: RemoteError, host: &Host) -> RemoteError {
    let at = |text: &str| format!("{host}: {text}").into();
    match error {
        RemoteError::Unknown(text) | RemoteError::Cut(text) => RemoteError::Cut(at(&text)),
        RemoteError::Refused(Refusal::Full(text)) => RemoteError::Refused(Refusal::Full(at(&text))),
        RemoteError::Refused(Refusal::Busy(text)) => RemoteError::Refused(Refusal::Busy(at(&text))),
        RemoteError::Refused(Refusal::Unusable(text)) => RemoteError::Refused(Refusal::Unusable(at(&text))),
        refused @ RemoteError::Refused(_) => refused,
    }
}

/// The more important of two failures: the one that somebody must mend.
fn worse(failed: Option<RemoteError>, error: RemoteError) -> RemoteError {
    match failed {
        Some(failed @ RemoteError::Refused(_)) if !matches!(error, RemoteError::Refused(_)) => failed,
        _ => error,
    }
}
