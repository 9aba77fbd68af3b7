//! `everywire user`: the static users, through the API, as an operator. A password is never sent: the secret that
//! checks it is made here.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use everywire_auth::UserSecret;
use everywire_client::Client;

use crate::cli::{User, UserCommand};
use crate::shown::shown;
use crate::{Failure, token};

pub(crate) fn run(arguments: &User) -> Result<(), Failure> {
    let mut client = token::as_operator(&arguments.operator)?;
    match &arguments.command {
        UserCommand::Add { name } | UserCommand::Passwd { name } => {
            let exists = names(&mut client)?.contains(name);
            match (&arguments.command, exists) {
                (UserCommand::Add { .. }, true) => {
                    return Err(format!(
                        "there is a user {name} already: `everywire user passwd {name}` changes the password"
                    )
                    .into());
                }
                (UserCommand::Passwd { .. }, false) => {
                    return Err(format!("there is no user {name}: `everywire user add {name}` adds one").into());
                }
                _ => {}
            }
            let secret = secret(name, &password()?)?;
            client.put_user_secret(name, &secret).map_err(|error| error.to_string())?;
        }
        UserCommand::Remove { name } => client.delete_user_secret(name).map_err(|error| error.to_string())?,
        UserCommand::List => names(&mut client)?.iter().for_each(|name| println!("{}", shown(name))),
    }
    Ok(())
}

fn names(client: &mut Client) -> Result<Vec<String>, Failure> {
    client.users().map_err(|error| error.to_string().into())
}

/// The secret that checks a password, as JSON.
fn secret(name: &str, password: &str) -> Result<String, Failure> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|error| format!("the system gives no random bytes: {error}"))?;
    let secret = UserSecret::make(name, password, &salt).ok_or("this password can't be used: it is too long")?;
    serde_json::to_string(&secret).map_err(|error| error.to_string().into())
}

/// The first line of standard input.
fn password() -> Result<String, Failure> {
    if std::io::stdin().is_terminal() {
        // A user who closed stderr needs no prompt.
        let _ = write!(std::io::stderr(), "password (it is shown as you type): ");
    }
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(|error| format!("the password can't be read: {error}"))?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        Err("the password is empty: give it as the first line of input".into())
    } else {
        Ok(password.into())
    }
}
