//! Frames on TCP: the preamble, lengths, heartbeat.

use std::time::Duration;

use everywire_base::clock::{Monotonic, Now};
use everywire_base::id::AskId;
use everywire_base::limits::Limits;
use everywire_base::parcel::{Delivery, Taken};
use everywire_base::reason::Reason;
use everywire_native_frames::{HEARTBEAT_SECONDS, Length, PREAMBLE, frame, length};
use everywire_wire::{
    Answer, Carried, Carrier, Context, Flow, Framing, Input, Kind, Listen, Peer, Progress, Then, Wire,
};

use crate::Native;

const HEARTBEAT: Duration = Duration::from_secs(HEARTBEAT_SECONDS as u64);
/// A longer frame that hasn't come whole is kept here, a shorter one by the driver.
const KEPT_BYTES: u64 = 16 << 10;

/// Frames with their length before them.
struct Tcp;

impl Framing for Tcp {
    fn name(&self) -> &'static str {
        "tcp"
    }

    fn frame(&self, _: Kind, message: &[u8], out: &mut Vec<u8>) {
        frame(message, out);
    }
}

/// One client on TCP.
pub struct NativeTcp {
    native: Native,
    has_begun: bool,
    is_paused: bool,
    /// A long frame under way, and its full length.
    partial: Option<Box<(Vec<u8>, usize)>>,
    /// The time of the next check whether the peer was heard; before the preamble, the time until which that must come.
    beat: Monotonic,
}

impl NativeTcp {
    /// A new connection.
    pub fn new(limits: &Limits, now: Now) -> Self {
        let beat = now.monotonic + limits.login;
        Self { native: Native::tcp(), has_begun: false, is_paused: false, partial: None, beat }
    }

    /// The protocol's next state, in the driver's words.
    fn then(&mut self, flow: Flow) -> Then {
        self.is_paused = flow == Flow::Paused;
        match flow {
            Flow::Open => Then::Open,
            Flow::Paused => Then::Paused,
            Flow::Closed(reason) => Then::Closed(reason),
        }
    }

    fn frames(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Progress {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            if let Some(partial) = &mut self.partial {
                let (kept, len) = &mut **partial;
                let more = rest.len().min(*len - kept.len());
                kept.extend_from_slice(&rest[..more]);
                used += more;
                if kept.len() < *len {
                    return Progress { used, then: Then::Open };
                }
                let message = self.partial.take().map(|partial| partial.0).unwrap_or_default();
                match self.message(cx, &message) {
                    Then::Open => continue,
                    then => return Progress { used, then },
                }
            }
            let (len, at) = match length(rest) {
                Length::Unknown => return Progress { used, then: Then::Open },
                Length::Malformed => return self.fail(cx, bytes, Reason::Protocol("a frame's length is malformed")),
                Length::Known(len, _) if len > cx.limits.message_bytes as u64 => {
                    self.native.too_large(&mut Carrier { cx, framing: &Tcp });
                    return self.fail(cx, bytes, Reason::TooLarge("limits.message_bytes"));
                }
                Length::Known(len, at) => (len, at),
            };
            if let Some(message) = rest[at..].get(..len as usize) {
                used += at + len as usize;
                match self.message(cx, message) {
                    Then::Open => {}
                    then => return Progress { used, then },
                }
            } else if len > KEPT_BYTES {
                used += at;
                self.partial = Some(Box::new((Vec::new(), len as usize)));
            } else {
                return Progress { used, then: Then::Open };
            }
        }
    }

    fn message(&mut self, cx: &mut Context<'_>, message: &[u8]) -> Then {
        let flow = self.native.message(&mut Carrier { cx, framing: &Tcp }, Kind::Binary, message);
        self.then(flow)
    }

    /// Ends the connection: nothing after these bytes can be understood.
    fn fail(&mut self, cx: &mut Context<'_>, bytes: &[u8], reason: Reason) -> Progress {
        self.native.farewell(&mut Carrier { cx, framing: &Tcp }, &reason);
        Progress { used: bytes.len(), then: Then::Closed(reason) }
    }
}

