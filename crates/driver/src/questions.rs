//! What wires ask, and the answers that they are given.
//!
//! An answer makes a wire ask again, and what is asked may be answered at once: so both wait in queues that are worked
//! off in a loop. Nothing here calls itself, however many questions one segment holds.

use std::collections::{HashMap, VecDeque};

use everywire_base::ask::{Append, AuthError, Authenticate, Call, Credentials, Draft};
use everywire_base::id::{AskId, Slot, Ticket};
use everywire_base::notice::{Notice, Refused};
use everywire_hub::{Deliver as _, Said};
use everywire_wire::{Answer, Ask};

use crate::net::Net;
use crate::worker::Worker;

/// What connections have asked beyond their share of a turn. They take turns.
#[derive(Default)]
pub(crate) struct Later {
    order: VecDeque<Slot>,
    asks: HashMap<Slot, VecDeque<(AskId, Ask)>>,
}

impl Later {
    pub(crate) fn is_empty(&self) -> bool {
        self.asks.is_empty()
    }

    fn push(&mut self, slot: Slot, ask: AskId, question: Ask) {
        let asks = self.asks.entry(slot).or_insert_with(|| {
            self.order.push_back(slot);
            VecDeque::new()
        });
        asks.push_back((ask, question));
    }

    /// The rest of what a connection has asked, which is last now.
    fn put_back(&mut self, slot: Slot, asks: VecDeque<(AskId, Ask)>) {
        self.order.push_back(slot);
        self.asks.insert(slot, asks);
    }

    /// All that the connection has asked whose turn it is.
    fn pop(&mut self) -> Option<(Slot, VecDeque<(AskId, Ask)>)> {
        // One that has ended stands here still.
        while let Some(slot) = self.order.pop_front() {
            if let Some(asks) = self.asks.remove(&slot) {
                return Some((slot, asks));
            }
        }
        None
    }
}

impl<N: Net> Worker<N> {
    /// Gives a wire an answer, and sees to what it asks because of it.
    pub(crate) fn answer(&mut self, slot: Slot, ask: AskId, answer: Answer) {
        self.give(slot, ask, answer);
        self.see_to_questions();
    }

    /// Gives a wire an answer. What it asks because of it waits.
    fn give(&mut self, slot: Slot, ask: AskId, answer: Answer) {
        let refusal = refusal_of(&answer);
        if matches!(answer, Answer::Authenticated(Ok(_))) {
            self.connections.is_known(slot);
        }
        let position = self.hub.position(slot);
        self.connections.call_then(slot, &position, |wire, cx| wire.answer(cx, ask, answer));
        self.note_login(slot, refusal);
        self.connections.settled(slot);
    }

    /// Notes a login that is refused, unless its wire has done so, which may know more of who it was.
    fn note_login(&mut self, slot: Slot, refusal: Option<Box<str>>) {
        let Some(why) = refusal else { return };
        let who = self.logins.remove(&slot);
        let asked_last = self.connections.questions.iter().rev().take_while(|question| question.0 == slot);
        let is_noted = |ask: &Ask| matches!(ask, Ask::Notice(notice) if notice.refused == Refused::Login);
        if !asked_last.map(|question| &question.2).any(is_noted) {
            self.connections.note(slot, Notice { refused: Refused::Login, who, why });
        }
    }

    /// Hands over what the hub answers, and sees to what wires have asked, until there is neither.
    pub(crate) fn see_to_questions(&mut self) {
        loop {
            if let Some((slot, ask, said)) = self.hub.answers().pop_front() {
                self.give(slot, ask, answer_of(said));
            } else if let Some((slot, ask, question)) = self.connections.questions.pop_front() {
                if self.connections.may_ask(slot) {
                    self.see_to(slot, ask, question);
                } else {
                    self.later.push(slot, ask, question);
                }
            } else {
                return;
            }
        }
    }

    /// Publishes for a connection; where it is connected from counts only if it has a key that somebody must remember.
    fn append(&mut self, ticket: Ticket, draft: Draft) {
        let address = draft.message.key.is_some().then(|| self.connections.whereabouts(ticket.slot).0);
        self.hub.appends().push(Append { ticket, draft, address });
    }

