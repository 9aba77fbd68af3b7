//! Protocols that speak in whole messages, and their carriers.
//!
//! The native protocol is the same on TCP and on WebSocket, XMPP nearly so (RFC 7395): only the framing of a message
//! among the bytes differs. So a [`Carried`] protocol takes and gives messages, and its carrier, itself a
//! [`Wire`](crate::Wire), frames them: it keeps the connection alive, and closes it in its own words.

use everywire_base::clock::Monotonic;
use everywire_base::id::AskId;
use everywire_base::parcel::{Delivery, Format, Parcel, Taken};
use everywire_base::reason::Reason;
use everywire_base::signal::{Said, Signal};

use crate::{Answer, Context};

/// A protocol that speaks in whole messages. Its verbs are those of [`Wire`](crate::Wire).
pub trait Carried {
    /// Begins, since the connection is open: messages may be sent.
    fn begin(&mut self, cx: &mut Carrier<'_, '_>) -> Flow;

    /// Takes a whole message.
    fn message(&mut self, cx: &mut Carrier<'_, '_>, kind: Kind, message: &[u8]) -> Flow;

    /// Takes the answer to an ask.
    fn answer(&mut self, cx: &mut Carrier<'_, '_>, ask: AskId, answer: Answer) -> Flow;

    /// Takes a delivery, or says that there is no room for it; the driver has seen that the outbox isn't full.
    fn push(&mut self, cx: &mut Carrier<'_, '_>, delivery: &Delivery<'_>) -> Taken;

    /// Notes that this turn's deliveries and answers are over.
    fn settle(&mut self, cx: &mut Carrier<'_, '_>) -> Flow;

    /// The time at which [`Carried::tick`] is wanted, if ever.
    fn deadline(&self) -> Option<Monotonic>;

    /// Acts after the deadline has passed.
    fn tick(&mut self, cx: &mut Carrier<'_, '_>) -> Flow;

    /// Says goodbye in the protocol's words; the carrier closes the connection after it.
    fn farewell(&mut self, cx: &mut Carrier<'_, '_>, reason: &Reason);

    /// The bytes of a message that has not come whole, as [`Wire::holds`](crate::Wire::holds).
    fn holds(&self) -> usize;

    /// The name of the protocol, for metrics and the registry: `ws`, `tcp`, …
    fn name(&self) -> &'static str;
}

/// The kind of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// Any bytes.
    Binary,
}

/// The next state of a carried protocol.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Flow {
    /// It takes messages.
    Open,
    /// It takes no message until an answer, a delivery or its deadline has come.
    Paused,
    /// All that was sent goes out, then the carrier closes the connection.
    Closed(Reason),
}

/// The framing of messages among the bytes of a connection.
pub trait Framing {
    /// Names the framing in [`Format::framing`]; two that write a message differently have different names.
    fn name(&self) -> &'static str;

    /// Appends a message with its frame.
    fn frame(&self, kind: Kind, message: &[u8], out: &mut Vec<u8>);
}

/// The values that a carried protocol sees and writes to during one verb.
pub struct Carrier<'a, 'b> {
    /// The context that every wire sees.
    pub cx: &'a mut Context<'b>,
    /// The framing of its messages.
    pub framing: &'a dyn Framing,
}

impl Carrier<'_, '_> {
    /// Sends a message.
    pub fn send(&mut self, kind: Kind, message: &[u8]) {
        let framing = self.framing;
        self.cx.out.write(|out| framing.frame(kind, message, out));
    }

    /// Sends a rendition of a parcel, framed once for all who take it in this format and framing.
    pub fn share(&mut self, parcel: &Parcel, name: &'static str, kind: Kind, make: impl FnOnce(&Parcel, &mut Vec<u8>)) {
        let framing = self.framing;
        let rendition = parcel.rendition(Format { name, framing: framing.name() }, |parcel, out| {
            let mut message = Vec::with_capacity(parcel.message().body.len() + 256);
            make(parcel, &mut message);
            framing.frame(kind, &message, out);
        });
        self.cx.out.share(&rendition);
    }

    /// Sends a signal, encoded and framed once for all who take it in this format and framing.
    pub fn pass(&mut self, signal: &Signal, name: &'static str, kind: Kind, make: impl FnOnce(&Said, &mut Vec<u8>)) {
        let framing = self.framing;
        let rendition = signal.rendition(Format { name, framing: framing.name() }, |said, out| {
            let mut message = Vec::with_capacity(128);
            make(said, &mut message);
            framing.frame(kind, &message, out);
        });
        self.cx.out.share(&rendition);
    }
}
