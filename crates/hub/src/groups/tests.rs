//! Groups alone: connections of delivery, and no session.

use std::time::Duration;

use everywire_base::ask::{Published, Subscribe};
use everywire_base::clock::Now;
use everywire_base::cursor::{Epoch, Partition};
use everywire_base::id::ReplyTo;
use everywire_base::record::Durability;
use everywire_base::roster::{Life, Roster};
use everywire_base::rules::Rules;
use everywire_base::system::GroupDebt;
use everywire_base::topic::Filter;

use super::*;
use crate::floor::Event;
use crate::ground::bench;

const ONE: Slot = Slot { index: 1, generation: 0 };
const TWO: Slot = Slot { index: 2, generation: 0 };

type World = bench::World<Groups>;

fn world() -> World {
    World::new(Rules::default(), &[ONE, TWO])
}

impl World {
    /// Asks to join, and lets the log take that.
    fn join(&mut self, slot: Slot) {
        let subscribe = Subscribe { group: Some("g".into()), ..Subscribe::to([filter()]) };
        self.on(|groups, ground| groups.join(ground, slot, AskId(7), &subscribe));
        self.hear();
    }

    fn chosen(&self, offset: u64) -> Option<u32> {
        self.owner.chosen(&topic(), self.floor.seat, Offset(offset))
    }

    /// Whether a connection reads a message as a member.
    fn reads(&self, slot: Slot, offset: u64) -> bool {
        self.owner.takes(&topic(), (self.floor.seat, slot), Offset(offset))
    }

    /// Hears a record of the group, which another node has written.
    fn told(&mut self, change: &GroupChange) -> Offset {
        let record = self.log.append(system::record(topic(), change, false));
        self.on(|groups, ground| groups.record(ground, &record, record.system().unwrap()));
        record.offset
    }
}

fn topic() -> Topic {
    system::group_topic("g", "a").unwrap()
}

fn filter() -> Filter {
    Filter::parse("a").unwrap()
}

#[test]
fn a_member_is_drawn_from_above_the_record_that_says_so() {
    let mut world = world();
    world.join(ONE);
    assert_eq!((world.chosen(1), world.chosen(2)), (None, Some(1)));
    let Some(Event::Subscribed(slot, ask, ..)) = world.floor.out.events.pop_front() else {
        panic!("it isn't answered")
    };
    assert_eq!((slot, ask), (ONE, AskId(7)));
}

#[test]
fn it_holds_the_filter_only_when_the_log_says_so() {
    let mut world = world();
    let subscribe = Subscribe { group: Some("g".into()), ..Subscribe::to([filter()]) };
    world.on(|groups, ground| groups.join(ground, ONE, AskId(7), &subscribe));
    assert_eq!((world.deliveries.pending(ONE).count(), world.deliveries.held(1).len()), (1, 0));
    world.hear();
    assert_eq!((world.deliveries.pending(ONE).count(), world.deliveries.held(1).len()), (0, 1));
}

#[test]
fn what_one_leaves_another_reads() {
    let mut world = world();
    world.join(ONE);
    world.join(TWO);
    world.log.publish(&["a", "a", "a", "a"]);
    let of_one = (3..=6).find(|offset| world.chosen(*offset) == Some(1)).unwrap();
    assert!(!world.reads(TWO, of_one));
    world.on(|groups, ground| groups.leave_all(ground, ONE, Duration::ZERO));
    world.hear();
    assert!(world.reads(TWO, of_one), "nobody reads {of_one}");
    assert!(world.deliveries.is_lagging(2), "it goes back");
}

/// A member on another node.
const OTHER: &str = "other-7-0-1-0";

fn other() -> Life {
    Life { node: "other".into(), boot: 7, floor: Offset(2), beat: Offset(2), ..Life::default() }
}

/// A world beside another node of this life.
fn world_beside(life: Life) -> World {
    let mut world = world();
    let mut roster = Roster::default();
    roster.insert(1, life);
    world.floor.set_roster(roster);
    world
}

