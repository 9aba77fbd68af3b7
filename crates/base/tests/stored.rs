//! The stored form of entries, byte for byte: logs of earlier versions are read, and earlier versions read what this one
//! writes.
#![allow(clippy::unwrap_used, reason = "a test fails as it likes")]

use everywire_base::clock::UnixMillis;
use everywire_base::kept::Payer;
use everywire_base::record::{Entry, Message, Once, System};
use everywire_base::topic::Topic;

/// Each entry with its bytes: topic (1), body (6), retain (7), QoS (8), expiry (9), generation (10), origin (11), the
/// session's number (12), payer (14).
fn table() -> [(Entry, &'static [u8]); 3] {
    let topic = |name| Topic::parse(name).unwrap();
    let session =
        System { expires: Some(UnixMillis(300)), generation: 7, ..System::new(topic("$sessions/a/b"), "{}", true) };
    let removal = System { payer: Payer(1), ..System::removal(topic("$wills//b")) };
    let once = Once { session: topic("$sessions/a/b"), tag: 5, generation: 7, until: UnixMillis(9) };
    let message = Message { once: Some(Box::new(once)), origin: 2, qos: 2, ..Message::new(topic("t"), "x") };
    [
        (session.into(), b"\x0a\x0d$sessions/a/b\x32\x02{}\x38\x01\x40\x01\x48\xac\x02\x50\x07"),
        (removal.into(), b"\x0a\x09$wills//b\x38\x01\x40\x01\x71\x01\0\0\0\0\0\0\0"),
        (
            message.into(),
            b"\x0a\x01t\x32\x01x\x40\x02\x50\x07\x59\x02\0\0\0\0\0\0\0\
              \x62\x13\x0a\x0d$sessions/a/b\x10\x05\x18\x09",
        ),
    ]
}

#[test]
fn an_entry_has_the_bytes_that_it_always_had() {
    for (entry, stored) in table() {
        assert_eq!(entry.encode(), stored, "{}", String::from_utf8_lossy(stored));
        assert_eq!(Entry::decode(stored.into()), Ok(entry));
    }
}
