//! Sessions that acknowledge one by one, as MQTT's clients do (RULES 4, 10 to 16).
#![expect(clippy::unwrap_used, reason = "a test fails as it likes")]

mod pair;

use std::time::Duration;

use everywire_base::ask::{Ack, AckError, Answer, Goodbye, Login, SessionWish, Subscribe, Will};
use everywire_base::cursor::Offset;
use everywire_base::id::AskId;
use everywire_base::reason::Reason;
use everywire_base::record::{Durability, Message};
use everywire_base::rules::{Rules, TopicRule};
use everywire_base::terms::{RetainHandling, Terms};
use everywire_base::topic::{Filter, Topic};

use pair::{EXPIRY, Got, World, named, slot, world};

const AGAIN: bool = true;

fn to(filter: &str, terms: Terms) -> Subscribe {
    Subscribe { terms, ..Subscribe::to([Filter::parse(filter).unwrap()]) }
}

fn at(qos: u8) -> Terms {
    Terms { qos, ..Terms::default() }
}

fn message(body: &str, qos: u8, tag: u16, again: bool) -> Got {
    Got::Message(body.into(), qos, tag, again, false, vec![])
}

/// A client on worker 0 with a session that lasts, and one filter.
fn client(world: &mut World, qos: u8) {
    world.enter(0, 1, named("me", EXPIRY, false, 100));
    world.subscribe_on(0, 1, &to("a", at(qos)));
}

#[test]
fn one_copy_at_the_highest_that_was_granted_and_the_lower_of_both() {
    let mut world = world();
    world.enter(0, 1, named("me", EXPIRY, false, 100));
    let numbered = |qos, identifier| Terms { qos, identifier, ..Terms::default() };
    world.subscribe_on(0, 1, &to("a/b", numbered(0, 7)));
    world.subscribe_on(0, 1, &to("a/+", numbered(2, 8)));
    world.subscribe_on(0, 1, &to("other", numbered(2, 9)));
    for qos in 0..=2u8 {
        world.publish_at("a/b", "x", qos);
    }
    let got = world.came(0, 1);
    let seen: Vec<_> = got
        .iter()
        .map(|got| if let Got::Message(_, qos, _, _, _, ids) = got { (*qos, ids.clone()) } else { panic!() })
        .collect();
    assert_eq!(seen, [(0, vec![7, 8]), (1, vec![7, 8]), (2, vec![7, 8])]);
}

#[test]
fn what_is_a_clients_own_it_may_leave_out() {
    let mut world = world();
    world.enter(0, 1, named("me", EXPIRY, false, 100));
    world.subscribe_on(0, 1, &to("a", Terms { no_local: true, ..Terms::default() }));
    let own = everywire_base::system::session_topic(None, "me").unwrap().stable_hash();
    for origin in [own, 1] {
        let message = Message { origin, ..Message::new(Topic::parse("a").unwrap(), format!("{origin}")) };
        world.append(message, Durability::Fsync);
    }
    world.settle();
    assert_eq!(world.tagged(0, 1), [("1".into(), 1)]);
}

#[test]
fn a_window_of_one_takes_one_after_the_other() {
    let mut world = world();
    world.enter(0, 1, named("me", EXPIRY, false, 1));
    world.subscribe_on(0, 1, &to("a", at(1)));
    for n in 0..50 {
        world.publish("a", &n.to_string());
    }
    for n in 0..50 {
        let got = world.tagged(0, 1);
        assert_eq!(got.len(), 1, "{got:?}");
        assert_eq!(got[0].0, n.to_string());
        world.tell(0, 1, &Ack::Done(got[0].1)).unwrap();
    }
    assert_eq!(world.came(0, 1), []);
}

#[test]
fn what_was_not_acknowledged_comes_again_and_at_most_once_does_not() {
    let mut world = world();
    client(&mut world, 1);
    world.publish_at("a", "zero", 0);
    world.publish("a", "one");
    world.publish("a", "two");
    let got = world.tagged(0, 1);
    assert_eq!(got, [("zero".into(), 0), ("one".into(), 1), ("two".into(), 2)]);
    world.tell(0, 1, &Ack::Done(1)).unwrap();
    world.close(0, 1);
    world.publish_at("a", "missed at most once", 0);
    world.publish("a", "three");
    let welcome = world.enter(1, 5, named("me", EXPIRY, false, 100));
    assert!(welcome.resumed);
    assert_eq!(world.came(1, 5), [message("two", 1, 2, AGAIN), message("three", 1, 3, false)]);
}

