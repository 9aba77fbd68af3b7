//! The position of a reader: offsets, epochs and the opaque cursor text.
//!
//! A cursor means "I have everything up to and including here". Its text is `EPOCH:OFFSET` for a log with one
//! partition and `EPOCH:P.OFFSET,P.OFFSET` for more; clients treat it as opaque.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;

use crate::system::EpochChange;

/// A record's place in its partition: strictly increasing, from 1. As a position it means "all up to this one", so
/// that 0 is the beginning.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Offset(pub u64);

impl Offset {
    /// The position before the first record.
    pub const BEGINNING: Offset = Offset(0);

    /// The offset after this one.
    #[must_use]
    pub fn next(self) -> Offset {
        Offset(self.0 + 1)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A share of the log with its own order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Partition(pub u16);

/// The life of the log that an offset belongs to: a log that lost its tail begins a new one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Epoch(pub u32);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The highest number has seven digits. They are written in one piece: names and cursors are made often.
        let (mut digits, mut at, mut n) = ([0; 7], 7, self.0);
        while n > 0 || at == digits.len() {
            at -= 1;
            digits[at] = b"0123456789abcdefghijklmnopqrstuvwxyz"[(n % 36) as usize];
            n /= 36;
        }
        f.write_str(str::from_utf8(&digits[at..]).unwrap_or_default())
    }
}

/// A reader's position in every partition that it touches.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Cursor {
    /// The log's epoch.
    pub epoch: Epoch,
    /// Ascending by partition, each at most once, never empty.
    positions: SmallVec<[(Partition, Offset); 1]>,
}

/// A text that is no cursor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor: it looks like `k3f9:1289`, as the server gave it; or use `earliest` or `latest`")]
pub struct CursorError;

/// The most partitions that a cursor names.
pub const MAX_PARTITIONS: usize = 1024;

impl Cursor {
    /// The cursor of a log with one partition, or of one record in partition 0.
    pub fn single(epoch: Epoch, offset: Offset) -> Self {
        Self { epoch, positions: SmallVec::from_buf([(Partition(0), offset)]) }
    }

    /// A cursor over several partitions, which are sorted here; of two positions in one partition the lower counts.
    /// `None` if there is none.
    pub fn new(epoch: Epoch, positions: impl IntoIterator<Item = (Partition, Offset)>) -> Option<Self> {
        let mut positions: SmallVec<[(Partition, Offset); 1]> = positions.into_iter().collect();
        positions.sort_unstable();
        positions.dedup_by_key(|p| p.0);
        (!positions.is_empty()).then_some(Self { epoch, positions })
    }

    /// The position in a partition; `None` if the cursor doesn't name it, which means "from now".
    pub fn position(&self, partition: Partition) -> Option<Offset> {
        self.positions.iter().find(|p| p.0 == partition).map(|p| p.1)
    }

    /// All positions, ascending by partition.
    pub fn positions(&self) -> &[(Partition, Offset)] {
        &self.positions
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.epoch)?;
        if let [(Partition(0), offset)] = self.positions[..] {
            return write!(f, "{offset}");
        }
        for (i, (partition, offset)) in self.positions.iter().enumerate() {
            write!(f, "{}{}.{offset}", if i > 0 { "," } else { "" }, partition.0)?;
        }
        Ok(())
    }
}

/// The text of a cursor stands for it in records.
impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(D::Error::custom)
    }
}

fn number<T: FromStr>(text: &str) -> Result<T, CursorError> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if plain { text.parse().map_err(|_| CursorError) } else { Err(CursorError) }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let (epoch, rest) = text.split_once(':').ok_or(CursorError)?;
        if epoch.is_empty() || epoch.len() > 7 || !epoch.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase()) {
            return Err(CursorError);
        }
        let epoch = Epoch(u32::from_str_radix(epoch, 36).map_err(|_| CursorError)?);
        if !rest.contains('.') {
            return Ok(Self::single(epoch, Offset(number(rest)?)));
        }
        let mut positions = SmallVec::new();
        for part in rest.split(',') {
            let (partition, offset) = part.split_once('.').ok_or(CursorError)?;
            let partition = Partition(number(partition)?);
            let ascending = positions.last().is_none_or(|last: &(Partition, Offset)| last.0 < partition);
            if !ascending || positions.len() == MAX_PARTITIONS {
                return Err(CursorError);
            }
            positions.push((partition, Offset(number(offset)?)));
        }
        Ok(Self { epoch, positions })
    }
}

