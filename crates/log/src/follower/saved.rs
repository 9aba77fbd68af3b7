//! Acknowledged records that the engine has lost: the node's next life appends them again.
//!
//! A node keeps the last records that it has written itself. When the log has forked below some of them, they are saved
//! beside the replica, and appended again with their first number as the source, so that each counts once, whatever has
//! survived. Marks of messages that a session publishes once are left out, since their sessions have gone on. The
//! server's own records are left out too, except users' secrets and rights.

use std::collections::VecDeque;
use std::io;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use everywire_base::cursor::Offset;
use everywire_base::record::{Durability, Entry};
use everywire_base::system;

use crate::disk::{Disk, read_up_to};
use crate::judge::{Rule, Verdict, holds};
use crate::meta;
use crate::proposal::Proposal;

/// The file of the records that are to be appended again.
const SAVED: &str = "saved";
/// The records below the fork that are saved too: the engine may lose these as well before the next life reads it.
const BELOW: usize = 1024;
/// The most that is kept of a node's records.
const MOST_RECORDS: usize = 1 << 17;
const MOST_BYTES: usize = 64 << 20;

/// The records of this life, as far as they would be appended again.
#[derive(Default)]
pub(super) struct Written {
    records: VecDeque<(Offset, Bytes)>,
    bytes: usize,
}

impl Written {
    /// Adds a record of this life that counts.
    pub(super) fn add(&mut self, at: Offset, stored: &Bytes) {
        self.bytes += stored.len();
        // The record has a copy of its own, so that it doesn't hold the other bytes of its read.
        self.records.push_back((at, Bytes::copy_from_slice(stored)));
        while self.records.len() > MOST_RECORDS || self.bytes > MOST_BYTES {
            let Some((_, oldest)) = self.records.pop_front() else { break };
            self.bytes -= oldest.len();
        }
    }

    /// Saves the records above this offset and the last ones below it, behind those that were saved before. Returns the
    /// number of the former.
    pub(super) fn save(&self, disk: &dyn Disk, above: Offset) -> io::Result<usize> {
        let mut bytes = BytesMut::from(&read(disk)?[..]);
        if !holds(Rule::Again) {
            return Ok(0);
        }
        let is_lost = |(at, _): &&(Offset, Bytes)| *at > above;
        let (lost, below) = (self.records.iter().filter(is_lost).count(), self.records.iter().filter(|r| !is_lost(r)));
        let mut older = below.count().saturating_sub(BELOW);
        for record in &self.records {
            if !is_lost(&record) && older > 0 {
                older -= 1;
                continue;
            }
            bytes.put_u32_le(record.1.len() as u32);
            bytes.put_slice(&record.1);
        }
        if !self.records.is_empty() {
            meta::replace(disk, SAVED, |file| file.write_at(0, &bytes))?;
        }
        Ok(lost)
    }
}

fn read(disk: &dyn Disk) -> io::Result<Vec<u8>> {
    match disk.open(SAVED) {
        Ok(file) => read_up_to(&*file, 0, file.len()? as usize),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The records that a former life has saved.
pub(super) fn saved(disk: &dyn Disk) -> io::Result<Vec<Proposal>> {
    let (mut bytes, mut proposals) = (Bytes::from(read(disk)?), Vec::new());
    while bytes.len() >= 4 {
        let length = bytes.get_u32_le() as usize;
        if bytes.len() < length {
            break;
        }
        proposals.extend(Proposal::decode(bytes.split_to(length)).ok().and_then(again));
    }
    Ok(proposals)
}

/// Removes the file when all of it was appended again.
pub(super) fn forget(disk: &dyn Disk) {
    if disk.open(SAVED).is_ok()
        && let Err(error) = disk.remove(SAVED)
    {
        tracing::warn!(%error, "what was appended again can't be removed; the next start tries it once more, to no effect");
    }
}

/// The proposal in the form in which it is appended again, if it is.
fn again(mut proposal: Proposal) -> Option<Proposal> {
    proposal.source = proposal.source.or(Some((proposal.writer, proposal.sequence)));
    if let Entry::Message(message) = proposal.entry.as_mut()? {
        message.once = None;
    }
    Some(proposal)
}

/// Whether this record of the node was acknowledged to a client, or answered with an earlier one.
pub(super) fn is_told(verdict: &Verdict, stored: &Bytes) -> bool {
    let is_clients = |topic: &str| !topic.starts_with('$') || topic.starts_with(system::USERS);
    let is_told = |durability: Durability, entry: Option<&Entry>| {
        durability != Durability::None && entry.is_some_and(|entry| is_clients(entry.topic().as_str()))
    };
    match verdict {
        Verdict::Counts(record, _) => is_told(record.durability, record.entry()),
        // The record stands elsewhere in the log. That may be lost, too.
        Verdict::Known(_) | Verdict::Again => {
            Proposal::decode(stored.clone()).is_ok_and(|proposal| is_told(proposal.durability, proposal.entry.as_ref()))
        }
        _ => false,
    }
}
