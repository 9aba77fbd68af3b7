//! A server of the test's own: started from the built binary, on a port and in a directory of its own, ended by its
//! pid.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::http::{Connection, Request, Response};
use crate::{PATIENCE, until};

/// The setup that a server is started with. Clones share the directory, so that a second server finds the data of the
/// first.
#[derive(Clone, Debug)]
pub struct Setup {
    home: Arc<TempDir>,
    data: PathBuf,
    config: Option<String>,
    http: Option<String>,
    arguments: Vec<OsString>,
    open_files: Option<u32>,
}

/// A running server; dropping it kills it.
#[derive(Debug)]
pub struct Server {
    setup: Setup,
    child: Child,
    ready: Value,
    address: Option<SocketAddr>,
}

/// A server that ended instead of getting ready.
#[derive(Debug)]
pub struct Failed {
    /// Its exit code.
    pub code: Option<i32>,
    /// The text of its standard error.
    pub errors: String,
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

impl Setup {
    /// A server with defaults, a free port and an empty data directory.
    ///
    /// # Panics
    /// When there is no room for a directory.
    pub fn new() -> Self {
        let home = TempDir::with_prefix("everywire-test-").expect("a temporary directory");
        let data = home.path().join("data");
        Self {
            home: Arc::new(home),
            data,
            config: None,
            http: Some("127.0.0.1:0".into()),
            arguments: Vec::new(),
            open_files: None,
        }
    }

    /// Sets the configuration file.
    #[must_use]
    pub fn config(mut self, toml: &str) -> Self {
        self.config = Some(toml.to_owned());
        self
    }

    /// Sets another data directory.
    #[must_use]
    pub fn data(mut self, data: &Path) -> Self {
        data.clone_into(&mut self.data);
        self
    }

    /// Sets the value of `--http`; with `None` the option is left out.
    #[must_use]
    pub fn http(mut self, http: Option<&str>) -> Self {
        self.http = http.map(str::to_owned);
        self
    }

