//! Logins, sessions, kicks and take-overs, as a wire sees them: two hubs over one log, like two workers of a node.
#![expect(clippy::unwrap_used, reason = "a test fails as it likes")]

mod pair;

use std::sync::Arc;
use std::time::Duration;

use everywire_base::ask::{Ack, AckError, Login, Lost, SessionWish, Subscribe, Unsubscribe};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Cursor, Epoch, Offset, Partition, Start};
use everywire_base::id::AskId;
use everywire_base::identity::Identity;
use everywire_base::limits::Limits;
use everywire_base::notice::Refused;
use everywire_base::quota::{Account, Quota};
use everywire_base::reason::Reason;
use everywire_base::record::{Durability, Entry, Message};
use everywire_base::registry::{Fate, TraceQuestion};
use everywire_base::rules::{History, Logins, Refusal, Rules, SlowConsumer, TopicRule};
use everywire_base::system::{self, Seen, Whom};
use everywire_base::topic::{Filter, Topic};

use pair::{EXPIRY, NEW, World, on, slot, user, world};

#[test]
fn a_session_goes_on_where_it_was_acknowledged() {
    let mut world = world();
    let welcome = world.welcome(0, 1, user("ann"), NEW);
    let id = welcome.session.unwrap();
    assert!(!welcome.resumed);
    assert!(world.subscribe(0, 1, "a").refused.is_empty());
    let offsets: Vec<Offset> = (1..=4).map(|n| world.publish("a", &n.to_string())).collect();
    assert_eq!(world.got(0, 1), ["1", "2", "3", "4"]);
    world.ack(0, 1, offsets[1]).unwrap();
    world.close(0, 1);
    world.publish("a", "5");
    let welcome = world.welcome(1, 9, user("ann"), World::resume(&id));
    assert!(welcome.resumed);
    assert_eq!(welcome.session.as_deref(), Some(&*id));
    assert_eq!(world.got(1, 9), ["3", "4", "5"]);
    world.publish("a", "6");
    assert_eq!(world.got(1, 9), ["6"]);
    world.publish("user/ann", "mail");
    assert_eq!(world.got(1, 9), ["mail"]);
}

#[test]
fn an_unknown_or_another_users_session_is_a_new_one() {
    let mut world = world();
    let id = world.welcome(0, 1, user("ann"), NEW).session.unwrap();
    world.close(0, 1);
    let welcome = world.welcome(0, 2, user("bob"), World::resume(&id));
    assert!(!welcome.resumed && welcome.session.unwrap() != id);
    let welcome = world.welcome(0, 3, None, World::resume("nobody's"));
    assert!(!welcome.resumed && welcome.session.is_some());
    // ann still owns it.
    assert!(world.welcome(0, 4, user("ann"), World::resume(&id)).resumed);
}

#[test]
fn a_session_expires_after_its_connection() {
    let mut world = world();
    let id = world.welcome(0, 1, user("ann"), NEW).session.unwrap();
    // A session lives as long as it is connected, however long that is.
    for _ in 0..4 {
        world.pass(EXPIRY);
    }
    world.close(0, 1);
    world.pass(Duration::from_mins(59));
    assert!(world.welcome(0, 2, user("ann"), World::resume(&id)).resumed);
    world.close(0, 2);
    world.pass(EXPIRY);
    assert!(!world.welcome(0, 3, user("ann"), World::resume(&id)).resumed);
}

#[test]
fn a_living_owner_hands_its_session_over_and_ends() {
    for (former, latter) in [(0, 1), (1, 0), (0, 0)] {
        let mut world = world();
        let id = world.welcome(former, 1, user("ann"), NEW).session.unwrap();
        world.subscribe(former, 1, "a");
        let first = world.publish("a", "1");
        world.publish("a", "2");
        world.ack(former, 1, first).unwrap();
        let welcome = world.welcome(latter, 2, user("ann"), World::resume(&id));
        assert!(welcome.resumed);
        assert_eq!(world.clients[former].ended[&1], Reason::TakenOver);
        // The former owner's acknowledgement was handed over, though it was never written before.
        assert_eq!(world.got(latter, 2), ["2"]);
        // The former owner's later acts change nothing.
        assert_eq!(world.ack(former, 1, Offset(99)), Err(AckError::NoSession));
        world.close(former, 1);
        world.close(latter, 2);
        assert!(world.welcome(0, 3, user("ann"), World::resume(&id)).resumed);
        assert_eq!(world.got(0, 3), ["2"]);
    }
}

