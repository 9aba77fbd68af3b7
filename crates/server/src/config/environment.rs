//! Variables of the environment for keys that have no option on the command line: `EVERYWIRE_` and the key in capitals.

use super::complaint::{Complaint, Place};
use super::file::File;
use super::settings::{LogFormat, Tls};
use super::units;
use crate::logs;

type Set = fn(&mut File, &str) -> Result<(), String>;

const VARIABLES: &[(&str, Set)] = &[
    ("EVERYWIRE_AUTH_ANONYMOUS", |file, text| put(&mut file.anonymous, units::flag(text))),
    ("EVERYWIRE_AUTH_SECRET", |file, text| put(&mut file.auth.secret, units::secret(text))),
    ("EVERYWIRE_AUTH_JWKS", |file, text| put(&mut file.auth.jwks, units::keys(text))),
    ("EVERYWIRE_AUTH_USERS", |file, text| put(&mut file.auth.users, units::flag(text))),
    ("EVERYWIRE_AUTH_CALLBACK", |file, text| put(&mut file.auth.callback, units::url(text))),
    ("EVERYWIRE_AUTH_AUDIENCE", |file, text| put(&mut file.auth.audience, words(text, units::claim))),
    ("EVERYWIRE_AUTH_ISSUER", |file, text| put(&mut file.auth.issuer, units::claim(text))),
    ("EVERYWIRE_AUTH_GUESTS", |file, text| put(&mut file.auth.guests, units::flag(text))),
    ("EVERYWIRE_AUTH_LOGINS", |file, text| put(&mut file.auth.logins, units::logins(text))),
    ("EVERYWIRE_AUTH_ORIGINS", |file, text| put(&mut file.origins, words(text, units::origin))),
    ("EVERYWIRE_HTTP_HOSTS", |file, text| put(&mut file.hosts, words(text, units::host))),
    ("EVERYWIRE_TRUSTED_PROXIES", |file, text| put(&mut file.trusted_proxies, words(text, units::network))),
    ("EVERYWIRE_TLS_CERT", |file, text| units::path(text).map(|path| tls(file).cert = path)),
    ("EVERYWIRE_TLS_KEY", |file, text| units::path(text).map(|path| tls(file).key = path)),
    ("EVERYWIRE_TLS_LISTEN", |file, text| put(&mut tls(file).listen, units::address(text))),
    ("EVERYWIRE_TLS_TCP", |file, text| put(&mut tls(file).tcp, units::address(text))),
    ("EVERYWIRE_TLS_MQTT", |file, text| put(&mut tls(file).mqtt, units::address(text))),
    ("EVERYWIRE_LOG_FORMAT", |file, text| put(&mut file.log_format, LogFormat::parse(text))),
    ("EVERYWIRE_LOG_LEVEL", |file, text| put(&mut file.log_level, logs::level(text))),
];

fn put<T>(place: &mut Option<T>, value: Result<T, String>) -> Result<(), String> {
    *place = Some(value?);
    Ok(())
}

/// Puts the environment over the file.
pub(super) fn over(file: &mut File, variable: &dyn Fn(&str) -> Option<String>) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (name, set) in VARIABLES {
        let result = variable(name).map_or(Ok(()), |text| set(file, &text));
        complaints.extend(result.err().map(|what| Complaint { place: Place::Environment(name), what }));
    }
    let incomplete = |tls: &Tls| tls.cert.as_os_str().is_empty() || tls.key.as_os_str().is_empty();
    if file.tls.as_ref().is_some_and(incomplete) {
        let what = "a certificate needs a key, and a key a certificate: give tls.cert and tls.key".to_owned();
        complaints.push(Complaint { place: Place::Whole, what });
    }
    complaints
}

fn tls(file: &mut File) -> &mut Tls {
    file.tls.get_or_insert_default()
}

/// A list split by commas.
fn words<T>(text: &str, parse: fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(parse).collect()
}
