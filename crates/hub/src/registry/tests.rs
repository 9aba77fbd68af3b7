//! The registry alone: logins, arrivals and kicks.

use std::sync::Arc;

use everywire_base::ask::Login;
use everywire_base::identity::Identity;
use everywire_base::rules::Rules;
use everywire_base::topic::Topic;

use super::*;
use crate::ground::bench;

type World = bench::World<Registry>;

fn world(logins: Logins) -> World {
    let mut rules = Rules::default();
    rules.logins = logins;
    World::new(rules, &[])
}

impl World {
    fn log_in(&mut self, index: u32, user: &str) {
        let slot = Slot { index, generation: 0 };
        self.deliveries.take_place(slot);
        let identity = Identity { user: Some(user.into()), ..Identity::default() };
        let mut login = Login { identity: Some(Arc::new(identity)), ..Login::default() };
        self.on(|registry, ground| registry.enter(ground, slot, &mut login)).unwrap();
    }

    fn ended(&mut self) -> Vec<(u32, Reason)> {
        self.floor.out.endings.drain(..).map(|(slot, reason)| (slot.index, reason)).collect()
    }
}

#[test]
fn a_later_login_ends_the_earlier_one_where_one_is_all() {
    let mut world = world(Logins::OnePerUser);
    world.log_in(1, "ada");
    world.hear();
    world.log_in(2, "ada");
    world.log_in(3, "bob");
    world.hear();
    assert_eq!(world.ended(), [(1, Reason::TakenOver)]);
}

#[test]
fn a_kick_of_a_user_ends_all_of_theirs() {
    let mut world = world(Logins::All);
    for (index, user) in [(1, "ada"), (2, "ada"), (3, "bob")] {
        world.log_in(index, user);
    }
    let kick = Kick { whom: Whom::User("ada".into()), reason: "enough".into() };
    let kick = system::record(Topic::parse(system::KICK).unwrap(), &kick, false);
    let record = world.log.append(kick);
    world.on(|registry, ground| registry.record(ground, &record, record.system().unwrap()));
    let mut ended = world.ended();
    ended.sort_unstable_by_key(|(index, _)| *index);
    assert_eq!(ended, [(1, Reason::Kicked("enough".into())), (2, Reason::Kicked("enough".into()))]);
}

#[test]
fn one_that_is_renewed_under_another_name_is_found_under_that() {
    let mut world = world(Logins::All);
    world.log_in(1, "ada");
    world.log_in(1, "bob");
    assert_eq!(
        (world.owner.of_user("ada", &world.floor).len(), world.owner.of_user("bob", &world.floor)),
        (0, vec![1])
    );
}
