//! The command line. Every option can come from the environment too (`docs/operating.md`).

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use everywire_base::cursor::Start;
use everywire_base::topic::{Filter, Topic};

use crate::config::units;
use crate::config::{EngineKind, Listen, LogFormat};
use crate::logs;

/// One message in, every wire out: a message push server.
#[derive(Parser, Debug)]
#[command(name = "everywire", version, disable_help_subcommand = true, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Runs the server
    Serve(Serve),
    /// Publishes a message
    Pub(Pub),
    /// Prints the messages of topics as they come
    Sub(Sub),
    /// Says what became of a message, recipient by recipient; for operators
    Explain(Explain),
    /// Adds, removes and lists static users; for operators
    User(User),
    /// Shows rooms and their members, and ends memberships; for operators
    Room(Room),
    /// Prints a token for a user, signed with the configured secret
    Token(Token),
    /// Reads the configuration and says what is wrong with it
    Check(Check),
    /// Copies the data while a server serves it, or while none does
    Backup(Backup),
}

/// The configuration file, and the options that stand above it.
#[derive(Args, Debug, Default, Clone)]
pub(crate) struct Serve {
    /// The configuration file [default: everywire.toml, if it exists]
    #[arg(long, value_name = "FILE", env = "EVERYWIRE_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
    /// Where the data is kept [default: ./everywire-data]
    #[arg(long, value_name = "DIR", env = "EVERYWIRE_DATA", hide_env_values = true)]
    pub(crate) data: Option<PathBuf>,
    /// Who orders and keeps the messages: `embedded`, `memory`, which keeps nothing, or for several nodes a Redis:
    /// `redis://HOST`, `rediss://…`, `redis-sentinel://HOST:PORT,…/MASTER`, `redis-cluster://…`, or a Kafka:
    /// `kafka://HOST:PORT,…/PREFIX` [default: embedded]
    #[arg(long, value_name = "URL", env = "EVERYWIRE_ENGINE", hide_env_values = true, value_parser = units::engine)]
    pub(crate) engine: Option<EngineKind>,
    /// Where HTTP is served [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR|off", env = "EVERYWIRE_HTTP", hide_env_values = true, value_parser = units::listen)]
    pub(crate) http: Option<Listen>,
    /// Where MQTT is served on TCP [default: 127.0.0.1:1883]
    #[arg(long, value_name = "ADDR|off", env = "EVERYWIRE_MQTT", hide_env_values = true, value_parser = units::listen)]
    pub(crate) mqtt: Option<Listen>,
    /// Not in this version: stays off
    #[arg(long, value_name = "ADDR|off", env = "EVERYWIRE_XMPP", hide_env_values = true, value_parser = units::listen)]
    pub(crate) xmpp: Option<Listen>,
    /// Where the native protocol is served on TCP [default: 127.0.0.1:7222]
    #[arg(long, value_name = "ADDR|off", env = "EVERYWIRE_TCP", hide_env_values = true, value_parser = units::listen)]
    pub(crate) tcp: Option<Listen>,
    /// Answer on /v1/echo, for conformance tests of WebSocket
    #[arg(long, env = "EVERYWIRE_ECHO", hide_env_values = true)]
    pub(crate) echo: bool,
    /// This node's name [default: the machine's]
    #[arg(long, value_name = "NAME", env = "EVERYWIRE_NODE", hide_env_values = true, value_parser = units::node_name)]
    pub(crate) node: Option<String>,
    /// How many threads serve connections [default: one for each processor]
    #[arg(long, value_name = "N", env = "EVERYWIRE_WORKERS", hide_env_values = true, value_parser = units::workers)]
    pub(crate) workers: Option<usize>,
    #[arg(
        long,
        help = "The form of log lines, `text` or `json` [default: text] [env: EVERYWIRE_LOG_FORMAT]",
        value_name = "FORMAT",
        value_parser = LogFormat::parse
    )]
    pub(crate) log_format: Option<LogFormat>,
    #[arg(
        long,
        help = "Which log lines: off, error, warn, info, debug, trace [default: info] [env: EVERYWIRE_LOG_LEVEL]",
        value_name = "LEVEL",
        value_parser = logs::level
    )]
    pub(crate) log_level: Option<String>,
    /// Writes the bound addresses there as JSON once all listeners accept
    #[arg(long, value_name = "FILE", env = "EVERYWIRE_READY_FILE", hide_env_values = true)]
    pub(crate) ready_file: Option<PathBuf>,
    /// Goes on in a new epoch, once: after a backup was restored, or when the log lost its end for good; readers behind
    /// it are told of a gap
    #[arg(long)]
    pub(crate) new_epoch: bool,
}