#[test]
fn the_last_of_two_claims_wins() {
    let mut world = world();
    let id = world.welcome(0, 1, user("ann"), NEW).session.unwrap();
    world.close(0, 1);
    for worker in [0, 1] {
        let login = Login { identity: user("ann"), inbox: true, session: World::resume(&id), ..Login::default() };
        world.hubs[worker].login(slot(2), AskId(1), login, world.now);
    }
    world.settle();
    world.pass(Duration::from_secs(1));
    assert_eq!(world.clients[0].ended[&2], Reason::TakenOver);
    assert!(world.clients[1].welcomes[&(2, 1)].as_ref().unwrap().resumed);
    world.publish("user/ann", "x");
    assert_eq!(world.got(1, 2), ["x"]);
    assert!(world.got(0, 2).is_empty());
}

#[test]
fn an_owner_of_an_earlier_life_is_not_waited_for() {
    let mut world = world();
    let id = world.welcome(0, 1, user("ann"), NEW).session.unwrap();
    world.subscribe(0, 1, "a");
    world.publish("a", "1");
    // The node dies: nothing is written any more. Another is another life.
    let mut next = World::new(&Rules::default(), Limits::default());
    for record in std::mem::take(&mut world.records) {
        let mut entry = record.entry().unwrap().clone();
        if let Entry::System(system) = &mut entry {
            system.body = String::from_utf8_lossy(&system.body).replace("n-1-", "n-0-").into();
        }
        next.append(entry, record.durability);
    }
    assert!(next.welcome(0, 1, user("ann"), World::resume(&id)).resumed);
    assert_eq!(next.got(0, 1), ["1"]);
}

#[test]
fn a_full_window_is_lagging() {
    let mut world = World::new(&Rules::default(), Limits { session_window: 3, ..Limits::default() });
    world.welcome(0, 1, user("ann"), NEW);
    world.subscribe(0, 1, "a");
    let offsets: Vec<Offset> = (1..=8).map(|n| world.publish("a", &n.to_string())).collect();
    assert_eq!(world.got(0, 1), ["1", "2", "3"]);
    assert_eq!(world.hubs[0].describe(slot(1)).outstanding, 3);
    world.ack(0, 1, offsets[0]).unwrap();
    assert_eq!(world.got(0, 1), ["4"]);
    world.ack(0, 1, offsets[3]).unwrap();
    assert_eq!(world.got(0, 1), ["5", "6", "7"]);
    world.ack(0, 1, offsets[6]).unwrap();
    assert_eq!(world.got(0, 1), ["8"]);
    let next = world.publish("a", "9");
    assert_eq!(world.got(0, 1), ["9"]);
    world.ack(0, 1, next).unwrap();
    assert_eq!(world.hubs[0].describe(slot(1)).outstanding, 0);
}

#[test]
fn what_was_never_sent_is_not_acknowledged() {
    let mut world = world();
    world.welcome(0, 1, None, SessionWish::None);
    world.subscribe(0, 1, "a");
    let offset = world.publish("a", "1");
    assert_eq!(world.ack(0, 1, offset), Err(AckError::NoSession));
    world.welcome(0, 2, None, NEW);
    assert_eq!(world.ack(0, 2, Offset(1000)), Err(AckError::NeverSent));
    let other = Cursor::single(Epoch(8), Offset(1));
    assert_eq!(world.hubs[0].acknowledge(slot(2), AskId(0), &Ack::UpTo(other), world.now), Err(AckError::NeverSent));
}

