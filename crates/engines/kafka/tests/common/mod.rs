//! The parts that the tests on a real Kafka share.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The brokers of `dev/kafka`.
pub(crate) const BROKERS: &str = "127.0.0.1:19092,127.0.0.2:19092,127.0.0.3:19092";

/// A prefix that was never used.
pub(crate) fn prefix() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
    format!("suite-{}-{}", since.as_micros(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The address of a log.
pub(crate) fn address(prefix: &str) -> String {
    format!("kafka://{BROKERS}/{prefix}")
}
