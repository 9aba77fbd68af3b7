//! The memory of Redis, by its own account.

use everywire_log::remote::Memory;
use redis::Value;

/// The commands that ask for it.
pub(crate) fn ask(stream: &str) -> [redis::Cmd; 2] {
    let (mut all, mut log) = (redis::cmd("INFO"), redis::cmd("MEMORY"));
    all.arg("memory");
    log.arg("USAGE").arg(stream);
    [all, log]
}

/// The memory by the answers. A user may lack the right to ask for the log's part. Redis leaves the buffers of replicas
/// and of the append-only file out when it compares what it uses with its bound, and so does this.
pub(crate) fn parse(info: &str, log: &Value) -> Option<Memory> {
    let number = |name: &str| {
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(':')?.trim_end().parse().ok();
        info.lines().find_map(value)
    };
    let (used, limit): (u64, u64) = (number("used_memory")?, number("maxmemory")?);
    Some(Memory {
        used: used.saturating_sub(number("mem_not_counted_for_evict").unwrap_or(0)),
        limit,
        log: crate::script::number(log).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_is_what_redis_compares_with_its_bound() {
        let info = "# Memory\r\nused_memory:5000\r\nused_memory_human:5K\r\nmaxmemory_human:9K\r\nmaxmemory:9000\r\n";
        assert_eq!(parse(info, &Value::Int(700)), Some(Memory { used: 5000, limit: 9000, log: 700 }));
        let with_replicas = format!("{info}mem_not_counted_for_evict:1000\r\n");
        assert_eq!(parse(&with_replicas, &Value::Nil), Some(Memory { used: 4000, limit: 9000, log: 0 }));
        assert_eq!(parse("# Server\r\nrun_id:1\r\n", &Value::Nil), None);
    }
}
