//! Sessions alone: connections of delivery, and neither groups nor a registry.

use everywire_base::ask::{Append, Login, SessionWish};
use everywire_base::rules::Rules;
use everywire_base::system::SessionState;

use super::*;
use crate::ground::bench;

const ONE: Slot = Slot { index: 1, generation: 0 };
const TWO: Slot = Slot { index: 2, generation: 0 };
const HOUR: Duration = Duration::from_hours(1);

type World = bench::World<Sessions>;

fn world() -> World {
    World::new(Rules::default(), &[ONE, TWO])
}

impl World {
    fn log_in(&mut self, slot: Slot, expiry: Duration) {
        let session = SessionWish::Named { id: "me".into(), expiry, fresh: true, window: 10 };
        let mut login = Login { session, ..Login::default() };
        assert!(self.on(|sessions, ground| sessions.begin(ground, slot, AskId(1), &mut login)));
    }

    fn welcomed(&mut self) -> Vec<u32> {
        self.floor.out.answers.drain(..).map(|(slot, ..)| slot.index).collect()
    }

    /// The sessions' records that are on their way to the log.
    fn written(&self) -> Vec<&Append> {
        let all = self.floor.out.appends.iter();
        all.filter(|append| append.draft.entry.system().and_then(system::read::<SessionState>).is_some()).collect()
    }
}

#[test]
fn one_that_ends_with_its_connection_is_open_after_its_claim_and_writes_nothing() {
    let mut world = world();
    world.log_in(ONE, Duration::ZERO);
    assert_eq!(world.welcomed(), Vec::<u32>::new(), "it isn't claimed yet");
    world.hear();
    assert_eq!((world.welcomed(), world.floor.out.appends.len()), (vec![1], 0));
}

#[test]
fn one_that_outlives_it_is_open_when_its_record_is_in_the_log() {
    let mut world = world();
    world.log_in(ONE, HOUR);
    world.hear();
    assert_eq!((world.welcomed(), world.written().len()), (Vec::new(), 1));
    world.hear();
    assert_eq!(world.welcomed(), [1]);
}

#[test]
fn a_later_claim_ends_the_former_owner_with_the_reason() {
    let mut world = world();
    world.log_in(ONE, HOUR);
    world.hear();
    world.hear();
    world.log_in(TWO, HOUR);
    world.hear();
    assert_eq!(world.floor.out.endings, [(ONE, Reason::TakenOver)]);
    world.on(|sessions, ground| sessions.leave(ground, ONE, [127, 0, 0, 1].into()));
    assert!(world.owner.session(1).is_none() && world.deliveries.window(1).is_none());
    world.hear();
    assert_eq!(world.welcomed(), [1, 2]);
}

#[test]
fn a_record_that_the_log_refuses_ends_a_login_and_not_a_session() {
    let mut world = world();
    let refused = |world: &mut World| {
        let reply_to = world.floor.out.appends.pop().expect("an append").reply_to;
        world.on(|sessions, ground| sessions.appended(ground, reply_to, &Err(PublishError::Busy)));
    };
    world.log_in(ONE, HOUR);
    world.hear();
    world.hear();
    world.on(|sessions, ground| sessions.note_loss(ground, ONE));
    refused(&mut world);
    assert!(world.floor.out.endings.is_empty() && world.owner.deadline().is_some(), "it is written again");
    world.log_in(TWO, HOUR);
    refused(&mut world);
    assert_eq!(world.floor.out.endings.len(), 1);
}
