//! Presence by the records of the log and their times.

#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Offset, Partition};
use everywire_base::limits::RoomBounds;
use everywire_base::record::{Durability, Record, System};
use everywire_base::roster::{Life, Roster};
use everywire_base::system::{self, NodeChange, Occupancy, Sight, Stay};
use everywire_rooms::presence::{News, State};
use everywire_rooms::{Head, Rooms};

const START: u64 = 1_795_378_321_345;

/// Rooms, and the log that feeds them.
struct World {
    rooms: Rooms,
    head: u64,
    ms: u64,
}

impl World {
    fn new() -> Self {
        let mut world = Self { rooms: Rooms::default(), head: 0, ms: 0 };
        let head = Head { owners: vec!["ann".into()], ..Head::default() };
        world.take(system::record(system::room_topic("lobby").unwrap(), &head, true));
        world
    }

    fn now(&self) -> UnixMillis {
        UnixMillis(START + self.ms)
    }

    fn take(&mut self, system: System) -> Offset {
        self.head += 1;
        let (partition, offset, time) = (Partition(0), Offset(self.head), self.now());
        self.rooms.take(&Record { partition, offset, time, durability: Durability::None, content: system.into() });
        offset
    }

    /// A connection is there, active or away; or it is gone (`None`).
    fn sight(&mut self, user: &str, connection: &str, away: Option<bool>) -> News {
        let topic = system::here_topic(user, connection).unwrap();
        let sight = match away {
            Some(away) => system::record(topic, &Sight { away, device: None, wire: Some("ws".into()) }, false),
            None => System::new(topic, "", false),
        };
        let at = self.take(sight);
        self.rooms.party(user).map_or(News::None, |party| party.news(at))
    }

    fn stay(&mut self, user: &str, connection: &str, nick: &str, stay: Stay) -> News {
        let topic = system::occupancy_topic("lobby", connection).unwrap();
        let at = self.take(system::record(topic, &Occupancy { user: user.into(), nick: nick.into(), stay }, false));
        let occupants = self.rooms.occupants("lobby");
        occupants.as_ref().and_then(|all| all.get(user)).map_or(News::None, |one| one.party.news(at))
    }

    fn state(&self, user: &str) -> State {
        self.rooms.presence_of(user, self.now()).0
    }

    fn nick(&self, user: &str) -> Option<String> {
        Some(self.rooms.occupants("lobby")?.get(user)?.nick.to_string())
    }
}