#[test]
fn exactly_once_goes_on_from_each_of_its_stages() {
    let mut world = world();
    client(&mut world, 2);
    for body in ["sent", "received", "complete"] {
        world.publish_at("a", body, 2);
    }
    let sent = |body: &str, tag| message(body, 2, tag, false);
    assert_eq!(world.came(0, 1), [sent("sent", 1), sent("received", 2), sent("complete", 3)]);
    for tag in [2, 3] {
        world.tell(0, 1, &Ack::Received(tag)).unwrap();
        assert_eq!(world.clients[0].said.pop(), Some((1, 3, Answer::Received(tag))));
    }
    world.tell(0, 1, &Ack::Done(3)).unwrap();
    world.close(0, 1);
    world.enter(1, 5, named("me", EXPIRY, false, 100));
    assert_eq!(world.came(1, 5), [message("sent", 2, 1, AGAIN), Got::Release(2)]);
    world.tell(1, 5, &Ack::Received(1)).unwrap();
    world.tell(1, 5, &Ack::Done(1)).unwrap();
    world.tell(1, 5, &Ack::Done(2)).unwrap();
    world.close(1, 5);
    world.enter(0, 2, named("me", EXPIRY, false, 100));
    assert_eq!(world.came(0, 2), []);
}

#[test]
fn exactly_once_is_not_sent_before_its_tag_is_durable() {
    let mut world = world();
    client(&mut world, 2);
    world.takes = false;
    world.publish_at("a", "x", 2);
    assert_eq!(world.came(0, 1), [], "the log is full");
    world.takes = true;
    world.pass(Duration::from_secs(1));
    assert_eq!(world.came(0, 1), [message("x", 2, 1, false)]);
    world.takes = false;
    world.tell(0, 1, &Ack::Received(1)).unwrap();
    assert_eq!(world.clients[0].said, [], "nor is it released");
    world.takes = true;
    world.pass(Duration::from_secs(1));
    assert_eq!(world.clients[0].said.pop(), Some((1, 3, Answer::Received(1))));
}

#[test]
fn a_tag_that_is_nobodys_is_told_so() {
    let mut world = world();
    client(&mut world, 2);
    assert_eq!(world.tell(0, 1, &Ack::Received(9)), Err(AckError::UnknownTag(9)));
    assert_eq!(world.tell(0, 1, &Ack::Done(9)), Ok(()));
}

#[test]
fn the_second_of_a_name_takes_over_what_the_first_has_not_acknowledged() {
    let mut world = world();
    client(&mut world, 1);
    world.publish("a", "one");
    world.came(0, 1);
    let welcome = world.enter(1, 5, named("me", EXPIRY, false, 100));
    assert_eq!(world.clients[0].ended.get(&1), Some(&Reason::TakenOver));
    world.close(0, 1);
    assert!(welcome.resumed);
    assert_eq!(world.came(1, 5), [message("one", 1, 1, AGAIN)]);
    world.publish("a", "two");
    assert_eq!(world.tagged(1, 5), [("two".into(), 2)]);
}

#[test]
fn a_fresh_start_throws_away_what_was_there() {
    let mut world = world();
    client(&mut world, 1);
    world.publish("a", "one");
    world.close(0, 1);
    let welcome = world.enter(0, 2, named("me", EXPIRY, true, 100));
    assert!(!welcome.resumed);
    world.publish("a", "two");
    assert_eq!(world.came(0, 2), []);
}

#[test]
fn a_session_that_ends_with_its_connection_leaves_nothing() {
    let mut world = world();
    world.enter(0, 1, named("me", Duration::ZERO, true, 100));
    world.subscribe_on(0, 1, &to("a", at(2)));
    world.publish_at("a", "x", 2);
    assert_eq!(world.came(0, 1), [message("x", 2, 1, false)], "nothing must be durable for it");
    world.close(0, 1);
    assert!(world.retained.is_empty(), "{:?}", world.retained);
    assert!(!world.enter(0, 2, named("me", EXPIRY, false, 100)).resumed);
}

#[test]
fn a_goodbye_may_end_a_session_that_was_to_last() {
    let mut world = world();
    client(&mut world, 1);
    world.hubs[0].goodbye(slot(1), Goodbye { expiry: Some(Duration::ZERO), will: false });
    world.close(0, 1);
    assert!(!world.enter(0, 2, named("me", EXPIRY, false, 100)).resumed);
}

