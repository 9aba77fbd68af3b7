//! `everywire token`: signs a token with the configured secret. Here is also the operator's own token, which `serve`
//! makes.

use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser as _;
use everywire_auth::{Claims, mint};
use everywire_client::{Client, Server};

use crate::check;
use crate::cli::{ByOperator, Environment, Serve, Token};
use crate::{Failure, files, one_line};

pub(crate) fn run(arguments: Token) -> Result<(), Failure> {
    let environment = Environment::try_parse_from(["everywire"]).map_err(|e| one_line(&e.to_string()))?;
    let settings = check::load(&Serve { config: arguments.config.clone(), ..environment.serve })?;
    let Some(secret) = &settings.auth.secret else {
        return Err("no secret is configured to sign with: set auth.secret, or EVERYWIRE_AUTH_SECRET, to at least 32 \
                    bytes, the same as the server's"
            .into());
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let some = |filters: Vec<everywire_base::topic::Filter>| {
        (!filters.is_empty()).then(|| filters.iter().map(|filter| filter.as_str().to_owned()).collect())
    };
    let claims = Claims {
        sub: arguments.user,
        device: arguments.device,
        publish: some(arguments.publish),
        subscribe: some(arguments.subscribe),
        admin: arguments.admin,
        exp: Some((now + arguments.ttl).as_secs() as f64),
        nbf: None,
        aud: settings.auth.audience.iter().flatten().take(1).cloned().collect(),
        iss: settings.auth.issuer.clone(),
        name: None,
    };
    println!("{}", mint(secret, &claims).map_err(|error| error.to_string())?);
    Ok(())
}

/// A client that speaks as an operator.
pub(crate) fn as_operator(operator: &ByOperator) -> Result<Client, Failure> {
    let remote = &operator.remote;
    let client = Client::new(&remote.server).map_err(|error| error.to_string())?;
    let token = operators_token(remote.token.as_deref(), &operator.data, client.server())?;
    Ok(client.with_token(Some(token)))
}

/// The token of an operator: the given one, or else that of the data directory. The latter is for servers on this
/// machine alone, since it is sent in clear.
fn operators_token(given: Option<&str>, data: &Path, server: &Server) -> Result<String, Failure> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let file = admin_file(data);
    if !server.is_on_loopback() {
        let hint = format!("the one in {} is sent to no other machine", file.display());
        return Err(format!("this is for operators: give --token with a token of {server}; {hint}").into());
    }
    read_admin(data).ok_or_else(|| {
        let hint = "give --token, or --data with the server's data directory, where you may read";
        format!("this is for operators: {hint} {}", file.display()).into()
    })
}

/// The file of the operator's token.
pub(crate) fn admin_file(data: &Path) -> PathBuf {
    data.join("admin.token")
}

/// Reads the operator's token, if this user may.
fn read_admin(data: &Path) -> Option<String> {
    let text = std::fs::read_to_string(admin_file(data)).ok()?;
    Some(text.trim().to_owned()).filter(|token| !token.is_empty())
}

/// The operator's token. It is made at the first start, and nobody else can read it.
pub(crate) fn admin(data: &Path) -> Result<String, String> {
    let file = admin_file(data);
    let fault = |error: io::Error| format!("the operator's token {} can't be made: {error}", file.display());
    files::private_directory(data).map_err(fault)?;
    if let Some(token) = read_admin(data) {
        // A copied directory may have lost its permissions.
        let _ = std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600));
        return Ok(token);
    }
    let token = random()?;
    let made = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&file);
    made.and_then(|mut made| writeln!(made, "{token}")).map_err(fault)?;
    Ok(token)
}

/// A token of 32 random bytes.
pub(crate) fn random() -> Result<String, String> {
    let mut halves = [[0u8; 16]; 2];
    for half in &mut halves {
        getrandom::fill(half).map_err(|error| format!("the system gives no random bytes: {error}"))?;
    }
    let [one, two] = halves.map(u128::from_ne_bytes);
    Ok(format!("{one:032x}{two:032x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_token_is_made_once_and_for_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        assert_eq!(read_admin(&data), None);
        let token = admin(&data).unwrap();
        assert_eq!(token.len(), 64);
        assert_eq!(admin(&data).unwrap(), token);
        assert_eq!(read_admin(&data).as_deref(), Some(&*token));
        let mode = std::fs::metadata(admin_file(&data)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn the_operators_token_goes_to_no_other_machine() {
        let folder = tempfile::tempdir().unwrap();
        let token = admin(folder.path()).unwrap();
        let ask = |given, url: &str| operators_token(given, folder.path(), &Server::parse(url).unwrap());
        for near in
            ["http://127.0.0.1:8080", "http://127.9.9.9", "http://localhost:1", "http://[::1]:1", "http://LOCALHOST"]
        {
            assert_eq!(ask(None, near), Ok(token.clone()), "{near}");
        }
        for far in
            ["http://192.0.2.1", "http://localhost.example.com", "http://127.0.0.1.example.com", "http://[::2]:1"]
        {
            let Err(Failure(lines)) = ask(None, far) else { panic!("{far}") };
            assert!(lines[0].contains("--token") && lines[0].contains(far), "{lines:?}");
            assert_eq!(ask(Some("given"), far), Ok("given".into()), "{far}");
        }
    }
}