impl Wire for NativeTcp {
    fn read(&mut self, cx: &mut Context<'_>, input: Input<'_>) -> Progress {
        let bytes = match input {
            Input::Bytes(bytes) => bytes,
            Input::End(bytes) => return Progress { used: bytes.len(), then: Then::Closed(Reason::PeerClosed) },
        };
        if self.has_begun {
            return self.frames(cx, bytes);
        }
        let seen = bytes.len().min(PREAMBLE.len());
        if bytes[..seen] != PREAMBLE[..seen] {
            // Another protocol gets no answer (RULES 24).
            let reason = Reason::Protocol("a client begins with EVERYW/1");
            return Progress { used: bytes.len(), then: Then::Closed(reason) };
        }
        if seen < PREAMBLE.len() {
            return Progress { used: 0, then: Then::Open };
        }
        self.has_begun = true;
        self.beat = cx.now.monotonic + HEARTBEAT;
        let flow = self.native.begin(&mut Carrier { cx, framing: &Tcp });
        match self.then(flow) {
            Then::Open => {
                let Progress { used, then } = self.frames(cx, &bytes[seen..]);
                Progress { used: seen + used, then }
            }
            then => Progress { used: seen, then },
        }
    }

    fn answer(&mut self, cx: &mut Context<'_>, ask: AskId, answer: Answer) -> Then {
        let flow = self.native.answer(&mut Carrier { cx, framing: &Tcp }, ask, answer);
        self.then(flow)
    }

    fn push(&mut self, cx: &mut Context<'_>, delivery: &Delivery<'_>) -> Taken {
        self.native.push(&mut Carrier { cx, framing: &Tcp }, delivery)
    }

    fn settle(&mut self, cx: &mut Context<'_>) -> Then {
        let flow = self.native.settle(&mut Carrier { cx, framing: &Tcp });
        self.then(flow)
    }

    fn deadline(&self) -> Option<Monotonic> {
        Some(self.native.deadline().map_or(self.beat, |at| at.min(self.beat)))
    }

    fn tick(&mut self, cx: &mut Context<'_>) -> Then {
        let now = cx.now.monotonic;
        if now >= self.beat {
            if !self.has_begun {
                return Then::Closed(Reason::Timeout);
            }
            if now >= cx.heard + 2 * HEARTBEAT {
                return self.farewell(cx, &Reason::Timeout);
            }
            let is_silent = now >= cx.heard + HEARTBEAT;
            if is_silent {
                self.native.ping(&mut Carrier { cx, framing: &Tcp });
            }
            self.beat = if is_silent { now } else { cx.heard } + HEARTBEAT;
        }
        if self.native.deadline().is_some_and(|at| now >= at) {
            let flow = self.native.tick(&mut Carrier { cx, framing: &Tcp });
            return self.then(flow);
        }
        if self.is_paused { Then::Paused } else { Then::Open }
    }

    fn farewell(&mut self, cx: &mut Context<'_>, reason: &Reason) -> Then {
        if self.has_begun {
            self.native.farewell(&mut Carrier { cx, framing: &Tcp }, reason);
        }
        Then::Closed(reason.clone())
    }

    fn holds(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.0.len())
    }

    fn name(&self) -> &'static str {
        self.native.name()
    }
}

/// Makes a [`NativeTcp`] for each connection that is accepted.
#[derive(Clone, Debug)]
pub struct TcpListen {
    limits: std::sync::Arc<Limits>,
}

impl TcpListen {
    /// A listener with these bounds.
    pub fn new(limits: std::sync::Arc<Limits>) -> Self {
        Self { limits }
    }
}

impl Listen for TcpListen {
    fn accept(&self, _: &Peer, now: Now) -> Box<dyn Wire> {
        Box::new(NativeTcp::new(&self.limits, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<NativeTcp>() <= 128, "{}", size_of::<NativeTcp>());
    }
}
