//! Idempotency keys: a message that is published again within the window gets the first answer (RULES 17, 34).
//!
//! A key belongs to (identity, topic, key) and carries a hash of body, content type and event. Both are kept as keyed
//! hashes, so that nobody can make two of them meet, and a remembered key takes some 140 bytes. When the table is full
//! a new key is refused, never an old one forgotten. So that nobody fills it for all others, each identity has a share
//! of it, and the anonymous publishers of one address have one together.

use std::collections::hash_map::Entry as Place;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use everywire_base::ask::{PublishError, Published};
use everywire_base::clock::Monotonic;
use everywire_base::limits::Limits;
use everywire_base::record::Message;

use crate::share::Sharer;
use crate::siphash::SipHash;

/// The hashes of a publisher, a topic and a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Identity(pub u64, pub u64);

/// A key as it is handed from one life to another.
#[derive(Clone, Copy)]
pub(crate) struct KnownKey {
    pub at: Monotonic,
    pub identity: Identity,
    pub content: u64,
    pub published: Published,
    pub sharer: Option<Sharer>,
}

#[derive(Clone, Copy)]
struct Known {
    content: u64,
    answer: Answer,
    /// The publisher in whose share it counts; `None` if it is the server's own, or an anonymous one from before the
    /// start.
    sharer: Option<Sharer>,
}

/// The answer to the first publish with a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// The message is the n-th record of the present batch.
    InBatch(usize),
    /// The message is the n-th record of the present batch, and its ordered key has come again.
    AgainInBatch(usize),
    /// The message was published.
    Published(Published),
}

/// The remembered keys.
pub(crate) struct Keys {
    hashes: (SipHash, SipHash),
    known: HashMap<Identity, Known>,
    /// The keys in the order of the log, by a time without the steps of the wall clock: a wrong clock neither keeps
    /// keys for ever nor forgets them all.
    by_time: VecDeque<(Monotonic, Identity)>,
    /// The number of keys of each publisher.
    shares: HashMap<Sharer, usize>,
    window_ms: u64,
    max: usize,
    max_each: usize,
}

impl Keys {
    pub(crate) fn new(limits: &Limits) -> Self {
        let window_ms = limits.idempotency_window.as_millis() as u64;
        let hashes = (SipHash::random(), SipHash::random());
        Self::with(hashes, window_ms, [limits.idempotency_keys, limits.idempotency_keys_each])
    }

    /// A table with given hashes, a window, and the bounds of all keys and of each publisher's.
    pub(crate) fn with(hashes: (SipHash, SipHash), window_ms: u64, [max, max_each]: [usize; 2]) -> Self {
        let (known, by_time, shares) = (HashMap::new(), VecDeque::new(), HashMap::new());
        Self { hashes, known, by_time, shares, window_ms, max, max_each }
    }

    fn identity(&self, message: &Message, key: &str) -> Identity {
        let from = message.author().map(str::as_bytes);
        let parts = [from, Some(message.topic.as_str().as_bytes()), Some(key.as_bytes())];
        Identity(self.hashes.0.of(&parts), self.hashes.1.of(&parts))
    }

    fn content(&self, message: &Message) -> u64 {
        let (kind, event) = (message.content_type.as_deref(), message.event.as_deref());
        self.hashes.0.of(&[Some(&message.body), kind.map(str::as_bytes), event.map(str::as_bytes)])
    }

    /// Forgets keys that are older than the window.
    pub(crate) fn expire(&mut self, now: Monotonic) {
        while let Some((time, identity)) = self.by_time.front().copied() {
            if time.0 + self.window_ms > now.0 {
                break;
            }
            self.remove(identity);
            self.by_time.pop_front();
        }
    }

    /// Returns the answer if the message's key is known; else remembers that the message is the batch's `index`-th
    /// record.
    pub(crate) fn check(
        &mut self,
        message: &Message,
        address: Option<IpAddr>,
        index: usize,
    ) -> Result<Option<Answer>, PublishError> {
        if message.key.is_none() {
            return Ok(None);
        }
        let sharer = Sharer::of(&self.hashes.0, message.author(), address);
        self.check_for(message, sharer, index)
    }

    /// The same for the publisher in whose share the key counts.
    pub(crate) fn check_for(
        &mut self,
        message: &Message,
        sharer: Option<Sharer>,
        index: usize,
    ) -> Result<Option<Answer>, PublishError> {
        let Some(key) = message.key.as_deref() else { return Ok(None) };
        let (identity, content) = (self.identity(message, key), self.content(message));
        match self.known.get(&identity) {
            Some(known) if known.content == content => return Ok(Some(known.answer)),
            Some(_) => return Err(PublishError::KeyConflict),
            None if self.is_full() => return Err(PublishError::KeysFull),
            None => {}
        }
        if sharer.is_some_and(|sharer| self.shares.get(&sharer).is_some_and(|keys| *keys >= self.max_each)) {
            return Err(PublishError::KeysUsedUp);
        }
        self.insert(identity, Known { content, answer: Answer::InBatch(index), sharer });
        Ok(None)
    }