#[test]
fn members_of_other_nodes_are_drawn_too_and_leave_with_their_node() {
    let mut world = world_beside(other());
    world.join(ONE);
    let join = GroupChange::Join { member: OTHER.into(), past: None, again: false };
    world.told(&join);
    world.log.publish(&["a"; 40]);
    let theirs: Vec<u64> = (3..=42).filter(|offset| world.chosen(*offset).is_none()).collect();
    assert!(theirs.len() > 5 && theirs.len() < 35, "each has its share: {theirs:?}");
    assert!(theirs.iter().all(|offset| !world.reads(ONE, *offset)));
    world.on(|groups, ground| groups.gone(ground, &[other()], (Offset(43), UnixMillis(0))));
    assert!(theirs.iter().all(|offset| world.reads(ONE, *offset)), "what it may have left undone another reads");
    assert!((44..80).all(|offset| world.chosen(offset) == Some(1)), "and it is chosen for no more");
    // A member of a life that is over is ignored.
    world.floor.set_roster(Roster::default());
    world.told(&join);
    assert!((50..90).all(|offset| world.chosen(offset) == Some(1)));
}

#[test]
fn another_reads_what_a_member_leaves_from_before_this_node_knew_of_it() {
    for is_announced in [true, false] {
        let mut world = world_beside(other());
        world.log.publish(&["a"; 8]);
        if is_announced {
            world.told(&GroupChange::Join { member: OTHER.into(), past: None, again: true });
        }
        world.join(ONE);
        let left = GroupRange { after: 0, up_to: None, of: Some(OTHER.into()) };
        world.told(&GroupChange::Leave { member: OTHER.into(), ranges: vec![left], lives_ms: 0 });
        let reads = |offset: &u64| world.reads(ONE, *offset);
        assert_eq!((1..=8).filter(reads).count(), 8, "announced: {is_announced}");
    }
}

#[test]
fn what_went_to_a_member_of_a_node_that_has_not_heard_of_it_goes_to_another_with_that_node() {
    let mut world = world_beside(other());
    world.log.publish(&["a"; 4]);
    world.join(ONE);
    world.told(&GroupChange::Join { member: OTHER.into(), past: None, again: false });
    let theirs = world.floor.member(OTHER).unwrap();
    let mut last = 6;
    while group::choose(world.owner.all[&topic()].members(), Offset(last + 1)) != Some(theirs) {
        world.log.publish(&["b"]);
        last += 1;
    }
    let ranges = vec![GroupRange { after: 2, up_to: Some(4), of: None }];
    let left = world.told(&GroupChange::Leave { member: "other-7-0-9-0".into(), ranges, lives_ms: 0 });
    assert!(!world.reads(ONE, 3) && !world.reads(ONE, 4), "they went to the other node");
    world.on(|groups, ground| groups.gone(ground, &[other()], (left.next(), UnixMillis(0))));
    assert!(world.reads(ONE, 3) && world.reads(ONE, 4) && !world.reads(ONE, 2));
}

#[test]
fn another_reads_what_a_node_that_is_gone_has_said_to_owe() {
    let debt = |group: &str| GroupDebt { group: group.into(), after: 1 };
    for (named, knows_a_member, reads_it) in [
        ("$share/g/a", true, true),
        ("$share/g/a", false, true),
        ("", true, true),
        ("", false, false),
        ("$share/g/b", true, false),
    ] {
        let life = Life { floor: Offset(6), owes: [debt(named)].into(), ..other() };
        let mut world = world_beside(life.clone());
        if knows_a_member {
            let join = GroupChange::Join { member: OTHER.into(), past: None, again: false };
            world.told(&join);
        } else {
            world.log.publish(&["a"]);
        }
        world.log.publish(&["a"; 4]);
        world.join(ONE);
        world.on(|groups, ground| groups.gone(ground, &[life], (Offset(7), UnixMillis(0))));
        let reads = |offset: &u64| world.reads(ONE, *offset);
        let expected: &[u64] = if reads_it { &[2, 3, 4, 5, 6] } else { &[] };
        assert_eq!((1..=6).filter(reads).collect::<Vec<_>>(), expected, "{named} {knows_a_member}");
    }
}

#[test]
fn what_waited_for_a_member_of_a_node_that_has_not_heard_of_it_goes_to_another_with_that_node() {
    let mut world = world_beside(other());
    world.log.publish(&["a"; 4]);
    let past = GroupState { ranges: vec![], from: 1, until_ms: 60_000 };
    let join = GroupChange::Join { member: OTHER.into(), past: Some(past), again: false };
    world.told(&join);
    world.join(ONE);
    assert!((2..=4).all(|offset| !world.reads(ONE, offset)), "they went to the other node");
    world.on(|groups, ground| groups.gone(ground, &[other()], (Offset(7), UnixMillis(0))));
    assert!((2..=4).all(|offset| world.reads(ONE, offset)) && !world.reads(ONE, 1));
}

