//! The short states after a request: a subscription that is asked for, a call that is under way.

use everywire_base::ask::{Reply, Subscribed, Unsubscribe};
use everywire_base::id::AskId;
use everywire_base::reason::Reason;
use everywire_base::rules::Refusal;
use everywire_wire::{Ask, Context};

use crate::call;
use crate::machine::{Link, Phase};
use crate::poll::{Patience, Polling, Watching};
use crate::problem::Problem;
use crate::reading::{Begins, Shape};
use crate::reply::{Content, Manner};
use crate::stream::{self, Streaming};

/// Waits to hear whether the subscription is granted.
pub(crate) struct Subscribing {
    ask: AskId,
    manner: Manner,
    shape: Shape,
}

impl Subscribing {
    pub(crate) fn new(ask: AskId, manner: Manner, shape: Shape) -> Self {
        Self { ask, manner, shape }
    }

    pub(crate) fn ask(&self) -> AskId {
        self.ask
    }

    /// The name of the wire that begins.
    pub(crate) fn name(&self) -> &'static str {
        match &self.shape {
            Shape::ShortPoll { .. } => "poll",
            Shape::LongPoll { .. } | Shape::Watch { .. } => "longpoll",
            Shape::Stream { format, .. } => format.name(),
        }
    }

    /// Refuses the request, since the registry doesn't take its user.
    pub(crate) fn refused(self, cx: &mut Context<'_>, link: &mut Link<'_>, refusal: Refusal) -> Phase {
        unsubscribe(cx, link);
        let problem = Problem::from(refusal);
        cx.out.write(|out| problem.reply(&self.manner, out));
        // If they are shown again, the credentials are to be checked anew.
        *link.known = None;
        Phase::after(cx, &self.manner)
    }

    /// Begins to read, if every filter was granted.
    pub(crate) fn granted(self, cx: &mut Context<'_>, link: &mut Link<'_>, subscribed: Subscribed) -> Phase {
        let Self { manner, shape, .. } = self;
        let manner = if link.ends() { manner.closing() } else { manner };
        if let Some((_, refusal)) = subscribed.refused.into_iter().next() {
            unsubscribe(cx, link);
            let problem = Problem::from(refusal);
            cx.out.write(|out| problem.reply(&manner, out));
            return Phase::after(cx, &manner);
        }
        let (now, gap) = (cx.now.monotonic, subscribed.gap);
        match shape {
            Shape::ShortPoll { limit } => {
                Phase::Polling(Polling::new(manner, Patience::None, limit, now + cx.limits.slow_request, gap))
            }
            Shape::LongPoll { limit, wait } => {
                let until = link.patience(cx, now + wait);
                Phase::Polling(Polling::new(manner, Patience::Long, limit, until, gap))
            }
            Shape::Watch { wait } => Phase::Watching(Watching::new(manner, link.patience(cx, now + wait), gap)),
            Shape::Stream { format, pad, begins } => {
                let told = (begins == Begins::AtAnEnd).then_some(&subscribed.cursor);
                if manner.content == Content::Whole {
                    return Phase::Streaming(Streaming::begin(cx, &manner, format, pad, told));
                }
                unsubscribe(cx, link);
                cx.out.write(|out| stream::head(out, &manner, format, told));
                Phase::Closed(Reason::Done)
            }
        }
    }
}

/// Ends all subscriptions of the connection.
pub(crate) fn unsubscribe(cx: &mut Context<'_>, link: &mut Link<'_>) {
    cx.asks.push((link.number(), Ask::Unsubscribe(Unsubscribe::All)));
}

/// A call of the API that is under way.
pub(crate) struct Api {
    ask: AskId,
    manner: Box<Manner>,
}

impl Api {
    pub(crate) fn new(ask: AskId, manner: Manner) -> Self {
        Self { ask, manner: Box::new(manner) }
    }

    pub(crate) fn ask(&self) -> AskId {
        self.ask
    }

    pub(crate) fn called(mut self, cx: &mut Context<'_>, link: &Link<'_>, reply: Option<Reply>) -> Phase {
        if link.ends() {
            *self.manner = self.manner.closing();
        }
        cx.out.write(|out| call::reply(out, &self.manner, reply));
        Phase::after(cx, &self.manner)
    }
}
