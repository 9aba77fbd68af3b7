//! Frames about people: calls of the API, entering rooms, typing, and news of a user's own conversations.

use bytes::Bytes;
use everywire_base::ask::{Being, Call, Entered};
use everywire_base::identity::encode;
use everywire_wire::{Answer, Ask, Carrier};

use crate::calls::{self, Wanted};
use crate::frames::{Problem, Response};
use crate::native::{Native, Waiting};

/// The most changed conversations that wait while one is asked for.
const MOST_CHANGED: usize = 256;

/// A client's request about people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum People {
    /// A call of the API.
    Call {
        id: u64,
        wanted: Wanted,
    },
    /// The connection becomes an occupant of a room.
    Enter {
        id: u64,
        room: String,
        nick: Option<Box<str>>,
    },
    Leave {
        id: u64,
        room: String,
    },
    Typing {
        conversation: String,
    },
    Active {
        active: bool,
    },
}

/// A response about people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Told {
    Done {
        id: u64,
    },
    Entered {
        id: u64,
        room: String,
        entered: Entered,
    },
    /// The list as the API has written it.
    Conversations {
        id: u64,
        list: Bytes,
    },
    /// A changed conversation, as the API has written it.
    Conversation {
        entry: Bytes,
    },
}

impl Native {
    pub(crate) fn people(&mut self, cx: &mut Carrier<'_, '_>, asked: People) {
        match asked {
            People::Call { id, wanted } => {
                let call = wanted.call(self.identity().cloned());
                if let Err(unfit) = cx.cx.count_call(&call) {
                    return self.send(cx, &Response::Error(Problem::unfit(id, &unfit)));
                }
                self.ask(cx, Ask::Call(call), Waiting::Call { id, kind: wanted.kind() });
            }
            People::Enter { id, room, nick } => {
                let being = Being::Enter { room: encode(&room).into(), nick };
                self.ask(cx, Ask::Be(being), Waiting::Enter { id, room });
            }
            People::Leave { id, room } => {
                self.ask(cx, Ask::Be(Being::Leave { room: encode(&room).into() }), Waiting::Leave { id });
            }
            People::Typing { conversation } => self.say(cx, Ask::Be(Being::Typing(conversation.into()))),
            People::Active { active } => self.say(cx, Ask::Be(Being::Active(active))),
        }
    }

    /// Asks the API for the next conversation that has changed. One is asked for at a time.
    fn refresh(&mut self, cx: &mut Carrier<'_, '_>) {
        let is_asking = self.waiting.iter().any(|(_, waiting)| matches!(waiting, Waiting::Refresh));
        let Some(person) = self.person.as_mut().filter(|_| !is_asking) else { return };
        let Some(next) = person.changed.as_mut().and_then(|changed| changed.pop_front()) else {
            person.changed = None;
            return;
        };
        let call = Call::conversation(&next, person.identity.clone());
        self.ask(cx, Ask::Call(call), Waiting::Refresh);
    }

    /// Notes that a conversation has changed: the client is told its new state once the API has given that.
    pub(crate) fn note_change(&mut self, cx: &mut Carrier<'_, '_>, conversation: &str) {
        let Some(person) = &mut self.person else { return };
        let changed = person.changed.get_or_insert_default();
        if changed.len() < MOST_CHANGED && !changed.iter().any(|known| &**known == conversation) {
            changed.push_back(conversation.into());
        }
        self.refresh(cx);
    }

    /// Turns an answer to a request about people into the response.
    pub(crate) fn answered(&mut self, cx: &mut Carrier<'_, '_>, waiting: Waiting, answer: Answer) {
        let response = match (waiting, answer) {
            (Waiting::Call { id, kind }, Answer::Called(reply)) => calls::response(id, kind, reply),
            (Waiting::Refresh, Answer::Called(reply)) => {
                // A conversation that isn't the user's any more gets no frame: it is missing in the list.
                if let Some(reply) = reply.filter(|reply| reply.status == 200) {
                    self.send(cx, &Response::People(Told::Conversation { entry: reply.body }));
                }
                return self.refresh(cx);
            }
            (Waiting::Enter { id, room }, Answer::Entered(Ok(entered))) => {
                Response::People(Told::Entered { id, room, entered })
            }
            (Waiting::Enter { id, .. }, Answer::Entered(Err(why))) => Response::Error(Problem::not_entered(id, &why)),
            (Waiting::Leave { id }, Answer::Left) => Response::People(Told::Done { id }),
            _ => return,
        };
        self.send(cx, &response);
    }
}
