//! Messages that a session publishes exactly once, under numbers (RULES 12).
#![expect(clippy::unwrap_used, reason = "a test fails as it likes")]

mod pair;

use std::time::Duration;

use everywire_base::ask::{Answer, Append, Draft, PublishError, Subscribe};
use everywire_base::id::{AskId, ReplyTo};
use everywire_base::record::{Durability, Message, System};
use everywire_base::terms::Terms;
use everywire_base::topic::{Filter, Topic};

use pair::{EXPIRY, ORIGIN, World, named, slot, world};

const SECOND: Duration = Duration::from_secs(1);

fn to(filter: &str) -> Subscribe {
    Subscribe { terms: Terms { qos: 1, ..Terms::default() }, ..Subscribe::to([Filter::parse(filter).unwrap()]) }
}

/// A client on worker 0 with a session that lasts, and one filter.
fn client(world: &mut World, index: u32) {
    world.enter(0, index, named("me", EXPIRY, false, 100));
    world.subscribe_on(0, index, &to("a"));
}

fn once(world: &mut World, worker: usize, index: u32, number: u16) -> bool {
    let draft = Draft::new(Message::new(Topic::parse("b").unwrap(), "x"), Durability::Fsync);
    let draft = world.hubs[worker].publish_once(slot(index), AskId(9), number, draft, world.now);
    let is_new = draft.is_some();
    if let Some(draft) = draft {
        world.append(draft.entry, draft.durability);
    }
    world.settle();
    is_new
}

#[test]
fn what_was_published_under_a_number_is_known_until_it_is_released() {
    let mut world = world();
    client(&mut world, 1);
    assert!(once(&mut world, 0, 1, 5));
    assert!(!once(&mut world, 0, 1, 5));
    // The node dies: nothing but the log is left.
    world.hubs[0].close(slot(1), ORIGIN, world.now);
    world.hubs[0].appends().clear();
    world.settle();
    world.login(1, 5, None, named("me", EXPIRY, false, 100));
    world.pass(SECOND);
    assert!(world.clients[1].welcomes.remove(&(5, 1)).unwrap().unwrap().resumed);
    assert!(!once(&mut world, 1, 5, 5), "the mark tells of it");
    world.hubs[1].release(slot(5), AskId(4), 5, world.now);
    world.settle();
    assert!(world.clients[1].said.contains(&(5, 4, Answer::Released(true))));
    assert!(once(&mut world, 1, 5, 5), "the number is free");
    world.hubs[1].release(slot(5), AskId(4), 6, world.now);
    world.settle();
    assert!(world.clients[1].said.contains(&(5, 4, Answer::Released(false))));
}

/// A message of the client's own on its way, as the driver has it.
fn publish_once(world: &mut World, number: u16) -> Append {
    let draft = Draft::new(Message::new(Topic::parse("b").unwrap(), "x"), Durability::Fsync);
    let draft = world.hubs[0].publish_once(slot(1), AskId(9), number, draft, world.now).unwrap();
    Append::new(ReplyTo::Connection { worker: 0, slot: slot(1), ask: AskId(9) }, draft)
}

#[test]
fn a_number_on_its_way_when_the_session_is_written_is_known_only_if_the_log_has_taken_it() {
    for is_taken in [true, false] {
        for dies in [true, false] {
            let mut world = world();
            client(&mut world, 1);
            let append = publish_once(&mut world, 5);
            if is_taken {
                world.append(append.draft.entry, append.draft.durability);
            }
            // The record of the session says it is on its way.
            world.subscribe_on(0, 1, &to("c"));
            if dies {
                world.kill();
                world.start();
            }
            world.login(1, 5, None, named("me", EXPIRY, false, 100));
            world.pass(SECOND);
            assert!(world.clients[1].welcomes.remove(&(5, 1)).unwrap().unwrap().resumed);
            assert_eq!(once(&mut world, 1, 5, 5), !is_taken, "dies: {dies}");
        }
    }
}

#[test]
fn what_is_published_once_carries_the_generation_of_its_owner() {
    let mut world = world();
    client(&mut world, 1);
    world.enter(0, 1, named("me", EXPIRY, false, 100));
    let claim = |world: &World| {
        let is_claim = |own: &System| own.topic.as_str().starts_with("$sessions/") && !own.retain;
        world.records.iter().rfind(|record| record.system().is_some_and(is_claim)).unwrap().offset.0
    };
    let append = publish_once(&mut world, 5);
    let generation = append.draft.message().unwrap().once.as_ref().unwrap().generation;
    assert_eq!(generation, claim(&world));
    world.enter(1, 5, named("me", EXPIRY, false, 100));
    assert!(generation < claim(&world), "the log refuses it now");
}

#[test]
fn what_the_log_refused_is_new_under_its_number() {
    let mut world = world();
    client(&mut world, 1);
    let append = publish_once(&mut world, 5);
    world.answer_publish(0, append.reply_to, Some(PublishError::Busy));
    assert!(once(&mut world, 0, 1, 5));
    let again = ReplyTo::Connection { worker: 0, slot: slot(1), ask: AskId(9) };
    world.answer_publish(0, again, None);
    world.answer_publish(0, again, Some(PublishError::Busy));
    assert!(!once(&mut world, 0, 1, 5));
}

#[test]
fn a_number_whose_outcome_is_unknown_is_known_if_the_log_has_taken_it_after_all() {
    for is_taken in [true, false] {
        let mut world = world();
        client(&mut world, 1);
        let append = publish_once(&mut world, 5);
        world.answer_publish(0, append.reply_to, Some(PublishError::OutcomeUnknown));
        if is_taken {
            world.append(append.draft.entry, append.draft.durability);
        }
        // The session is written after that, and again by its next owner.
        world.close(0, 1);
        world.settle();
        for index in [5, 6] {
            assert!(world.enter(1, index, named("me", EXPIRY, false, 100)).resumed);
            world.close(1, index);
            world.settle();
        }
        assert!(world.enter(1, 7, named("me", EXPIRY, false, 100)).resumed);
        assert_eq!(once(&mut world, 1, 7, 5), !is_taken);
    }
}
