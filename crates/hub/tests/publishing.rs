//! Clients' messages that come back from the log as stale: they are judged again by the present state (RULES 46).
//!
//! Mutations that it finds: a stale message that is answered so at once, one that goes again with its old mark, one that
//! goes again though its publisher may no more, messages that overtake it, answers that overtake each other, no end.
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

mod pair;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use everywire_base::access::{Alias, Membership, Role, RoomKeeper, Standing};
use everywire_base::ask::{Answer, Append, Guard, NotPublished, Outcome, PublishError, Published};
use everywire_base::cursor::{Epoch, Offset, Partition};
use everywire_base::id::{AskId, ReplyTo};
use everywire_base::limits::Limits;
use everywire_base::publish;
use everywire_base::record::{Durability, Message};
use everywire_base::rules::{Refusal, Rules};
use everywire_base::topic::Topic;

use pair::{World, slot, user};

const MARGIN: Duration = Duration::from_secs(1);
const STALE: Result<(), PublishError> = Err(PublishError::Stale);

/// A room `lobby` with one member, who may be banned.
#[derive(Default)]
struct Lobby {
    as_of: AtomicU64,
    is_banned: AtomicBool,
    /// Whether there is a room `hall` too, which hides its users.
    is_hall_founded: AtomicBool,
}

impl Membership for Lobby {
    fn standing(&self, room: &str, user: Option<&str>) -> Option<Standing> {
        assert_eq!(user, Some("ann"), "judged for its author");
        let role = if self.is_banned.load(Ordering::Relaxed) { Role::Banned } else { Role::Member };
        (room == "lobby").then_some(Standing { role, is_open: false, talks_from: Role::Member })
    }

    fn guards(&self, _: &str, _: Option<&str>) -> [Guard; 2] {
        let as_of = Offset(self.as_of.load(Ordering::Relaxed));
        [1, 2].map(|topic| Guard { topic, as_of, claims: false })
    }

    fn alias(&self, room: &str, _: &str) -> Option<Alias> {
        let is_hidden = room == "hall" && self.is_hall_founded.load(Ordering::Relaxed);
        is_hidden.then(|| Alias { name: "~alias".into(), nick: Some("Ann".into()) })
    }

    fn blocked(&self, _: &str, _: &str) -> (bool, Guard) {
        (false, Guard { topic: 3, as_of: Offset(0), claims: false })
    }
}

struct Bench {
    world: World,
    lobby: Arc<Lobby>,
    rules: Rules,
}

impl Bench {
    fn new() -> Self {
        let lobby = Arc::new(Lobby::default());
        let mut rules = Rules::default();
        rules.rooms = RoomKeeper::new(Arc::clone(&lobby) as _);
        let bench = Self { world: World::new(&rules, Limits::default()), lobby, rules };
        bench.know(10);
        bench
    }

    /// Lets the room know all records up to there.
    fn know(&self, as_of: u64) {
        self.lobby.as_of.store(as_of, Ordering::Relaxed);
    }

    /// Publishes as a wire does.
    fn publish(&mut self, ask: u32, topic: &str, key: Option<&str>) {
        let author = user("ann");
        let message = Message { key: key.map(Into::into), ..Message::new(Topic::parse(topic).unwrap(), "x") };
        let mut draft = publish::check(message, author.as_deref(), &self.rules, &Limits::default()).unwrap();
        draft.author = author.filter(|_| !draft.guards.is_empty());
        let reply_to = ReplyTo::Connection { worker: 0, slot: slot(1), ask: AskId(ask) };
        self.world.hubs[0].publish(Append::new(reply_to, draft));
    }

    /// The asks of the messages that go to the log now, each with the mark at which it was judged.
    fn goes(&mut self) -> Vec<(u32, Option<u64>)> {
        let now = self.world.now;
        self.world.hubs[0].turn(now, &mut self.world.clients[0]);
        let appends = std::mem::take(self.world.hubs[0].appends());
        let ask = |append: &Append| append.reply_to.connection().unwrap().1.0;
        appends.iter().map(|append| (ask(append), append.draft.guards.first().map(|g| g.as_of.0))).collect()
    }

    /// Lets the log answer.
    fn log(&mut self, ask: u32, result: Result<(), PublishError>) {
        let (epoch, partition, time) = (Epoch(1), Partition(0), self.world.now.wall);
        let (durability, offset) = (Durability::Fsync, Offset(100 + u64::from(ask)));
        let published = Published { epoch, partition, offset, time, durability, duplicate: false };
        let reply_to = ReplyTo::Connection { worker: 0, slot: slot(1), ask: AskId(ask) };
        let outcome = Outcome { reply_to, result: result.map(|()| published) };
        self.world.hubs[0].published(&outcome, self.world.now);
    }

    /// The answers to the publisher, in order.
    fn told(&mut self) -> Vec<(u32, Result<(), NotPublished>)> {
        let told = self.world.hubs[0].answers().drain(..).map(|(_, ask, answer)| match answer {
            Answer::Published(result) => (ask.0, result.map(drop)),
            other => panic!("{other:?}"),
        });
        told.collect()
    }

    fn pass(&mut self, time: Duration) {
        self.world.now.monotonic = self.world.now.monotonic + time;
    }
}

