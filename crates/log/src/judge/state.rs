//! The judge's state as bytes: for the next life of a node, and for a node that joins.

use bytes::Bytes;
use everywire_base::ask::Published;
use everywire_base::clock::{Monotonic, UnixMillis};
use everywire_base::cursor::{Epoch, Offset, Partition};
use everywire_base::record::Durability;
use everywire_base::system::GroupDebt;
use everywire_base::topic::Topic;
use prost::Message as _;

use super::{Judge, Writer};
use crate::idempotency::{Identity, KnownKey};
use crate::producers::KnownProducer;
use crate::remote::Genesis;
use crate::share::Sharer;

#[derive(Clone, PartialEq, prost::Message)]
struct State {
    #[prost(bytes = "bytes", tag = "1")]
    genesis: Bytes,
    #[prost(uint32, tag = "2")]
    epoch: u32,
    #[prost(uint64, tag = "3")]
    at: u64,
    #[prost(fixed64, tag = "4")]
    chain: u64,
    #[prost(uint64, tag = "5")]
    time: u64,
    #[prost(uint64, tag = "6")]
    last_time: u64,
    #[prost(message, repeated, tag = "7")]
    writers: Vec<StoredWriter>,
    #[prost(fixed64, repeated, tag = "8")]
    ended: Vec<u64>,
    /// Sources and their places in turn.
    #[prost(fixed64, repeated, tag = "9")]
    carried: Vec<u64>,
    #[prost(message, repeated, tag = "10")]
    keys: Vec<StoredKey>,
    #[prost(message, repeated, tag = "11")]
    producers: Vec<StoredProducer>,
    #[prost(message, repeated, tag = "12")]
    claims: Vec<StoredClaim>,
    /// Sources of other logs and their positions in turn.
    #[prost(fixed64, repeated, tag = "13")]
    sources: Vec<u64>,
    #[prost(uint64, tag = "14")]
    guards_floor: u64,
    /// Offsets and topics in turn.
    #[prost(fixed64, repeated, tag = "15")]
    guards: Vec<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredWriter {
    #[prost(fixed64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(uint64, tag = "3")]
    since: u64,
    #[prost(uint64, tag = "4")]
    sequence: u64,
    #[prost(bool, tag = "5")]
    is_up: bool,
    #[prost(uint64, tag = "6")]
    last: u64,
    #[prost(uint64, tag = "7")]
    heard: u64,
    #[prost(uint64, tag = "8")]
    beat_at: u64,
    #[prost(fixed64, tag = "9")]
    beat_chain: u64,
    #[prost(string, tag = "10")]
    node: String,
    #[prost(uint32, tag = "11")]
    boot: u32,
    #[prost(uint64, tag = "12")]
    floor: u64,
    #[prost(message, repeated, tag = "13")]
    owes: Vec<StoredDebt>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredDebt {
    #[prost(string, tag = "1")]
    group: String,
    #[prost(uint64, tag = "2")]
    after: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredKey {
    #[prost(uint64, tag = "1")]
    at: u64,
    #[prost(fixed64, tag = "2")]
    first: u64,
    #[prost(fixed64, tag = "3")]
    second: u64,
    #[prost(fixed64, tag = "4")]
    content: u64,
    #[prost(message, optional, tag = "5")]
    published: Option<StoredPlace>,
    #[prost(fixed32, optional, tag = "6")]
    sharer: Option<u32>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredPlace {
    #[prost(uint32, tag = "1")]
    epoch: u32,
    #[prost(uint64, tag = "2")]
    offset: u64,
    #[prost(uint64, tag = "3")]
    time: u64,
    #[prost(uint32, tag = "4")]
    durability: u32,
    #[prost(bool, tag = "5")]
    duplicate: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredProducer {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint64, tag = "2")]
    last: u64,
    #[prost(message, repeated, tag = "3")]
    accepted: Vec<StoredPlace>,
    #[prost(uint64, tag = "4")]
    used: u64,
    #[prost(fixed32, optional, tag = "5")]
    sharer: Option<u32>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredClaim {
    #[prost(uint64, tag = "1")]
    at: u64,
    #[prost(string, tag = "2")]
    session: String,
    #[prost(uint64, repeated, tag = "3")]
    numbers: Vec<u64>,
}

impl StoredPlace {
    fn of(published: &Published) -> Self {
        Self {
            epoch: published.epoch.0,
            offset: published.offset.0,
            time: published.time.0,
            durability: published.durability as u32,
            duplicate: published.duplicate,
        }
    }

    fn published(&self) -> Option<Published> {
        let durabilities = [Durability::Fsync, Durability::Memory, Durability::None, Durability::Replicated];
        Some(Published {
            epoch: Epoch(self.epoch),
            partition: Partition(0),
            offset: Offset(self.offset),
            time: UnixMillis(self.time),
            durability: durabilities.into_iter().find(|durability| *durability as u32 == self.durability)?,
            duplicate: self.duplicate,
        })
    }
}

impl StoredWriter {
    fn of((id, writer): (&u64, &Writer)) -> Self {
        Self {
            id: *id,
            name: writer.name.to_string(),
            since: writer.since.0,
            sequence: writer.sequence,
            is_up: writer.is_up,
            last: writer.last.0,
            heard: writer.heard.0,
            beat_at: writer.beat.0.0,
            beat_chain: writer.beat.1,
            node: writer.node.to_string(),
            boot: writer.boot,
            floor: writer.floor.0,
            owes: writer
                .owes
                .iter()
                .map(|debt| StoredDebt { group: debt.group.to_string(), after: debt.after })
                .collect(),
        }
    }

    fn writer(self) -> (u64, Writer) {
        let writer = Writer {
            name: self.name.into(),
            since: Offset(self.since),
            sequence: self.sequence,
            is_up: self.is_up,
            last: Offset(self.last),
            heard: Monotonic(self.heard),
            beat: (Offset(self.beat_at), self.beat_chain),
            node: self.node.into(),
            boot: self.boot,
            floor: Offset(self.floor),
            owes: self.owes.into_iter().map(|debt| GroupDebt { group: debt.group.into(), after: debt.after }).collect(),
        };
        (self.id, writer)
    }
}

impl Judge {
    /// The state, with a checksum.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writers: Vec<StoredWriter> = self.writers.iter().map(StoredWriter::of).collect();
        writers.sort_unstable_by_key(|writer| writer.id);
        let mut carried: Vec<(u64, u64)> = self.carried.iter().map(|(source, place)| (*source, *place)).collect();
        carried.sort_unstable();
        let flat = |pairs: Vec<(u64, u64)>| pairs.into_iter().flat_map(|(first, second)| [first, second]).collect();
        let (floor, guards) = self.guards.export();
        let key = |key: KnownKey| StoredKey {
            at: key.at.0,
            first: key.identity.0,
            second: key.identity.1,
            content: key.content,
            published: Some(StoredPlace::of(&key.published)),
            sharer: key.sharer.map(|sharer| sharer.0),
        };
        let producer = |known: KnownProducer| StoredProducer {
            name: known.name.as_str().to_owned(),
            last: known.last,
            accepted: known.accepted.iter().map(StoredPlace::of).collect(),
            used: known.used.0,
            sharer: known.sharer.map(|sharer| sharer.0),
        };
        let claim = |(at, session, numbers): (Offset, &str, Option<[u64; 4]>)| StoredClaim {
            at: at.0,
            session: session.to_owned(),
            numbers: numbers.map(Vec::from).unwrap_or_default(),
        };
        let state = State {
            genesis: self.genesis.encode().into(),
            epoch: self.epoch.0,
            at: self.at.0,
            chain: self.chain,
            time: self.time.0,
            last_time: self.last_time.0,
            writers,
            ended: self.ended.iter().copied().collect(),
            carried: flat(carried),
            keys: self.keys.export().map(key).collect(),
            producers: self.producers.export().map(producer).collect(),
            claims: self.fences.export().map(claim).collect(),
            sources: flat(self.sources.export()),
            guards_floor: floor.0,
            guards: guards.flat_map(|(at, topic)| [at.0, topic]).collect(),
        };
        let mut bytes = vec![0; 4];
        state.encode(&mut bytes).expect("a vector grows as needed");
        let sum = crc32c::crc32c(&bytes[4..]);
        bytes[..4].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Decodes the output of [`Judge::encode`]; `None` if it isn't whole.
    pub(crate) fn decode(bytes: &Bytes) -> Option<Self> {
        let sum = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
        if crc32c::crc32c(&bytes[4..]) != sum {
            return None;
        }
        let state = State::decode(bytes.slice(4..)).ok()?;
        let mut judge = Self::new(Genesis::decode(&state.genesis)?, Epoch(state.epoch));
        (judge.at, judge.chain) = (Offset(state.at), state.chain);
        (judge.time, judge.last_time) = (Monotonic(state.time), UnixMillis(state.last_time));
        judge.writers = state.writers.into_iter().map(StoredWriter::writer).collect();
        judge.ended = state.ended.into();
        let pairs = |flat: &[u64]| flat.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect::<Vec<_>>();
        judge.carried = pairs(&state.carried).into_iter().collect();
        judge.sources.import(pairs(&state.sources));
        let guards = pairs(&state.guards).into_iter().map(|(at, topic)| (Offset(at), topic));
        judge.guards.import(Offset(state.guards_floor), guards);
        for key in state.keys {
            judge.keys.import(KnownKey {
                at: Monotonic(key.at),
                identity: Identity(key.first, key.second),
                content: key.content,
                published: key.published?.published()?,
                sharer: key.sharer.map(Sharer),
            });
        }
        for known in state.producers {
            judge.producers.import(KnownProducer {
                name: Topic::parse(&known.name).ok()?,
                last: known.last,
                accepted: known.accepted.iter().map(StoredPlace::published).collect::<Option<_>>()?,
                used: Monotonic(known.used),
                sharer: known.sharer.map(Sharer),
            });
        }
        for claim in state.claims {
            let numbers = <[u64; 4]>::try_from(claim.numbers).ok();
            judge.fences.import(Offset(claim.at), &Topic::parse(&claim.session).ok()?, numbers);
        }
        Some(judge)
    }
}