    /// Notes when the message was published, perhaps before the start.
    pub(crate) fn published(&mut self, message: &Message, published: Published, at: Monotonic) {
        let Some(key) = message.key.as_deref() else { return };
        let identity = self.identity(message, key);
        let answer = Answer::Published(published);
        if let Some(known) = self.known.get_mut(&identity) {
            known.answer = answer;
        } else {
            let content = self.content(message);
            let sharer = Sharer::of(&self.hashes.0, message.author(), None);
            self.insert(identity, Known { content, answer, sharer });
        }
        self.by_time.push_back((at, identity));
    }

    /// Forgets the key of a message that was not published, or of which nobody knows that.
    pub(crate) fn forget(&mut self, message: &Message) {
        if let Some(key) = message.key.as_deref() {
            self.remove(self.identity(message, key));
        }
    }

    fn insert(&mut self, identity: Identity, known: Known) {
        if let Some(sharer) = known.sharer {
            *self.shares.entry(sharer).or_default() += 1;
        }
        self.known.insert(identity, known);
    }

    fn remove(&mut self, identity: Identity) {
        let Some(sharer) = self.known.remove(&identity).and_then(|known| known.sharer) else { return };
        if let Place::Occupied(mut share) = self.shares.entry(sharer) {
            *share.get_mut() -= 1;
            if *share.get() == 0 {
                share.remove();
            }
        }
    }

    /// All known keys, in the order of the log, for the state of the next life.
    pub(crate) fn export(&self) -> impl Iterator<Item = KnownKey> {
        self.by_time.iter().filter_map(|(at, identity)| {
            let known = self.known.get(identity)?;
            let Answer::Published(published) = known.answer else { return None };
            Some(KnownKey { at: *at, identity: *identity, content: known.content, published, sharer: known.sharer })
        })
    }

    /// Takes over an exported key; called in their order.
    pub(crate) fn import(&mut self, key: KnownKey) {
        let KnownKey { at, identity, content, published, sharer } = key;
        self.insert(identity, Known { content, answer: Answer::Published(published), sharer });
        self.by_time.push_back((at, identity));
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
        assert_eq!(keys.check(&first, None, 4), Ok(None));
        assert_eq!(keys.check(&first, None, 5), Ok(Some(Answer::InBatch(4))));
        keys.published(&first, published(1000), Monotonic(1000));
        assert_eq!(keys.check(&first, None, 0), Ok(Some(Answer::Published(published(1000)))));
        assert_eq!(keys.check(&message(Some("alice"), "t", "k", "ho"), None, 0), Err(PublishError::KeyConflict));
        for other in [message(None, "t", "k", "ho"), message(Some("alice"), "u", "k", "ho")] {
            assert_eq!(keys.check(&other, None, 0), Ok(None), "{other:?}");
        }
    }

    #[test]
    fn nobody_fills_more_than_his_share() {
        let mut keys = Keys::new(&Limits { idempotency_keys_each: 2, ..Limits::default() });
        let address = |text: &str| Some(text.parse().unwrap());
        let sharers = [
            (Some("ann"), address("10.0.0.1")),
            (Some("bob"), address("10.0.0.1")),
            (None, address("10.0.0.1")),
            (None, address("10.0.0.2")),
            (None, address("2001:db8::1")),
            (None, address("2001:db8:0:1::1")),
        ];
        let of = |n: usize, key: &str| message(sharers[n].0, &format!("t/{n}"), key, "x");
        for (n, (_, address)) in sharers.iter().enumerate() {
            for (key, expected) in [("1", Ok(None)), ("2", Ok(None)), ("3", Err(PublishError::KeysUsedUp))] {
                assert_eq!(keys.check(&of(n, key), *address, 0), expected, "{n}: {key}");
            }
            let again = keys.check(&of(n, "1"), *address, 0);
            assert_eq!(again, Ok(Some(Answer::InBatch(0))), "what is remembered stays so");
        }
        let neighbour = keys.check(&of(4, "4"), address("2001:db8::2"), 0);
        assert_eq!(neighbour, Err(PublishError::KeysUsedUp), "a network of version 6 is one publisher");
        // A key that was forgotten, or whose message was never published, gives its place back.
        keys.published(&of(0, "1"), published(1), Monotonic(1000));
        keys.expire(Monotonic(121_000));
        keys.forget(&of(1, "1"));
        for n in [0, 1] {
            assert_eq!(keys.check(&of(n, "5"), sharers[n].1, 0), Ok(None));
            assert_eq!(keys.check(&of(n, "6"), sharers[n].1, 0), Err(PublishError::KeysUsedUp));
        }
    }

    #[test]
    fn a_key_is_forgotten_after_the_window_or_a_failure_and_never_for_lack_of_room() {
        let mut keys = Keys::new(&Limits { idempotency_keys: 1, ..Limits::default() });
        let (first, second) = (message(None, "t", "1", "a"), message(None, "t", "2", "b"));
        assert_eq!(keys.check(&first, None, 0), Ok(None));
        keys.published(&first, published(1000), Monotonic(1000));
        assert_eq!(keys.check(&second, None, 0), Err(PublishError::KeysFull));
        keys.expire(Monotonic(120_999));
        assert!(keys.is_full());
        keys.expire(Monotonic(121_000));
        assert_eq!((keys.len(), keys.check(&second, None, 0)), (0, Ok(None)));
        keys.forget(&second);
        assert_eq!(keys.check(&first, None, 0), Ok(None));
    }
}