/// The position at which a subscription or a read begins.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Start {
    /// Now: only new messages. The word `latest`.
    #[default]
    Latest,
    /// The earliest kept message. The word `earliest`.
    Earliest,
    /// After everything up to this cursor.
    After(Cursor),
}

impl FromStr for Start {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        match text {
            "latest" => Ok(Start::Latest),
            "earliest" => Ok(Start::Earliest),
            cursor => cursor.parse().map(Start::After),
        }
    }
}

/// The position of a connection in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Position {
    /// The cursor up to which the connection has everything that it is subscribed to.
    pub cursor: Cursor,
    /// Whether that is the end of the log; else the connection is catching up, and deliveries will follow.
    pub live: bool,
}

/// The epochs of a log: its present one, and the parents, whose cursors are valid up to the fork.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Lineage {
    /// The present epoch.
    pub epoch: Epoch,
    /// Earlier epochs with the last offset that the present log still shares with them.
    pub parents: Vec<(Epoch, Offset)>,
    /// Ranges of offsets `(first, last)` that a crash left without records. Messages of `durability = "memory"` may
    /// have been lost in them.
    pub holes: Vec<(Offset, Offset)>,
}

impl Lineage {
    /// The lineage after the log has gone on in another epoch; unchanged if it knows that epoch.
    #[must_use]
    pub fn gone_on(&self, change: &EpochChange) -> Self {
        let mut lineage = self.clone();
        let (fork, parent) = (Offset(change.fork), Epoch(change.parent));
        if change.epoch == self.epoch.0 || self.parents.iter().any(|known| known.0 == Epoch(change.epoch)) {
            return lineage;
        }
        lineage.parents.iter_mut().for_each(|known| known.1 = known.1.min(fork));
        lineage.parents.push((parent, fork));
        lineage.epoch = Epoch(change.epoch);
        lineage
    }

    /// The epoch in which an offset lies.
    pub fn epoch_at(&self, offset: Offset) -> Epoch {
        self.parents.iter().find(|(_, fork)| offset <= *fork).map_or(self.epoch, |(epoch, _)| *epoch)
    }

    /// The highest offset for which a cursor of this epoch is valid; `None` if the epoch is unknown.
    pub fn valid_up_to(&self, epoch: Epoch) -> Option<Offset> {
        if epoch == self.epoch {
            return Some(Offset(u64::MAX));
        }
        self.parents.iter().find(|p| p.0 == epoch).map(|p| p.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_survive_their_text() {
        for text in ["k3f9:1289", "0:0", "a:0.5,3.77", "1z141z3:18446744073709551615", "a:7.1"] {
            assert_eq!(text.parse::<Cursor>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn each_offset_lies_in_one_epoch() {
        let parents = vec![(Epoch(1), Offset(5)), (Epoch(2), Offset(9))];
        let lineage = Lineage { epoch: Epoch(3), parents, holes: Vec::new() };
        let epochs = [0, 5, 6, 9, 10].map(|offset| lineage.epoch_at(Offset(offset)).0);
        assert_eq!(epochs, [1, 1, 2, 2, 3]);
    }

    #[test]
    fn texts_that_are_no_cursors() {
        for text in [
            "",
            ":",
            "k3f9",
            "k3f9:",
            ":5",
            "K:5",
            "k:-5",
            "k:+5",
            "k:5 ",
            "k:1.2,1.3",
            "k:2.2,1.3",
            "k:1.",
            "zzzzzzz:1",
            "zzzzzzzz:1",
            "k:18446744073709551616",
            "k:1.2,",
            "k:70000.1",
            "lätest",
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(CursorError), "{text}");
        }
    }

    #[test]
    fn words_for_both_ends() {
        assert_eq!("latest".parse(), Ok(Start::Latest));
        assert_eq!("earliest".parse(), Ok(Start::Earliest));
        assert_eq!("a:1".parse(), Ok(Start::After(Cursor::single(Epoch(10), Offset(1)))));
    }
}
