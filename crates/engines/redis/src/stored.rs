//! The contents of the log's keys, as Redis gives them: its state, and the entries of its stream.

use bytes::Bytes;
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Epoch, Offset};
use everywire_log::remote::{EpochEntry, Genesis, Item, Life, LogState, Raw, Refusal, RemoteError};
use redis::Value;

use crate::frame;
use crate::link::text_of;
use crate::script::number;

/// An entry of the stream.
pub(crate) struct Entry {
    /// Its id: the last offset in it.
    pub(crate) last: Offset,
    content: Content,
}

enum Content {
    Frame { time: UnixMillis, count: u64, frame: Bytes },
    Epoch(EpochEntry),
}

impl Entry {
    /// The offset up to which a reader must have read before this entry.
    pub(crate) fn follows_after(&self) -> Offset {
        match &self.content {
            Content::Frame { count, .. } => Offset(self.last.0.saturating_sub(*count)),
            Content::Epoch(entry) => entry.parent.map_or(Offset::BEGINNING, |(_, fork)| fork),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        match &self.content {
            Content::Frame { frame, .. } => frame.len(),
            Content::Epoch(_) => 0,
        }
    }

    /// Turns the entry into its items above `after`.
    pub(crate) fn into_items(self, after: Offset, items: &mut Vec<Item>) -> Result<(), RemoteError> {
        let first = self.follows_after().next();
        match self.content {
            Content::Epoch(entry) => items.push(Item::Epoch(entry)),
            Content::Frame { time, count, frame } => {
                let records = frame::unpack(frame, count as usize).ok_or_else(foreign)?;
                let placed = (first.0..).map(Offset).zip(records);
                let raw = |(offset, stored)| Item::Record(Raw { offset, time, stored });
                items.extend(placed.filter(|(offset, _)| *offset > after).map(raw));
            }
        }
        Ok(())
    }
}

pub(crate) fn foreign() -> RemoteError {
    RemoteError::Refused(Refusal::Unusable(
        "what lies under the prefix in Redis isn't of this service: name another one with ?prefix=".into(),
    ))
}

pub(crate) fn parse_present(state: &Value) -> Result<(Life, Offset, Offset), RemoteError> {
    let Value::Array(fields) = state else { return Err(foreign()) };
    let [run, epoch, head, trimmed] = &fields[..] else { return Err(foreign()) };
    if *run == Value::Nil {
        return Err(RemoteError::Refused(Refusal::NoLog));
    }
    let (Some(epoch), Some(head), Some(trimmed)) = (number(epoch), number(head), number(trimmed)) else {
        return Err(foreign());
    };
    let life = Life { epoch: Epoch(epoch as u32), run: text_of(run).into() };
    Ok((life, Offset(head), Offset(trimmed)))
}

pub(crate) fn parse_state(state: &Value) -> Option<LogState> {
    let Value::Array(fields) = state else { return None };
    let [genesis, epochs, trimmed, head] = &fields[..] else { return None };
    let Value::BulkString(genesis) = genesis else { return None };
    Some(LogState {
        genesis: Genesis::decode(genesis)?,
        epochs: text_of(epochs).lines().map(parse_epoch).collect::<Option<_>>()?,
        trimmed: Offset(number(trimmed)?),
        head: Offset(number(head)?),
    })
}

/// Parses a line of the log's epochs: name, run, fork, begin, parent.
fn parse_epoch(line: &str) -> Option<EpochEntry> {
    let mut words = line.split(' ');
    let epoch = Epoch(words.next()?.parse().ok()?);
    let run = words.next()?.into();
    let (fork, begin) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let parent = words.next()?;
    epoch_entry(Life { epoch, run }, parent, fork, Offset(begin))
}

fn epoch_entry(life: Life, parent: &str, fork: u64, begin: Offset) -> Option<EpochEntry> {
    let parent = if parent.is_empty() { None } else { Some((Epoch(parent.parse().ok()?), Offset(fork))) };
    Some(EpochEntry { life, parent, begin })
}

/// Parses the answer of `XREAD` for one stream: nothing, or its name with the entries.
pub(crate) fn parse_entries(answer: Value) -> Result<Vec<Entry>, RemoteError> {
    let Value::Array(mut streams) = answer else { return Ok(Vec::new()) };
    let Some(Value::Array(mut stream)) = streams.pop() else { return Ok(Vec::new()) };
    let Some(Value::Array(entries)) = stream.pop() else { return Ok(Vec::new()) };
    entries.into_iter().map(|entry| parse_entry(entry).ok_or_else(foreign)).collect()
}

fn parse_entry(entry: Value) -> Option<Entry> {
    let Value::Array(mut entry) = entry else { return None };
    let Value::Array(mut fields) = entry.pop()? else { return None };
    let last = Offset(text_of(entry.first()?).strip_suffix("-0")?.parse().ok()?);
    let value = |at: usize| fields.get(at).map(text_of);
    let content = match (value(0)?, fields.len()) {
        ("t", 6) => {
            let (time, count) = (UnixMillis(value(1)?.parse().ok()?), value(3)?.parse().ok()?);
            let Value::BulkString(frame) = fields.pop()? else { return None };
            Content::Frame { time, count, frame: frame.into() }
        }
        ("e", 8) => {
            let life = Life { epoch: Epoch(value(1)?.parse().ok()?), run: value(7)?.into() };
            Content::Epoch(epoch_entry(life, value(3)?, value(5)?.parse().ok()?, last)?)
        }
        _ => return None,
    };
    Some(Entry { last, content })
}
