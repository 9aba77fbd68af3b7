//! Kafka as others run it: the connection to it, and the engine that orders the log by it.
//!
//! As an engine it has one topic with one partition for the log, and one for snapshots and for the log's genesis
//! ([`Kafka`]). It implements [`everywire_log::remote`] and judges nothing. An address ([`Address`]) names a service's
//! Kafka. The client is `krafka` (`docs/decisions/0007-the-client-of-kafka.md`).

use std::time::Duration;

use everywire_base::bridge::{Access, Login, Mechanism, Trust};
use krafka::KrafkaError;
use krafka::auth::{AuthConfig, TlsConfig};

mod address;
mod fault;
mod remote;
mod shelf;
mod topics;

pub use address::{Address, AddressError};
pub use remote::Kafka;

/// The longest time in which a connection is made.
const CONNECT: Duration = Duration::from_secs(5);
/// The longest time of a broker's answer, beyond the time that it was told to wait.
const ANSWER: Duration = Duration::from_secs(10);

/// The longest time for which the client believes what it was told of topics: partitions may be added.
const METADATA: Duration = Duration::from_secs(10);

/// Connects to a cluster, under this name.
pub async fn connect(access: &Access, name: &str) -> Result<krafka::Kafka, KrafkaError> {
    krafka::Kafka::builder(access.brokers.as_str())
        .client_id(name)
        .security(security(access))
        .connect_timeout(CONNECT)
        .request_timeout(ANSWER)
        .metadata_max_age(METADATA)
        .connect()
        .await
}

fn security(access: &Access) -> AuthConfig {
    let tls = access.tls.as_ref().map(|trust| match trust {
        Trust::Web => TlsConfig::new(),
        Trust::File(path) => TlsConfig::new().with_ca_cert(&**path),
    });
    match (access.login.as_ref().map(sasl), tls) {
        (Some(login), Some(tls)) => login.with_tls(tls),
        (Some(login), None) => login,
        (None, Some(tls)) => AuthConfig::ssl(tls),
        (None, None) => AuthConfig::plaintext(),
    }
}

fn sasl(login: &Login) -> AuthConfig {
    let (user, password) = (&*login.user, &*login.password);
    match login.mechanism {
        Mechanism::Plain => AuthConfig::sasl_plain(user, password),
        Mechanism::Scram256 => AuthConfig::sasl_scram_sha256(user, password),
        Mechanism::Scram512 => AuthConfig::sasl_scram_sha512(user, password),
    }
}
