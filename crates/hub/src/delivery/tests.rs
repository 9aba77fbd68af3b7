//! Delivery alone: nothing of sessions, groups or users is here.

use everywire_base::ask::Subscribe;
use everywire_base::cursor::Start;
use everywire_base::parcel::{Delivery, Taken};
use everywire_base::reason::Reason;
use everywire_base::record::System;
use everywire_base::rules::Rules;
use everywire_base::topic::Topic;

use super::*;
use crate::floor::bench::Log;

/// Draws the connection of this index for every message.
struct Always(u32);

impl Shares for Always {
    fn chosen(&self, _: &Topic, _: u64, _: Offset) -> Option<u32> {
        Some(self.0)
    }

    fn takes(&self, _: &Topic, (_, slot): (u64, Slot), _: Offset) -> bool {
        slot.index == self.0
    }
}

/// The offsets that each connection got.
#[derive(Default)]
struct Got(Vec<(u32, u64)>);

impl Deliver for Got {
    fn deliver(&mut self, slot: Slot, delivery: &Delivery<'_>) -> Taken {
        if let Delivery::Message(parcel, _) = delivery {
            self.0.push((slot.index, parcel.record().offset.0));
        }
        Taken::Yes
    }

    fn settled(&mut self, _: Slot) {}

    fn end(&mut self, _: Slot, _: Reason) {}
}

struct World {
    log: Log,
    floor: Floor,
    deliveries: Deliveries,
}

impl World {
    fn new() -> Self {
        let (log, floor) = Log::new(Rules::default());
        Self { deliveries: Deliveries::new(&floor), log, floor }
    }

    fn subscribe(&mut self, index: u32, subscribe: &Subscribe) {
        self.deliveries.subscribe(Slot { index, generation: 0 }, subscribe, &mut self.floor);
    }

    fn fan_out(&mut self, budget: usize, chosen: u32, got: &mut Got) -> Option<Pause> {
        let (shares, mut budget) = (Always(chosen), budget);
        let turn = &mut Turn { floor: &mut self.floor, shares: &shares, now: Now::default(), to: got };
        self.deliveries.fan_out(&mut budget, turn)
    }
}

fn filter(text: &str) -> Filter {
    Filter::parse(text).unwrap()
}

#[test]
fn a_record_of_the_servers_own_stops_fan_out_once() {
    let (mut world, mut got) = (World::new(), Got::default());
    world.subscribe(1, &Subscribe::to([filter("a")]));
    world.log.publish(&["a"]);
    world.log.append(System::new(Topic::parse("$kick").unwrap(), "", false));
    world.log.publish(&["a"]);
    let Some(Pause::System(record)) = world.fan_out(100, 0, &mut got) else { panic!("it went on") };
    assert_eq!((record.offset, got.0.as_slice()), (Offset(2), &[(1, 1)][..]));
    assert!(world.fan_out(100, 0, &mut got).is_none(), "it stopped again");
    assert_eq!(got.0, [(1, 1), (1, 3)]);
}

#[test]
fn a_shared_message_goes_only_to_whom_it_was_drawn_for() {
    let (mut world, mut got) = (World::new(), Got::default());
    let shared = Subscribe { group: Some("g".into()), ..Subscribe::to([filter("a")]) };
    (0..3).for_each(|index| world.subscribe(index, &shared));
    world.log.publish(&["a"]);
    world.fan_out(100, 2, &mut got);
    assert_eq!(got.0, [(2, 1)]);
}

#[test]
fn nothing_is_fanned_out_while_somebody_waits_to_be_answered() {
    let (mut world, mut got) = (World::new(), Got::default());
    world.subscribe(1, &Subscribe::to([filter("a")]));
    world.log.publish(&["b", "a"]);
    let said = everywire_base::ask::Answer::Released(true);
    world.floor.say(Slot { index: 1, generation: 0 }, everywire_base::id::AskId(1), said);
    world.fan_out(100, 0, &mut got);
    assert_eq!(got.0, [], "a message overtook an answer");
    world.floor.out.answers.clear();
    world.fan_out(100, 0, &mut got);
    assert_eq!(got.0, [(1, 2)]);
}

#[test]
fn what_lies_behind_the_mark_is_read_and_then_the_connection_is_live() {
    let (mut world, mut got) = (World::new(), Got::default());
    world.log.publish(&["a", "a", "a"]);
    world.fan_out(100, 0, &mut got);
    let start = Start::After(world.floor.cursor(&[Offset(1)]));
    world.subscribe(1, &Subscribe { start, ..Subscribe::to([filter("a")]) });
    assert!(world.deliveries.is_lagging(1));
    let shares = Always(0);
    let turn = &mut Turn { floor: &mut world.floor, shares: &shares, now: Now::default(), to: &mut got };
    world.deliveries.catch_up(&mut 100, turn);
    assert_eq!((got.0.as_slice(), world.deliveries.is_lagging(1)), (&[(1, 2), (1, 3)][..], false));
}
