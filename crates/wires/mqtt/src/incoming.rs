//! Packets among the bytes: on TCP what isn't whole waits at the driver, or here if it is long; within WebSocket messages
//! it always waits here.

use everywire_mqtt_packets::{Frame, frame};

/// A longer packet that hasn't come whole is kept here, a shorter one by the driver.
const KEPT_BYTES: usize = 16 << 10;

/// A packet that hasn't come whole.
#[expect(clippy::box_collection, reason = "an idle connection has none")]
#[derive(Default)]
pub(crate) struct Incoming {
    partial: Option<Box<Vec<u8>>>,
}

/// What the next bytes are.
pub(crate) enum Next<'a> {
    /// A packet: its first byte and its body, and how many bytes were used.
    Packet { first: u8, body: Body<'a>, used: usize },
    /// Nothing whole; so many bytes were used.
    Wait(usize),
    /// No packet has such a length.
    Malformed,
    /// A packet is longer than the bound.
    TooLarge,
}

/// The body of a packet.
pub(crate) enum Body<'a> {
    Borrowed(&'a [u8]),
    /// The whole packet, and where its body begins.
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

impl Incoming {
    /// Takes the next packet of at most `bound` bytes. With `keeps`, what isn't whole is kept here.
    pub(crate) fn next<'a>(&mut self, bytes: &'a [u8], bound: usize, keeps: bool) -> Next<'a> {
        if self.is_amid() {
            return self.complete(bytes, bound);
        }
        match frame(bytes) {
            Frame::Malformed => Next::Malformed,
            Frame::Known { header, body, .. } if header + body > bound => Next::TooLarge,
            Frame::Known { first, header, body } if header + body <= bytes.len() => {
                let used = header + body;
                Next::Packet { first, body: Body::Borrowed(&bytes[header..used]), used }
            }
            Frame::Known { header, body, .. } if header + body > KEPT_BYTES => self.keep(bytes),
            _ if keeps && !bytes.is_empty() => self.keep(bytes),
            _ => Next::Wait(0),
        }
    }

    /// Whether a packet has begun.
    pub(crate) fn is_amid(&self) -> bool {
        self.partial.is_some()
    }

    /// Bytes that are kept.
    pub(crate) fn holds(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.len())
    }

    fn keep(&mut self, bytes: &[u8]) -> Next<'static> {
        self.partial = Some(Box::new(bytes.to_vec()));
        Next::Wait(bytes.len())
    }

    fn complete(&mut self, bytes: &[u8], bound: usize) -> Next<'static> {
        let mut partial = self.partial.take().map(|partial| *partial).unwrap_or_default();
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
                self.partial = Some(Box::new(partial));
                return Next::Wait(used);
            }
        }
    }
}
