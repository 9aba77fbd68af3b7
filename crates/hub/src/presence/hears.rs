//! The connections of this worker that are told of a record, and their signals.

use std::collections::BTreeSet;
use std::sync::Arc;

use everywire_base::access::Role;
use everywire_base::cursor::Offset;
use everywire_base::id::Slot;
use everywire_base::identity::{decode, encode};
use everywire_base::record::{Record, System};
use everywire_base::signal::{Said, SignalKind};
use everywire_base::system::{
    self, HERE, IN, OF, Occupancy, Passing, ROOMS, ReadMark, SIGNALS, Stay, membership_of, two_levels,
};
use everywire_base::topic::Topic;
use everywire_rooms::Room;
use everywire_rooms::conversation::Conversation;
use everywire_rooms::presence::{News, State, Whom};

use super::Presence;
use crate::ground::Ground;

impl Presence {
    /// Tells the connections that a record concerns.
    pub(super) fn hear(&mut self, ground: &mut Ground<'_>, record: &Record, system: &System) {
        let name = system.topic.as_str();
        if let Some(conversation) = name.strip_prefix(SIGNALS) {
            if let (Some(which), Some(passing)) = (Conversation::parse(conversation), system::read(system)) {
                self.pass(ground, &which, &passing);
            }
        } else if let Some((user, _)) = two_levels(name, HERE) {
            let user: Arc<str> = decode(user).into();
            let party = ground.floor.setup.rooms.party(&user);
            match party.map_or(News::None, |party| party.news(record.offset)) {
                News::None => {}
                News::Is(state) => self.tell_presence(ground, &user, state),
                News::MayHaveLeft => self.may_have_left(ground, record.offset, Whom { user, room: None }),
            }
        } else if let Some((level, connection)) = two_levels(name, IN) {
            let Some(occupancy) = system::read::<Occupancy>(system) else { return };
            if occupancy.stay == Stay::In {
                self.has_entered(ground, level, &decode(connection), record.offset);
            }
            self.hear_stay(ground, level, &occupancy, record.offset);
        } else if let Some((user, level)) = membership_of(name) {
            self.follow_membership(ground, &user, level);
            let conversation = format!("room/{level}");
            self.tell_own(ground, &user, &conversation);
            self.tell_role(ground, &user, level);
        } else if let Some(level) = name.strip_prefix(ROOMS) {
            self.tell_end(ground, level, record.offset);
        } else if let Some((user, rest)) = name.strip_prefix(OF).and_then(|rest| rest.split_once('/')) {
            let user = decode(user);
            if let Some(conversation) = rest.strip_prefix("conversation/") {
                self.tell_own(ground, &user, conversation);
            } else if let Some(which) = rest.strip_prefix("read/").and_then(Conversation::parse)
                && let Some(mark) = system::read::<ReadMark>(system)
            {
                self.hear_mark(ground, &user, &which, &mark);
            }
        }
    }

    /// Tells a user's own devices that one of the user's conversations has changed.
    fn tell_own(&mut self, ground: &mut Ground<'_>, user: &str, conversation: &str) {
        for slot in self.mine_of(ground, user) {
            self.signals.tell_change(ground, slot, conversation);
        }
    }

    /// Tells a user's own devices of the user's role in a room, also of one that is no longer theirs.
    fn tell_role(&mut self, ground: &mut Ground<'_>, user: &str, level: &str) {
        let room = ground.floor.setup.rooms.room(level);
        let role = Some(room.map_or(Role::None, |room| room.role(user)));
        let said = Said { role, ..said(&format!("room/{level}"), SignalKind::Role, user, None) };
        let own = inbox_readers(ground, user);
        self.signals.tell(ground, said, own);
    }

    /// Tells the members' own devices that the room has ended, if that is what the record at this offset says.
    fn tell_end(&mut self, ground: &mut Ground<'_>, level: &str, at: Offset) {
        let Some(room) = ground.floor.setup.rooms.ended_at(at) else { return };
        for member in room.list(None, usize::MAX, |role| role > Role::None) {
            self.follow_membership(ground, &member.user, level);
            self.tell_role(ground, &member.user, level);
        }
    }

