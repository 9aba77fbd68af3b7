//! Ordered keys: idempotency keys of the form `seq:PRODUCER:N`, which count without holes.
//!
//! A producer is a name that a publisher chooses at random; it belongs to the publisher's identity. The log accepts N +
//! 1 after N, answers a number at or below N as published before, and refuses a higher one.

use crate::system;
use crate::topic::Topic;

/// An ordered key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OrderedKey {
    /// The topic under which the log remembers the producer's last number.
    pub producer: Topic,
    /// The number, at least 1.
    pub number: u64,
}

impl OrderedKey {
    /// Reads a key of a user, or of an anonymous publisher; `None` if it is an ordinary key.
    pub fn parse(user: Option<&str>, key: &str) -> Option<Self> {
        let (producer, number) = key.strip_prefix("seq:")?.rsplit_once(':')?;
        let value: u64 = number.parse().ok().filter(|value| *value > 0)?;
        // Only the exact text counts: "007" and "+7" are not 7.
        if producer.is_empty() || value.to_string() != number {
            return None;
        }
        Some(Self { producer: system::producer_topic(user, producer)?, number: value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_ordered_only_in_its_very_form() {
        let read = |key: &str| OrderedKey::parse(Some("a/b"), key).map(|key| (key.producer.to_string(), key.number));
        assert_eq!(read("seq:tab-1:7"), Some(("$producers/a%2Fb/tab-1".into(), 7)));
        assert_eq!(read("seq:a:b:1"), Some(("$producers/a%2Fb/a:b".into(), 1)));
        let anonymous = OrderedKey::parse(None, "seq:p:18446744073709551615").unwrap();
        assert_eq!((anonymous.producer.as_str(), anonymous.number), ("$producers//p", u64::MAX));
        for key in ["seq:p:0", "seq:p:07", "seq:p:+7", "seq:p:", "seq::1", "seq:1", "seq:p:18446744073709551616", "p:1"]
        {
            assert_eq!(read(key), None, "{key}");
        }
    }
}
