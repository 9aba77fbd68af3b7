//! The asks of wires, and the answers to them.
//!
//! An answer makes a wire ask again, and an ask may be answered at once: so both wait in queues that are worked off in
//! a loop. Nothing here calls itself, however many questions one segment holds.

use std::collections::{HashMap, VecDeque};

use everywire_base::ask::{Append, AuthError, Authenticate, Call, Credentials, Draft, DriverAsk};
use everywire_base::id::{AskId, ReplyTo, Slot};
use everywire_base::kept::Payer;
use everywire_base::notice::{Notice, Refused};
use everywire_hub::Deliver as _;
use everywire_wire::{Answer, Ask};

use crate::net::Net;
use crate::worker::Worker;

/// The asks of connections beyond their share of a turn. The connections take turns.
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

    /// Puts back the rest of a connection's asks; it is last now.
    fn put_back(&mut self, slot: Slot, asks: VecDeque<(AskId, Ask)>) {
        self.order.push_back(slot);
        self.asks.insert(slot, asks);
    }

    /// Takes all asks of the connection whose turn it is.
    fn pop(&mut self) -> Option<(Slot, VecDeque<(AskId, Ask)>)> {
        // A connection that has ended still stands here.
        while let Some(slot) = self.order.pop_front() {
            if let Some(asks) = self.asks.remove(&slot) {
                return Some((slot, asks));
            }
        }
        None
    }
}

impl<N: Net> Worker<N> {
    /// Gives a wire an answer, and sees to the asks that follow from it.
    pub(crate) fn answer(&mut self, reply_to: ReplyTo, answer: Answer) {
        let Some((slot, ask)) = reply_to.connection() else { return };
        self.give(slot, ask, answer);
        self.see_to_questions();
    }

    /// Gives a wire an answer. The asks that follow from it wait.
    fn give(&mut self, slot: Slot, ask: AskId, answer: Answer) {
        let refusal = refusal_of(&answer);
        if matches!(answer, Answer::Published(Ok(_))) {
            self.connections.count_published(slot);
        }
        if matches!(answer, Answer::Authenticated(Ok(_))) {
            self.connections.is_known(slot);
        }
        let position = self.hub.position(slot);
        self.connections.call_then(slot, &position, |wire, cx| wire.answer(cx, ask, answer));
        self.note_login(slot, refusal);
        self.connections.settled(slot);
    }

    /// Notes a login that is refused, unless its wire has done so: the wire may know more of the user.
    fn note_login(&mut self, slot: Slot, refusal: Option<Box<str>>) {
        let Some(why) = refusal else { return };
        let who = self.logins.remove(&slot);
        let asked_last = self.connections.questions.iter().rev().take_while(|question| question.0 == slot);
        let is_noted = |ask: &Ask| matches!(ask, Ask::Notice(notice) if notice.refused == Refused::Login);
        if !asked_last.map(|question| &question.2).any(is_noted) {
            self.connections.note(slot, Notice { refused: Refused::Login, who, why });
        }
    }

    /// Hands over the hub's answers, and sees to the asks of wires, until there is neither.
    pub(crate) fn see_to_questions(&mut self) {
        loop {
            if let Some((slot, ask, said)) = self.hub.answers().pop_front() {
                // A connection that is being ended may have lost its session already: its end says so.
                if !(matches!(said, Answer::NotAcknowledged(_)) && self.connections.is_ending(slot)) {
                    self.give(slot, ask, said);
                }
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

    /// Publishes for a connection. Its address counts only for a message with a key, which somebody must remember.
    fn append(&mut self, reply_to: ReplyTo, draft: Draft) {
        let address =
            draft.message().is_some_and(|message| message.key.is_some()).then(|| self.connections.origin_of(reply_to));
        self.hub.publish(Append { address, ..Append::new(reply_to, draft) });
    }

    /// Goes on with asks beyond the shares of earlier turns, as far as this turn has room for them.
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

    /// Sees to all asks of ended connections before they are forgotten: a goodbye may be among them.
    pub(crate) fn finish_questions(&mut self) {
        let gone: Vec<_> = self.connections.gone.iter().map(|(slot, _)| *slot).collect();
        for slot in gone {
            for (ask, question) in self.later.asks.remove(&slot).into_iter().flatten() {
                self.see_to(slot, ask, question);
            }
        }
        self.see_to_questions();
    }

    fn see_to(&mut self, slot: Slot, ask: AskId, mut question: Ask) {
        let reply_to = ReplyTo::Connection { worker: self.number, slot, ask };
        let now = self.connections.now;
        if let Ask::Login(login) = &mut question {
            login.wire = self.connections.wire_name(slot);
            if login.is_lasting() {
                login.payer = Payer::address(self.connections.whereabouts(slot).0);
            }
        }
        let Some(question) = self.hub.ask(slot, ask, question, now) else {
            self.busy = true;
            return;
        };
        match question {
            DriverAsk::Publish(draft) => self.append(reply_to, draft),
            DriverAsk::CameFrom(address) => self.connections.came_from(slot, address),
            DriverAsk::Label(label) => self.connections.label_with(slot, label.as_deref()),
            DriverAsk::FoundNothing => self.connections.found_nothing(slot),
            DriverAsk::Notice(notice) => self.connections.note(slot, notice),
            DriverAsk::Authenticate(asked) => {
                if let Credentials::Password { user, .. } = &asked.credentials {
                    self.logins.insert(slot, user.as_ref().into());
                }
                let (from, is_leaving) = self.connections.whereabouts(slot);
                if self.ports.authenticate(Authenticate { reply_to, ..asked }, from, is_leaving).is_err() {
                    let busy = AuthError::Unavailable("too many logins wait to be checked: try again".into());
                    self.give(slot, ask, Answer::Authenticated(Err(busy)));
                }
            }
            DriverAsk::Call(call) => {
                let from = call.from.or_else(|| Some(self.connections.whereabouts(slot).0));
                if self.ports.call(Call { reply_to, from, ..call }).is_err() {
                    self.give(slot, ask, Answer::Called(None));
                }
            }
        }
    }
}

/// The reason why a login is refused, if it is.
fn refusal_of(answer: &Answer) -> Option<Box<str>> {
    match answer {
        Answer::Authenticated(Err(AuthError::Refused(why) | AuthError::Mismatch(why))) => Some(why.clone()),
        Answer::Welcomed(Err(refusal)) => Some(refusal.to_string().into()),
        _ => None,
    }
}
