//! The node's threads. A thread that panics takes the whole process with it: the others would wait for ever for its
//! answers. Acknowledged messages are safe, and the supervisor of the process starts it again.

use std::io;
use std::process;
use std::thread::{self, JoinHandle};

/// Starts a thread.
pub(crate) fn spawn(name: impl Into<String>, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let guarded = move || {
        let _guard = Guard;
        run();
    };
    thread::Builder::new().name(name.into()).spawn(guarded)
}

/// Ends the process if its thread panics.
struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        if thread::panicking() {
            let thread = thread::current();
            let name = thread.name().unwrap_or_default();
            tracing::error!("the thread {name} has panicked: the process ends, to be started again");
            process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::process::Command;

    use super::*;

    /// A variable that makes a thread panic.
    const PANICS: &str = "EVERYWIRE_TEST_PANICS";

    #[test]
    fn a_thread_that_panics_ends_the_process() {
        if env::var_os(PANICS).is_some() {
            let panics = spawn("doomed", || panic!("as it should"));
            let _ = panics.map(JoinHandle::join);
            return;
        }
        let this = ["--exact", "--nocapture", "threads::tests::a_thread_that_panics_ends_the_process"];
        let output = Command::new(env::current_exe().unwrap()).args(this).env(PANICS, "1").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("as it should"), "{said}");
    }
}