#[test]
fn a_client_that_comes_back_with_a_smaller_window_gets_no_more_at_once() {
    let mut world = world();
    client(&mut world, 2);
    for n in 0..6 {
        world.publish_at("a", &n.to_string(), 1 + n % 2);
    }
    assert_eq!(world.came(0, 1).len(), 6);
    world.tell(0, 1, &Ack::Received(2)).unwrap();
    world.close(0, 1);
    world.enter(1, 5, named("me", EXPIRY, false, 2));
    let mut seen = Vec::new();
    for _ in 0..20 {
        let got = world.came(1, 5);
        let messages = got.iter().filter(|got| matches!(got, Got::Message(..))).count();
        assert!(messages <= 2, "{got:?}");
        for got in got {
            if let Got::Message(body, qos, tag, ..) = got {
                seen.push(body);
                if qos == 2 {
                    world.tell(1, 5, &Ack::Received(tag)).unwrap();
                }
                world.tell(1, 5, &Ack::Done(tag)).unwrap();
            } else if let Got::Release(tag) = got {
                world.tell(1, 5, &Ack::Done(tag)).unwrap();
            }
        }
    }
    assert_eq!(seen, ["0", "2", "3", "4", "5"]);
}

#[test]
fn a_fresh_start_throws_away_also_a_session_that_is_just_being_opened() {
    let mut world = world();
    let login = |session| Login { session, ..Login::default() };
    world.hubs[0].login(slot(1), AskId(1), login(named("me", EXPIRY, false, 10)), world.now);
    // Its claim comes out of the log, nothing is found, and its own record is under way.
    while !world.hubs[0].appends().iter().any(|append| append.draft.entry.is_retained()) {
        world.pass_appends(0);
        world.step(0);
    }
    world.hubs[1].login(slot(5), AskId(1), login(named("me", Duration::ZERO, true, 10)), world.now);
    while world.turn(1) {}
    assert!(world.clients[1].welcomes.contains_key(&(5, 1)), "before that record is in the log");
    world.settle();
    assert_eq!(world.clients[0].ended.get(&1), Some(&Reason::TakenOver));
    world.close(0, 1);
    world.close(1, 5);
    assert!(!world.enter(0, 2, named("me", EXPIRY, false, 10)).resumed);
}

fn with_will(world: &mut World, index: u32, expiry: Duration, delay: Duration) {
    let (message, durability) = (Message::new(Topic::parse("will").unwrap(), "gone"), Durability::Fsync);
    let will = Some(Box::new(Will { message, durability, ttl: None, delay }));
    let login = Login { session: named("me", expiry, false, 10), will, ..Login::default() };
    world.hubs[0].login(slot(index), AskId(1), login, world.now);
    world.settle();
    if !world.clients[0].welcomes.contains_key(&(index, 1)) {
        // The log has refused what the former owner has written last.
        world.pass(SECOND);
    }
    world.clients[0].welcomes.remove(&(index, 1)).unwrap().unwrap();
}

