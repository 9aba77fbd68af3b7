//! The connection: messages in and out, control frames (RFC 6455 §5.5), heartbeat, closing (§7).

use std::time::Duration;

use everywire_base::clock::{Monotonic, Now};
use everywire_base::id::AskId;
use everywire_base::parcel::{Delivery, Taken};
use everywire_base::reason::Reason;
use everywire_wire::{Answer, Carried, Carrier, Context, Flow, Framing, Input, Progress, Then, Wire};

use crate::close::{self, Failure, code_of};
use crate::frame::{self, Header, Opcode};
use crate::message::Incoming;

/// The time between pings to a silent peer; a peer that is silent for two of them is gone.
pub const HEARTBEAT: Duration = Duration::from_secs(25);

/// A WebSocket connection that carries a protocol.
pub struct WebSocket {
    carried: Box<dyn Carried>,
    framing: &'static dyn Framing,
    /// The message under way, if there is one.
    incoming: Option<Box<Incoming>>,
    /// The time of the next check whether the peer was heard.
    beat: Monotonic,
    /// The longest message, if it isn't `limits.message_bytes`.
    bound: Option<u32>,
    /// Whether compressed messages were agreed on.
    deflates: bool,
    /// Whether the carried protocol takes no messages now.
    is_paused: bool,
}

/// The result of a step of reading.
enum Step {
    /// The number of bytes that were used.
    Used(usize),
    /// The number of bytes that were used, and that of the inflated ones.
    Inflated(usize, usize),
    /// More bytes are needed.
    Wait,
    /// The number of bytes that were used, and the next state.
    Then(usize, Then),
}

impl WebSocket {
    pub(crate) fn new(
        carried: Box<dyn Carried>,
        framing: &'static dyn Framing,
        deflates: bool,
        bound: Option<u32>,
        now: Now,
    ) -> Self {
        let beat = now.monotonic + HEARTBEAT;
        Self { carried, framing, incoming: None, beat, bound, deflates, is_paused: false }
    }

    /// Begins, after the handshake is answered.
    pub(crate) fn begin(&mut self, cx: &mut Context<'_>) {
        // If the protocol waits, or refuses this client, it can say so when it is asked again.
        let _ = self.carried.begin(&mut Carrier { cx, framing: self.framing });
    }

    fn bound(&self, cx: &Context<'_>) -> usize {
        self.bound.map_or(cx.limits.message_bytes, |bound| bound as usize)
    }

