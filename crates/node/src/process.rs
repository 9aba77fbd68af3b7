//! Numbers of this process that the system knows (Linux's `/proc`; elsewhere nothing).

use std::fs;

use rustix::process::{Resource, getrlimit};

/// Seconds of processor time, in user and kernel mode, of all threads.
pub(crate) fn cpu_seconds() -> f64 {
    let read = || -> Option<f64> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The name in parentheses may hold blanks; utime and stime are the 12th and 13th fields behind it.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        let per_second = rustix::param::clock_ticks_per_second();
        Some(ticks as f64 / per_second as f64)
    };
    read().unwrap_or_default()
}

/// Bytes of memory in use.
pub(crate) fn resident_bytes() -> u64 {
    let read = || -> Option<u64> {
        let statm = fs::read_to_string("/proc/self/statm").ok()?;
        let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
        Some(pages * rustix::param::page_size() as u64)
    };
    read().unwrap_or_default()
}

/// Open file descriptors.
pub(crate) fn open_files() -> u64 {
    fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64)
}

/// The number of files that may still be opened for connections: all that the system allows, less those that are open
/// and a reserve for the log, the store and its readers. The reserve is at most a quarter of all.
pub(crate) fn files_for_connections(reserved: usize) -> u64 {
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    most.saturating_sub(open_files()).saturating_sub((most / 4).min(reserved as u64)).max(1)
}
