//! [`Remote`] over a connection to Redis.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use everywire_base::cursor::Offset;
use everywire_base::record::Durability;
use everywire_log::remote::{
    Batch, Blobs, Connect, Genesis, Life, LogState, Memory, Refusal, Remote, RemoteError, Window,
};
use redis::Value;

use crate::address::{Address, TooFew};
use crate::blobs::Shelf;
use crate::frame;
use crate::link::{Link, refused, text_of};
use crate::memory;
use crate::promise::Setup;
use crate::script::{Script, number};
use crate::stored::{Entry, foreign, parse_entries, parse_present, parse_state};

/// The time between two looks at the settings of Redis, by which a promise is made.
const LOOK: Duration = Duration::from_secs(1);
/// The longest wait for replicas that didn't come in time the last time.
const SHORT_WAIT: Duration = Duration::from_millis(20);
/// The most entries that are read at once.
const MAX_ENTRIES: usize = 256;
/// The assumed bytes of an entry before one was seen.
const FIRST_GUESS: usize = 16 << 10;

/// Makes connections to a service's log in Redis.
#[derive(Clone, Debug)]
pub struct Redis {
    address: Arc<Address>,
    script: Script,
    even_anew: bool,
}

impl Redis {
    /// A maker of connections to this address. With `even_anew` a log may be made even if one may have been there.
    pub fn new(address: Address, even_anew: bool) -> Self {
        let script = Script::new(&address);
        Self { address: Arc::new(address), script, even_anew }
    }
}

impl Connect for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn window(&self) -> Window {
        self.address.window
    }

    fn connect(&self) -> Box<dyn Remote> {
        Box::new(RedisRemote {
            redis: self.clone(),
            link: None,
            looked: Instant::now(),
            replicas_came: true,
            entry_bytes: FIRST_GUESS,
        })
    }
}

struct RedisRemote {
    redis: Redis,
    link: Option<Link>,
    /// The time of the last look at the settings.
    looked: Instant,
    /// Whether enough replicas had the last append in time.
    replicas_came: bool,
    /// The bytes of an entry, by the last ones that were read.
    entry_bytes: usize,
}

impl RedisRemote {
    /// Asks over the present connection; one that fails is dropped.
    fn ask(&mut self, commands: &[redis::Cmd], wait: Duration) -> Result<Vec<Value>, RemoteError> {
        let link = self.link.as_mut().ok_or_else(|| RemoteError::Cut("there is no connection".into()))?;
        let answers = link.ask(commands, wait);
        if answers.is_err() {
            self.link = None;
        }
        answers
    }

    /// Checks an answer. An error of a server that isn't the master any more ends the connection.
    fn taken(&mut self, answer: &Value) -> Result<(), RemoteError> {
        let taken = refused(answer);
        if matches!(taken, Err(RemoteError::Cut(_))) {
            self.link = None;
        }
        taken
    }

    /// Connects if there is no connection, and reads the log's state.
    fn enter(&mut self, genesis: Option<&Genesis>) -> Result<LogState, RemoteError> {
        if self.link.is_none() {
            let link = Link::open(&self.redis.address, &self.redis.script)?;
            tracing::debug!(host = %link.host(), "connected to Redis");
            (self.link, self.looked, self.replicas_came) = (Some(link), Instant::now(), true);
        }
        let script = &self.redis.script;
        let first = match genesis {
            Some(genesis) => script.make(&genesis.encode(), self.redis.even_anew),
            None => script.look(),
        };
        let answer = self.ask(&[first], Duration::ZERO)?.remove(0);
        self.taken(&answer)?;
        self.state()
    }

    fn state(&mut self) -> Result<LogState, RemoteError> {
        let fields = ["genesis", "epochs", "trimmed", "head"];
        let answer = self.ask(&[self.redis.script.fields(&fields)], Duration::ZERO)?.remove(0);
        self.taken(&answer)?;
        parse_state(&answer).ok_or_else(foreign)
    }

    fn setup(&self) -> Setup {
        self.link.as_ref().map(|link| link.setup.clone()).unwrap_or_default()
    }

    /// The command that waits for replicas, and how long it may take.
    fn wait_for_replicas(&self) -> Option<(redis::Cmd, Duration)> {
        let address = &self.redis.address;
        if address.wait == 0 {
            return None;
        }
        // A service without its replicas goes on, more slowly, but not by a second with each append.
        let is_short = !self.replicas_came && address.too_few == TooFew::Say;
        let time = if is_short { SHORT_WAIT.min(address.wait_timeout) } else { address.wait_timeout };
        let mut command = redis::cmd("WAIT");
        command.arg(address.wait).arg(time.as_millis() as u64);
        Some((command, time))
    }

    fn promise(&mut self, replicas: Option<u32>) -> Result<Durability, RemoteError> {
        let Address { wait, too_few, .. } = *self.redis.address;
        let came = replicas.unwrap_or(0);
        self.replicas_came = came >= wait;
        if !self.replicas_came && too_few == TooFew::Hold {
            self.link = None;
            return Err(RemoteError::Unknown(format!("{came} of {wait} replicas have it").into()));
        }
        Ok(self.setup().promise(came, wait))
    }
}