    /// Passes a signal on to those who see the conversation.
    fn pass(&mut self, ground: &mut Ground<'_>, which: &Conversation, passing: &Passing) {
        let (kind, user) = (passing.kind, &*passing.user);
        let (conversation, to) = match which {
            Conversation::Room(level) if ground.floor.setup.rooms.is_crowded(level) => return,
            Conversation::Room(level) => (which.text(), readers(ground, level, |reader| reader != Some(user))),
            // The receiver knows the exchange by the sender's name.
            Conversation::With(owner) if !ground.floor.setup.rooms.is_blocked(owner, user) => {
                (format!("user/{}", encode(user)), inbox_readers(ground, owner))
            }
            Conversation::With(_) => return,
        };
        // The copy in its sender's inbox lies right behind the message.
        let cursor = (passing.offset > 0).then(|| cursor(ground, passing.offset + 1));
        let said = said(&conversation, kind, &name_in(ground, which, user), cursor);
        self.signals.tell(ground, said, to);
    }

    /// A read mark has risen: the user's own devices are told, and the authors.
    fn hear_mark(&mut self, ground: &mut Ground<'_>, user: &str, which: &Conversation, mark: &ReadMark) {
        let text = which.text();
        let own = inbox_readers(ground, user);
        let up_to = cursor(ground, mark.offset);
        self.signals.tell(ground, said(&text, SignalKind::Read, user, Some(up_to.clone())), own);
        self.tell_own(ground, user, &text);
        let is_author = |reader: &str| mark.authors.iter().any(|author| &**author == reader);
        match which {
            Conversation::Room(level) if !ground.floor.setup.rooms.is_crowded(level) => {
                let to = readers(ground, level, |reader| reader.is_some_and(is_author));
                let name = name_in(ground, which, user);
                self.signals.tell(ground, said(&text, SignalKind::Read, &name, Some(up_to)), to);
            }
            Conversation::With(other) if is_author(other) && !ground.floor.setup.rooms.is_blocked(other, user) => {
                let (to, up_to) = (inbox_readers(ground, other), cursor(ground, mark.offset + 1));
                let conversation = format!("user/{}", encode(user));
                self.signals.tell(ground, said(&conversation, SignalKind::Read, user, Some(up_to)), to);
            }
            Conversation::Room(_) | Conversation::With(_) => {}
        }
    }

    /// A user has entered a room, or left it.
    fn hear_stay(&mut self, ground: &mut Ground<'_>, level: &str, occupancy: &Occupancy, at: Offset) {
        let Some(occupants) = ground.floor.setup.rooms.occupants(level) else { return };
        let Some(occupant) = occupants.get(&occupancy.user) else { return };
        match occupant.party.news(at) {
            News::None => {}
            News::Is(State::Left) => {
                self.tell_stay(ground, level, &occupancy.user, SignalKind::Left);
                self.may_end(ground, level);
            }
            News::Is(State::Here | State::Away) => self.tell_stay(ground, level, &occupancy.user, SignalKind::Entered),
            News::MayHaveLeft => {
                let who = Whom { user: (*occupancy.user).into(), room: Some(level.into()) };
                self.may_have_left(ground, at, who);
            }
        }
    }

    /// The grace time of a user is over: they have left, unless a later record says otherwise.
    pub(super) fn has_left(&mut self, ground: &mut Ground<'_>, record: Offset, who: &Whom) {
        let Whom { user, room: level } = who;
        let rooms = &ground.floor.setup.rooms;
        let Some(level) = level else {
            if rooms.party(user).is_none_or(|party| party.news(record) == News::MayHaveLeft) {
                self.tell_presence(ground, user, State::Left);
            }
            return;
        };
        let occupants = rooms.occupants(level);
        let occupant = occupants.as_ref().and_then(|all| all.get(user));
        if occupant.is_none_or(|occupant| occupant.party.news(record) == News::MayHaveLeft) {
            self.tell_stay(ground, level, user, SignalKind::Left);
            self.may_end(ground, level);
        }
    }

