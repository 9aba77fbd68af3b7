//! The packer: numbers the workers' appends, and sends them, one frame at a time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use everywire_base::ask::{Append, PublishError};
use everywire_base::clock::Monotonic;
use everywire_base::cursor::{Epoch, Offset};
use everywire_base::record::Durability;
use everywire_base::system::{self, NodeChange};

use super::room::Room;
use super::{CUT_AFTER, PROMISES, RETRY, Shared, lock, say};
use crate::engine::Link;
use crate::judge::node_name;
use crate::queue::weight;
use crate::remote::{Refusal, Remote, RemoteError};
use crate::tail::{Debts, Tail};

/// The time between two beats.
const BEAT: Duration = Duration::from_secs(5);
/// The longest time that a packer without work waits for some.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest time that a close waits for the engine.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Packer {
    remote: Box<dyn Remote>,
    shared: Arc<Shared>,
    tail: Arc<Tail>,
    connection: Connection,
    waiting: VecDeque<Append>,
    next_beat: Monotonic,
    close: Close,
    room: Room,
    /// The error for which the engine can't be used, as it was last logged.
    told: Option<RemoteError>,
    /// The error for which it takes nothing, as it was last logged.
    refusal: Option<RemoteError>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Connection {
    /// There is none; the next attempt is made at this time.
    Off(Monotonic),
    /// It is new: all records up to this offset must be read first, since they may have come over the last one. It
    /// leads to the log of this epoch; the reader may have come to another one since.
    Fresh {
        head: Offset,
        epoch: Epoch,
    },
    On,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Close {
    Open,
    /// The node has written its goodbye, and waits until this time for the engine to have it and for answers it owes.
    Going(Monotonic),
    Finished,
}

impl Packer {
    pub(super) fn new(remote: Box<dyn Remote>, shared: Arc<Shared>, tail: Arc<Tail>) -> Self {
        let now = shared.now();
        let (connection, waiting, room) = (Connection::Off(now), VecDeque::new(), Room::new(now));
        let (close, told, refusal) = (Close::Open, None, None);
        Self { remote, shared, tail, connection, waiting, next_beat: now + BEAT, close, room, told, refusal }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.close == Close::Finished
    }

    pub(super) fn begin_close(&self) {
        self.shared.queue.begin_close();
    }

    /// A turn on a thread of its own: waits for appends if there is nothing to do.
    pub(super) fn run_turn(&mut self) {
        if self.turn() || self.is_finished() {
            return;
        }
        let pause = if self.connection == Connection::On { PAUSE } else { Duration::from_millis(2) };
        let arrived = self.shared.queue.take_until(Instant::now() + pause);
        self.waiting.extend(arrived.into_iter().flatten());
    }

    /// Sends a frame, or does a step that must come before. Returns whether there was anything to do.
    pub(super) fn turn(&mut self) -> bool {
        if self.is_finished() {
            return false;
        }
        // The look at the state comes before the one into the queue, so that all appends before the close are answered.
        let is_closing = self.shared.queue.is_closing();
        self.refuse_if_cut();
        self.shared.give_up();
        let is_ready = self.is_ready();
        if is_ready {
            self.look_at_room();
            self.number();
        }
        let has_sent = is_ready && self.send();
        if is_closing && !has_sent {
            self.close();
        }
        has_sent
    }

    /// Refuses appends that aren't numbered while the engine is away.
    fn refuse_if_cut(&mut self) {
        if self.shared.link() != Link::Up && !self.waiting.is_empty() {
            let waiting: Vec<Append> = self.waiting.drain(..).collect();
            self.shared.queue.release(waiting.len(), waiting.iter().map(weight).sum());
            self.shared.answer(super::refused(waiting, PublishError::NoEngine));
        }
    }

    /// Asks the engine for its room, if it is time and something is to be appended, or waits for room.
    fn look_at_room(&mut self) {
        let now = self.shared.now();
        if self.waiting.is_empty() {
            self.waiting.extend(self.shared.queue.take().into_iter().flatten());
        }
        let is_idle = self.waiting.is_empty() && !self.room.is_tight() && self.shared.flight().is_empty();
        if is_idle || !self.room.is_due(now) {
            return;
        }
        match self.remote.memory() {
            Ok(memory) => self.room.look(memory, now, &self.shared.metrics),
            Err(error) => {
                tracing::debug!(%error, "the engine doesn't tell its memory");
                self.connection = Connection::Off(now);
            }
        }
    }

    /// Logs why the engine can't be used: once, as long as the error is the same.
    fn tell(&mut self, error: RemoteError) {
        if self.told.as_ref() != Some(&error) {
            tracing::warn!(%error, "the engine can't be used; it is tried again and again");
        }
        self.told = Some(error);
    }

    /// Whether there is a connection over which frames may go.
    fn is_ready(&mut self) -> bool {
        let now = self.shared.now();
        match self.connection {
            Connection::On => return true,
            Connection::Off(then) if now < then => return false,
            Connection::Off(_) => match self.remote.open(None) {
                Ok(state) => {
                    let epoch = state.life().map_or(Epoch(0), |life| life.epoch);
                    (self.connection, self.told) = (Connection::Fresh { head: state.head, epoch }, None);
                }
                Err(error) => {
                    self.tell(error);
                    self.connection = Connection::Off(now + RETRY);
                    return false;
                }
            },
            Connection::Fresh { .. } => {}
        }
        let Connection::Fresh { head, epoch } = self.connection else { return false };
        let mut flight = self.shared.flight();
        let Some(life) = &flight.life else { return false };
        if life.epoch != epoch {
            // Another master may have less: then the log doesn't come up to `head` before others have written so much.
            self.connection = Connection::Off(now + RETRY);
            return false;
        }
        if flight.read_to < head {
            return false;
        }
        flight.withdraw();
        drop(flight);
        self.connection = Connection::On;
        self.room.is_another(now);
        self.shared.works();
        true
    }

    /// Gives numbers to waiting appends, if the engine has room for them, and to the node's records about itself.
    fn number(&mut self) {
        self.speak();
        let (now, mut refused) = (self.shared.now(), Vec::new());
        while !self.shared.flight().is_full() {
            let Some(append) = self.waiting.pop_front() else {
                let Some(arrived) = self.shared.queue.take() else { break };
                self.waiting.extend(arrived);
                continue;
            };
            self.shared.queue.release(1, weight(&append));
            if self.room.refuses(&append.draft) {
                refused.push(append);
            } else {
                self.shared.flight().add(append, &self.shared.hash, now);
            }
        }
        self.shared.answer(super::refused(refused, PublishError::EngineFull));
    }

    fn speak(&mut self) {
        let now = self.shared.now();
        let (downs, beat) = {
            let mut own = lock(&self.shared.own);
            let is_due = now >= self.next_beat && own.is_up && !own.beats;
            own.beats |= is_due;
            (std::mem::take(&mut own.downs), is_due.then_some(own.beat))
        };
        let writer = self.shared.flight().writer;
        if let Some((at, chain)) = beat {
            self.next_beat = now + BEAT;
            let synced = self.shared.kept.synced.load(Ordering::Acquire);
            let Debts { beat, owes } = self.tail.debts().read(at);
            let read = (beat < at).then_some(beat.0);
            say(&self.shared, &NodeChange::Beat { writer, at: at.0, chain, synced, read, owes });
        }
        for (name, other, sequence) in downs {
            let change = NodeChange::Down { writer: other, sequence };
            let Some(topic) = node_name(&name) else { continue };
            self.shared.flight().add_own(system::record(topic, &change, false), now);
        }
    }

    fn send(&mut self) -> bool {
        let Some(frame) = self.shared.flight().frame() else { return false };
        let began = Instant::now();
        self.shared.tries();
        match self.remote.append(&frame.life, &frame.records) {
            Ok(promise) => {
                self.shared.works();
                self.refusal = None;
                self.room.appends(frame.records.iter().map(bytes::Bytes::len).sum());
                self.promised(promise);
                self.shared.settle(|flight| {
                    flight.appended(&frame, promise);
                    flight.answers()
                });
                if !frame.records.is_empty() {
                    self.shared.metrics.committed(frame.records.len(), began.elapsed());
                }
            }
            Err(RemoteError::Unknown(what)) => {
                tracing::debug!(what, "a frame's fate is unknown");
                self.shared.metrics.failed_commits.add(1);
                self.connection = Connection::Off(self.shared.now());
            }
            Err(error) => {
                self.shared.flight().is_not_there(&frame);
                self.refused(error);
            }
        }
        true
    }

    /// Handles an error after which nothing was written.
    fn refused(&mut self, error: RemoteError) {
        let now = self.shared.now();
        let answer = match &error {
            RemoteError::Refused(Refusal::Full(_)) => PublishError::EngineFull,
            RemoteError::Refused(Refusal::Busy(_) | Refusal::Unusable(_) | Refusal::NoLog) => PublishError::Busy,
            _ => {
                self.connection = Connection::Off(now);
                return;
            }
        };
        if self.refusal.as_ref() != Some(&error) {
            tracing::error!(%error, "the engine takes nothing; it is tried again and again");
        }
        self.refusal = Some(error);
        self.shared.settle(|flight| flight.give_up(answer));
        self.connection = Connection::Off(now + RETRY);
    }

    fn promised(&self, promise: Durability) {
        let place = PROMISES.iter().position(|known| *known == promise).unwrap_or_default();
        self.shared.promise.store(place as u8, Ordering::Release);
    }

    /// Writes the goodbye when all appends before the close were sent; ends when those are answered and the engine has
    /// the goodbye, or is away. Reading it back would tell nothing, and a store that is behind would hold it up.
    fn close(&mut self) {
        let now = self.shared.now();
        if let Close::Going(until) = self.close {
            let is_cut = self.shared.link() != Link::Up;
            let is_over = {
                let flight = self.shared.flight();
                !flight.is_awaited() && (is_cut || flight.is_sent())
            };
            if is_over || now >= until {
                self.shared.settle(|flight| flight.end(false));
                self.close = Close::Finished;
                self.shared.is_done.store(true, Ordering::Release);
            }
            return;
        }
        if !self.waiting.is_empty() {
            return;
        }
        let is_over = self.shared.flight().is_over;
        if !is_over {
            let writer = self.shared.flight().writer;
            say(&self.shared, &NodeChange::Bye { writer });
        }
        self.close = Close::Going(now + CLOSE_PATIENCE + CUT_AFTER);
    }
}