/// The debts from before a beat, as the node will say them.
fn owed(world: &mut World, beat: Offset) -> Vec<(String, u64)> {
    world.on(Groups::say_debts);
    let debts = world.floor.setup.tails[0].debts().read(beat);
    assert_eq!(debts.beat, beat);
    debts.owes.into_iter().map(|debt| (debt.group.into(), debt.after)).collect()
}

#[test]
fn a_node_says_what_its_members_have_not_read_and_what_a_leave_on_its_way_says() {
    let mut world = world();
    world.floor.setup.tails[0].set_readers(1);
    world.join(ONE);
    world.join(TWO);
    world.log.publish(&["a"; 4]);
    let own =
        Life { node: (*world.floor.setup.life.node).into(), floor: Offset(1), beat: Offset(7), ..Life::default() };
    let beat = |world: &mut World, at: u64| {
        let mut roster = Roster::default();
        roster.insert(1, Life { beat: Offset(at), ..own.clone() });
        world.floor.set_roster(roster);
        world.log.publish(&["b"]);
        world.on(Groups::beats);
        world.owner.account.due = Some(Monotonic(0));
    };
    beat(&mut world, 7);
    assert_eq!(owed(&mut world, Offset(7)), [(topic().as_str().to_owned(), 1)], "it has read nothing since it came");
    for slot in [ONE, TWO] {
        world.on(|groups, ground| groups.leave_all(ground, slot, Duration::ZERO));
    }
    beat(&mut world, 8);
    assert_eq!(owed(&mut world, Offset(8)).len(), 1, "others haven't heard that it leaves");
    let mut said: Vec<ReplyTo> = Vec::new();
    while !world.floor.out.appends.is_empty() {
        said.extend(world.floor.out.appends.iter().map(|append| append.reply_to));
        world.hear();
    }
    let published = Ok(Published {
        epoch: Epoch(0),
        partition: Partition(0),
        offset: Offset(9),
        time: UnixMillis(0),
        durability: Durability::None,
        duplicate: false,
    });
    for reply_to in said {
        assert!(world.owner.appended(reply_to, &published, Now::default()));
    }
    beat(&mut world, 9);
    assert_eq!(owed(&mut world, Offset(9)), [], "now they have");
}

#[test]
fn one_that_comes_reads_what_waits_from_before_this_node_knew_of_the_group() {
    for hears_the_leave in [true, false] {
        let mut world = world_beside(other());
        world.log.publish(&["a"; 4]);
        let ranges = vec![GroupRange { after: 0, up_to: Some(4), of: Some(OTHER.into()) }];
        let past = if hears_the_leave {
            let left = GroupChange::Leave { member: OTHER.into(), ranges, lives_ms: 60_000 };
            world.told(&left);
            None
        } else {
            Some(GroupState { ranges, from: 4, until_ms: 60_000 })
        };
        let subscribe = Subscribe { group: Some("g".into()), ..Subscribe::to([filter()]) };
        world.on(|groups, ground| groups.rejoin(ground, ONE, subscribe, past));
        world.hear();
        let reads = |offset: &u64| world.reads(ONE, *offset);
        assert_eq!((1..=4).filter(reads).count(), 4, "it hears of the leave: {hears_the_leave}");
    }
}

#[test]
fn other_nodes_learn_for_how_long_messages_wait() {
    let mut world = world();
    world.join(ONE);
    world.owner.all.get_mut(&topic()).unwrap().until = UnixMillis(60_000);
    world.on(Groups::announce);
    world.on(|groups, ground| groups.unsubscribe_all(ground, ONE));
    let said = world.log.take(&mut world.floor);
    let said: Vec<GroupChange> = said.iter().filter_map(|record| system::read(record.system()?)).collect();
    let [GroupChange::Join { past: Some(past), again: true, .. }, GroupChange::Leave { lives_ms, .. }] = &said[..]
    else {
        panic!("{said:?}")
    };
    assert_eq!((past.until_ms, *lives_ms), (60_000, 60_000));
}

#[test]
fn one_that_is_gone_before_the_log_says_so_is_no_member() {
    let mut world = world();
    let subscribe = Subscribe { group: Some("g".into()), ..Subscribe::to([filter()]) };
    world.on(|groups, ground| groups.join(ground, ONE, AskId(7), &subscribe));
    world.on(|groups, ground| groups.forget(ground, ONE));
    world.hear();
    world.hear();
    assert_eq!((world.chosen(9), world.deliveries.pending(ONE).count()), (None, 0));
}