fn wills(world: &World) -> usize {
    world.records.iter().filter(|r| r.entry().unwrap().topic().as_str() == "will").count()
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_will_is_published_when_a_connection_is_lost_and_not_after_a_goodbye() {
    for (goodbye, expected) in [(None, 1), (Some(false), 0), (Some(true), 1)] {
        let mut world = world();
        with_will(&mut world, 1, Duration::ZERO, Duration::ZERO);
        if let Some(will) = goodbye {
            world.hubs[0].goodbye(slot(1), Goodbye { expiry: None, will });
        }
        world.close(0, 1);
        assert_eq!(wills(&world), expected, "{goodbye:?}");
        world.pass(SECOND);
        let left = world.retained.keys().any(|topic| topic.as_str().starts_with("$wills/"));
        assert!(!left, "nothing is left of it");
    }
}

#[test]
fn a_will_waits_for_its_delay_or_the_end_of_the_session() {
    for (expiry, delay, early, late) in [(60, 5, 4, 6), (3, 60, 2, 4)] {
        let mut world = world();
        with_will(&mut world, 1, expiry * SECOND, delay * SECOND);
        world.close(0, 1);
        world.pass(early * SECOND);
        assert_eq!(wills(&world), 0);
        world.pass((late - early) * SECOND);
        assert_eq!(wills(&world), 1);
        world.pass(60 * SECOND);
        assert_eq!(wills(&world), 1, "once");
    }
}

#[test]
fn a_client_that_comes_back_in_time_has_no_will_published() {
    let mut world = world();
    with_will(&mut world, 1, 60 * SECOND, 5 * SECOND);
    world.close(0, 1);
    world.pass(2 * SECOND);
    with_will(&mut world, 2, 60 * SECOND, 5 * SECOND);
    world.pass(10 * SECOND);
    assert_eq!(wills(&world), 0);
}

#[test]
fn a_take_over_publishes_a_will_without_delay() {
    for (delay, expected) in [(0, 1), (5, 0)] {
        let mut world = world();
        with_will(&mut world, 1, 60 * SECOND, delay * SECOND);
        world.enter(1, 5, named("me", EXPIRY, false, 10));
        world.close(0, 1);
        world.pass(10 * SECOND);
        assert_eq!(wills(&world), expected, "MQTT-3.1.4-3, delay {delay}");
    }
}

#[test]
fn greetings_come_as_they_are_wanted() {
    for (retained, first, second) in
        [(RetainHandling::Always, 1, 1), (RetainHandling::IfNew, 1, 0), (RetainHandling::Never, 0, 0)]
    {
        let mut world = world();
        let kept = Message { retain: true, ..Message::new(Topic::parse("a").unwrap(), "kept") };
        world.append(kept, Durability::Fsync);
        world.settle();
        world.enter(0, 1, named("me", EXPIRY, false, 100));
        for expected in [first, second] {
            world.subscribe_on(0, 1, &Subscribe { retained, ..to("a", at(1)) });
            let got = world.came(0, 1);
            assert_eq!(got.len(), expected, "{retained:?}: {got:?}");
            assert!(got.iter().all(|got| matches!(got, Got::Message(_, 1, _, false, true, _))));
        }
    }
}

#[test]
fn the_end_of_a_subscription_says_whether_it_was_there() {
    let mut world = world();
    client(&mut world, 1);
    for (filter, was_there) in [("a", true), ("a", false)] {
        let one = everywire_base::ask::Unsubscribe::One(Filter::parse(filter).unwrap(), None);
        world.hubs[0].unsubscribe_from(slot(1), AskId(6), &one, world.now);
        world.settle();
        assert_eq!(world.clients[0].said.pop(), Some((1, 6, Answer::Unsubscribed(was_there))));
    }
    world.publish("a", "x");
    assert_eq!(world.came(0, 1), []);
}

#[test]
fn without_a_session_wish_nothing_is_tagged() {
    let mut world = world();
    world.welcome(0, 1, None, SessionWish::None);
    world.subscribe_on(0, 1, &to("a", at(2)));
    world.publish_at("a", "x", 2);
    assert_eq!(world.tagged(0, 1), [("x".into(), 0)]);
    assert_eq!(world.tell(0, 1, &Ack::Done(1)), Err(AckError::NoSession));
    assert_eq!(world.records.last().unwrap().offset, Offset(1));
}

#[test]
fn retained_is_said_as_it_was_published_to_who_wants_that() {
    for (as_published, published, expected) in [(true, true, true), (true, false, false), (false, true, false)] {
        let mut world = world();
        world.enter(0, 1, named("me", EXPIRY, false, 100));
        world.subscribe_on(0, 1, &to("a", Terms { qos: 1, retain_as_published: as_published, ..Terms::default() }));
        let message = Message { retain: published, ..Message::new(Topic::parse("a").unwrap(), "x") };
        world.append(message, Durability::Fsync);
        world.settle();
        assert_eq!(world.came(0, 1), [Got::Message("x".into(), 1, 1, false, expected, vec![])], "MQTT-3.3.1-12, -13");
    }
}

#[test]
fn a_will_of_a_former_life_is_published_after_a_grace_unless_its_client_comes_back() {
    for (comes_back, expected) in [(false, 1), (true, 0)] {
        let mut world = world();
        let grace = everywire_base::limits::Limits::default().will_grace;
        with_will(&mut world, 1, 60 * SECOND, 2 * SECOND);
        world.kill();
        world.start();
        world.hubs[0].adopt_wills();
        world.settle();
        world.pass(grace.checked_sub(SECOND).unwrap());
        assert_eq!(wills(&world), 0);
        if comes_back {
            with_will(&mut world, 5, 60 * SECOND, 2 * SECOND);
        }
        world.pass(2 * SECOND);
        assert_eq!(wills(&world), expected);
        world.pass(60 * SECOND);
        assert_eq!(wills(&world), expected, "once");
    }
}

#[test]
fn a_will_that_the_log_refuses_is_published_later() {
    let mut world = world();
    with_will(&mut world, 1, Duration::ZERO, Duration::ZERO);
    world.takes = false;
    world.close(0, 1);
    assert_eq!(wills(&world), 0);
    world.takes = true;
    world.pass(SECOND);
    assert_eq!(wills(&world), 1);
}

#[test]
fn a_will_that_the_log_refuses_is_not_void_because_its_client_comes_back() {
    let mut world = world();
    with_will(&mut world, 1, 60 * SECOND, Duration::ZERO);
    world.takes = false;
    world.close(0, 1);
    world.takes = true;
    with_will(&mut world, 2, 60 * SECOND, Duration::ZERO);
    world.pass(SECOND);
    assert_eq!(wills(&world), 1);
}

#[test]
fn a_fresh_start_publishes_the_will_that_still_waited() {
    let mut world = world();
    with_will(&mut world, 1, 60 * SECOND, 50 * SECOND);
    world.close(0, 1);
    world.enter(1, 5, named("me", EXPIRY, true, 10));
    assert_eq!(wills(&world), 1, "its session has ended (MQTT-3.1.3-9)");
}

#[test]
fn exactly_once_goes_on_after_a_crash_from_each_of_its_stages() {
    let mut world = world();
    client(&mut world, 2);
    for body in ["sent", "received", "complete"] {
        world.publish_at("a", body, 2);
    }
    for tag in [2, 3] {
        world.tell(0, 1, &Ack::Received(tag)).unwrap();
    }
    world.tell(0, 1, &Ack::Done(3)).unwrap();
    world.kill();
    world.publish_at("a", "meanwhile", 2);
    world.start();
    assert!(world.enter(1, 5, named("me", EXPIRY, false, 100)).resumed);
    // A complete delivery is known as released: the release may be said again, the message isn't sent.
    let got = world.came(1, 5);
    let again = |body: &str, tag| message(body, 2, tag, AGAIN);
    assert_eq!(got, [again("sent", 1), Got::Release(2), Got::Release(3), message("meanwhile", 2, 4, false)]);
}

#[test]
fn a_full_window_is_kept_across_a_take_over() {
    let mut world = world();
    world.enter(0, 1, named("me", EXPIRY, false, 2));
    world.subscribe_on(0, 1, &to("a", at(1)));
    for n in 0..10 {
        world.publish("a", &n.to_string());
    }
    world.enter(1, 5, named("me", EXPIRY, false, 2));
    world.close(0, 1);
    assert_eq!(world.came(1, 5), [message("0", 1, 1, AGAIN), message("1", 1, 2, AGAIN)]);
    let mut bodies = Vec::new();
    let mut tags = vec![1, 2];
    while !tags.is_empty() {
        for tag in tags.drain(..) {
            world.tell(1, 5, &Ack::Done(tag)).unwrap();
        }
        for (body, tag) in world.tagged(1, 5) {
            bodies.push(body);
            tags.push(tag);
        }
    }
    assert_eq!(bodies, (2..10).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn new_rules_leave_a_session_what_they_still_grant() {
    let mut world = world();
    world.enter(0, 1, named("me", EXPIRY, false, 100));
    world.subscribe_on(0, 1, &to("secret", at(1)));
    world.subscribe_on(0, 1, &to("a", at(1)));
    let secret = Filter::parse("secret").unwrap();
    let rule = TopicRule { filter: secret, subscribe: Vec::new(), ..TopicRule::fallback() };
    let rules = std::sync::Arc::new(Rules::new(vec![rule]));
    world.hubs.iter_mut().for_each(|hub| hub.set_rules(std::sync::Arc::clone(&rules)));
    world.settle();
    assert_eq!(world.clients[0].ended.get(&1), Some(&Reason::Forbidden));
    world.close(0, 1);
    world.publish("secret", "s");
    world.publish("a", "x");
    assert!(world.enter(1, 5, named("me", EXPIRY, false, 100)).resumed);
    assert_eq!(world.tagged(1, 5), [("x".into(), 1)]);
}
