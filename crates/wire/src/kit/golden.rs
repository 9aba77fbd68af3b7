//! Golden tables: bytes, direction, meaning, in a text that people review and tests replay.
//!
//! | line | meaning |
//! | --- | --- |
//! | `== title [setup]` | a new case on a fresh pair, made for that setup |
//! | `# …` | a comment |
//! | `> …` | bytes from the peer; several such lines are sent as one piece |
//! | `< …` | bytes to the peer, split after each line end |
//! | `! …` | it is closed, for that reason |
//! | `@ after 15s` | time passes (`s` or `ms`) |
//! | `@ publish TOPIC BODY [type=T] [event=E] [retain]` | somebody else publishes |
//! | `@ trim N` | the log forgets everything up to offset N |
//! | `@ fail NAME`, `@ refuse FILTER`, `@ hold`, `@ release`, `@ overload` | the answers of the node from now on |
//! | `@ end` | the peer ends its side |
//! | `@ farewell NAME [MS]` | the server ends the connection |
//!
//! Escapes in bytes are those of Rust: `\r`, `\n`, `\t`, `\\`, `\xNN`; a trailing space is `\x20`.

use std::fmt::Write;
use std::time::Duration;

use everywire_base::ask::{NotPublished, PublishError};
use everywire_base::cursor::Offset;
use everywire_base::kept::{Payer, What};
use everywire_base::reason::Reason;
use everywire_base::record::Message;
use everywire_base::rules::Refusal;
use everywire_base::topic::{Filter, Topic};

use super::{Cut, Pair};

/// Plays a table and gives it with the real output in place of the expected one; equal to the table if all is well.
pub fn transcribe(table: &str, make: impl Fn(&str) -> Pair, cut: Cut) -> String {
    let mut play = Play { make: &make, pair: None, pending: Vec::new(), cut, out: String::new(), is_closed: false };
    for line in table.lines() {
        play.line(line);
    }
    play.flush();
    play.out
}

/// The cases of a table, each a table of its own; text before the first one is left out.
pub fn cases(table: &str) -> impl Iterator<Item = &str> {
    let starts: Vec<usize> = table.match_indices("\n== ").map(|(at, _)| at + 1).collect();
    let ends: Vec<usize> = starts.iter().copied().skip(1).chain([table.len()]).collect();
    starts.into_iter().zip(ends).map(|(start, end)| &table[start..end])
}

/// The length of the longest piece that a table sends: cutting further than that changes nothing.
pub fn longest_input(table: &str) -> usize {
    let (mut longest, mut present) = (0, 0);
    for line in table.lines() {
        present = if let Some(bytes) = line.strip_prefix("> ") { present + unescape(bytes).len() } else { 0 };
        longest = longest.max(present);
    }
    longest
}

struct Play<'a, M> {
    make: &'a M,
    pair: Option<Pair>,
    pending: Vec<u8>,
    cut: Cut,
    out: String,
    is_closed: bool,
}

impl<M: Fn(&str) -> Pair> Play<'_, M> {
    fn line(&mut self, line: &str) {
        match line.split_at_checked(2) {
            Some(("> ", bytes)) => self.pending.extend(unescape(bytes)),
            Some(("< " | "! ", _)) => return,
            Some(("==", title)) => {
                self.flush();
                let setup = title.rsplit_once('[').map_or("", |(_, setup)| setup.trim_end_matches(']'));
                self.pair = Some((self.make)(setup));
                self.is_closed = false;
            }
            Some(("@ ", event)) => {
                self.flush();
                self.note(line);
                if let Some(pair) = &mut self.pair {
                    happen(pair, event);
                    pair.run();
                }
                return self.report();
            }
            _ => self.flush(),
        }
        self.note(line);
    }

    fn note(&mut self, line: &str) {
        self.out.push_str(line);
        self.out.push('\n');
    }

    fn flush(&mut self) {
        let bytes = std::mem::take(&mut self.pending);
        if let Some(pair) = self.pair.as_mut().filter(|_| !bytes.is_empty()) {
            self.cut.send(pair, &bytes);
            self.report();
        }
    }

    fn report(&mut self) {
        let Some(pair) = &mut self.pair else { return };
        let mut output = pair.bench.take_output();
        loop {
            // A delivery that had no room comes as soon as there is some.
            pair.run();
            match pair.bench.take_output() {
                more if more.is_empty() => break,
                more => output.extend(more),
            }
        }
        for line in output.split_inclusive(|b| *b == b'\n') {
            let _ = writeln!(self.out, "< {}", escape(line));
        }
        if let Some(reason) = pair.bench.closed().filter(|_| !self.is_closed) {
            self.is_closed = true;
            let _ = writeln!(self.out, "! {}", reason.as_str());
        }
    }
}

