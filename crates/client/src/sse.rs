//! Reads an event stream (HTML Living Standard §9.2.5, §9.2.6).
//!
//! Bytes go in as they come, cut anywhere; whole items come out. An event that the stream's end cuts is discarded, as
//! the standard wants. Beyond the standard, comments and positions without an event are items too, since they are
//! heartbeats.

use std::time::Duration;

/// An item of a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// An event.
    Event(Event),
    /// A block without data has moved the last event id to this.
    Id(String),
    /// The delay before coming back.
    Retry(Duration),
    /// A comment, without its colon.
    Comment(String),
}

/// An event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// Its name: `message` unless it has one.
    pub name: String,
    /// Its data, lines joined by `\n`.
    pub data: String,
    /// The last event id when it came; empty if there was none.
    pub last_event_id: String,
}

/// The stream has a line or an event that is longer than the parser keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("an event of the stream is longer than {MAX_EVENT_BYTES} bytes")]
pub struct TooLong;

/// The longest event that is kept, in bytes.
pub const MAX_EVENT_BYTES: usize = 128 << 20;

/// Reads one stream from its beginning.
#[derive(Default, Debug)]
pub struct Parser {
    line: Vec<u8>,
    /// The last byte was a CR: an LF belongs to it.
    after_return: bool,
    /// The first line is behind: no byte order mark can come any more.
    begun: bool,
    name: String,
    data: String,
    /// The id that the stream has set last, and whether this block has.
    id: String,
    id_in_block: bool,
}

impl Parser {
    /// Takes the next bytes and appends the items that they complete.
    pub fn feed(&mut self, mut bytes: &[u8], items: &mut Vec<Item>) -> Result<(), TooLong> {
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_return) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let Some(end) = bytes.iter().position(|b| matches!(b, b'\r' | b'\n')) else {
                self.line.extend_from_slice(bytes);
                return self.check();
            };
            self.line.extend_from_slice(&bytes[..end]);
            self.after_return = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            self.check()?;
            let line = std::mem::take(&mut self.line);
            self.take_line(&line, items);
            self.line = line;
            self.line.clear();
        }
        Ok(())
    }

    fn check(&self) -> Result<(), TooLong> {
        if self.line.len() + self.data.len() > MAX_EVENT_BYTES { Err(TooLong) } else { Ok(()) }
    }

    fn take_line(&mut self, line: &[u8], items: &mut Vec<Item>) {
        let marked = !std::mem::replace(&mut self.begun, true);
        let line = if marked { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
        let line = String::from_utf8_lossy(line);
        match line.split_once(':') {
            _ if line.is_empty() => self.dispatch(items),
            Some(("", comment)) => items.push(Item::Comment(comment.to_owned())),
            Some((field, value)) => self.field(field, value.strip_prefix(' ').unwrap_or(value), items),
            None => self.field(&line, "", items),
        }
    }

    fn field(&mut self, field: &str, value: &str, items: &mut Vec<Item>) {
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => {
                value.clone_into(&mut self.id);
                self.id_in_block = true;
            }
            "retry" if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) => {
                let millis = value.parse().unwrap_or(u64::MAX);
                items.push(Item::Retry(Duration::from_millis(millis)));
            }
            _ => {}
        }
    }

    fn dispatch(&mut self, items: &mut Vec<Item>) {
        let (name, mut data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
        let id_in_block = std::mem::take(&mut self.id_in_block);
        if data.is_empty() {
            if id_in_block {
                items.push(Item::Id(self.id.clone()));
            }
            return;
        }
        data.pop();
        let name = if name.is_empty() { "message".to_owned() } else { name };
        items.push(Item::Event(Event { name, data, last_event_id: self.id.clone() }));
    }
}
