//! What the system knows of this process (Linux's `/proc`; elsewhere nothing).

use std::fs;

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
