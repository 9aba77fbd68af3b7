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

/// What a command came to, if it failed: lines for stderr.
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
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Token(arguments) => token::run(arguments),
        Command::Backup(arguments) => backup::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(lines)) => {
            for line in lines {
                // Who closed stderr doesn't want to know.
                let _ = writeln!(std::io::stderr(), "everywire: {}", shown::shown(&line));
            }
            ExitCode::FAILURE
        }
    }
}

/// Help and version go to standard output; wrong usage is one line on stderr, and 2. No command at all gets the help.
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
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}
