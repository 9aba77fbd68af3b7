//! The echo for conformance tests: every message comes back.

use everywire_base::clock::Monotonic;
use everywire_base::id::AskId;
use everywire_base::parcel::{Delivery, Taken};
use everywire_base::reason::Reason;
use everywire_wire::{Answer, Carried, Carrier, Flow, Kind};

/// The longest message that comes back, in bytes.
pub const ECHO_MESSAGE_BYTES: usize = 16 << 20;

/// Sends back each message that it gets.
pub(crate) struct Echo;

impl Carried for Echo {
    fn begin(&mut self, _: &mut Carrier<'_, '_>) -> Flow {
        Flow::Open
    }

    fn message(&mut self, cx: &mut Carrier<'_, '_>, kind: Kind, message: &[u8]) -> Flow {
        cx.send(kind, message);
        self.settle(cx)
    }

    fn answer(&mut self, _: &mut Carrier<'_, '_>, _: AskId, _: Answer) -> Flow {
        Flow::Open
    }

    fn push(&mut self, _: &mut Carrier<'_, '_>, _: &Delivery<'_>) -> Taken {
        Taken::Yes
    }

    fn settle(&mut self, cx: &mut Carrier<'_, '_>) -> Flow {
        if cx.cx.has_room() { Flow::Open } else { Flow::Paused }
    }

    fn deadline(&self) -> Option<Monotonic> {
        None
    }

    fn tick(&mut self, _: &mut Carrier<'_, '_>) -> Flow {
        Flow::Open
    }

    fn farewell(&mut self, _: &mut Carrier<'_, '_>, _: &Reason) {}

    fn holds(&self) -> usize {
        0
    }

    fn name(&self) -> &'static str {
        "echo"
    }
}