    /// Sets the most open files.
    #[must_use]
    pub fn open_files(mut self, most: u32) -> Self {
        self.open_files = Some(most);
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// The directory of its files: `everywire.toml`, `ready.json`, `errors`.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The data directory.
    pub fn data_directory(&self) -> &Path {
        &self.data
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// When it ends or hangs instead.
    #[must_use]
    pub fn start(self) -> Server {
        let mut child = self.spawn();
        match self.wait_ready(&mut child) {
            Ok(ready) => Server { address: address_of(&ready), setup: self, child, ready },
            Err(failed) => {
                panic!("the server ended with {:?} instead of getting ready:\n{}", failed.code, failed.errors)
            }
        }
    }

    /// Starts it and waits until it ends by itself.
    ///
    /// # Panics
    /// When it gets ready instead.
    #[must_use]
    pub fn fail(self) -> Failed {
        let mut child = self.spawn();
        match self.wait_ready(&mut child) {
            Err(failed) => failed,
            Ok(ready) => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("the server got ready instead of refusing: {ready}\n{}", self.errors());
            }
        }
    }

    fn spawn(&self) -> Child {
        let ready = self.ready_file();
        let _ = fs::remove_file(&ready);
        let mut command = match self.open_files {
            None => Command::new(binary()),
            Some(most) => {
                let mut shell = Command::new("sh");
                shell.arg("-c").arg(format!("ulimit -n {most} && exec \"$@\"")).arg("sh").arg(binary());
                shell
            }
        };
        command.arg("serve").arg("--data").arg(&self.data).arg("--ready-file").arg(ready);
        // Tests run side by side: the default ports may be in use by another test.
        command.env("EVERYWIRE_TCP", "127.0.0.1:0").env("EVERYWIRE_MQTT", "127.0.0.1:0");
        if let Some(http) = &self.http {
            command.arg("--http").arg(http);
        }
        if let Some(file) = self.write_config() {
            command.arg("--config").arg(file);
        }
        let errors = fs::File::create(self.home().join("errors")).expect("a file for errors");
        let output = fs::File::create(self.home().join("output")).expect("a file for output");
        command.args(&self.arguments).current_dir(self.home()).stdin(Stdio::null()).stdout(output).stderr(errors);
        command.spawn().unwrap_or_else(|e| panic!("{} can't be started: {e}", binary().display()))
    }

    fn write_config(&self) -> Option<PathBuf> {
        let file = self.home().join("everywire.toml");
        fs::write(&file, self.config.as_ref()?).expect("a configuration file can be written");
        Some(file)
    }

    fn ready_file(&self) -> PathBuf {
        self.home().join("ready.json")
    }

    fn wait_ready(&self, child: &mut Child) -> Result<Value, Failed> {
        let begun = Instant::now();
        loop {
            if let Some(ready) = fs::read(self.ready_file()).ok().and_then(|text| serde_json::from_slice(&text).ok()) {
                return Ok(ready);
            }
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                return Err(Failed { code: status.code(), errors: self.errors() });
            }
            if begun.elapsed() > PATIENCE {
                let _ = child.kill();
                let _ = child.wait();
                panic!("the server was not ready within {PATIENCE:?}:\n{}", self.errors());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The text of standard output and standard error.
    pub fn errors(&self) -> String {
        ["output", "errors"].map(|name| fs::read_to_string(self.home().join(name)).unwrap_or_default()).concat()
    }
}

impl Server {
    /// A server with defaults.
    #[must_use]
    pub fn start() -> Self {
        Setup::new().start()
    }

    /// A server with this configuration.
    #[must_use]
    pub fn with(config: &str) -> Self {
        Setup::new().config(config).start()
    }

    /// The address of HTTP.
    ///
    /// # Panics
    /// When it doesn't.
    pub fn address(&self) -> SocketAddr {
        self.address.unwrap_or_else(|| panic!("the ready file names no address of http: {}", self.ready))
    }

    /// The address of another listener: `mqtt`, `tcp` …
    ///
    /// # Panics
    /// When it is off.
    pub fn address_of(&self, listener: &str) -> SocketAddr {
        let address = self.ready[listener].as_str().and_then(|text| text.parse().ok());
        address.unwrap_or_else(|| panic!("the ready file names no address of {listener}: {}", self.ready))
    }

    /// The content of its ready file.
    pub fn ready(&self) -> &Value {
        &self.ready
    }

    /// The setup that it was started with.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// The pid of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A new connection to it.
    ///
    /// # Panics
    /// When it is refused.
    pub fn connect(&self) -> Connection {
        Connection::open(self.address())
    }

    /// Sends a request on a connection of its own.
    ///
    /// # Panics
    /// When no answer comes.
    pub fn send(&self, request: &Request) -> Response {
        self.connect().exchange(request)
    }

    /// `GET`s a target.
    pub fn get(&self, target: &str) -> Response {
        self.send(&Request::get(target))
    }

    /// Publishes a text; returns the cursor of the answer.
    ///
    /// # Panics
    /// When the server doesn't acknowledge it.
    pub fn publish(&self, topic: &str, body: &str) -> String {
        let response = self.send(&Request::post(&format!("/v1/messages?topic={topic}"), body));
        assert_eq!(response.status, 200, "{response:?}");
        response.json()["cursor"].as_str().expect("a cursor").to_owned()
    }

    /// The value of a metric, summed over its label sets; 0 if it isn't there.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text();
        let values = text.lines().filter_map(|line| {
            let (key, value) = line.rsplit_once(' ')?;
            let bare = key.split('{').next()?;
            (bare == name).then(|| value.parse::<f64>().ok())?
        });
        values.sum()
    }

    /// The bytes of its resident memory.
    ///
    /// # Panics
    /// When it isn't running.
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the server runs");
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// Writes another configuration file; SIGHUP makes the server read it.
    ///
    /// # Panics
    /// When it can't be written.
    pub fn reconfigure(&mut self, toml: &str) {
        self.setup.config = Some(toml.to_owned());
        self.setup.write_config();
        self.signal(Signal::HUP);
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it isn't running.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("a child can be signalled");
    }

    /// Kills it as a power cut would end a process, and returns the setup that starts it anew on the same data.
    ///
    /// # Panics
    /// When it can't be killed.
    pub fn kill(mut self) -> Setup {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
        self.setup.clone()
    }

    /// Ends it with SIGTERM, and returns its exit status and its setup.
    ///
    /// # Panics
    /// When it doesn't.
    pub fn terminate(mut self) -> (ExitStatus, Setup) {
        self.signal(Signal::TERM);
        (self.wait(), self.setup.clone())
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// When it doesn't.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        until("the server has ended", || {
            status = self.child.try_wait().expect("a child can be waited for");
            status.is_some()
        });
        status.expect("it has ended")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the server's log:\n{}", self.setup.errors());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn address_of(ready: &Value) -> Option<SocketAddr> {
    ready["http"].as_str().and_then(|text| text.parse().ok())
}

/// The binary under test: `EVERYWIRE_BIN`, or the one beside the test's own executable.
///
/// # Panics
/// When there is none.
pub fn binary() -> PathBuf {
    let beside = || {
        let test = std::env::current_exe().expect("a test knows its executable");
        test.parent().and_then(Path::parent).expect("target/PROFILE/deps").join("everywire")
    };
    let path = std::env::var_os("EVERYWIRE_BIN").map_or_else(beside, PathBuf::from);
    assert!(
        path.is_file(),
        "there is no binary at {}: `cargo build -p everywire-server` makes it, or EVERYWIRE_BIN names another",
        path.display()
    );
    path
}
