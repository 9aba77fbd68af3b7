//! A Redis of the test's own: Debian's server, on a free port of loopback, with its files in a directory of its own,
//! ended by its pid. The test fails where none is installed.

use std::cell::RefCell;
use std::fs;
use std::io::{BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{PATIENCE, until};

/// A running Redis, or Sentinel; dropping it kills it.
#[derive(Debug)]
pub struct Redis {
    home: TempDir,
    port: u16,
    arguments: Vec<String>,
    child: RefCell<Option<Child>>,
}

/// Arguments with which each write is on the disk before its answer.
pub const SYNCED: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

impl Redis {
    /// A Redis that keeps nothing on the disk.
    #[must_use]
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// A Redis with these further arguments.
    ///
    /// # Panics
    /// When it can't be started.
    #[must_use]
    pub fn with(arguments: &[&str]) -> Self {
        let usual = ["--save", "", "--enable-debug-command", "yes", "--repl-diskless-sync-delay", "0"];
        Self::run(&[&usual, arguments].concat())
    }

    /// A cluster of a single Redis, which has all slots.
    ///
    /// # Panics
    /// When it doesn't get ready.
    #[must_use]
    pub fn cluster(arguments: &[&str]) -> Self {
        let bus = free_port().to_string();
        let redis = Self::with(&[&["--cluster-enabled", "yes", "--cluster-port", &bus], arguments].concat());
        redis.ask("CLUSTER ADDSLOTSRANGE 0 16383");
        until("the cluster is there", || redis.ask("CLUSTER INFO").contains("cluster_state:ok"));
        redis
    }

    /// A Sentinel that watches over a master by the name `main`, and fails over after this number of milliseconds
    /// without it.
    ///
    /// # Panics
    /// When it can't be started.
    #[must_use]
    pub fn sentinel(master: &Self, patience_ms: u32) -> Self {
        let home = TempDir::with_prefix("everywire-sentinel-").expect("a temporary directory");
        let file = home.path().join("sentinel.conf");
        let monitor = format!("sentinel monitor main 127.0.0.1 {} 1\n", master.port);
        let patience = format!("sentinel down-after-milliseconds main {patience_ms}\n");
        fs::write(&file, monitor + &patience + "sentinel failover-timeout main 3000\n").expect("a file");
        let arguments = vec![file.display().to_string(), "--sentinel".to_owned()];
        Self::begin(home, arguments)
    }

    fn run(arguments: &[&str]) -> Self {
        let home = TempDir::with_prefix("everywire-redis-").expect("a temporary directory");
        Self::begin(home, arguments.iter().map(ToString::to_string).collect())
    }

    fn begin(home: TempDir, arguments: Vec<String>) -> Self {
        // Another program may have taken the port since it was chosen.
        let mut redis = Self { home, port: 0, arguments, child: RefCell::new(None) };
        for _ in 0..5 {
            redis.port = free_port();
            if redis.try_start() {
                return redis;
            }
        }
        panic!("no redis-server got ready:\n{}", redis.log());
    }

    fn try_start(&self) -> bool {
        let log = fs::File::create(self.home.path().join("log")).expect("a file for its log");
        let mut command = Command::new("redis-server");
        // The configuration file goes first.
        let (file, rest) =
            self.arguments.split_at(usize::from(self.arguments.first().is_some_and(|a| a.starts_with('/'))));
        command.args(file).arg("--port").arg(self.port.to_string()).arg("--bind").arg("127.0.0.1").arg("--dir");
        command.arg(self.home.path()).args(rest);
        let child = command.stdin(Stdio::null()).stdout(log).spawn();
        let mut child = child.expect("redis-server is installed (./dev/install, or apt-get install redis-server)");
        let mut is_ready = false;
        until("redis-server is ready or has ended", || {
            is_ready = self.try_ask("PING").is_ok_and(|answer| answer == "PONG" || answer.starts_with("NOAUTH"));
            is_ready || child.try_wait().expect("a child can be waited for").is_some()
        });
        self.child.replace(Some(child));
        is_ready
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory of its files.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Its address as an engine.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The text of its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    /// Sends a command in one line, whose words have no blanks. Arrays come as their lines.
    ///
    /// # Panics
    /// When no answer comes.
    pub fn ask(&self, line: &str) -> String {
        self.try_ask(line).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    /// Sends a command, if it answers.
    pub fn try_ask(&self, line: &str) -> std::io::Result<String> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(format!("{line}\r\n").as_bytes())?;
        answer(&mut BufReader::new(stream))
    }

    /// Ends it as a power cut ends a process.
    ///
    /// # Panics
    /// When it isn't running.
    pub fn kill(&self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("a child can be killed");
        child.wait().expect("a child can be waited for");
    }

    /// Starts it again on the same port, with the data on its disk.
    ///
    /// # Panics
    /// When it doesn't get ready.
    pub fn start_again(&self) {
        assert!(self.try_start(), "{}", self.log());
        let is_cluster = self.arguments.iter().any(|argument| argument == "--cluster-enabled");
        until("its cluster is there", || !is_cluster || self.ask("CLUSTER INFO").contains("cluster_state:ok"));
    }

    /// Stops its process; its sockets stay open.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets its process go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.borrow();
        let pid = Pid::from_child(child.as_ref().expect("it runs"));
        kill_process(pid, signal).expect("a child can be signalled");
    }

    /// Makes it a replica, and waits until it has all data.
    ///
    /// # Panics
    /// When it doesn't get it.
    pub fn follow(&self, master: &Self) {
        self.ask(&format!("REPLICAOF 127.0.0.1 {}", master.port));
        until("the replica has all", || self.ask("INFO replication").contains("master_link_status:up"));
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A port that is free at the moment.
///
/// # Panics
/// When there is none.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound listener has an address").port()
}

fn answer(reader: &mut impl std::io::BufRead) -> std::io::Result<String> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let line = line.trim_end();
    let count = |digits: &str| digits.parse::<i64>().map_err(std::io::Error::other);
    match line.split_at_checked(1) {
        Some(("$", length)) => {
            let Ok(length) = usize::try_from(count(length)?) else { return Ok(String::new()) };
            let mut bytes = vec![0; length + 2];
            reader.read_exact(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
        }
        Some(("*", length)) => {
            let parts: Result<Vec<String>, _> = (0..count(length)?).map(|_| answer(reader)).collect();
            Ok(parts?.join("\n"))
        }
        Some((_, rest)) => Ok(rest.to_owned()),
        None => Err(std::io::ErrorKind::UnexpectedEof.into()),
    }
}
