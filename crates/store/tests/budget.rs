//! The payers of kept bytes: counted as the log is applied, and again at each start.

mod common;

use common::{World, message};
use everywire_base::clock::UnixMillis;
use everywire_base::kept::{Payer, What};
use everywire_base::record::{Durability, Entry, Message, Once, System};
use everywire_base::rules::Rules;
use everywire_store::MemoryTables;

fn retained(name: &str, bytes: usize, from: &str) -> Message {
    Message { retain: true, from: Some(from.into()), ..message(name, &"x".repeat(bytes)) }
}

fn put(world: &mut World, entry: impl Into<Entry>) {
    world.append(entry, Durability::Fsync);
    world.settle();
}

fn kept(world: &World, what: What, payer: Payer) -> u64 {
    world.writer.tail().kept().of(what, payer)
}

/// Asserts the counts, at once and after each kind of restart.
fn holds(world: &mut World, expected: &[(What, Payer, u64)]) {
    for when in ["at once", "after a checkpoint", "after a restart", "after a crash", "in a store made anew"] {
        match when {
            "after a checkpoint" => world.pass(20_000),
            "after a restart" => world.restart(true),
            "after a crash" => world.restart(false),
            "in a store made anew" => {
                world.open = Box::new(|| Box::new(MemoryTables::default()));
                world.restart(false);
            }
            _ => {}
        }
        world.settle();
        for (what, payer, bytes) in expected {
            assert_eq!(kept(world, *what, *payer), *bytes, "{what:?} of {payer:?} {when}");
        }
        let total = |what| expected.iter().filter(|e| e.0 == what).map(|e| e.2).sum::<u64>();
        for what in [What::Retained, What::Session] {
            assert_eq!(world.writer.tail().kept().total(what), total(what), "{what:?} {when}");
        }
    }
}

#[test]
fn what_is_replaced_removed_or_expired_is_given_back() {
    let mut world = World::in_memory(Rules::default());
    let (ann, bob) = (Payer::user("ann"), Payer::user("bob"));
    put(&mut world, retained("a", 1000, "ann"));
    put(&mut world, retained("b", 2000, "ann"));
    put(&mut world, retained("c", 3000, "ann"));
    let at_first = kept(&world, What::Retained, ann);
    assert!((6000..7000).contains(&at_first), "{at_first}");
    // The message of another user replaces hers.
    put(&mut world, retained("a", 10, "bob"));
    put(&mut world, Message { body: Vec::new().into(), ..retained("b", 0, "ann") });
    let expires = Some(UnixMillis(world.now.0 + 1000));
    put(&mut world, Message { expires, ..retained("d", 500, "bob") });
    put(&mut world, message("e", "is not retained"));
    world.pass(100_000);
    let rest = 3000 + 1 + 3 + 128;
    holds(&mut world, &[(What::Retained, ann, rest), (What::Retained, bob, 10 + 1 + 3 + 128)]);
}

#[test]
fn sessions_and_wills_are_their_users_or_whom_they_name() {
    let mut world = World::in_memory(Rules::default());
    let (ann, stranger) = (Payer::user("ann"), Payer::address([10, 0, 0, 1].into()));
    let session =
        |name: &str, payer, generation| System { payer, generation, ..System::new(common::topic(name), "state", true) };
    put(&mut world, session("$sessions/ann/1", Payer::NOBODY, 5));
    put(&mut world, session("$wills/ann/1", Payer::NOBODY, 5));
    put(&mut world, session("$sessions//1", stranger, 5));
    put(&mut world, session("$sessions//2", stranger, 5));
    // A late record of a former owner changes nothing.
    put(&mut world, session("$sessions//2", Payer::NOBODY, 3));
    let of = |name: &str| (name.len() + "state".len() + 128) as u64;
    let hers = of("$sessions/ann/1") + of("$wills/ann/1");
    let theirs = of("$sessions//1") + of("$sessions//2");
    holds(&mut world, &[(What::Session, ann, hers), (What::Session, stranger, theirs)]);
    put(&mut world, System { body: Vec::new().into(), ..session("$sessions//2", stranger, 5) });
    holds(&mut world, &[(What::Session, ann, hers), (What::Session, stranger, of("$sessions//1"))]);
}

#[test]
fn the_mark_of_what_a_session_published_is_its_publisher_s() {
    let mut world = World::in_memory(Rules::default());
    let until = UnixMillis(world.now.0 + 10_000_000);
    let once = Some(Box::new(Once { session: common::topic("$sessions/ann/1"), tag: 5, generation: 0, until }));
    put(&mut world, Message { once, from: Some("ann".into()), ..message("a", "x") });
    holds(&mut world, &[(What::Session, Payer::user("ann"), 128)]);
}
