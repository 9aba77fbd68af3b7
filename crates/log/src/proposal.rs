//! The proposal: an entry with its writer and its number there, as it is appended to an engine elsewhere. The judge says
//! whether it becomes a record.

use bytes::Bytes;
use everywire_base::ask::{Guard, Source};
use everywire_base::cursor::Offset;
use everywire_base::record::{Durability, Entry};
use prost::Message as _;

use crate::share::Sharer;

/// An entry on its way to a log with many writers.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Proposal {
    /// The life of a node that writes it.
    pub writer: u64,
    /// Its number among all records of this life, from 1, without holes.
    pub sequence: u64,
    /// The source and the place there, if that isn't the writer itself: it counts only above the highest place of that
    /// source.
    pub source: Option<(u64, u64)>,
    /// The durability of its topic's rule.
    pub durability: Durability,
    /// The publisher whose share of bounds it uses up.
    pub sharer: Option<Sharer>,
    /// The entry; with none of any kind it is the second place of a pair, which the proposal before it has filled.
    pub entry: Option<Entry>,
    /// An entry of a kind that this version doesn't know, in its place: the fields of its record's stored form.
    pub later: Option<Bytes>,
    /// The entry behind it; a proposal without an entry follows in the same append for its place.
    pub pair: Option<Entry>,
    /// The guards of its judgement.
    pub guards: Vec<Guard>,
    /// The place where it was read, if it comes out of a log that somebody else keeps.
    pub taken: Option<Source>,
}

/// The reason why bytes are no proposal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NoProposal;

#[derive(Clone, PartialEq, prost::Message)]
struct Stored {
    #[prost(fixed64, tag = "1")]
    writer: u64,
    #[prost(uint64, tag = "2")]
    sequence: u64,
    #[prost(fixed64, optional, tag = "3")]
    source: Option<u64>,
    #[prost(uint64, tag = "4")]
    position: u64,
    #[prost(uint32, tag = "5")]
    durability: u32,
    #[prost(fixed32, optional, tag = "6")]
    sharer: Option<u32>,
    #[prost(bytes = "bytes", optional, tag = "7")]
    message: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "8")]
    pair: Option<Bytes>,
    /// The topic, the offset and the claim of each guard.
    #[prost(fixed64, repeated, tag = "9")]
    guards: Vec<u64>,
    /// The id of the source, the position before it, and its position.
    #[prost(fixed64, repeated, tag = "10")]
    taken: Vec<u64>,
    /// An entry of a kind that was added later, as the fields that its record has beside its place and time: whoever
    /// doesn't know them keeps them. All versions judge it alike, by writer, sequence, source and guards: it has no key,
    /// no session that fences it, and no second entry.
    #[prost(bytes = "bytes", optional, tag = "11")]
    later: Option<Bytes>,
}

const DURABILITIES: [Durability; 4] = [Durability::Fsync, Durability::Memory, Durability::None, Durability::Replicated];

impl Proposal {
    pub(crate) fn encode(&self) -> Bytes {
        let durability = DURABILITIES.iter().position(|durability| *durability == self.durability).unwrap_or_default();
        let stored = Stored {
            writer: self.writer,
            sequence: self.sequence,
            source: self.source.map(|source| source.0),
            position: self.source.map_or(0, |source| source.1),
            durability: durability as u32,
            sharer: self.sharer.map(|sharer| sharer.0),
            message: self.entry.as_ref().map(|entry| entry.encode().into()),
            pair: self.pair.as_ref().map(|pair| pair.encode().into()),
            guards: self.guards.iter().flat_map(|g| [g.topic, g.as_of.0, u64::from(g.claims)]).collect(),
            taken: self.taken.iter().flat_map(|taken| [taken.id, taken.after, taken.position]).collect(),
            later: self.later.clone(),
        };
        stored.encode_to_vec().into()
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, NoProposal> {
        let stored = Stored::decode(bytes).map_err(|_| NoProposal)?;
        // A promise that was added later is answered as the usual one: the judgement doesn't depend on it.
        let durability = DURABILITIES.get(stored.durability as usize).copied().unwrap_or_default();
        let read = |bytes: Bytes| Entry::decode(bytes).map_err(|_| NoProposal);
        let guard = |numbers: &[u64]| Guard { topic: numbers[0], as_of: Offset(numbers[1]), claims: numbers[2] != 0 };
        if stored.writer == 0 || stored.sequence == 0 {
            return Err(NoProposal);
        }
        Ok(Self {
            writer: stored.writer,
            sequence: stored.sequence,
            source: stored.source.map(|source| (source, stored.position)),
            durability,
            sharer: stored.sharer.map(Sharer),
            entry: stored.message.map(read).transpose()?,
            pair: stored.pair.map(read).transpose()?,
            guards: stored.guards.chunks_exact(3).map(guard).collect(),
            taken: <[u64; 3]>::try_from(stored.taken).ok().map(|[id, after, position]| Source { id, after, position }),
            later: stored.later,
        })
    }
}

#[cfg(test)]
mod tests {
    use everywire_base::record::Message;
    use everywire_base::topic::Topic;

    use super::*;

    #[test]
    fn what_a_later_version_has_added_leaves_a_proposal_readable() {
        let message = Message::new(Topic::parse("t").unwrap(), "text");
        let (writer, sequence, durability) = (1, 2, Durability::Memory);
        let proposal = Proposal {
            writer,
            sequence,
            source: None,
            durability,
            sharer: None,
            entry: Some(message.into()),
            later: None,
            pair: None,
            guards: Vec::new(),
            taken: None,
        };
        let mut stored = Stored::decode(proposal.encode()).unwrap();
        stored.durability = DURABILITIES.len() as u32;
        let mut bytes = stored.encode_to_vec();
        prost::encoding::uint64::encode(99, &1, &mut bytes);
        let read = Proposal::decode(bytes.into()).unwrap();
        assert_eq!((read.writer, read.sequence, read.entry), (writer, sequence, proposal.entry));
    }
}
