//! The machine: the states of a connection, and the verbs that each takes.
//!
//! | state | reads | ends with |
//! | --- | --- | --- |
//! | [`Receiving`] | requests; publishes may be outstanding | any other state |
//! | [`Subscribing`] | nothing | the hub's answer |
//! | [`Polling`], [`Watching`] | nothing, but notices the peer's end | a page, or its time |
//! | [`Streaming`] | nothing that counts | the connection |
//! | [`Batching`], [`Api`], [`Looking`] | nothing | the last answer |
//!
//! A transition consumes its state. Verbs that a state doesn't know leave it as it is.

use std::sync::Arc;

use everywire_base::clock::{Monotonic, Now};
use everywire_base::id::AskId;
use everywire_base::limits::Limits;
use everywire_base::parcel::{Delivery, Taken};
use everywire_base::reason::Reason;
use everywire_wire::{Answer, Context, Input, Progress, Then, Wire};

use crate::batch::Batching;
use crate::config::Service;
use crate::credentials::Known;
use crate::look_back::Looking;
use crate::poll::{Patience, Polling, Ripe, Watching};
use crate::receiving::{Receiving, Step};
use crate::reply::{After, Manner};
use crate::stream::Streaming;
use crate::waiting::{Api, Subscribing, unsubscribe};

/// One connection that speaks HTTP/1.1.
pub struct Http {
    service: Arc<Service>,
    /// The identities that have sent requests, if they have shown credentials.
    known: Option<Box<Known>>,
    next_ask: u32,
    ending: Ending,
    phase: Phase,
}

/// The end of the connection after the requests under way, if it ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// No.
    No,
    /// The peer sends no more; it may still read.
    Peer,
    /// The server is going down.
    Drain,
}

/// The values that the states share.
pub(crate) struct Link<'a> {
    pub(crate) service: &'a Service,
    pub(crate) known: &'a mut Option<Box<Known>>,
    next_ask: &'a mut u32,
    ending: Ending,
}

impl Link<'_> {
    /// The number of the next ask.
    pub(crate) fn peek(&self) -> AskId {
        AskId(*self.next_ask)
    }

    /// Spends the number of the next ask.
    pub(crate) fn number(&mut self) -> AskId {
        let ask = self.peek();
        *self.next_ask = self.next_ask.wrapping_add(1);
        ask
    }

    /// Whether the registry names somebody as the connection's user.
    pub(crate) fn is_registered(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.is_registered())
    }

    /// Whether the connection ends after the requests under way.
    pub(crate) fn ends(&self) -> bool {
        self.ending != Ending::No
    }

    /// The time until which a reader waits that would wait until `until`. A reader that sends no more can't be told
    /// from one that is gone until something is written to it: it is answered after a heartbeat's time at the latest.
    pub(crate) fn patience(&self, cx: &Context<'_>, until: Monotonic) -> Monotonic {
        if self.ending == Ending::Peer { until.min(cx.now.monotonic + cx.limits.heartbeat) } else { until }
    }
}

/// The state of a connection.
pub(crate) enum Phase {
    Receiving(Receiving),
    Subscribing(Box<Subscribing>),
    Polling(Polling),
    Watching(Watching),
    Streaming(Streaming),
    Batching(Box<Batching>),
    Calling(Api),
    Looking(Looking),
    /// Another wire takes over.
    Became(Box<dyn Wire>),
    Closed(Reason),
}

impl Phase {
    /// The state after an answer: another request, or the end.
    pub(crate) fn after(cx: &Context<'_>, manner: &Manner) -> Self {
        match manner.after {
            After::KeepAlive => Phase::Receiving(Receiving::new(cx)),
            After::Close | After::Leave { .. } => Phase::Closed(Reason::Done),
        }
    }

    /// The state of a batch, which is answered at once if none of its messages waits for the log.
    pub(crate) fn batch(cx: &mut Context<'_>, batching: Box<Batching>) -> Self {
        if !batching.is_complete() {
            return Phase::Batching(batching);
        }
        let mut manner = None;
        cx.out.write(|out| manner = Some(batching.reply(out)));
        manner.map_or(Phase::Closed(Reason::Internal), |manner| Self::after(cx, &manner))
    }
}

