//! Reads on their way to the store: those without room wait, and are tried again a few at a time.
//!
//! A new read is tried at once: there are several lanes, and addresses have shares of them. Reads that were refused
//! before take turns, so that a turn costs only as much as can go, however many wait.

use std::collections::VecDeque;
use std::net::IpAddr;

use everywire_base::ask::Read;

/// The number of refusals that ends a turn's attempts with reads that were refused before.
const REFUSALS: usize = 16;

/// The number of waiting reads that were refused before. They stand in front.
#[derive(Debug, Default)]
pub(crate) struct Refused(usize);

impl Refused {
    /// Sends the reads that can go. `whence` gives the address of an asker.
    pub(crate) fn send(
        &mut self,
        reads: &mut VecDeque<Read>,
        mut whence: impl FnMut(&Read) -> IpAddr,
        mut send: impl FnMut(Read, IpAddr) -> Result<(), Read>,
    ) {
        let mut go = |read: Read| {
            let from = whence(&read);
            send(read, from)
        };
        let waiting = self.0.min(reads.len());
        let fresh = reads.split_off(waiting);
        let mut refusals = 0;
        for _ in 0..waiting {
            if refusals >= REFUSALS {
                break;
            }
            let Some(read) = reads.pop_front() else { break };
            if let Err(read) = go(read) {
                refusals += 1;
                reads.push_back(read);
            }
        }
        reads.extend(fresh.into_iter().filter_map(|read| go(read).err()));
        self.0 = reads.len();
    }
}
