//! The meaning of Redis' errors for the log, with the remedy.

use everywire_log::remote::{Refusal, RemoteError};
use redis::{ErrorKind, RedisError, ServerError};

/// The state of a connection when it failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Under {
    /// No request was sent that changes anything.
    Connecting,
    /// A request was sent that may have been done.
    Asking,
}

/// The meaning of a failed call.
pub(crate) fn of_call(error: &RedisError, under: Under) -> RemoteError {
    match error.kind() {
        ErrorKind::AuthenticationFailed => unusable(
            "Redis refuses the password: set the right one in the engine's address, redis://:PASSWORD@HOST or \
             redis://USER:PASSWORD@HOST",
        ),
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => unusable(
            "what answers there speaks another protocol than Redis: check host and port, and whether TLS is spoken",
        ),
        ErrorKind::InvalidClientConfig => unusable(&error.to_string()),
        ErrorKind::Server(_) | ErrorKind::Extension => {
            of_code(error.code().unwrap_or_default(), error.detail().unwrap_or_default())
        }
        _ if under == Under::Asking => RemoteError::Unknown(text(error)),
        _ => RemoteError::Cut(text(error)),
    }
}

/// The meaning of an error that Redis answered.
pub(crate) fn of_answer(error: &ServerError) -> RemoteError {
    of_code(error.code(), error.details().unwrap_or_default())
}

fn text(error: &RedisError) -> Box<str> {
    let text = error.to_string();
    // Certificates are checked while the first bytes are sent.
    if text.contains("certificate") {
        format!("{text}; name the file of its certificate authority: ?ca=FILE").into()
    } else if error.is_timeout() {
        "Redis doesn't answer in time".into()
    } else {
        text.into()
    }
}

fn unusable(what: &str) -> RemoteError {
    RemoteError::Refused(Refusal::Unusable(what.into()))
}

fn forbidden(detail: &str) -> RemoteError {
    unusable(&format!("Redis' access control forbids it: {detail}; docs/scale.md says which rights the user needs"))
}

fn of_code(code: &str, detail: &str) -> RemoteError {
    let busy = |what: &str| RemoteError::Refused(Refusal::Busy(what.into()));
    match code {
        "NOLOG" => RemoteError::Refused(Refusal::NoLog),
        "MOVEDON" => RemoteError::Refused(Refusal::Moved),
        "FORMAT" => unusable(&format!(
            "the log in Redis has format {}, which this version doesn't know: start a newer version, or name another prefix",
            detail.split(' ').next().unwrap_or_default()
        )),
        "OOM" => RemoteError::Refused(Refusal::Full(
            "Redis is out of memory: give it more (maxmemory), or keep a smaller window".into(),
        )),
        "MISCONF" => busy("Redis can't save to its disk and takes no writes: make room there"),
        "NOREPLICAS" => busy("Redis has fewer replicas than its min-replicas-to-write: start them"),
        "LOADING" => busy("Redis is loading its data"),
        "BUSY" => busy("a script keeps Redis busy"),
        "TRYAGAIN" | "CLUSTERDOWN" => busy("the cluster of Redis is reorganizing itself, or has lost nodes"),
        // Another server is the master: a new connection finds it.
        "READONLY" => RemoteError::Cut(
            "it is a replica, which takes no writes: name the master, or the sentinels as redis-sentinel://HOST:PORT,…/MASTER"
                .into(),
        ),
        "MOVED" | "ASK" => RemoteError::Cut(
            "another node of the cluster has the log: name the cluster as redis-cluster://HOST:PORT,…".into(),
        ),
        "NOSCRIPT" => RemoteError::Cut("it has forgotten the script: it gets it again".into()),
        "UNBLOCKED" | "MASTERDOWN" => RemoteError::Cut("it has become a replica".into()),
        "NOAUTH" => unusable("Redis wants a password: set it in the engine's address, redis://:PASSWORD@HOST"),
        "WRONGPASS" => unusable("Redis refuses the user or the password: set the right ones in the engine's address"),
        "NOPERM" => forbidden(detail),
        "WRONGTYPE" => unusable("the prefix belongs to another program's data: name another one with ?prefix="),
        _ if detail.contains("user executing the script can't") => forbidden(detail),
        _ if detail.contains("equal or smaller than the target stream top item") => unusable(
            "somebody else writes into the log's stream: name another prefix with ?prefix=, and let nobody else write there",
        ),
        _ => unusable(&format!("Redis says: {code} {detail}")),
    }
}