#[test]
fn what_was_unsubscribed_does_not_go_on() {
    let mut world = world();
    let id = world.welcome(0, 1, user("ann"), NEW).session.unwrap();
    for topic in ["a", "b", "c", "d"] {
        world.subscribe(0, 1, topic);
    }
    let these = ["b", "zzz", "a"].map(|f| Filter::parse(f).unwrap()).into_iter().collect();
    world.hubs[0].unsubscribe_from(slot(1), AskId(0), &Unsubscribe::These(these), world.now);
    for topic in ["a", "b", "c", "d"] {
        world.publish(topic, topic);
    }
    assert_eq!(world.got(0, 1), ["c", "d"]);
    world.close(0, 1);
    world.welcome(1, 1, user("ann"), World::resume(&id));
    assert_eq!(world.got(1, 1), ["c", "d"]);
}

#[test]
fn a_log_that_takes_nothing_ends_the_login_and_keeps_an_open_session() {
    let mut world = world();
    let id = world.welcome(0, 1, user("ann"), NEW).session.unwrap();
    world.takes = false;
    world.login(0, 2, user("bob"), NEW);
    assert!(matches!(world.clients[0].ended[&2], Reason::Overloaded(_)));
    let filters = [Filter::parse("a").unwrap()];
    let subscribe = Subscribe::to(filters);
    world.hubs[0].subscribe_for(slot(1), AskId(2), &subscribe, world.now);
    world.settle();
    assert!(!world.clients[0].subscribed.contains_key(&(1, 2)));
    world.takes = true;
    world.pass(Duration::from_secs(1));
    assert!(world.clients[0].subscribed.contains_key(&(1, 2)));
    world.close(0, 1);
    world.publish("a", "1");
    world.welcome(0, 3, user("ann"), World::resume(&id));
    assert_eq!(world.got(0, 3), ["1"]);
}

#[test]
fn kicks_end_whom_they_mean() {
    let mut world = world();
    world.welcome(0, 1, on("ann", "phone"), SessionWish::None);
    world.welcome(1, 1, on("ann", "desk"), SessionWish::None);
    let bob = world.welcome(0, 2, on("bob", "phone"), SessionWish::None).connection;
    world.welcome(1, 2, None, SessionWish::None);
    world.kick(Whom::Device { user: "ann".into(), device: "desk".into() });
    let kicked = Reason::Kicked("enough".into());
    assert_eq!(world.clients[1].ended.remove(&1), Some(kicked.clone()));
    assert!(world.clients[0].ended.is_empty() && world.clients[1].ended.is_empty());
    world.kick(Whom::Connection(bob));
    assert_eq!(world.clients[0].ended.remove(&2), Some(kicked.clone()));
    world.kick(Whom::User("ann".into()));
    assert_eq!(world.clients[0].ended.remove(&1), Some(kicked));
    world.kick(Whom::User("nobody".into()));
    world.kick(Whom::Connection("n-1-9-9-9".into()));
    assert!(world.clients[0].ended.is_empty());
}

#[test]
fn the_newest_login_wins_where_there_is_to_be_one() {
    let logins = |logins| {
        let mut rules = Rules::default();
        rules.logins = logins;
        World::new(&rules, Limits::default())
    };
    let mut world = logins(Logins::OnePerUser);
    world.welcome(0, 1, on("ann", "phone"), SessionWish::None);
    world.welcome(1, 1, on("ann", "desk"), SessionWish::None);
    assert_eq!(world.clients[0].ended[&1], Reason::TakenOver);
    assert!(world.clients[1].ended.is_empty());
    let mut world = logins(Logins::OnePerDevice);
    world.welcome(0, 1, on("ann", "phone"), SessionWish::None);
    world.welcome(0, 2, on("ann", "desk"), SessionWish::None);
    world.welcome(0, 3, on("bob", "phone"), SessionWish::None);
    assert!(world.clients[0].ended.is_empty());
    world.welcome(1, 1, on("ann", "phone"), SessionWish::None);
    assert_eq!(world.clients[0].ended.keys().collect::<Vec<_>>(), [&1]);
}

#[test]
fn a_user_has_as_many_connections_as_he_may() {
    let mut world = world();
    let account = Some(Arc::new(Account::new(Quota { connections: 1, ..Quota::default() })));
    let ann = || Some(Arc::new(Identity { account: account.clone(), ..Identity::user("ann") }));
    world.welcome(0, 1, ann(), SessionWish::None);
    // Renewing counts nothing.
    world.welcome(0, 1, ann(), SessionWish::None);
    world.login(1, 1, ann(), SessionWish::None);
    assert!(matches!(world.clients[1].welcomes[&(1, 1)], Err(Refusal::TooMany(_))));
    world.close(0, 1);
    world.welcome(1, 1, ann(), SessionWish::None);
}