impl Http {
    /// A new connection.
    pub fn new(service: Arc<Service>, limits: &Limits, now: Now) -> Self {
        let until = now.monotonic + limits.idle_keep_alive;
        let phase = Phase::Receiving(Receiving::since(until));
        Self { service, known: None, next_ask: 0, ending: Ending::No, phase }
    }

    /// Replaces the state by the one that `change` makes of it, and gives the next step.
    fn change(
        &mut self,
        cx: &mut Context<'_>,
        change: impl FnOnce(Phase, &mut Context<'_>, &mut Link<'_>) -> Phase,
    ) -> Then {
        self.replace(cx, change);
        self.then(cx)
    }

    /// Replaces the state by the one that `change` makes of it.
    fn replace(&mut self, cx: &mut Context<'_>, change: impl FnOnce(Phase, &mut Context<'_>, &mut Link<'_>) -> Phase) {
        let phase = std::mem::replace(&mut self.phase, Phase::Closed(Reason::Internal));
        let Self { service, known, next_ask, ending, .. } = self;
        let mut link = Link { service, known, next_ask, ending: *ending };
        self.phase = change(phase, cx, &mut link);
        self.end_if_due(cx);
    }

    /// The next step, by the state.
    fn then(&mut self, cx: &Context<'_>) -> Then {
        self.end_if_due(cx);
        if let Phase::Became(_) = self.phase
            && let Phase::Became(wire) = std::mem::replace(&mut self.phase, Phase::Closed(Reason::Done))
        {
            return Then::Become(wire);
        }
        match &self.phase {
            Phase::Receiving(receiving) => {
                let takes = self.ending == Ending::No && receiving.takes_input(cx);
                if takes { Then::Open } else { Then::Paused }
            }
            Phase::Polling(_) | Phase::Watching(_) | Phase::Streaming(_) => Then::Open,
            Phase::Subscribing(_) | Phase::Batching(_) | Phase::Calling(_) | Phase::Looking(_) => Then::Paused,
            Phase::Closed(reason) => Then::Closed(reason.clone()),
            Phase::Became(_) => Then::Closed(Reason::Internal), // has been handed over above
        }
    }

    /// Ends a connection that has nothing more to say, or nobody to say it to.
    fn end_if_due(&mut self, cx: &Context<'_>) {
        let reason = match self.ending {
            Ending::No => None,
            // A client that has ended its side may still read: answers that are or will be given are sent.
            Ending::Peer if !cx.out.is_empty() || self.owes_answers() => Some(Reason::Done),
            Ending::Peer => Some(Reason::PeerClosed),
            Ending::Drain => Some(Reason::Done),
        };
        if let (Phase::Receiving(receiving), Some(reason)) = (&mut self.phase, &reason) {
            receiving.shut(reason.clone());
        }
        let over = match &self.phase {
            Phase::Receiving(receiving) => receiving.is_over(),
            _ => None,
        };
        if let Some(reason) = over {
            self.phase = Phase::Closed(reason);
        }
    }

    /// Notes that the peer sends no more; its requests are still answered.
    fn peer_ended(&mut self, cx: &mut Context<'_>) {
        self.ending = Ending::Peer;
        self.replace(cx, |phase, cx, link| match phase {
            Phase::Polling(polling) => Phase::Polling(polling.at_peers_end(|until| link.patience(cx, until))),
            Phase::Watching(watching) => Phase::Watching(watching.at_peers_end(|until| link.patience(cx, until))),
            Phase::Streaming(mut streaming) => {
                // A write shows whether anybody reads it.
                streaming.tick(cx);
                Phase::Streaming(streaming)
            }
            phase => phase,
        });
    }

    /// Whether the unused bytes can't be understood, however long the wire waits.
    fn is_stuck(&self, cx: &Context<'_>) -> bool {
        matches!(&self.phase, Phase::Receiving(receiving) if receiving.takes_input(cx))
    }

