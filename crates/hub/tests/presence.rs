//! Presence on two workers of one node and on two nodes: the signals of each to its own connections, by the log alone.
//!
//! Mutations that it finds: no grace for a user who is cut off (`Party::put`), news of a connection that isn't the
//! first (`Party::news`), a removal that the log has refused and that isn't said again (`OnTheWay`), a node whose life
//! ends and whose users stay (`Presence::lives_ended`), a room that ends though somebody has come
//! (`Presence::end_rooms`).

#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

mod pair;

use std::time::Duration;

use everywire_base::access::Role;
use everywire_base::ask::{Answer, Ask, Being, SessionWish, Unsubscribe};
use everywire_base::id::AskId;
use everywire_base::limits::Limits;
use everywire_base::record::{Durability, System};
use everywire_base::rules::{Rules, TopicRule};
use everywire_base::signal::SignalKind;
use everywire_base::system::{self, NodeChange};
use everywire_base::topic::Filter;
use everywire_rooms::{Head, Membership};

use pair::{World, slot, user, world};

const SECOND: Duration = Duration::from_secs(1);

/// A world with a room of ann and bob. Both are there and read it, each on a worker of their own.
fn lobby(lasting: bool) -> World {
    lobby_in(world(), lasting)
}

fn lobby_in(mut world: World, lasting: bool) -> World {
    let head = Head { owners: vec!["ann".into()], lasting, ..Head::default() };
    let founded = world.append(system::record(system::room_topic("lobby").unwrap(), &head, true), Durability::Fsync).0;
    for (name, role) in [("ann", Role::Owner), ("bob", Role::Member)] {
        let membership = Membership { role, nick: None, since_ms: 0, founded };
        let topic = system::membership_topic(name, "lobby").unwrap();
        world.append(system::record(topic, &membership, true), Durability::Fsync);
    }
    world.settle();
    for (worker, index, name) in [(0, 1, "ann"), (1, 2, "bob")] {
        come(&mut world, worker, index, name);
    }
    heard(&mut world, 0, 1);
    world
}

fn come(world: &mut World, worker: usize, index: u32, name: &str) {
    world.welcome(worker, index, user(name), SessionWish::None);
    world.subscribe(worker, index, "room/lobby");
}

/// The signals that have come to a connection, each with the user that it is about.
fn heard(world: &mut World, worker: usize, index: u32) -> Vec<(SignalKind, String)> {
    let all = world.clients[worker].signals.remove(&index).unwrap_or_default();
    all.into_iter().map(|said| (said.kind, said.user.into())).collect()
}

fn be(world: &mut World, worker: usize, index: u32, being: Being) -> Option<Answer> {
    world.hubs[worker].ask(slot(index), AskId(9), Ask::Be(being), world.now);
    world.settle();
    world.clients[worker].said.pop().map(|(_, _, answer)| answer)
}

fn enter(world: &mut World, worker: usize, index: u32) {
    let entered = be(world, worker, index, Being::Enter { room: "lobby".into(), nick: None });
    assert!(matches!(entered, Some(Answer::Entered(Ok(_)))), "{entered:?}");
}

fn about_bob(kind: SignalKind) -> Vec<(SignalKind, String)> {
    vec![(kind, "bob".into())]
}

fn is_room(world: &World) -> bool {
    world.retained.keys().any(|topic| topic.as_str() == "$room/lobby")
}

#[test]
fn who_comes_back_within_half_a_minute_is_no_news() {
    let mut world = lobby(true);
    world.close(1, 2);
    world.pass(29 * SECOND);
    come(&mut world, 0, 3, "bob");
    world.pass(60 * SECOND);
    assert_eq!(heard(&mut world, 0, 1), []);
    world.close(0, 3);
    world.pass(29 * SECOND);
    assert_eq!(heard(&mut world, 0, 1), []);
    world.pass(2 * SECOND);
    assert_eq!(heard(&mut world, 0, 1), about_bob(SignalKind::Left));
    come(&mut world, 0, 4, "bob");
    assert_eq!(heard(&mut world, 0, 1), about_bob(SignalKind::Here));
    come(&mut world, 1, 5, "bob");
    world.close(0, 4);
    world.pass(60 * SECOND);
    assert_eq!(heard(&mut world, 0, 1), [], "bob is there by another connection");
}

#[test]
fn occupants_are_told_on_the_other_worker_and_on_the_other_node() {
    for is_parted in [false, true] {
        let mut world = lobby(true);
        if is_parted {
            world.part();
            come(&mut world, 1, 2, "bob");
            world.pass(SECOND);
            heard(&mut world, 0, 1);
        }
        enter(&mut world, 1, 2);
        assert_eq!(heard(&mut world, 0, 1), about_bob(SignalKind::Entered), "{is_parted}");
        be(&mut world, 1, 2, Being::Typing("room/lobby".into()));
        be(&mut world, 1, 2, Being::Typing("room/lobby".into()));
        assert_eq!(heard(&mut world, 0, 1), about_bob(SignalKind::Typing));
        assert_eq!(be(&mut world, 1, 2, Being::Leave { room: "lobby".into() }), Some(Answer::Left));
        assert_eq!(heard(&mut world, 0, 1), about_bob(SignalKind::Left));
    }
}

