//! Members of a group on two workers.

use std::collections::BTreeMap;
use std::time::Duration;

use everywire_base::ask::{Ack, Subscribe};
use everywire_base::terms::Terms;
use everywire_base::topic::Filter;

use super::{World, named};

/// A member: its worker, its place, and the name of its session.
pub(crate) type Member = (usize, u32, &'static str);

pub(crate) const MEMBERS: [Member; 3] = [(0, 1, "one"), (0, 2, "two"), (1, 3, "three")];

pub(crate) fn shared(qos: u8) -> Subscribe {
    let terms = Terms { qos, ..Terms::default() };
    Subscribe { terms, group: Some("g".into()), ..Subscribe::to([Filter::parse("a/#").unwrap()]) }
}

pub(crate) fn join(world: &mut World, (worker, index, name): Member, expiry: Duration, window: u16) {
    world.enter(worker, index, named(name, expiry, false, window));
    assert!(world.subscribe_on(worker, index, &shared(1)).refused.is_empty());
}

pub(crate) fn publish(world: &mut World, numbers: std::ops::Range<u32>) {
    for n in numbers {
        world.publish("a/b", &n.to_string());
    }
}

/// The number of messages that each member got, and how often each message came.
pub(crate) fn count(world: &mut World, members: &[Member]) -> (BTreeMap<u32, usize>, Vec<usize>) {
    let mut got = BTreeMap::new();
    for (worker, index, _) in members {
        for (body, tag) in world.tagged(*worker, *index) {
            *got.entry(body.parse().unwrap()).or_insert(0) += 1;
            world.tell(*worker, *index, &Ack::Done(tag)).unwrap();
        }
    }
    let times = got.values().copied().collect();
    (got, times)
}
