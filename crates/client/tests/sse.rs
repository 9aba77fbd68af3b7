//! The event stream parser against the examples of the standard (HTML Living Standard §9.2), cut at every byte.

#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::time::Duration;

use everywire_client::sse::{Event, Item, Parser};

fn event(name: &str, data: &str, last_event_id: &str) -> Item {
    Item::Event(Event { name: name.into(), data: data.into(), last_event_id: last_event_id.into() })
}

fn parse(pieces: &[&[u8]]) -> Vec<Item> {
    let (mut parser, mut items) = (Parser::default(), Vec::new());
    for piece in pieces {
        parser.feed(piece, &mut items).unwrap();
    }
    items
}

/// Inputs and their items.
fn table() -> Vec<(&'static [u8], Vec<Item>)> {
    let comment = |text: &str| Item::Comment(text.into());
    let id = |text: &str| Item::Id(text.into());
    vec![
        (
            b"data: This is the first message.\n\ndata: second, it\ndata: has two lines.\n\n",
            vec![
                event("message", "This is the first message.", ""),
                event("message", "second, it\nhas two lines.", ""),
            ],
        ),
        (
            b"event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\n",
            vec![event("add", "73857293", ""), event("remove", "2153", "")],
        ),
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", vec![event("message", "YHOO\n+2\n10", "")]),
        (
            b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
            vec![
                comment(" test stream"),
                event("message", "first event", "1"),
                event("message", "second event", ""),
                event("message", " third event", ""),
            ],
        ),
        (b"data\n\ndata\ndata\n\ndata:", vec![event("message", "", ""), event("message", "\n", "")]),
        (b"data:test\n\ndata: test\n\n", vec![event("message", "test", ""), event("message", "test", "")]),
        (
            b"data: a\r\n\r\ndata: b\r\rdata: c\n\n",
            vec![event("message", "a", ""), event("message", "b", ""), event("message", "c", "")],
        ),
        (b"\xef\xbb\xbfdata: marked\n\n\xef\xbb\xbfdata: not a field\n\n", vec![event("message", "marked", "")]),
        (
            b"id: k3f9:1\n\ndata: x\n\nid: bad\0\ndata: y\n\n",
            vec![id("k3f9:1"), event("message", "x", "k3f9:1"), event("message", "y", "k3f9:1")],
        ),
        (
            b"retry: 2500\nretry: 1s\nretry: -1\nretry:\nretry: 99999999999999999999\n\n",
            vec![Item::Retry(Duration::from_millis(2500)), Item::Retry(Duration::from_millis(u64::MAX))],
        ),
        (b"event: lost\n\ndata: x\n\n", vec![event("message", "x", "")]),
        (b":\nid: k3f9:7\n\n", vec![comment(""), id("k3f9:7")]),
        ("data: \u{e9}\u{1f600}\n\n".as_bytes(), vec![event("message", "\u{e9}\u{1f600}", "")]),
        (b"data: \xff\xe2\x82\n\n", vec![event("message", "\u{fffd}\u{fffd}", "")]),
        (b"Data: x\n data: y\nother: z\n\n", vec![]),
        (b"data: cut by the end", vec![]),
        (b"data: cut by the end\n", vec![]),
    ]
}

#[test]
fn streams_say_what_the_standard_says() {
    for (bytes, expected) in table() {
        assert_eq!(parse(&[bytes]), expected, "{:?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn a_cut_at_any_byte_changes_nothing() {
    for (bytes, expected) in table() {
        for cut in 0..=bytes.len() {
            assert_eq!(parse(&[&bytes[..cut], &bytes[cut..]]), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(parse(&single), expected);
    }
}

#[test]
fn a_line_end_is_acted_upon_before_what_follows_it() {
    assert_eq!(parse(&[b"data: x\r\r"]), [event("message", "x", "")]);
}
