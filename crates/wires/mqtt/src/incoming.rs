//! Packets among the bytes: on TCP a packet that isn't whole waits at the driver, or here if it is long; within
//! WebSocket messages it always waits here.

use everywire_mqtt_packets::{Frame, frame};

use crate::unsettled::Unsettled;

/// A longer packet that hasn't come whole is kept here, a shorter one by the driver.
const KEPT_BYTES: usize = 16 << 10;

/// The next packet among the bytes.
pub(crate) enum Next<'a> {
    /// A packet: its first byte, its body, and the number of bytes that were used.
    Packet { first: u8, body: Body<'a>, used: usize },
    /// No whole packet yet; the number of bytes that were used.
    Wait(usize),
    /// No packet has such a length.
    Malformed,
    /// A packet is longer than the bound.
    TooLarge,
}

/// The body of a packet.
pub(crate) enum Body<'a> {
    Borrowed(&'a [u8]),
    /// The whole packet, and the offset of its body.
    Owned(Vec<u8>, usize),
}

impl Body<'_> {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Body::Borrowed(bytes) => bytes,
            Body::Owned(bytes, at) => &bytes[*at..],
        }
    }
}

/// Takes the next packet of at most `bound` bytes. With `keeps`, a packet that isn't whole is kept.
pub(crate) fn next<'a>(unsettled: &mut Unsettled, bytes: &'a [u8], bound: usize, keeps: bool) -> Next<'a> {
    if is_amid(unsettled) {
        let next = complete(std::mem::take(&mut unsettled.partial), unsettled, bytes, bound);
        unsettled.tidy();
        return next;
    }
    match frame(bytes) {
        Frame::Malformed => Next::Malformed,
        Frame::Known { header, body, .. } if header + body > bound => Next::TooLarge,
        Frame::Known { first, header, body } if header + body <= bytes.len() => {
            let used = header + body;
            Next::Packet { first, body: Body::Borrowed(&bytes[header..used]), used }
        }
        Frame::Known { header, body, .. } if header + body > KEPT_BYTES => keep(unsettled, bytes),
        _ if keeps && !bytes.is_empty() => keep(unsettled, bytes),
        _ => Next::Wait(0),
    }
}

/// Whether a packet has begun.
pub(crate) fn is_amid(unsettled: &Unsettled) -> bool {
    !unsettled.partial.is_empty()
}

fn keep(unsettled: &mut Unsettled, bytes: &[u8]) -> Next<'static> {
    unsettled.partial = bytes.to_vec();
    Next::Wait(bytes.len())
}

/// Goes on with a packet that has begun.
fn complete(mut partial: Vec<u8>, unsettled: &mut Unsettled, bytes: &[u8], bound: usize) -> Next<'static> {
    let mut used = 0;
    loop {
        let wanted = match frame(&partial) {
            Frame::Malformed => return Next::Malformed,
            Frame::Unknown => 1,
            Frame::Known { header, body, .. } if header + body > bound => return Next::TooLarge,
            Frame::Known { first, header, body } if partial.len() == header + body => {
                return Next::Packet { first, body: Body::Owned(partial, header), used };
            }
            Frame::Known { header, body, .. } => header + body - partial.len(),
        };
        let more = wanted.min(bytes.len() - used);
        partial.extend_from_slice(&bytes[used..used + more]);
        used += more;
        if more < wanted {
            unsettled.partial = partial;
            return Next::Wait(used);
        }
    }
}