/// The environment's values of the options of `serve`, for commands without these options.
#[derive(Parser, Debug)]
#[command(name = "everywire")]
pub(crate) struct Environment {
    #[command(flatten)]
    pub(crate) serve: Serve,
}

#[derive(Args, Debug)]
pub(crate) struct Check {
    /// The configuration file [default: everywire.toml, if it exists]
    #[arg(long, value_name = "FILE", env = "EVERYWIRE_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Backup {
    /// Where to copy it: a directory that is empty or isn't there
    #[arg(value_name = "DIR")]
    pub(crate) to: PathBuf,
    /// The server's data directory
    #[arg(
        long,
        value_name = "DIR",
        env = "EVERYWIRE_DATA",
        hide_env_values = true,
        default_value = "./everywire-data"
    )]
    pub(crate) data: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct Explain {
    /// The message's id
    #[arg(value_name = "MESSAGE-ID")]
    pub(crate) message: String,
    #[command(flatten)]
    pub(crate) operator: ByOperator,
}

#[derive(Args, Debug)]
pub(crate) struct User {
    #[command(subcommand)]
    pub(crate) command: UserCommand,
    #[command(flatten)]
    pub(crate) operator: ByOperator,
}

#[derive(Subcommand, Debug)]
pub(crate) enum UserCommand {
    /// Adds a user; the password is the first line of input
    Add {
        #[arg(value_parser = name)]
        name: String,
    },
    /// Changes a user's password, to the first line of input
    Passwd {
        #[arg(value_parser = name)]
        name: String,
    },
    /// Removes a user
    Remove {
        #[arg(value_parser = name)]
        name: String,
    },
    /// Lists all users
    List,
}

#[derive(Args, Debug)]
pub(crate) struct Room {
    #[command(subcommand)]
    pub(crate) command: RoomCommand,
    #[command(flatten)]
    pub(crate) operator: ByOperator,
}

#[derive(Subcommand, Debug)]
pub(crate) enum RoomCommand {
    /// Lists all rooms
    List,
    /// Shows what is known of a room
    Show {
        /// Its name
        room: String,
    },
    /// Lists the members of a room
    Members {
        /// Its name
        room: String,
    },
    /// Ends a user's membership
    Kick {
        /// The room's name
        room: String,
        /// The user
        user: String,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Token {
    /// Whose it is
    #[arg(long, value_name = "NAME", value_parser = name, required_unless_present = "admin")]
    pub(crate) user: Option<String>,
    /// On which device
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub(crate) device: Option<String>,
    /// Where the user may publish; may be given more than once [default: as the topic rules say]
    #[arg(long, value_name = "FILTER", value_parser = filter)]
    pub(crate) publish: Vec<Filter>,
    /// What the user may subscribe to; may be given more than once [default: as the topic rules say]
    #[arg(long, value_name = "FILTER", value_parser = filter)]
    pub(crate) subscribe: Vec<Filter>,
    /// The user may see and end connections, and use all topics
    #[arg(long)]
    pub(crate) admin: bool,
    /// How long it holds
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = units::duration)]
    pub(crate) ttl: Duration,
    /// The configuration file with the secret [default: everywire.toml, if it exists]
    #[arg(long, value_name = "FILE", env = "EVERYWIRE_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
}

fn name(text: &str) -> Result<String, String> {
    everywire_base::identity::check_name(text).map(Into::into).map_err(|error| error.to_string())
}