#[test]
fn a_renewed_identity_loses_what_it_may_not_have() {
    let mut world = world();
    world.welcome(0, 1, user("ann"), SessionWish::None);
    world.subscribe(0, 1, "a");
    world.subscribe(0, 1, "b");
    let only_b = Identity { subscribe: Some(vec![Filter::parse("b").unwrap()]), ..Identity::user("ann") };
    let welcome = world.welcome(0, 1, Some(Arc::new(only_b)), SessionWish::None);
    assert_eq!(welcome.refused.iter().map(|(f, _)| f.as_str()).collect::<Vec<_>>(), ["a"]);
    world.publish("a", "a");
    world.publish("b", "b");
    assert_eq!(world.got(0, 1), ["b"]);
}

#[test]
fn a_subscription_is_confirmed_before_any_message() {
    let mut world = world();
    world.publish("b", "old");
    world.welcome(0, 1, user("ann"), NEW);
    world.subscribe(0, 1, "a");
    let wanted = Subscribe { start: Start::Earliest, ..Subscribe::to([Filter::parse("b").unwrap()]) };
    world.hubs[0].subscribe_for(slot(1), AskId(2), &wanted, world.now);
    world.append(Message::new(Topic::parse("a").unwrap(), "live"), Durability::Fsync);
    for _ in 0..10 {
        world.step(0);
    }
    assert_eq!(world.got(0, 1), Vec::<String>::new(), "the session's record isn't durable");
    world.settle();
    assert!(world.clients[0].subscribed.contains_key(&(1, 2)));
    assert_eq!(world.got(0, 1), ["old", "live"]);
}

#[test]
fn a_renewed_login_keeps_its_session() {
    let mut world = world();
    let first = world.welcome(0, 1, user("ann"), NEW);
    let renewed = world.welcome(0, 1, user("ann"), SessionWish::None);
    assert_eq!((renewed.session, renewed.expiry), (first.session, EXPIRY));
}

#[test]
fn who_left_was_seen() {
    let mut world = world();
    world.welcome(0, 1, on("ann", "phone"), SessionWish::None);
    assert_eq!(world.hubs[0].connections_of("ann"), [slot(1)]);
    world.close(0, 1);
    assert!(world.hubs[0].connections_of("ann").is_empty());
    let topic = system::seen_topic("ann", Some("phone")).unwrap();
    let record = world.retained[&topic].system().unwrap();
    let seen: Seen = system::read(record).unwrap();
    assert_eq!((&*seen.user, &*seen.wire, seen.at_ms), ("ann", "test", world.now.wall.0));
    let days = 24 * 3600 * 1000 * 90;
    assert_eq!(record.expires, Some(UnixMillis(world.now.wall.0 + days)), "and isn't known for ever");
}

#[test]
fn a_message_is_traced_to_its_recipients() {
    let mut world = World::new(&Rules::default(), Limits { session_window: 2, ..Limits::default() });
    world.welcome(0, 1, None, SessionWish::None);
    world.subscribe(0, 1, "a");
    world.welcome(0, 2, user("ann"), NEW);
    world.subscribe(0, 2, "a");
    let offsets: Vec<Offset> = (1..=3).map(|n| world.publish("a", &n.to_string())).collect();
    world.ack(0, 2, offsets[0]).unwrap();
    world.publish("a", "4");
    let topic = Topic::parse("a").unwrap();
    let fates = |offset| {
        let question = TraceQuestion { topic: topic.clone(), partition: Partition(0), offset, limit: 10 };
        world.hubs[0].trace(&question).iter().map(|t| (t.slot.index, t.fate)).collect::<Vec<_>>()
    };
    assert_eq!(fates(offsets[0]), [(1, Fate::Written), (2, Fate::Acknowledged)]);
    assert_eq!(fates(offsets[1]), [(1, Fate::Written), (2, Fate::Written)]);
    assert_eq!(fates(Offset(offsets[2].0 + 1)), [(1, Fate::Written), (2, Fate::Lagging)]);
}