impl Remote for RedisRemote {
    fn open(&mut self, genesis: Option<&Genesis>) -> Result<LogState, RemoteError> {
        let was_connected = self.link.is_some();
        match self.enter(genesis) {
            // The server that it was connected to may be gone since.
            Err(RemoteError::Unknown(_) | RemoteError::Cut(_)) if was_connected => self.enter(genesis),
            entered => entered,
        }
    }

    fn append(&mut self, life: &Life, records: &[Bytes]) -> Result<Durability, RemoteError> {
        let frame = frame::pack(records);
        let mut commands = vec![self.redis.script.append(life, records.len(), &frame)];
        let waiting = self.wait_for_replicas();
        let wait = waiting.as_ref().map_or(Duration::ZERO, |(_, time)| *time);
        let is_waiting = waiting.is_some();
        commands.extend(waiting.map(|(command, _)| command));
        let is_due = self.looked.elapsed() > LOOK;
        if is_due {
            self.looked = Instant::now();
            commands.push(Setup::ask());
        }
        let answers = self.ask(&commands, wait)?;
        self.taken(&answers[0])?;
        if let Some(link) = self.link.as_mut().filter(|_| is_due) {
            link.setup = Setup::of(&answers[answers.len() - 1], self.redis.address.synced);
        }
        let replicas = if is_waiting { number(&answers[1]) } else { None };
        self.promise(replicas.map(|replicas| replicas as u32))
    }

    fn read(&mut self, after: Offset, max_bytes: usize, wait: Duration) -> Result<Batch, RemoteError> {
        let count = (max_bytes / self.entry_bytes).clamp(1, MAX_ENTRIES);
        let script = &self.redis.script;
        let wait_ms = wait.as_millis() as u64;
        let state = script.fields(&["run", "epoch", "head", "trimmed"]);
        let mut answers = self.ask(&[script.read(after.0, count, wait_ms), state], wait)?;
        let (state, entries) = (answers.remove(1), answers.remove(0));
        self.taken(&entries)?;
        self.taken(&state)?;
        let (life, head, trimmed) = parse_present(&state)?;
        let (mut items, mut seen) = (Vec::new(), after);
        let entries = parse_entries(entries)?;
        if !entries.is_empty() {
            let bytes: usize = entries.iter().map(Entry::bytes).sum();
            self.entry_bytes = (bytes / entries.len()).max(64);
        }
        let is_empty = entries.is_empty();
        for entry in entries {
            if entry.follows_after() > seen {
                break; // something between was let go of
            }
            seen = entry.last;
            entry.into_items(after, &mut items)?;
        }
        if items.is_empty() && (!is_empty || trimmed > after) {
            return Err(RemoteError::Refused(Refusal::Trimmed(trimmed.max(after.next()))));
        }
        Ok(Batch { items, seen, head: head.max(seen), life })
    }

    fn trim(&mut self, below: Offset) -> Result<(), RemoteError> {
        let answer = self.ask(&[self.redis.script.trim(below.0)], Duration::ZERO)?.remove(0);
        self.taken(&answer)
    }

    fn memory(&mut self) -> Result<Option<Memory>, RemoteError> {
        let answers = self.ask(&memory::ask(self.redis.script.stream()), Duration::ZERO)?;
        self.taken(&answers[0])?;
        Ok(memory::parse(text_of(&answers[0]), &answers[1]))
    }

    fn blobs(&mut self) -> &mut dyn Blobs {
        self
    }
}

impl Blobs for RedisRemote {
    fn put(&mut self, name: &str, value: Bytes) -> Result<(), RemoteError> {
        let place = Shelf::new(&self.redis.address);
        for commands in place.put(name, &value) {
            for answer in self.ask(&commands, Duration::ZERO)? {
                self.taken(&answer)?;
            }
        }
        Ok(())
    }

    fn get(&mut self, name: &str) -> Result<Option<Bytes>, RemoteError> {
        let place = Shelf::new(&self.redis.address);
        let answer = self.ask(&[place.length(name)], Duration::ZERO)?.remove(0);
        self.taken(&answer)?;
        let Some(length) = number(&answer) else { return Ok(None) };
        let mut value = Vec::with_capacity(length as usize);
        for page in 0.. {
            let answer = self.ask(&[place.page(name, page)], Duration::ZERO)?.remove(0);
            self.taken(&answer)?;
            match answer {
                Value::BulkString(bytes) if value.len() < length as usize => value.extend_from_slice(&bytes),
                _ => break,
            }
        }
        // The value is being removed just now.
        Ok((value.len() == length as usize).then(|| value.into()))
    }

    fn names(&mut self) -> Result<Vec<Box<str>>, RemoteError> {
        let answer = self.ask(&[Shelf::new(&self.redis.address).names()], Duration::ZERO)?.remove(0);
        self.taken(&answer)?;
        let Value::Array(names) = &answer else { return Err(foreign()) };
        Ok(names.iter().map(|name| text_of(name).into()).collect())
    }

    fn remove(&mut self, name: &str) -> Result<(), RemoteError> {
        for answer in self.ask(&Shelf::new(&self.redis.address).remove(name), Duration::ZERO)? {
            self.taken(&answer)?;
        }
        Ok(())
    }
}
