//! The one script: its calls, and its answers.

use everywire_log::remote::Life;
use redis::{Cmd, Value};

use crate::address::Address;

const TEXT: &str = include_str!("log.lua");

/// The script with the keys of a service.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    digest: String,
    log: String,
    stream: String,
}

impl Script {
    pub(crate) fn new(address: &Address) -> Self {
        Self {
            digest: redis::Script::new(TEXT).get_hash().to_owned(),
            log: address.key("log"),
            stream: address.key("s"),
        }
    }

    /// The name of the stream.
    pub(crate) fn stream(&self) -> &str {
        &self.stream
    }

    /// The command that loads the script into Redis.
    pub(crate) fn load() -> Cmd {
        let mut command = redis::cmd("SCRIPT");
        command.arg("LOAD").arg(TEXT);
        command
    }

    fn call(&self, verb: &str) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.digest).arg(2).arg(&self.log).arg(&self.stream).arg(verb);
        command
    }

    /// The command that makes the log, unless it is there.
    pub(crate) fn make(&self, genesis: &[u8], even_anew: bool) -> Cmd {
        let mut command = self.call("make");
        command.arg(genesis).arg(if even_anew { "anew" } else { "" });
        command
    }

    /// The command that appends a frame of this many records in the name of a life.
    pub(crate) fn append(&self, life: &Life, count: usize, frame: &[u8]) -> Cmd {
        let mut command = self.call("append");
        command.arg(life.epoch.0).arg(&*life.run).arg(count).arg(frame);
        command
    }

    /// The command that asks for the run that serves the log; it begins an epoch if that is another run than before.
    pub(crate) fn look(&self) -> Cmd {
        let mut command = self.call("append");
        command.arg("").arg("").arg(0).arg("");
        command
    }

    /// The command that trims entries at or below an offset.
    pub(crate) fn trim(&self, below: u64) -> Cmd {
        let mut command = self.call("trim");
        command.arg(below);
        command
    }

    /// The command that reads at most `count` entries above an offset, and waits for them at most `wait_ms`.
    pub(crate) fn read(&self, after: u64, count: usize, wait_ms: u64) -> Cmd {
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(count);
        if wait_ms > 0 {
            command.arg("BLOCK").arg(wait_ms);
        }
        command.arg("STREAMS").arg(&self.stream).arg(format!("{after}-0"));
        command
    }

    /// The command that reads these fields of the log's state.
    pub(crate) fn fields(&self, names: &[&str]) -> Cmd {
        let mut command = redis::cmd("HMGET");
        command.arg(&self.log).arg(names);
        command
    }
}

/// A number in an answer.
pub(crate) fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        value => crate::link::text_of(value).parse().ok(),
    }
}