#[test]
fn who_was_too_slow_finds_his_session_as_it_was() {
    let history = History { max_messages: 0, ..History::default() };
    let slow = TopicRule { slow_consumer: SlowConsumer::Close, history, ..TopicRule::fallback() };
    let limits = Limits { tail_records: 1, ..Limits::default() };
    let mut world = World::new(&Rules::new(vec![slow]), limits);
    let id = world.welcome(0, 1, user("ann"), NEW).session.unwrap();
    world.subscribe(0, 1, "a");
    world.clients[0].is_full = true;
    for n in 0..600 {
        world.publish("a", &n.to_string());
    }
    world.lost = Some(Lost { topic: "a".into(), up_to: world.writer.tail().start() });
    world.clients[0].is_full = false;
    world.hubs[0].room(slot(1));
    world.settle();
    assert_eq!(world.clients[0].ended.get(&1), Some(&Reason::SlowConsumer));
    world.lost = None;
    world.close(0, 1);
    assert!(world.welcome(1, 2, user("ann"), World::resume(&id)).resumed);
    world.got(1, 2);
    world.publish("a", "new");
    assert_eq!(world.got(1, 2), ["new"]);
}

#[test]
fn operators_are_told_of_a_session_that_lost_messages() {
    let mut world = World::new(&Rules::default(), Limits { tail_records: 1, ..Limits::default() });
    let id = world.welcome(0, 1, user("ann"), NEW).session.unwrap();
    world.subscribe(0, 1, "a");
    world.welcome(0, 2, user("bob"), SessionWish::None);
    world.close(0, 1);
    for n in 0..600 {
        world.publish("a", &n.to_string());
    }
    world.lost = Some(Lost { topic: "a".into(), up_to: Offset(300) });
    world.welcome(0, 3, user("ann"), World::resume(&id));
    let lost = world.hubs[0].notices().drain(..).filter(|(_, notice)| notice.refused == Refused::Lost);
    let lost: Vec<_> = lost.map(|(slot, notice)| (slot.unwrap().index, notice.who.unwrap(), notice.why)).collect();
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert!(lost[0].0 == 3 && lost[0].1 == id && lost[0].2.contains('a'), "{lost:?}");
}

#[test]
fn a_worker_that_falls_out_of_the_tail_still_sees_the_servers_own_records() {
    let mut world = World::new(&Rules::default(), Limits { tail_records: 1, ..Limits::default() });
    let id = world.welcome(0, 1, user("ann"), NEW).session.unwrap();
    world.welcome(0, 2, user("bob"), NEW);
    world.subscribe(0, 1, "a");
    // A subscription is on its way to the log, its session is claimed, and somebody is kicked.
    let subscribe = Subscribe::to([Filter::parse("b").unwrap()]);
    world.hubs[0].subscribe_for(slot(1), AskId(7), &subscribe, world.now);
    world.turn(0);
    let kick = system::Kick { whom: Whom::User("bob".into()), reason: "enough".into() };
    world.append(system::record(Topic::parse(system::KICK).unwrap(), &kick, false), Durability::None);
    let login = Login { identity: user("ann"), session: World::resume(&id), ..Login::default() };
    world.hubs[1].login(slot(3), AskId(1), login, world.now);
    world.turn(1);
    for n in 0..1000 {
        world.append(Message::new(Topic::parse("a").unwrap(), n.to_string()), Durability::Fsync);
    }
    world.settle();
    assert!(world.clients[0].subscribed.contains_key(&(1, 7)), "it is durable");
    assert_eq!(world.clients[0].ended.get(&2), Some(&Reason::Kicked("enough".into())));
    assert_eq!(world.clients[0].ended.get(&1), Some(&Reason::TakenOver));
    world.close(0, 1);
    assert!(world.clients[1].welcomes.remove(&(3, 1)).unwrap().unwrap().resumed);
    assert_eq!(world.got(1, 3), (0..1000).map(|n| n.to_string()).collect::<Vec<_>>());
    world.publish("b", "both");
    assert_eq!(world.got(1, 3), ["both"]);
}
