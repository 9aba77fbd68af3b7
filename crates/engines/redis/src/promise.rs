//! The promise of Redis for the records that it has taken, by its present settings.
//!
//! | setting | an answer says |
//! | --- | --- |
//! | at least `wait` replicas have the record | `replicated` |
//! | else `appendonly yes` with `appendfsync always` | `fsync` |
//! | else | `memory` |

use everywire_base::record::Durability;
use redis::Value;

use crate::link::text_of;

/// The settings of Redis, as far as the log needs them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Setup {
    /// Whether each write is synced before its answer.
    pub synced: bool,
    /// The eviction policy for a full memory; empty if Redis doesn't tell it.
    pub eviction: String,
    /// The most memory; 0 is no bound.
    pub max_memory: u64,
}

impl Setup {
    /// The command that asks for the settings.
    pub(crate) fn ask() -> redis::Cmd {
        let mut command = redis::cmd("CONFIG");
        command.arg("GET").arg(&["appendonly", "appendfsync", "maxmemory", "maxmemory-policy"]);
        command
    }

    /// The settings by the answer, or by the address if Redis doesn't answer.
    pub(crate) fn of(answer: &Value, said: Option<bool>) -> Self {
        let Value::Array(values) = answer else {
            return Self { synced: said == Some(true), ..Self::default() };
        };
        let texts: Vec<&str> = values.iter().map(text_of).collect();
        let value = |name: &str| texts.chunks_exact(2).find(|pair| pair[0] == name).map_or("", |pair| pair[1]);
        Self {
            synced: value("appendonly") == "yes" && value("appendfsync") == "always",
            eviction: value("maxmemory-policy").to_owned(),
            max_memory: value("maxmemory").parse().unwrap_or(0),
        }
    }

    /// Whether Redis may evict keys without a time to live, as the log's.
    pub(crate) fn evicts_the_log(&self) -> bool {
        self.eviction.starts_with("allkeys")
    }

    /// The promise for records that this many replicas have, if `wait` are waited for.
    pub(crate) fn promise(&self, replicas: u32, wait: u32) -> Durability {
        if wait > 0 && replicas >= wait {
            Durability::Replicated
        } else if self.synced {
            Durability::Fsync
        } else {
            Durability::Memory
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(pairs: &[(&str, &str)]) -> Value {
        let text = |text: &str| Value::BulkString(text.into());
        Value::Array(pairs.iter().flat_map(|(name, value)| [text(name), text(value)]).collect())
    }

    #[test]
    fn each_setting_promises_what_it_holds() {
        let setup = |only, sync| Setup::of(&answer(&[("appendonly", only), ("appendfsync", sync)]), None);
        for (only, sync, replicas, wait, promised) in [
            ("no", "always", 0, 0, Durability::Memory),
            ("yes", "everysec", 0, 0, Durability::Memory),
            ("yes", "no", 0, 0, Durability::Memory),
            ("yes", "always", 0, 0, Durability::Fsync),
            ("yes", "always", 2, 0, Durability::Fsync),
            ("yes", "everysec", 1, 1, Durability::Replicated),
            ("yes", "everysec", 1, 2, Durability::Memory),
            ("yes", "always", 1, 2, Durability::Fsync),
            ("yes", "always", 3, 2, Durability::Replicated),
        ] {
            assert_eq!(setup(only, sync).promise(replicas, wait), promised, "{only} {sync} {replicas} {wait}");
        }
    }

    #[test]
    fn what_isn_t_told_is_what_the_address_says_and_else_the_least() {
        assert!(!Setup::of(&Value::Nil, None).synced);
        assert!(Setup::of(&Value::Nil, Some(true)).synced);
        // The answer of Redis itself counts more.
        assert!(!Setup::of(&answer(&[("appendonly", "no"), ("appendfsync", "always")]), Some(true)).synced);
    }
}
