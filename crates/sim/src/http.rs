//! A part of an HTTP client that reads the server's answers: responses, event streams, envelopes.

use everywire_base::envelope::Envelope;

/// The head of a response.
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) cursor: Option<String>,
    /// The body's length; `None` for a body in chunks.
    pub(crate) length: Option<usize>,
    /// The number of bytes of the head.
    pub(crate) bytes: usize,
}

/// The head at the start of the bytes, once it is whole.
pub(crate) fn head(bytes: &[u8]) -> Option<Head> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&bytes[..end]).expect("a head is ASCII");
    let status: u16 = text[9..12].parse().expect("a status line");
    let field = |name: &str| {
        let mut fields = text.lines().skip(1).filter_map(|l| l.split_once(':'));
        fields.find(|f| f.0.eq_ignore_ascii_case(name)).map(|f| f.1.trim().to_owned())
    };
    let length = field("content-length").map(|l| l.parse().expect("a length"));
    let empty = status == 204 || status == 304 || status < 200;
    let length = if empty { Some(0) } else { length };
    Some(Head { status, cursor: field("everywire-cursor"), length, bytes: end + 4 })
}

/// Moves the whole chunks that have come into `body` (RFC 9112 §7.1).
pub(crate) fn take_chunks(raw: &mut Vec<u8>, body: &mut Vec<u8>) {
    while let Some(at) = raw.windows(2).position(|w| w == b"\r\n") {
        let size = std::str::from_utf8(&raw[..at]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let (start, size) = (at + 2, size.expect("the size of a chunk"));
        if raw.len() < start + size + 2 {
            return;
        }
        body.extend(&raw[start..start + size]);
        raw.drain(..start + size + 2);
    }
}

/// The answer of a poll.
#[derive(serde::Deserialize)]
pub(crate) struct Poll {
    pub(crate) messages: Vec<Envelope>,
    pub(crate) cursor: String,
    pub(crate) gap: bool,
}

/// One event of a stream.
#[derive(Default, Debug)]
pub(crate) struct Event {
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) data: String,
}

/// Takes the first whole event off the bytes (WHATWG HTML §9.2.6, for streams with lines that end with LF).
pub(crate) fn event(bytes: &mut Vec<u8>) -> Option<Event> {
    let end = bytes.windows(2).position(|w| w == b"\n\n")?;
    let text = String::from_utf8(bytes.drain(..end + 2).collect()).expect("an event is UTF-8");
    let mut event = Event::default();
    for line in text.lines() {
        match line.split_once(": ") {
            Some(("id", id)) => event.id = Some(id.to_owned()),
            Some(("event", name)) => event.name = Some(name.to_owned()),
            Some(("data", data)) => event.data.push_str(data),
            _ => {}
        }
    }
    Some(event)
}
