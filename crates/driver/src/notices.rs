//! Notices of refusals, for operators: one line at once, and then at most one a minute for each kind and address.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use everywire_base::clock::Monotonic;
use everywire_base::notice::{Notice, Refused};

/// The time between lines about the same.
const EVERY: Duration = Duration::from_mins(1);
/// The number of addresses that have lines of their own; all further ones share theirs.
const ADDRESSES: usize = 64;

/// The origin of something that was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct From {
    pub(crate) address: Option<IpAddr>,
    pub(crate) wire: &'static str,
}

impl From {
    /// The origin of something that doesn't concern a connection.
    pub(crate) const NOWHERE: Self = Self { address: None, wire: "" };
}

/// The last line of one kind, and the number of times that it was not said.
struct Silence {
    since: Monotonic,
    more: u64,
    last: String,
}

/// The refusals on all workers within the last minute.
#[derive(Default)]
pub struct Notices(Mutex<Said>);

impl Notices {
    /// Takes a notice; gives the line to log, unless one about the same was logged within a minute.
    pub(crate) fn note(&self, now: Monotonic, notice: &Notice, from: From) -> Option<String> {
        self.said().note(now, notice, from)
    }

    /// The time at which the first minute is over.
    pub(crate) fn deadline(&self) -> Option<Monotonic> {
        self.said().deadline()
    }

    /// The lines about refusals in minutes that are over.
    pub(crate) fn due(&self, now: Monotonic) -> Vec<String> {
        self.said().due(now)
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The refusals, while one worker holds the lock.
#[derive(Default)]
struct Said {
    said: HashMap<(Refused, Option<IpAddr>), Silence>,
    /// The time at which the first minute is over.
    next: Option<Monotonic>,
}

impl Said {
    /// Takes a notice; gives the line to log, unless one about the same was logged within a minute.
    fn note(&mut self, now: Monotonic, notice: &Notice, from: From) -> Option<String> {
        let is_known = self.said.contains_key(&(notice.refused, from.address));
        let address = from.address.filter(|_| is_known || self.said.len() < ADDRESSES * Refused::WORDS.len());
        let line = line(notice, from);
        match self.said.entry((notice.refused, address)) {
            Entry::Occupied(mut silence) => {
                let silence = silence.get_mut();
                (silence.more, silence.last) = (silence.more + 1, line);
                None
            }
            Entry::Vacant(place) => {
                self.next.get_or_insert(now + EVERY);
                place.insert(Silence { since: now, more: 0, last: String::new() });
                Some(format!("{}{line}", notice.refused.phrase()))
            }
        }
    }

    /// The time at which the first minute is over.
    fn deadline(&self) -> Option<Monotonic> {
        self.next
    }

    /// The lines about refusals in minutes that are over.
    fn due(&mut self, now: Monotonic) -> Vec<String> {
        let mut lines = Vec::new();
        self.said.retain(|(refused, address), silence| {
            if silence.since + EVERY > now {
                return true;
            }
            if silence.more == 0 {
                return false;
            }
            let whence = if address.is_some() { "" } else { " from further addresses" };
            let (phrase, more, last) = (refused.phrase(), silence.more, &silence.last);
            lines.push(format!("{phrase} {more} more times in the last minute{whence}, at last{last}"));
            *silence = Silence { since: now, more: 0, last: String::new() };
            true
        });
        self.next = self.said.values().map(|silence| silence.since + EVERY).min();
        lines
    }
}

/// The line of a notice: who, from which address, why. A client's own words can't end the line, nor steer a terminal.
fn line(notice: &Notice, from: From) -> String {
    let mut line = String::new();
    if let Some(who) = &notice.who {
        let _ = write!(line, " of {who:?}"); // writing to a text can't fail
    }
    if let Some(address) = from.address {
        let _ = write!(line, " from {address}");
    }
    if !from.wire.is_empty() {
        let _ = write!(line, " over {}", from.wire);
    }
    let _ = write!(line, ": {}", notice.why.escape_debug());
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: From = From { address: Some(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1))), wire: "mqtt" };

    fn at(seconds: u64) -> Monotonic {
        Monotonic(seconds * 1000)
    }

    #[test]
    fn once_at_once_and_then_once_a_minute() {
        let mut notices = Said::default();
        let notice = Notice::new(Refused::Login, "the password is wrong").of("al\nice");
        let first = notices.note(at(0), &notice, FROM).unwrap();
        assert_eq!(first, r#"login refused of "al\nice" from 10.0.0.1 over mqtt: the password is wrong"#);
        for second in 1..6 {
            assert_eq!(notices.note(at(second), &notice, FROM), None);
        }
        assert_eq!(notices.deadline(), Some(at(60)));
        assert_eq!(notices.due(at(59)), Vec::<String>::new());
        let line = &notices.due(at(60))[0];
        assert!(line.starts_with("login refused 5 more times in the last minute, at last of "), "{line}");
        assert_eq!(notices.due(at(120)), Vec::<String>::new());
        assert_eq!(notices.deadline(), None, "nothing is kept of what is over");
        assert!(notices.note(at(121), &notice, FROM).is_some());
    }

    #[test]
    fn kinds_and_addresses_have_lines_of_their_own() {
        let mut notices = Said::default();
        let other = From { address: Some([10, 0, 0, 2].into()), ..FROM };
        for (refused, from) in [(Refused::Login, FROM), (Refused::Login, other), (Refused::Handshake, other)] {
            assert!(notices.note(at(0), &Notice::new(refused, "why"), from).is_some());
        }
    }

    #[test]
    fn however_many_addresses_there_are_the_lines_are_bounded() {
        let mut notices = Said::default();
        let from = |n: u32| From { address: Some(IpAddr::from(n.to_be_bytes())), ..FROM };
        let lines = (0..100_000).filter_map(|n| notices.note(at(0), &Notice::new(Refused::Login, "why"), from(n)));
        assert!(lines.count() <= ADDRESSES * Refused::WORDS.len() + 1);
        assert!(notices.due(at(60))[0].contains("from further addresses"));
    }
}