#[test]
fn a_user_is_there_over_the_wires_of_all_connections() {
    let mut world = World::new();
    let over = |world: &mut World, connection: &str, wire: Option<&str>| {
        let sight = Sight { wire: wire.map(Into::into), ..Sight::default() };
        world.take(system::record(system::here_topic("bob", connection).unwrap(), &sight, false));
        world.rooms.party("bob").unwrap().wires().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(over(&mut world, "1", Some("ws")), ["ws"]);
    assert_eq!(over(&mut world, "2", Some("mqtt")), ["mqtt", "ws"]);
    assert_eq!(over(&mut world, "3", Some("ws")), ["mqtt", "ws"]);
    assert_eq!(over(&mut world, "4", None), ["mqtt", "ws"]);
    world.sight("bob", "2", None);
    assert_eq!(over(&mut world, "4", None), ["ws"]);
    (0..100).for_each(|n| drop(over(&mut world, "5", Some(&format!("wire {n}")))));
    assert!(over(&mut world, "5", Some("ws")) == ["ws"], "names are bounded");
}

#[test]
fn who_comes_back_soon_was_never_gone() {
    let mut world = World::new();
    assert_eq!(world.sight("ann", "n-1-0-0-1", Some(false)), News::Is(State::Here));
    assert_eq!(world.sight("ann", "n-1-0-1-1", Some(true)), News::None);
    assert_eq!(world.sight("ann", "n-1-0-0-1", None), News::Is(State::Away));
    assert_eq!(world.sight("ann", "n-1-0-1-1", Some(false)), News::Is(State::Here));
    assert_eq!(world.sight("ann", "n-1-0-1-1", None), News::MayHaveLeft);
    assert_eq!(world.state("ann"), State::Here, "for others it is there for a while");
    world.ms += 29_999;
    assert_eq!(world.sight("ann", "n-1-0-2-1", Some(false)), News::None, "and was never gone");
    assert_eq!(world.sight("ann", "n-1-0-2-1", None), News::MayHaveLeft);
    world.ms += 30_000;
    assert_eq!(world.state("ann"), State::Left);
    assert_eq!(world.rooms.presence_of("ann", world.now()).1, UnixMillis(START + 29_999), "since it was cut off");
    assert_eq!(world.sight("ann", "n-1-0-3-1", Some(false)), News::Is(State::Here));
}

#[test]
fn a_nick_is_whose_record_came_first_and_all_connections_of_theirs_share_it() {
    let mut world = World::new();
    assert_eq!(world.stay("bob", "n-1-0-0-1", "King", Stay::In), News::Is(State::Here));
    assert_eq!(world.stay("eve", "n-1-0-1-1", "KING", Stay::In), News::None);
    assert_eq!(world.nick("eve"), None, "it is bob's");
    assert_eq!(world.stay("bob", "n-1-0-2-1", "Prince", Stay::In), News::None);
    assert_eq!(world.nick("bob").as_deref(), Some("King"));
    // A user who leaves by the last connection is gone at once; a user who is cut off keeps the nick for a while.
    assert_eq!(world.stay("bob", "n-1-0-0-1", "", Stay::Out), News::None);
    assert_eq!(world.stay("bob", "n-1-0-2-1", "", Stay::Cut), News::MayHaveLeft);
    world.stay("eve", "n-1-0-1-1", "king", Stay::In);
    assert_eq!(world.nick("eve"), None);
    world.ms += 30_000;
    assert_eq!(world.stay("eve", "n-1-0-1-1", "king", Stay::In), News::Is(State::Here));
    assert_eq!(world.stay("eve", "n-1-0-1-1", "", Stay::Out), News::Is(State::Left));
    assert_eq!(world.stay("bob", "n-1-0-4-1", "King", Stay::In), News::Is(State::Here));
}

#[test]
fn a_room_is_crowded_from_501_on_and_until_there_are_fewer_than_400() {
    let mut world = World::new();
    let mut crowded = Vec::new();
    for n in 0..501 {
        world.stay(&format!("u{n}"), &format!("n-1-0-{n}-1"), &format!("u{n}"), Stay::In);
        crowded.push(world.rooms.is_crowded("lobby"));
    }
    assert_eq!(crowded.iter().position(|is| *is), Some(500));
    for n in 0..101 {
        world.stay(&format!("u{n}"), &format!("n-1-0-{n}-1"), "", Stay::Out);
    }
    // They are forgotten a minute after they have left.
    world.ms += 60_000;
    world.stay("u500", "n-1-0-500-1", "u500", Stay::In);
    assert!(world.rooms.is_crowded("lobby"), "400 are not fewer than 400");
    world.stay("u101", "n-1-0-101-1", "", Stay::Out);
    world.ms += 60_000;
    world.stay("u500", "n-1-0-500-1", "u500", Stay::In);
    assert!(!world.rooms.is_crowded("lobby"));
}

#[test]
fn a_room_is_crowded_as_its_bound_says() {
    let mut world = World::new();
    world.rooms = Rooms::with(&RoomBounds { crowd: 5, ..RoomBounds::default() });
    let head = Head { owners: vec!["ann".into()], ..Head::default() };
    world.take(system::record(system::room_topic("lobby").unwrap(), &head, true));
    for n in 0..5 {
        world.stay(&format!("user {n}"), &n.to_string(), &n.to_string(), Stay::In);
    }
    assert!(!world.rooms.is_crowded("lobby"));
    world.stay("user 5", "5", "5", Stay::In);
    assert!(world.rooms.is_crowded("lobby"));
}

#[test]
fn what_a_life_of_a_node_has_said_goes_with_it() {
    let mut world = World::new();
    let mut roster = Roster::default();
    roster.insert(7, Life { node: "n".into(), boot: 1, floor: Offset(0), beat: Offset(0), ..Life::default() });
    roster.insert(8, Life { node: "m".into(), boot: 1, floor: Offset(0), beat: Offset(0), ..Life::default() });
    world.rooms.set_roster(roster);
    for (user, connection) in [("ann", "n-1-0-0-1"), ("bob", "n-1-0-1-1"), ("bob", "m-1-0-0-1")] {
        world.sight(user, connection, Some(false));
        world.stay(user, connection, user, Stay::In);
    }
    let down = NodeChange::Bye { writer: 7 };
    let at = world.take(system::record(system::node_topic("n").unwrap(), &down, false));
    let gone: Vec<(String, Option<String>)> = world
        .rooms
        .changed_at(at)
        .iter()
        .map(|whom| (whom.user.to_string(), whom.room.as_ref().map(ToString::to_string)))
        .collect();
    assert_eq!(gone, [("ann".into(), None), ("ann".into(), Some("lobby".into()))]);
    world.ms += 30_000;
    assert_eq!((world.state("ann"), world.state("bob")), (State::Left, State::Here));
}

#[test]
fn nobody_is_in_a_room_that_has_ended() {
    let mut world = World::new();
    world.stay("bob", "n-1-0-0-1", "bob", Stay::In);
    world.take(System::removal(system::room_topic("lobby").unwrap()));
    assert!(world.rooms.occupants("lobby").is_none());
}