/// The server that a client command talks to, and the token for it.
#[derive(Args, Debug)]
pub(crate) struct Remote {
    /// The server's address
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "EVERYWIRE_SERVER",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8080"
    )]
    pub(crate) server: String,
    /// Who you are
    #[arg(long, global = true, value_name = "TOKEN", env = "EVERYWIRE_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
}

/// The data directory, where an operator's command finds its token, and the server.
#[derive(Args, Debug)]
pub(crate) struct ByOperator {
    /// The server's data directory, where the operator's token is
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "EVERYWIRE_DATA",
        hide_env_values = true,
        default_value = "./everywire-data"
    )]
    pub(crate) data: PathBuf,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

#[derive(Args, Debug)]
pub(crate) struct Pub {
    /// Where to publish
    #[arg(value_parser = topic)]
    pub(crate) topic: Topic,
    /// The message; `-` or nothing reads it from standard input
    pub(crate) body: Option<String>,
    /// Over which wire
    #[arg(long, value_enum, default_value_t = PubVia::Http, env = "EVERYWIRE_PUB_VIA", hide_env_values = true)]
    pub(crate) via: PubVia,
    /// The name of the event
    #[arg(long, value_name = "NAME", env = "EVERYWIRE_EVENT", hide_env_values = true)]
    pub(crate) event: Option<String>,
    /// The idempotency key: the same key and message within two minutes is published once
    #[arg(long, value_name = "KEY", env = "EVERYWIRE_KEY", hide_env_values = true)]
    pub(crate) key: Option<String>,
    /// The id of the message that it answers
    #[arg(long = "ref", value_name = "ID", env = "EVERYWIRE_REF", hide_env_values = true)]
    pub(crate) about: Option<String>,
    /// The media type [default: text/plain, or application/octet-stream if it isn't UTF-8]
    #[arg(long = "type", value_name = "TYPE", env = "EVERYWIRE_TYPE", hide_env_values = true)]
    pub(crate) content_type: Option<String>,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

/// The wires that `pub` speaks.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PubVia {
    Http,
    Ws,
    Tcp,
    Mqtt,
}

#[derive(Args, Debug)]
pub(crate) struct Sub {
    /// Topics, or filters with `+` and `#`
    #[arg(required = true, value_name = "TOPIC", value_parser = filter)]
    pub(crate) topics: Vec<Filter>,
    /// Over which wire
    #[arg(long, value_enum, default_value_t = SubVia::Sse, env = "EVERYWIRE_SUB_VIA", hide_env_values = true)]
    pub(crate) via: SubVia,
    /// Where to begin
    #[arg(long, value_name = "CURSOR|earliest|latest", env = "EVERYWIRE_AFTER", hide_env_values = true, default_value = "latest", value_parser = start)]
    pub(crate) after: Start,
    /// Prints the JSON envelope of each message, not its bare body
    #[arg(long, env = "EVERYWIRE_JSON", hide_env_values = true)]
    pub(crate) json: bool,
    /// Ends after so many messages
    #[arg(long, value_name = "N", env = "EVERYWIRE_COUNT", hide_env_values = true, value_parser = number)]
    pub(crate) count: Option<NonZeroU64>,
    #[command(flatten)]
    pub(crate) remote: Remote,
}

/// The wires that `sub` speaks.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SubVia {
    Poll,
    Longpoll,
    Sse,
    Ws,
    Tcp,
    Mqtt,
}

fn topic(text: &str) -> Result<Topic, String> {
    Topic::parse(text).map_err(|error| error.to_string())
}

fn filter(text: &str) -> Result<Filter, String> {
    Filter::parse(text).map_err(|error| error.to_string())
}

fn start(text: &str) -> Result<Start, String> {
    text.parse().map_err(|error: everywire_base::cursor::CursorError| error.to_string())
}

fn number(text: &str) -> Result<NonZeroU64, String> {
    text.parse().map_err(|_| format!("{text:?} is not a whole number from 1"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }
}
