//! The binary `everywire`: the command line, the configuration, and what surrounds a running node: logs, signals, the
//! ready file.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage. An error is one line that says what, where, and what to do.

mod backup;
mod check;
mod cli;
pub mod config;
mod explain;
mod files;
mod launch;
mod logs;
mod publish;
mod room;
mod serve;
mod shown;
mod subscribe;
mod table;
mod token;
mod user;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use cli::{Arguments, Command};

/// The failure of a command: lines for stderr.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure(pub(crate) Vec<String>);

impl<T: Into<String>> From<T> for Failure {
    fn from(line: T) -> Self {
        Self(vec![line.into()])
    }
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    let result = match arguments.command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Pub(arguments) => publish::run(&arguments),
        Command::Sub(arguments) => subscribe::run(&arguments),
        Command::User(arguments) => user::run(&arguments),
        Command::Room(arguments) => room::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Token(arguments) => token::run(arguments),
        Command::Backup(arguments) => backup::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(lines)) => {
            for line in lines {
                // Nobody reads a closed stderr.
                let _ = writeln!(std::io::stderr(), "everywire: {}", shown::shown(&line));
            }
            ExitCode::FAILURE
        }
    }
}

/// Prints help and version on standard output, and wrong usage as one line on stderr, with exit code 2. Without a
/// command it prints the help.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
    }
    let _ =
        writeln!(std::io::stderr(), "everywire: {}; see everywire --help", shown::shown(&one_line(&error.to_string())));
    ExitCode::from(2)
}

/// The words of a usage error, without the usage and the hints below it.
pub(crate) fn one_line(rendered: &str) -> String {
    let paragraphs = rendered.split("\n\n").map(str::trim);
    let words = paragraphs.take_while(|text| !text.starts_with("Usage:") && !text.starts_with("For more information"));
    let words: Vec<String> = words.map(|text| text.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let line = words.join("; ");
    without_logins(line.strip_prefix("error: ").unwrap_or(&line))
}

/// The text without the part of an address before the @: it may be a password.
fn without_logins(text: &str) -> String {
    let mut parts = text.split("://");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| c.is_whitespace() || c == '\'').unwrap_or(part.len());
        let rest = part[..end].rfind('@').map_or(part, |at| &part[at..]);
        shown += if rest.len() < part.len() { "://…" } else { "://" };
        shown += rest;
    }
    shown
}