fn escape(bytes: &[u8]) -> String {
    let text = bytes.escape_ascii().to_string().replace("\\\"", "\"").replace("\\'", "'");
    match text.strip_suffix(' ') {
        Some(front) => format!("{front}\\x20"),
        None => text,
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, tail @ ..] = rest {
        rest = tail;
        let (byte, skip) = match (first, tail) {
            (b'\\', [b'r', ..]) => (b'\r', 1),
            (b'\\', [b'n', ..]) => (b'\n', 1),
            (b'\\', [b't', ..]) => (b'\t', 1),
            (b'\\', [b'\\', ..]) => (b'\\', 1),
            (b'\\', [b'x', high, low, ..]) => {
                let digits = [*high, *low];
                let number = std::str::from_utf8(&digits).ok().and_then(|d| u8::from_str_radix(d, 16).ok());
                (number.unwrap_or_else(|| panic!("two hexadecimal digits in {text}")), 3)
            }
            (byte, _) => (*byte, 0),
        };
        bytes.push(byte);
        rest = &rest[skip..];
    }
    bytes
}

fn happen(pair: &mut Pair, event: &str) {
    let mut words = event.split(' ');
    let (verb, first) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    match verb {
        "after" => pair.advance(duration(first)),
        "publish" => {
            let message = message(first, words);
            pair.node.publish(message, pair.bench.now.wall);
        }
        "trim" => pair.node.trim(Offset(first.parse().expect("an offset"))),
        "fail" => pair.node.failures.push_back(failure(first)),
        "refuse" => pair.node.refuses.push(Filter::parse(first).expect("a filter")),
        "kept" => {
            let (payer, bytes) = (Payer::address(pair.bench.peer.address.ip()), first.parse().expect("bytes"));
            pair.bench.kept[0].add(What::Retained, payer, bytes);
        }
        "hold" => pair.node.holds = true,
        "release" => pair.node.holds = false,
        "overload" => pair.node.overloaded = true,
        "end" => pair.end(),
        "farewell" => {
            let delay = Duration::from_millis(words.next().map_or(0, |w| w.parse().expect("milliseconds")));
            let reason = if first == "kicked" { Reason::Kicked("by a test".into()) } else { Reason::Drain(delay) };
            pair.farewell(&reason);
        }
        other => panic!("a golden table knows no event {other:?}"),
    }
}

fn duration(text: &str) -> Duration {
    let number = |t: &str| t.parse().expect("a number of seconds or milliseconds");
    match text.strip_suffix("ms") {
        Some(millis) => Duration::from_millis(number(millis)),
        None => Duration::from_secs(number(text.trim_end_matches('s'))),
    }
}

fn message<'a>(topic: &str, words: impl Iterator<Item = &'a str>) -> Message {
    let mut message = Message::new(Topic::parse(topic).expect("a topic"), Vec::new());
    for (i, word) in words.enumerate() {
        match word.split_once('=') {
            _ if i == 0 => message.body = unescape(word).into(),
            Some(("type", value)) => message.content_type = Some(value.into()),
            Some(("event", value)) => message.event = Some(value.into()),
            _ if word == "retain" => message.retain = true,
            _ => panic!("a golden table knows no {word:?} of a message"),
        }
    }
    message
}

fn failure(name: &str) -> NotPublished {
    if name == "refused" {
        return Refusal::Forbidden("publishing to that topic, now".into()).into();
    }
    let error = match name {
        "busy" => PublishError::Busy,
        "disk" => PublishError::DiskFull,
        "unknown" => PublishError::OutcomeUnknown,
        "conflict" => PublishError::KeyConflict,
        "keys" => PublishError::KeysFull,
        "used-up" => PublishError::KeysUsedUp,
        "fenced" => PublishError::Fenced,
        "no-engine" => PublishError::NoEngine,
        "engine-full" => PublishError::EngineFull,
        "stale" => PublishError::Stale,
        "closing" => PublishError::Closing,
        other => match other.strip_prefix("expected-").and_then(|number| number.parse().ok()) {
            Some(expected) => PublishError::OutOfOrder { expected },
            None => panic!("a golden table knows no failure {other:?}"),
        },
    };
    error.into()
}