    /// Tells a room that a user has come or gone; in a crowded room, its admins alone.
    fn tell_stay(&mut self, ground: &mut Ground<'_>, level: &str, user: &str, kind: SignalKind) {
        let rooms = &ground.floor.setup.rooms;
        let Some(room) = rooms.room(level) else { return };
        let is_crowded = rooms.is_crowded(level);
        let nick = rooms.occupants(level).and_then(|all| Some(all.get(user)?.nick.clone()));
        let hears = |reader: Option<&str>| !is_crowded || reader.is_some_and(|reader| room.role(reader) >= Role::Admin);
        let to = readers(ground, level, hears);
        let said = Said { nick, ..said(&format!("room/{level}"), kind, &room.name(user), None) };
        self.signals.tell(ground, said, to);
    }

    /// Tells a user's state to those who may know it.
    fn tell_presence(&mut self, ground: &mut Ground<'_>, user: &str, state: State) {
        let kind = match state {
            State::Here => SignalKind::Here,
            State::Away => SignalKind::Away,
            State::Left => SignalKind::Left,
        };
        let said = said(&format!("user/{}", encode(user)), kind, user, None);
        let to = viewers(ground, user);
        self.signals.tell(ground, said, to);
    }
}

fn said(conversation: &str, kind: SignalKind, user: &str, cursor: Option<Box<str>>) -> Said {
    Said { conversation: conversation.into(), kind, user: user.into(), nick: None, cursor, role: None }
}

/// The name by which a user is known in a conversation.
fn name_in(ground: &Ground<'_>, which: &Conversation, user: &str) -> Box<str> {
    let room = match which {
        Conversation::Room(level) => ground.floor.setup.rooms.room(level),
        Conversation::With(_) => None,
    };
    room.map_or_else(|| user.into(), |room| room.name(user))
}

fn cursor(ground: &Ground<'_>, offset: u64) -> Box<str> {
    ground.floor.cursor(&[Offset(offset)]).to_string().into()
}

/// The connections that read a user's inbox, as that user.
pub(super) fn inbox_readers(ground: &Ground<'_>, user: &str) -> Vec<Slot> {
    let Ok(topic) = Topic::parse(&format!("user/{}", encode(user))) else { return Vec::new() };
    let all = ground.deliveries.subscribed_to(&topic).into_iter();
    let is_own = |index: &u32| ground.floor.reader(*index).and_then(|who| who.user.as_deref()) == Some(user);
    all.filter(is_own).map(|index| ground.deliveries.slot_at(index)).collect()
}

/// The connections that read a room and for whose users `hears` holds.
fn readers(ground: &Ground<'_>, level: &str, hears: impl Fn(Option<&str>) -> bool) -> Vec<Slot> {
    let Ok(topic) = Topic::parse(&format!("room/{level}")) else { return Vec::new() };
    let all = ground.deliveries.subscribed_to(&topic).into_iter();
    let is_meant = |index: &u32| {
        hears(ground.floor.reader(*index).and_then(|who| who.user.as_deref())) && ground.floor.may_see(*index, &topic)
    };
    all.filter(is_meant).map(|index| ground.deliveries.slot_at(index)).collect()
}

/// The connections whose users may know whether a user is there: readers of a room that both belong to, and partners of
/// the user. Rooms and partners beyond a bound are left out.
fn viewers(ground: &mut Ground<'_>, user: &str) -> Vec<Slot> {
    let most = ground.floor.setup.limits.rooms.circles;
    let rooms = &ground.floor.setup.rooms;
    let shows =
        |level: &str, room: &Room| !room.head.hides() && room.role(user).is_member() && !rooms.is_crowded(level);
    let mut circles = rooms.of_user(user, None);
    circles.retain(|(level, room)| shows(level, room));
    let partners = rooms.partners(user);
    if circles.len().max(partners.len()) > most {
        ground.floor.counters.untold += 1;
    }
    let (ground, rooms) = (&*ground, &ground.floor.setup.rooms);
    let mut found = BTreeSet::new();
    for (level, room) in circles.into_iter().take(most) {
        found.extend(readers(ground, &level, |reader| reader.is_some_and(|reader| room.role(reader).is_member())));
    }
    for partner in partners.into_iter().take(most) {
        found.extend(inbox_readers(ground, &partner));
    }
    let viewer = |slot: &Slot| ground.floor.reader(slot.index).and_then(|who| who.user.as_deref());
    let may = |slot: &Slot| viewer(slot).is_some_and(|viewer| viewer != user && rooms.may_know(viewer, user));
    found.into_iter().filter(may).collect()
}
