//! Idempotency keys: who publishes the same again within the window gets the first answer (RULES 17, 34).
//!
//! A key belongs to (identity, topic, key) and carries a hash of body, content type and event. Both are kept as keyed
//! hashes, so that a remembered key takes some 80 bytes and nobody can make two of them meet. When the table is full a
//! new key is refused, never an old one forgotten.

use std::collections::hash_map::Entry as Place;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

use everywire_base::ask::{PublishError, Published};
use everywire_base::clock::Monotonic;
use everywire_base::limits::Limits;
use everywire_base::record::Message;

/// Who, where and which key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Identity(u64, u64);

#[derive(Clone, Copy)]
struct Known {
    content: u64,
    answer: Answer,
}

/// The answer to the first publish with a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// It is in the batch that is being made, as its n-th record.
    InBatch(usize),
    /// It was published.
    Published(Published),
}

/// The remembered keys.
pub(crate) struct Keys {
    hashers: (RandomState, RandomState),
    known: HashMap<Identity, Known>,
    /// In the order of the log, by a time that takes no part in the steps of the wall clock: a wrong one neither keeps
    /// keys for ever nor forgets them all.
    by_time: VecDeque<(Monotonic, Identity)>,
    window_ms: u64,
    max: usize,
}

impl Keys {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            hashers: (RandomState::new(), RandomState::new()),
            known: HashMap::new(),
            by_time: VecDeque::new(),
            window_ms: limits.idempotency_window.as_millis() as u64,
            max: limits.idempotency_keys,
        }
    }

    fn identity(&self, message: &Message, key: &str) -> Identity {
        let parts = (message.from.as_deref(), message.topic.as_str(), key);
        Identity(self.hashers.0.hash_one(parts), self.hashers.1.hash_one(parts))
    }

    fn content(&self, message: &Message) -> u64 {
        self.hashers.0.hash_one((&message.body, message.content_type.as_deref(), message.event.as_deref()))
    }

    /// Forgets what is older than the window.
    pub(crate) fn expire(&mut self, now: Monotonic) {
        while let Some((time, identity)) = self.by_time.front() {
            if time.0 + self.window_ms > now.0 {
                break;
            }
            self.known.remove(identity);
            self.by_time.pop_front();
        }
    }

    /// What to answer if the message's key is known; else remembers that it is the batch's `index`-th record.
    pub(crate) fn check(&mut self, message: &Message, index: usize) -> Result<Option<Answer>, PublishError> {
        let Some(key) = message.key.as_deref() else { return Ok(None) };
        let (identity, content) = (self.identity(message, key), self.content(message));
        let full = self.known.len() >= self.max;
        match self.known.entry(identity) {
            Place::Occupied(known) if known.get().content == content => Ok(Some(known.get().answer)),
            Place::Occupied(_) => Err(PublishError::KeyConflict),
            Place::Vacant(_) if full => Err(PublishError::KeysFull),
            Place::Vacant(place) => {
                place.insert(Known { content, answer: Answer::InBatch(index) });
                Ok(None)
            }
        }
    }

    /// The message was published then, perhaps before the start.
    pub(crate) fn published(&mut self, message: &Message, published: Published, at: Monotonic) {
        let Some(key) = message.key.as_deref() else { return };
        let (identity, content) = (self.identity(message, key), self.content(message));
        self.known.insert(identity, Known { content, answer: Answer::Published(published) });
        self.by_time.push_back((at, identity));
    }

    /// The message was not published, or nobody knows.
    pub(crate) fn forget(&mut self, message: &Message) {
        if let Some(key) = message.key.as_deref() {
            self.known.remove(&self.identity(message, key));
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use everywire_base::clock::UnixMillis;
    use everywire_base::cursor::{Epoch, Offset, Partition};
    use everywire_base::record::Durability;
    use everywire_base::topic::Topic;

    fn message(from: Option<&str>, topic: &str, key: &str, body: &str) -> Message {
        let mut message = Message::new(Topic::parse(topic).unwrap(), body.to_owned());
        (message.from, message.key) = (from.map(Into::into), Some(key.into()));
        message
    }

    fn published(time: u64) -> Published {
        let (epoch, partition, offset) = (Epoch(1), Partition(0), Offset(7));
        let (time, durability, duplicate) = (UnixMillis(time), Durability::Fsync, false);
        Published { epoch, partition, offset, time, durability, duplicate }
    }

    #[test]
    fn the_same_again_gets_the_first_answer_and_other_content_a_conflict() {
        let mut keys = Keys::new(&Limits::default());
        let first = message(Some("alice"), "t", "k", "hi");
        assert_eq!(keys.check(&first, 4), Ok(None));
        assert_eq!(keys.check(&first, 5), Ok(Some(Answer::InBatch(4))));
        keys.published(&first, published(1000), Monotonic(1000));
        assert_eq!(keys.check(&first, 0), Ok(Some(Answer::Published(published(1000)))));
        assert_eq!(keys.check(&message(Some("alice"), "t", "k", "ho"), 0), Err(PublishError::KeyConflict));
        for other in [message(None, "t", "k", "ho"), message(Some("alice"), "u", "k", "ho")] {
            assert_eq!(keys.check(&other, 0), Ok(None), "{other:?}");
        }
    }

    #[test]
    fn a_key_is_forgotten_after_the_window_or_a_failure_and_never_for_lack_of_room() {
        let mut keys = Keys::new(&Limits { idempotency_keys: 1, ..Limits::default() });
        let (first, second) = (message(None, "t", "1", "a"), message(None, "t", "2", "b"));
        assert_eq!(keys.check(&first, 0), Ok(None));
        keys.published(&first, published(1000), Monotonic(1000));
        assert_eq!(keys.check(&second, 0), Err(PublishError::KeysFull));
        keys.expire(Monotonic(120_999));
        assert!(keys.is_full());
        keys.expire(Monotonic(121_000));
        assert_eq!((keys.len(), keys.check(&second, 0)), (0, Ok(None)));
        keys.forget(&second);
        assert_eq!(keys.check(&first, 0), Ok(None));
    }
}
