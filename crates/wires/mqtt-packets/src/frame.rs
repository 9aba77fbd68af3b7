//! The fixed header (MQTT-5.0 §2.1.1, §2.1.4).

use crate::fields::{Variable, variable};

/// The longest rest of a packet (§1.5.5).
pub const MAX_REMAINING: usize = 268_435_455;

/// A packet, as far as the first bytes tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frame {
    /// More bytes are needed.
    Unknown,
    /// The length is malformed.
    Malformed,
    /// A packet whose length is known.
    Known {
        /// Type and flags.
        first: u8,
        /// Bytes of the fixed header.
        header: usize,
        /// Bytes after it.
        body: usize,
    },
}

/// Reads the fixed header.
pub fn frame(bytes: &[u8]) -> Frame {
    let Some((first, rest)) = bytes.split_first() else { return Frame::Unknown };
    match variable(rest) {
        Variable::Unknown => Frame::Unknown,
        Variable::Malformed => Frame::Malformed,
        Variable::Known(body, len) => Frame::Known { first: *first, header: 1 + len, body: body as usize },
    }
}