    /// The time at which the identity of the waiting reader expires.
    fn expires(&self) -> Option<Monotonic> {
        self.known.as_ref()?.expires
    }

    fn owes_answers(&self) -> bool {
        matches!(&self.phase, Phase::Receiving(receiving) if receiving.owes_answers())
    }

    /// Reads as many requests as can be understood now.
    fn read_requests(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> usize {
        let mut used = 0;
        loop {
            let mut again = false;
            let left = &bytes[used..];
            let mut taken = 0;
            self.replace(cx, |phase, cx, link| match phase {
                Phase::Receiving(receiving) => {
                    let step: Step = receiving.read(cx, link, left);
                    (taken, again) = (step.used, step.again);
                    step.phase
                }
                // Nothing can be asked of a stream: its response has no end.
                phase @ (Phase::Streaming(_) | Phase::Closed(_)) => {
                    taken = left.len();
                    phase
                }
                phase => phase,
            });
            used += taken;
            if !again {
                return used;
            }
        }
    }
}

impl Wire for Http {
    fn read(&mut self, cx: &mut Context<'_>, input: Input<'_>) -> Progress {
        let bytes = match input {
            Input::Bytes(bytes) | Input::End(bytes) => bytes,
        };
        let used = self.read_requests(cx, bytes);
        // Requests that wait behind others are offered again.
        let is_last = used == bytes.len() || self.is_stuck(cx);
        if matches!(input, Input::End(_)) && self.ending == Ending::No && is_last {
            self.peer_ended(cx);
        }
        let then = match self.then(cx) {
            // A request behind a poll waits, and so does the peer's end behind that.
            Then::Open if used < bytes.len() && matches!(self.phase, Phase::Polling(_) | Phase::Watching(_)) => {
                Then::Paused
            }
            then => then,
        };
        Progress { used, then }
    }

    fn answer(&mut self, cx: &mut Context<'_>, ask: AskId, answer: Answer) -> Then {
        self.change(cx, |phase, cx, link| match (phase, answer) {
            (Phase::Receiving(receiving), Answer::Published(outcome)) => receiving.outcome(cx, ask, outcome),
            (Phase::Receiving(receiving), Answer::Authenticated(proof)) => {
                let is_proved = link.known.as_mut().is_some_and(|known| known.proved(ask, proof));
                if is_proved { receiving.identified(cx) } else { Phase::Receiving(receiving) }
            }
            (Phase::Subscribing(subscribing), Answer::Welcomed(Err(refusal))) => subscribing.refused(cx, link, refusal),
            (Phase::Batching(mut batching), Answer::Published(outcome)) => {
                batching.outcome(ask, outcome.map_err(Into::into));
                Phase::batch(cx, batching)
            }
            (Phase::Subscribing(subscribing), Answer::Subscribed(granted)) if subscribing.ask() == ask => {
                subscribing.granted(cx, link, granted)
            }
            (Phase::Calling(api), Answer::Called(reply)) if api.ask() == ask => api.called(cx, link, reply),
            (Phase::Streaming(mut streaming), Answer::Called(reply)) => {
                streaming.called(cx, link, ask, reply);
                Phase::Streaming(streaming)
            }
            (Phase::Looking(looking), Answer::Past(past)) if looking.ask() == ask => looking.answer(cx, link, past),
            (phase, _) => phase,
        })
    }

    fn push(&mut self, cx: &mut Context<'_>, delivery: &Delivery<'_>) -> Taken {
        let Self { service, known, next_ask, ending, phase } = self;
        match phase {
            Phase::Streaming(streaming) => {
                if let Delivery::Conversation(conversation) = delivery {
                    let mut link = Link { service, known, next_ask, ending: *ending };
                    streaming.note_change(cx, &mut link, conversation);
                }
                streaming.push(cx, delivery)
            }
            Phase::Polling(polling) => polling.push(cx, delivery),
            Phase::Watching(watching) => watching.push(delivery),
            // Too late: the subscription is ended, and the answer said its last position.
            _ => Taken::Yes,
        }
    }