#[test]
fn a_stale_message_goes_again_as_of_now() {
    let mut bench = Bench::new();
    bench.publish(1, "room/lobby", None);
    assert_eq!(bench.goes(), [(1, Some(10))]);
    bench.log(1, STALE);
    bench.know(12);
    assert_eq!((bench.goes(), bench.told()), (vec![], vec![]), "the room gets a moment to learn of the change");
    let deadline = bench.world.hubs[0].deadline().unwrap();
    assert!(deadline <= bench.world.now.monotonic + MARGIN);
    bench.pass(MARGIN);
    assert_eq!(bench.goes(), [(1, Some(12))]);
    bench.log(1, Ok(()));
    assert_eq!(bench.told(), [(1, Ok(()))]);
    assert_eq!((bench.goes(), bench.world.hubs[0].deadline()), (vec![], None));
}

#[test]
fn a_message_to_a_room_that_is_founded_meanwhile_goes_under_the_alias() {
    let mut bench = Bench::new();
    bench.publish(1, "room/hall", None);
    let sent = |bench: &mut Bench| {
        let now = bench.world.now;
        bench.world.hubs[0].turn(now, &mut bench.world.clients[0]);
        let append = bench.world.hubs[0].appends().pop().expect("a message");
        let message = append.draft.message().expect("a message");
        (message.from.clone(), message.nick().map(str::to_owned), message.author().map(str::to_owned))
    };
    assert_eq!(sent(&mut bench), (None, None, None), "nobody has said who it is");
    bench.lobby.is_hall_founded.store(true, Ordering::Relaxed);
    bench.know(12);
    bench.log(1, STALE);
    bench.pass(MARGIN);
    assert_eq!(sent(&mut bench), (Some("~alias".into()), Some("Ann".into()), Some("ann".into())));
}

#[test]
fn a_publisher_who_may_no_more_is_told_so() {
    let mut bench = Bench::new();
    bench.publish(1, "room/lobby", None);
    bench.goes();
    bench.log(1, STALE);
    bench.lobby.is_banned.store(true, Ordering::Relaxed);
    bench.pass(MARGIN);
    assert_eq!(bench.goes(), []);
    let told = bench.told();
    assert!(matches!(told[..], [(1, Err(NotPublished::Refused(Refusal::Forbidden(_))))]), "{told:?}");
}

#[test]
fn a_message_that_stays_stale_is_answered_so() {
    let mut bench = Bench::new();
    bench.publish(1, "room/lobby", None);
    for _ in 0..21 {
        assert_eq!(bench.told(), []);
        assert_eq!(bench.goes(), [(1, Some(10))]);
        bench.log(1, STALE);
        bench.pass(MARGIN);
    }
    assert_eq!(bench.told(), [(1, Err(PublishError::Stale.into()))]);
    assert_eq!(bench.goes(), []);
}

#[test]
fn what_is_published_behind_a_stale_message_stays_behind_it() {
    let mut bench = Bench::new();
    bench.publish(1, "room/lobby", None);
    bench.know(11);
    bench.publish(2, "room/lobby", None);
    assert_eq!(bench.goes(), [(1, Some(10)), (2, Some(10))], "they are stale together");
    bench.log(1, STALE);
    bench.publish(3, "room/lobby", None);
    bench.publish(4, "plain", None);
    bench.pass(MARGIN);
    assert_eq!(bench.goes(), [], "the second is still under way");
    bench.log(2, STALE);
    bench.pass(MARGIN);
    assert_eq!(bench.goes(), [(1, Some(11)), (2, Some(11)), (3, Some(11)), (4, None)]);
    (1..=3).for_each(|ask| bench.log(ask, Ok(())));
    bench.log(4, Err(PublishError::Busy));
    let busy = Err(PublishError::Busy.into());
    assert_eq!(bench.told(), [(1, Ok(())), (2, Ok(())), (3, Ok(())), (4, busy)]);
    bench.publish(5, "plain", None);
    assert_eq!(bench.goes(), [(5, None)]);
    bench.log(5, Ok(()));
    assert_eq!(bench.told(), [(5, Ok(()))]);
}

#[test]
fn answers_keep_the_order_of_the_connection() {
    let mut bench = Bench::new();
    bench.publish(1, "room/lobby", None);
    bench.publish(2, "plain", None);
    assert_eq!(bench.goes(), [(1, Some(10)), (2, None)]);
    bench.log(1, STALE);
    bench.log(2, Ok(()));
    assert_eq!(bench.told(), []);
    bench.pass(MARGIN);
    assert_eq!(bench.goes(), [(1, Some(10))]);
    bench.log(1, Ok(()));
    assert_eq!(bench.told(), [(1, Ok(())), (2, Ok(()))]);
}

#[test]
fn the_numbers_of_a_producer_behind_a_stale_message_wait_for_it() {
    let mut bench = Bench::new();
    bench.publish(1, "room/lobby", Some("seq:p:1"));
    bench.publish(2, "room/lobby", Some("seq:p:2"));
    bench.publish(3, "plain", Some("seq:p:3"));
    bench.goes();
    bench.log(1, STALE);
    (2..=3).for_each(|ask| bench.log(ask, Err(PublishError::OutOfOrder { expected: 1 })));
    assert_eq!(bench.told(), []);
    bench.pass(MARGIN);
    assert_eq!(bench.goes(), [(1, Some(10)), (2, Some(10)), (3, None)]);
    (1..=3).for_each(|ask| bench.log(ask, Ok(())));
    assert_eq!(bench.told(), [(1, Ok(())), (2, Ok(())), (3, Ok(()))]);
    bench.publish(4, "room/lobby", Some("seq:p:9"));
    bench.goes();
    bench.log(4, Err(PublishError::OutOfOrder { expected: 4 }));
    assert_eq!(bench.told(), [(4, Err(PublishError::OutOfOrder { expected: 4 }.into()))], "nothing stale is before it");
}
