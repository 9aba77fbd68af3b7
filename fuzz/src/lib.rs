//! What is fuzzed: one function for each target, each through the public door. A failure is a panic.
//!
//! The same functions replay the corpus on stable in `crates/wires/http/tests/corpus.rs`.

use std::sync::Arc;

use bytes::Bytes;
use everywire_base::cursor::{Cursor, Partition, Start};
use everywire_base::record::Record;
use everywire_base::rules::overlaps;
use everywire_base::topic::{Filter, Topic};
use everywire_http::{Http, Service};
use everywire_wire::kit::{Bench, Cut, Pair};

fn pair() -> Pair {
    Pair::new(Bench::new(|limits, now| Box::new(Http::new(Arc::new(Service::default()), limits, now))))
}

/// Plays an input and says all that came of it.
fn play(input: &[u8], cut: Cut) -> (Vec<u8>, usize, bool) {
    let mut pair = pair();
    cut.send(&mut pair, input);
    let (output, closed) = (pair.bench.take_output(), pair.bench.closed().is_some());
    (output, pair.node.published().len(), closed)
}

/// However bytes are cut, the same comes of them; and whatever is said is HTTP.
fn is_the_same_however_it_is_cut(input: &[u8], at: usize) {
    let whole = play(input, Cut::Whole);
    assert!(whole.0.is_empty() || whole.0.starts_with(b"HTTP/1.1 "));
    assert_eq!(whole, play(input, Cut::EveryByte));
    assert_eq!(whole, play(input, Cut::At(at)));
}

/// Any bytes as requests.
pub fn http_head(data: &[u8]) {
    let at = data.first().map_or(0, |b| usize::from(*b) % data.len());
    is_the_same_however_it_is_cut(data, at);
}

/// Any bytes as a chunked body.
pub fn http_body(data: &[u8]) {
    const HEAD: &[u8] = b"POST /v1/messages?topic=a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    is_the_same_however_it_is_cut(&[HEAD, data].concat(), HEAD.len() + data.len() / 2);
}

/// Any text as a cursor: what is one survives its own text.
pub fn cursor(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = text.parse::<Start>();
    if let Ok(cursor) = text.parse::<Cursor>() {
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
    }
}

/// Any two texts, by lines, as topic and filter: a match implies an overlap, and a topic matches itself.
pub fn topic_filter(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (topic, filter) = text.split_once('\n').unwrap_or((text, text));
    let (topic, filter) = (Topic::parse(topic), Filter::parse(filter));
    if let Ok(topic) = &topic {
        assert!(Filter::parse(topic.as_str()).is_ok_and(|exact| exact.matches(topic)));
    }
    if let (Ok(topic), Ok(filter)) = (topic, filter)
        && filter.matches(&topic)
    {
        assert!(overlaps(filter.as_str(), topic.as_str()));
    }
}

/// Any bytes as a stored record: what is one survives being stored again.
pub fn record(data: &[u8]) {
    let Ok(record) = Record::decode(Partition(0), Bytes::copy_from_slice(data)) else { return };
    let mut stored = Vec::new();
    record.encode(&mut stored);
    assert_eq!(Record::decode(Partition(0), stored.into()), Ok(record));
}
