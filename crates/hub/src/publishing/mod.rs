//! Messages of clients on their way to the log, judged again when what they were judged by has changed meanwhile
//! (RULES 46).
//!
//! A connection has a line while a guarded message of it is under way; other connections cost nothing. A message that
//! comes back as stale waits at its place in the line, and all that its connection publishes then waits behind it, until
//! nothing of the connection is under way. Then all that waits is judged by the present state and goes again, in the
//! order of the connection. Answers are given in that order too.
//!
//! All guarded messages of a line carry the mark of the earliest: of two messages to one topic the later one is stale
//! if the earlier is, and so never overtakes it. A message that is stale too often is answered so.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use everywire_base::ask::{Append, Guard, NotPublished, Outcome, PublishError, Published};
use everywire_base::clock::{Monotonic, Now};
use everywire_base::cursor::Offset;
use everywire_base::id::{AskId, Slot};

use crate::floor::Floor;
use crate::floor::due::Due;

/// The number of times that one message is judged again.
const MOST: u8 = 20;
/// The delay before the first time; each further one is twice as long, up to a bound. The state that is read then must
/// know of the change, which this node applies a moment after it is in the log.
const DELAY: Duration = Duration::from_millis(2);
/// The number of times that the delay is doubled.
const DOUBLINGS: u8 = 5;

/// The answer to a connection's message.
pub(crate) type PublishAnswer = (Slot, AskId, Result<Published, NotPublished>);

/// The lines of the connections with guarded messages under way.
#[derive(Default)]
pub(crate) struct Publishing {
    lines: HashMap<Slot, Line>,
    due: Due<Slot>,
    answers: VecDeque<PublishAnswer>,
}

/// The messages of one connection that aren't answered, in the order in which they were published.
struct Line {
    messages: VecDeque<InLine>,
    /// The number of them that wait.
    waiting: usize,
    /// The earliest mark at which one of them was judged.
    as_of: Offset,
    /// The time before which nothing is judged again.
    not_before: Monotonic,
}

struct InLine {
    ask: AskId,
    way: Way,
    /// The number of times that it was stale.
    stale: u8,
}

enum Way {
    /// On its way, with a copy of what may have to go again.
    Sent(Option<Box<Append>>),
    /// To be judged again, or behind such a message.
    Waits(Box<Append>),
    /// To be answered once all before it are.
    Answered(Result<Published, NotPublished>),
}

impl Publishing {
    /// Takes a message to the log, or lets it wait for its turn.
    pub(crate) fn publish(&mut self, floor: &mut Floor, append: Append) {
        let Some((slot, ask)) = append.reply_to.connection() else { return floor.out.appends.push(append) };
        if append.draft.guards.is_empty() && !self.lines.contains_key(&slot) {
            return floor.out.appends.push(append);
        }
        let line = self.lines.entry(slot).or_insert_with(Line::new);
        let way = if line.waiting > 0 {
            line.waiting += 1;
            Way::Waits(Box::new(append))
        } else {
            line.send(floor, append)
        };
        line.messages.push_back(InLine { ask, way, stale: 0 });
    }

    /// Takes the log's answer. The client's answer comes by [`Publishing::next_answer`], at once or later.
    pub(crate) fn answered(&mut self, outcome: &Outcome, now: Now) {
        let Some((slot, ask)) = outcome.reply_to.connection() else { return };
        let is_its = |message: &InLine| message.ask == ask && message.is_sent();
        let line = self.lines.get_mut(&slot);
        let place = line.and_then(|line| line.messages.iter().position(is_its).map(|at| (line, at)));
        let Some((line, at)) = place else {
            return self.answers.push_back((slot, ask, outcome.result.map_err(Into::into)));
        };
        line.answered(at, outcome.result, now);
        self.go_on(slot, now);
    }

    /// Judges again what has waited long enough.
    pub(crate) fn turn(&mut self, floor: &mut Floor, now: Now) {
        while let Some((_, slot)) = self.due.next(now.monotonic) {
            if let Some(line) = self.lines.get_mut(&slot) {
                line.judge_again(floor);
                self.go_on(slot, now);
            }
        }
    }