    /// Goes on with what connections asked beyond their share of earlier turns, as far as this turn has room for it.
    pub(crate) fn go_on_with_questions(&mut self) {
        for _ in 0..self.later.order.len() {
            if !self.connections.has_time_for_later() {
                return;
            }
            let Some((slot, mut asks)) = self.later.pop() else { return };
            let share = asks.len().min(self.connections.renew(slot));
            self.connections.questions.extend(asks.drain(..share).map(|(ask, question)| (slot, ask, question)));
            if !asks.is_empty() {
                self.later.put_back(slot, asks);
                self.connections.wait_turn(slot);
            }
            self.see_to_questions();
        }
    }

    /// Sees to all that ended connections have asked, before they are forgotten: a goodbye may be in it.
    pub(crate) fn finish_questions(&mut self) {
        let gone: Vec<_> = self.connections.gone.iter().map(|(slot, _)| *slot).collect();
        for slot in gone {
            for (ask, question) in self.later.asks.remove(&slot).into_iter().flatten() {
                self.see_to(slot, ask, question);
            }
        }
        self.see_to_questions();
    }

    fn see_to(&mut self, slot: Slot, ask: AskId, question: Ask) {
        let ticket = Ticket { worker: self.number, slot, ask };
        let now = self.connections.now;
        match question {
            Ask::Publish(draft) => self.append(ticket, draft),
            Ask::PublishOnce(draft, number) => match self.hub.publish_once(slot, ask, number, draft, now) {
                Some(draft) => self.append(ticket, draft),
                None => self.give(slot, ask, Answer::KnownAlready),
            },
            Ask::Release(number) => {
                self.hub.release(slot, ask, number, now);
                self.busy = true;
            }
            Ask::Subscribe(subscribe) => {
                self.hub.subscribe_for(slot, ask, &subscribe, now);
                self.busy = true;
            }
            Ask::Unsubscribe(which) => {
                self.hub.unsubscribe_from(slot, ask, &which, now);
                self.busy = true;
            }
            Ask::LookBack(what) => {
                self.hub.look_back(slot, ask, what);
                self.busy = true;
            }
            Ask::Goodbye(goodbye) => self.hub.goodbye(slot, goodbye),
            Ask::CameFrom(through) => self.connections.came_through(slot, &through),
            Ask::Label(label) => self.connections.label_with(slot, label.as_deref()),
            Ask::FoundNothing => self.connections.found_nothing(slot),
            Ask::Notice(notice) => self.connections.note(slot, notice),
            Ask::Authenticate(asked) => {
                if let Credentials::Password { user, .. } = &asked.credentials {
                    self.logins.insert(slot, user.as_ref().into());
                }
                let (from, is_leaving) = self.connections.whereabouts(slot);
                if self.ports.authenticate(Authenticate { ticket, ..asked }, from, is_leaving).is_err() {
                    let busy = AuthError::Unavailable("too many logins wait to be checked: try again".into());
                    self.give(slot, ask, Answer::Authenticated(Err(busy)));
                }
            }
            Ask::Login(login) => {
                self.hub.login(slot, ask, login, now);
                self.busy = true;
            }
            Ask::Acknowledge(ack) => {
                if let Err(error) = self.hub.acknowledge(slot, ask, &ack, now) {
                    self.give(slot, ask, Answer::NotAcknowledged(error));
                }
                self.busy = true;
            }
            Ask::Call(call) => {
                let from = call.from.or_else(|| Some(self.connections.whereabouts(slot).0));
                if self.ports.call(Call { ticket, from, ..call }).is_err() {
                    self.give(slot, ask, Answer::Called(None));
                }
            }
        }
    }
}

/// Why somebody isn't let in.
fn refusal_of(answer: &Answer) -> Option<Box<str>> {
    match answer {
        Answer::Authenticated(Err(AuthError::Refused(why) | AuthError::Mismatch(why))) => Some(why.clone()),
        Answer::Welcomed(Err(refusal)) => Some(refusal.to_string().into()),
        _ => None,
    }
}

fn answer_of(said: Said) -> Answer {
    match said {
        Said::Welcomed(welcome) => Answer::Welcomed(welcome),
        Said::Subscribed(subscribed) => Answer::Subscribed(subscribed),
        Said::Unsubscribed(was_there) => Answer::Unsubscribed(was_there),
        Said::Released(was_known) => Answer::Released(was_known),
        Said::Received(tag) => Answer::Received(tag),
        Said::Past(past) => Answer::Past(past),
    }
}
