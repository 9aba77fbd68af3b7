//! A carrier for tests: each message is a line, so that golden tables show frames as they are.

use everywire_base::clock::Monotonic;
use everywire_base::id::AskId;
use everywire_base::parcel::{Delivery, Taken};
use everywire_base::reason::Reason;
use everywire_native::Native;
use everywire_wire::{Answer, Carried, Carrier, Context, Flow, Framing, Input, Kind, Progress, Then, Wire};

pub(crate) struct Lines {
    native: Native,
    has_begun: bool,
}

struct Line;

impl Framing for Line {
    fn name(&self) -> &'static str {
        "line"
    }
    fn frame(&self, _: Kind, message: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(message);
        out.push(b'\n');
    }
}

impl Lines {
    pub(crate) fn new(native: Native) -> Self {
        Self { native, has_begun: false }
    }
}

fn then(flow: Flow) -> Then {
    match flow {
        Flow::Open => Then::Open,
        Flow::Paused => Then::Paused,
        Flow::Closed(reason) => Then::Closed(reason),
    }
}

macro_rules! carry {
    ($self:ident, $cx:ident, $native:ident => $call:ident($($argument:expr),*)) => {
        $self.native.$call(&mut Carrier { cx: $cx, framing: &Line }, $($argument),*)
    };
}

impl Wire for Lines {
    /// An empty line only begins the connection.
    fn read(&mut self, cx: &mut Context<'_>, input: Input<'_>) -> Progress {
        let Input::Bytes(bytes) = input else { return Progress { used: 0, then: Then::Closed(Reason::PeerClosed) } };
        if !self.has_begun {
            self.has_begun = true;
            if let paused @ Then::Paused = then(carry!(self, cx, native => begin())) {
                return Progress { used: 0, then: paused };
            }
        }
        let Some(end) = bytes.iter().position(|b| *b == b'\n') else { return Progress { used: 0, then: Then::Open } };
        let then =
            if end == 0 { Then::Open } else { then(carry!(self, cx, native => message(Kind::Text, &bytes[..end]))) };
        Progress { used: end + 1, then }
    }
    fn answer(&mut self, cx: &mut Context<'_>, ask: AskId, answer: Answer) -> Then {
        then(carry!(self, cx, native => answer(ask, answer)))
    }
    fn push(&mut self, cx: &mut Context<'_>, delivery: &Delivery<'_>) -> Taken {
        carry!(self, cx, native => push(delivery))
    }
    fn settle(&mut self, cx: &mut Context<'_>) -> Then {
        then(carry!(self, cx, native => settle()))
    }
    fn deadline(&self) -> Option<Monotonic> {
        self.native.deadline()
    }
    fn tick(&mut self, cx: &mut Context<'_>) -> Then {
        then(carry!(self, cx, native => tick()))
    }
    fn farewell(&mut self, cx: &mut Context<'_>, reason: &Reason) -> Then {
        carry!(self, cx, native => farewell(reason));
        Then::Closed(reason.clone())
    }
    fn holds(&self) -> usize {
        0
    }

    fn name(&self) -> &'static str {
        self.native.name()
    }
}