#[test]
fn the_end_of_a_subscription_takes_back_only_what_the_subscription_did() {
    let rules = Rules::new(vec![TopicRule { presence: true, ..TopicRule::fallback() }]);
    let filter = Filter::parse("room/lobby").unwrap();
    let ways = [Unsubscribe::All, Unsubscribe::These([filter.clone()].into()), Unsubscribe::One(filter, None)];
    for (way, has_entered) in ways.iter().flat_map(|way| [(way, false), (way, true)]) {
        let mut world = lobby_in(World::new(&rules, Limits::default()), true);
        if has_entered {
            enter(&mut world, 1, 2);
        }
        heard(&mut world, 0, 1);
        world.hubs[1].unsubscribe_from(slot(2), AskId(8), way, world.now);
        world.settle();
        let told = if has_entered { Vec::new() } else { about_bob(SignalKind::Left) };
        assert_eq!(heard(&mut world, 0, 1), told, "{way:?}, {has_entered}");
        be(&mut world, 1, 2, Being::Leave { room: "lobby".into() });
        let told = if has_entered { about_bob(SignalKind::Left) } else { Vec::new() };
        assert_eq!(heard(&mut world, 0, 1), told, "{way:?}, {has_entered}");
    }
}

#[test]
fn the_end_of_all_conversations_is_the_same_in_each_way_to_say_it() {
    let filter = Filter::parse("$conversations").unwrap();
    for way in [Unsubscribe::These([filter.clone()].into()), Unsubscribe::One(filter, None)] {
        let mut world = lobby(true);
        world.welcome(1, 3, user("bob"), SessionWish::None);
        world.subscribe(1, 3, "$conversations");
        world.publish("room/lobby", "before");
        world.settle();
        assert_eq!(world.got(1, 3), ["before"], "{way:?}");
        world.hubs[1].unsubscribe_from(slot(3), AskId(8), &way, world.now);
        world.publish("room/lobby", "after");
        world.settle();
        assert!(world.got(1, 3).is_empty(), "{way:?}");
    }
}

#[test]
fn a_goodbye_that_the_log_refuses_is_said_again() {
    let mut world = lobby(true);
    world.takes = false;
    world.close(1, 2);
    world.takes = true;
    world.pass(2 * SECOND);
    world.pass(31 * SECOND);
    assert_eq!(heard(&mut world, 0, 1), about_bob(SignalKind::Left), "nobody stays who is gone");
}

#[test]
fn whoever_was_on_a_node_that_is_gone_has_left() {
    let mut world = lobby(true);
    world.part();
    come(&mut world, 1, 2, "bob");
    enter(&mut world, 1, 2);
    heard(&mut world, 0, 1);
    world.say(&NodeChange::Down { writer: 2, sequence: 9 });
    world.pass(29 * SECOND);
    assert_eq!(heard(&mut world, 0, 1), []);
    world.pass(2 * SECOND);
    // bob's first connection, from before the workers were parted, is still there for all.
    let left: Vec<_> = heard(&mut world, 0, 1).into_iter().filter(|(kind, _)| *kind == SignalKind::Left).collect();
    assert_eq!(left, about_bob(SignalKind::Left), "the room");
}

#[test]
fn a_room_that_does_not_last_goes_a_minute_after_the_last_has_left() {
    let mut world = lobby(false);
    enter(&mut world, 1, 2);
    world.pass(61 * SECOND);
    assert!(is_room(&world), "somebody is there");
    be(&mut world, 1, 2, Being::Leave { room: "lobby".into() });
    world.pass(50 * SECOND);
    enter(&mut world, 1, 2);
    world.pass(61 * SECOND);
    assert!(is_room(&world), "somebody came back in time");
    be(&mut world, 1, 2, Being::Leave { room: "lobby".into() });
    world.pass(61 * SECOND);
    assert!(!is_room(&world));
    // A room that lasts stays. One that nobody enters after a start goes.
    assert!(is_room(&lobby(true)));
    let mut empty = lobby(false);
    empty.pass(61 * SECOND);
    assert!(!is_room(&empty));
}

#[test]
fn an_entrance_makes_the_end_of_a_room_stale() {
    let mut world = lobby(false);
    world.hubs[1].ask(slot(2), AskId(9), Ask::Be(Being::Enter { room: "lobby".into(), nick: None }), world.now);
    let entrance = world.hubs[1].appends().pop().unwrap();
    world.now.monotonic = world.now.monotonic + 61 * SECOND;
    world.step(0);
    let ends = |append: &everywire_base::ask::Append| append.draft.entry.topic().as_str() == "$room/lobby";
    let end = world.hubs[0].appends().iter().find(|append| ends(append)).cloned().unwrap();
    let claim = entrance.draft.guards.iter().find(|guard| guard.claims).unwrap();
    assert!(end.draft.guards.iter().any(|guard| guard.topic == claim.topic && !guard.claims));
    assert!(end.draft.entry == System::removal(end.draft.entry.topic().clone()).into());
}

#[test]
fn of_two_entrances_at_once_each_is_answered() {
    let mut world = lobby(true);
    for (ask, nick) in [(5, "Bob"), (6, "Bobby")] {
        let being = Being::Enter { room: "lobby".into(), nick: Some(nick.into()) };
        world.hubs[1].ask(slot(2), AskId(ask), Ask::Be(being), world.now);
    }
    world.settle();
    let entered = |(_, ask, answer): (_, _, Answer)| matches!(answer, Answer::Entered(Ok(_))).then_some(ask);
    let answered: Vec<u32> = world.clients[1].said.drain(..).filter_map(entered).collect();
    assert_eq!(answered, [5, 6]);
}

#[test]
fn the_last_of_contrary_signals_is_told_last() {
    let mut world = lobby(true);
    for active in [false, true, false] {
        world.hubs[1].ask(slot(2), AskId(9), Ask::Be(Being::Active(active)), world.now);
    }
    world.settle();
    assert_eq!(heard(&mut world, 0, 1).pop(), about_bob(SignalKind::Away).pop());
}