    fn settle(&mut self, cx: &mut Context<'_>) -> Then {
        self.change(cx, |phase, cx, link| match phase {
            Phase::Polling(polling) if matches!(polling.ripe(cx.position), Ripe::Yes) => {
                unsubscribe(cx, link);
                let manner = polling.answer(cx);
                Phase::after(cx, &manner)
            }
            Phase::Watching(watching) if matches!(watching.ripe(), Ripe::Yes) => {
                unsubscribe(cx, link);
                let manner = watching.answer(cx);
                Phase::after(cx, &manner)
            }
            phase => phase,
        })
    }

    fn deadline(&self) -> Option<Monotonic> {
        let before_expiry = |at: Monotonic| Some(self.expires().map_or(at, |expires| expires.min(at)));
        match &self.phase {
            Phase::Receiving(receiving) => receiving.until(),
            Phase::Polling(polling) => before_expiry(polling.until()),
            Phase::Watching(watching) => before_expiry(watching.until()),
            Phase::Streaming(streaming) => before_expiry(streaming.until()),
            Phase::Subscribing(_)
            | Phase::Batching(_)
            | Phase::Calling(_)
            | Phase::Looking(_)
            | Phase::Became(_)
            | Phase::Closed(_) => None,
        }
    }

    fn tick(&mut self, cx: &mut Context<'_>) -> Then {
        if self.deadline().is_none_or(|at| at > cx.now.monotonic) {
            return self.then(cx);
        }
        let waits = matches!(self.phase, Phase::Polling(_) | Phase::Watching(_) | Phase::Streaming(_));
        if waits && self.expires().is_some_and(|at| at <= cx.now.monotonic) {
            return self.farewell(cx, &Reason::Expired);
        }
        self.change(cx, |phase, cx, link| match phase {
            Phase::Receiving(receiving) => receiving.tick(cx, link),
            Phase::Polling(polling) => {
                unsubscribe(cx, link);
                let manner = polling.answer(cx);
                Phase::after(cx, &manner)
            }
            Phase::Watching(watching) => {
                unsubscribe(cx, link);
                let manner = watching.answer(cx);
                Phase::after(cx, &manner)
            }
            Phase::Streaming(mut streaming) => {
                streaming.tick(cx);
                Phase::Streaming(streaming)
            }
            phase => phase,
        })
    }

    fn farewell(&mut self, cx: &mut Context<'_>, reason: &Reason) -> Then {
        let planned = if let Reason::Drain(delay) = reason { Some(*delay) } else { None };
        if planned.is_some() && self.ending == Ending::No {
            self.ending = Ending::Drain;
        }
        self.change(cx, |phase, cx, link| match phase {
            Phase::Streaming(streaming) => {
                streaming.end(cx, reason);
                Phase::Closed(reason.clone())
            }
            Phase::Polling(polling) => {
                unsubscribe(cx, link);
                let Some(delay) = planned else { return polling.refuse(cx, reason) };
                polling.interrupt(cx, delay);
                Phase::Closed(reason.clone())
            }
            Phase::Watching(watching) => {
                unsubscribe(cx, link);
                let Some(delay) = planned else { return watching.refuse(cx, reason) };
                watching.interrupt(cx, delay);
                Phase::Closed(reason.clone())
            }
            // Requests are answered before a planned end.
            phase if planned.is_some() => phase,
            _ => Phase::Closed(reason.clone()),
        })
    }

    fn holds(&self) -> usize {
        if let Phase::Receiving(receiving) = &self.phase { receiving.holds() } else { 0 }
    }

    fn name(&self) -> &'static str {
        match &self.phase {
            Phase::Polling(polling) if polling.patience() == Patience::Long => "longpoll",
            Phase::Polling(_) => "poll",
            Phase::Watching(_) => "longpoll",
            Phase::Streaming(streaming) => streaming.format().name(),
            Phase::Subscribing(subscribing) => subscribing.name(),
            _ => "http",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<Http>() <= 112, "{}", size_of::<Http>());
    }
}