    fn step(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<Step, Failure> {
        if let Some(incoming) = self.incoming.as_mut().filter(|incoming| !incoming.awaits_frame()) {
            let used = incoming.take(bytes)?;
            return self.whole(cx, used);
        }
        let Some(header) = Header::parse(bytes, self.deflates)? else { return Ok(Step::Wait) };
        let payload = &bytes[header.len..];
        if header.opcode.is_control() {
            let len = header.payload as usize;
            let Some(payload) = payload.get(..len) else { return Ok(Step::Wait) };
            let mut unmasked = Vec::new();
            frame::unmask(payload, header.mask, 0, &mut unmasked);
            return control(cx, header.opcode, &unmasked, header.len + len);
        }
        let bound = self.bound(cx);
        let incoming = match &mut self.incoming {
            Some(incoming) => {
                incoming.go_on(header, bound)?;
                incoming
            }
            none => none.insert(Box::new(Incoming::begin(header, bound)?)),
        };
        let used = incoming.take(payload)?;
        self.whole(cx, header.len + used)
    }

    /// Hands over the message, if it is whole.
    fn whole(&mut self, cx: &mut Context<'_>, used: usize) -> Result<Step, Failure> {
        let Some(incoming) = self.incoming.take_if(|incoming| incoming.is_whole()) else {
            return Ok(if used == 0 { Step::Wait } else { Step::Used(used) });
        };
        let is_compressed = incoming.is_compressed();
        let (kind, message) = incoming.finish(self.bound(cx))?;
        let flow = self.carried.message(&mut Carrier { cx, framing: self.framing }, kind, &message);
        Ok(match self.then(cx, flow) {
            Then::Open if is_compressed => Step::Inflated(used, message.len()),
            Then::Open => Step::Used(used),
            then => Step::Then(used, then),
        })
    }

    /// The next state of the carried protocol, in the driver's words.
    fn then(&mut self, cx: &mut Context<'_>, flow: Flow) -> Then {
        self.is_paused = flow == Flow::Paused;
        match flow {
            Flow::Open => Then::Open,
            Flow::Paused => Then::Paused,
            Flow::Closed(reason) => close_for(cx, reason),
        }
    }
}

/// Answers a control frame.
fn control(cx: &mut Context<'_>, opcode: Opcode, payload: &[u8], used: usize) -> Result<Step, Failure> {
    match opcode {
        Opcode::Close => {
            let code = close::answer(payload)?;
            let code = code.map(u16::to_be_bytes);
            let payload = code.as_ref().map_or(&[][..], |code| code);
            cx.out.write(|out| frame::write(Opcode::Close, false, payload, out));
            return Ok(Step::Then(used, Then::Closed(Reason::Done)));
        }
        // Pongs needn't pile up for a peer that doesn't read (§5.5.3).
        Opcode::Ping if !cx.is_full() => {
            cx.out.write(|out| frame::write(Opcode::Pong, false, payload, out));
        }
        _ => {}
    }
    Ok(Step::Used(used))
}

/// Closes with the code of a reason.
fn close_for(cx: &mut Context<'_>, reason: Reason) -> Then {
    let text = match &reason {
        Reason::Kicked(why) => &**why,
        Reason::Protocol(what) | Reason::TooLarge(what) => what,
        other => other.as_str(),
    };
    cx.out.write(|out| close::write(code_of(&reason), text, out));
    Then::Closed(reason)
}

impl Wire for WebSocket {
    fn read(&mut self, cx: &mut Context<'_>, input: Input<'_>) -> Progress {
        let bytes = match input {
            Input::Bytes(bytes) => bytes,
            Input::End(bytes) => return Progress { used: bytes.len(), then: Then::Closed(Reason::PeerClosed) },
        };
        let (mut used, mut inflated) = (0, 0);
        while used < bytes.len() {
            // A turn takes about as many bytes of compressed messages as of others.
            if inflated >= cx.limits.receive_buffer_bytes {
                return Progress { used, then: Then::Later };
            }
            match self.step(cx, &bytes[used..]) {
                Ok(Step::Used(more)) => used += more,
                Ok(Step::Inflated(more, to)) => (used, inflated) = (used + more, inflated + to),
                Ok(Step::Wait) => break,
                Ok(Step::Then(more, then)) => return Progress { used: used + more, then },
                Err(failure) => {
                    // §7.1.7: fail the connection.
                    self.incoming = None;
                    cx.out.write(|out| close::write(failure.code(), failure.text(), out));
                    return Progress { used: bytes.len(), then: Then::Closed(failure.reason()) };
                }
            }
        }
        Progress { used, then: Then::Open }
    }

    fn answer(&mut self, cx: &mut Context<'_>, ask: AskId, answer: Answer) -> Then {
        let flow = self.carried.answer(&mut Carrier { cx, framing: self.framing }, ask, answer);
        self.then(cx, flow)
    }

    fn push(&mut self, cx: &mut Context<'_>, delivery: &Delivery<'_>) -> Taken {
        self.carried.push(&mut Carrier { cx, framing: self.framing }, delivery)
    }

    fn settle(&mut self, cx: &mut Context<'_>) -> Then {
        let flow = self.carried.settle(&mut Carrier { cx, framing: self.framing });
        self.then(cx, flow)
    }

    fn deadline(&self) -> Option<Monotonic> {
        Some(self.carried.deadline().map_or(self.beat, |at| at.min(self.beat)))
    }

    fn tick(&mut self, cx: &mut Context<'_>) -> Then {
        let now = cx.now.monotonic;
        if now >= self.beat {
            if now >= cx.heard + 2 * HEARTBEAT {
                return close_for(cx, Reason::Timeout);
            }
            let is_silent = now >= cx.heard + HEARTBEAT;
            if is_silent {
                cx.out.write(|out| frame::write(Opcode::Ping, false, b"", out));
            }
            self.beat = if is_silent { now } else { cx.heard } + HEARTBEAT;
        }
        if self.carried.deadline().is_some_and(|at| now >= at) {
            let flow = self.carried.tick(&mut Carrier { cx, framing: self.framing });
            return self.then(cx, flow);
        }
        if self.is_paused { Then::Paused } else { Then::Open }
    }

    fn farewell(&mut self, cx: &mut Context<'_>, reason: &Reason) -> Then {
        self.carried.farewell(&mut Carrier { cx, framing: self.framing }, reason);
        close_for(cx, reason.clone())
    }

    fn holds(&self) -> usize {
        self.incoming.as_ref().map_or(0, |incoming| incoming.holds()) + self.carried.holds()
    }

    fn name(&self) -> &'static str {
        self.carried.name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<WebSocket>() <= 72, "{}", size_of::<WebSocket>());
    }
}
