//! The terms of a subscription, and the options of one delivery, in the words that all acknowledging wires share
//! (MQTT-5.0 §3.8.3.1, §4.3).

use std::num::NonZeroU16;

/// The terms of a subscription. The default is that of a wire without such words: at least once, everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    /// The highest quality of service: 0 at most once, 1 at least once, 2 exactly once.
    pub qos: u8,
    /// Whether messages of the subscriber's own session are left out.
    pub no_local: bool,
    /// Whether a live message keeps its retain flag.
    pub retain_as_published: bool,
    /// The number that the subscriber gave it, at most [`MAX_IDENTIFIER`]; 0 is none.
    pub identifier: u32,
}

/// The highest number of a subscription (MQTT-5.0 §1.5.5).
pub const MAX_IDENTIFIER: u32 = (1 << 28) - 1;

impl Default for Terms {
    fn default() -> Self {
        Self { qos: 1, no_local: false, retain_as_published: false, identifier: 0 }
    }
}

impl Terms {
    /// All of it in 32 bits, as tables hold it.
    pub fn pack(self) -> u32 {
        let flags =
            u32::from(self.qos.min(2)) | u32::from(self.no_local) << 2 | u32::from(self.retain_as_published) << 3;
        self.identifier.min(MAX_IDENTIFIER) << 4 | flags
    }

    /// Unpacks the output of [`Terms::pack`].
    pub fn unpack(bits: u32) -> Self {
        Self {
            qos: (bits & 3) as u8,
            no_local: bits & 4 != 0,
            retain_as_published: bits & 8 != 0,
            identifier: bits >> 4,
        }
    }
}

/// The subscriptions at which retained messages come first (MQTT-5.0 §3.8.3.1, retain handling).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RetainHandling {
    /// At each subscription.
    Always,
    /// At a subscription whose filter wasn't held before.
    IfNew,
    /// Never.
    #[default]
    Never,
}

/// The options of one delivery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeliveryOptions<'a> {
    /// The lower of the message's quality of service and the granted one.
    pub qos: u8,
    /// The tag by which an acknowledgement names it, if it must be acknowledged one by one.
    pub tag: Option<NonZeroU16>,
    /// Whether it may have been sent before.
    pub dup: bool,
    /// Whether it shows a retain flag.
    pub retain: bool,
    /// The numbers of all subscriptions that take it.
    pub identifiers: &'a [u32],
}

impl DeliveryOptions<'_> {
    /// The options of wires without such words.
    pub const PLAIN: DeliveryOptions<'static> =
        DeliveryOptions { qos: 1, tag: None, dup: false, retain: false, identifiers: &[] };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_survive_being_packed() {
        for bits in [0, 1, 2, 4, 8, 14, 1 << 4, (MAX_IDENTIFIER << 4) | 0b1101] {
            assert_eq!(Terms::unpack(bits).pack(), bits);
        }
        assert_eq!(Terms::unpack(Terms::default().pack()), Terms::default());
    }
}