    /// The next answer for a connection.
    pub(crate) fn next_answer(&mut self) -> Option<PublishAnswer> {
        self.answers.pop_front()
    }

    pub(crate) fn deadline(&self) -> Option<Monotonic> {
        self.due.deadline()
    }

    /// Gives the answers of a line that nothing holds up, and has it judged again when nothing of it is under way.
    fn go_on(&mut self, slot: Slot, now: Now) {
        let Some(line) = self.lines.get_mut(&slot) else { return };
        while let Some(InLine { way: Way::Answered(_), .. }) = line.messages.front()
            && let Some(InLine { ask, way: Way::Answered(result), .. }) = line.messages.pop_front()
        {
            self.answers.push_back((slot, ask, result));
        }
        if line.messages.is_empty() {
            self.lines.remove(&slot);
        } else if line.waiting > 0 && !line.messages.iter().any(InLine::is_sent) {
            self.due.add(line.not_before.max(now.monotonic), slot);
        }
    }
}

impl InLine {
    fn is_sent(&self) -> bool {
        matches!(self.way, Way::Sent(_))
    }

    fn waits(&self) -> bool {
        matches!(self.way, Way::Waits(_))
    }
}

impl Line {
    fn new() -> Self {
        Self { messages: VecDeque::new(), waiting: 0, as_of: Offset(u64::MAX), not_before: Monotonic(0) }
    }

    /// Sends a message. A copy is kept of one that may come back: it is guarded, or has a key whose turn may not have
    /// come.
    fn send(&mut self, floor: &mut Floor, mut append: Append) -> Way {
        let draft = &mut append.draft;
        self.as_of = draft.guards.iter().map(|guard| guard.as_of).fold(self.as_of, Offset::min);
        draft.guards = draft.guards.iter().map(|guard| Guard { as_of: self.as_of, ..*guard }).collect();
        let may_come_back = !draft.guards.is_empty() || draft.message().is_some_and(|message| message.key.is_some());
        let copy = may_come_back.then(|| Box::new(append.clone()));
        floor.out.appends.push(append);
        Way::Sent(copy)
    }

    /// Notes the log's answer to the message at this place.
    fn answered(&mut self, at: usize, result: Result<Published, PublishError>, now: Now) {
        let is_behind = self.waiting > 0 && self.messages.iter().take(at).any(InLine::waits);
        let message = &mut self.messages[at];
        let Way::Sent(copy) = &mut message.way else { return };
        message.way = match (result, copy.take()) {
            (Err(PublishError::Stale), Some(append)) if message.stale < MOST => {
                self.not_before = self.not_before.max(now.monotonic + DELAY * (1 << message.stale.min(DOUBLINGS)));
                message.stale += 1;
                Way::Waits(append)
            }
            // The message with the number before it is among those that wait.
            (Err(PublishError::OutOfOrder { .. }), Some(append)) if is_behind => Way::Waits(append),
            (result, _) => Way::Answered(result.map_err(Into::into)),
        };
        self.waiting += usize::from(message.waits());
    }

    /// Judges all that waits by the present state, and sends what may be published.
    fn judge_again(&mut self, floor: &mut Floor) {
        (self.as_of, self.waiting) = (Offset(u64::MAX), 0);
        let mut messages = std::mem::take(&mut self.messages);
        for message in messages.iter_mut().filter(|message| message.waits()) {
            let nothing = Way::Sent(None);
            let Way::Waits(mut append) = std::mem::replace(&mut message.way, nothing) else { continue };
            let draft = &mut append.draft;
            // Nothing that could change decided on a message without guards.
            let judged = if draft.guards.is_empty() {
                Ok(Box::default())
            } else {
                floor.setup.rules.judge_publish(draft.author.as_deref(), draft.entry.topic())
            };
            message.way = match judged {
                Ok(guards) => {
                    draft.guards = guards;
                    if let Some(message) = draft.entry.message_mut() {
                        floor.setup.rules.hide_author(draft.author.as_deref(), message);
                    }
                    self.send(floor, *append)
                }
                Err(refusal) => Way::Answered(Err(refusal.into())),
            };
        }
        self.messages = messages;
    }
}
