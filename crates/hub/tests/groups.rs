//! Shared subscriptions (MQTT-5.0 §4.8.2), on two workers.
#![expect(clippy::unwrap_used, reason = "a test fails as it likes")]

mod pair;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use everywire_base::ask::{Ack, Answer, Goodbye, Login, SessionWish, Subscribe, Unsubscribe};
use everywire_base::id::AskId;
use everywire_base::identity::Identity;
use everywire_base::limits::Limits;
use everywire_base::record::{Durability, Message};
use everywire_base::rules::{Rules, TopicRule, Who};
use everywire_base::terms::Terms;
use everywire_base::topic::{Filter, Topic};

use pair::group::{MEMBERS, Member, count, join, publish, shared};
use pair::{EXPIRY, ORIGIN, World, named, slot, user, world};

#[test]
fn each_message_goes_to_one_member_and_all_get_their_share() {
    let mut world = world();
    for who in MEMBERS {
        join(&mut world, who, Duration::ZERO, 1000);
    }
    publish(&mut world, 0..300);
    let shares: Vec<usize> = MEMBERS.iter().map(|who| world.tagged(who.0, who.1).len()).collect();
    assert_eq!(shares.iter().sum::<usize>(), 300);
    assert!(shares.iter().all(|share| *share > 60), "{shares:?}");
}

#[test]
fn who_joins_amid_a_stream_gets_what_comes_after() {
    let mut world = world();
    join(&mut world, MEMBERS[0], Duration::ZERO, 1000);
    publish(&mut world, 0..50);
    join(&mut world, MEMBERS[2], Duration::ZERO, 1000);
    publish(&mut world, 50..100);
    let late: Vec<u32> = world.tagged(1, 3).iter().map(|(body, _)| body.parse().unwrap()).collect();
    assert!(!late.is_empty() && late.iter().all(|n| *n >= 50), "{late:?}");
    assert_eq!(world.tagged(0, 1).len() + late.len(), 100);
}

#[test]
fn what_a_dying_member_has_not_acknowledged_goes_to_the_others() {
    for expiry in [Duration::ZERO, EXPIRY] {
        let mut world = world();
        for who in MEMBERS {
            join(&mut world, who, expiry, 1000);
        }
        publish(&mut world, 0..90);
        let lost = world.tagged(1, 3).len();
        let (mut all, _) = count(&mut world, &MEMBERS[..2]);
        assert_eq!(all.len() + lost, 90);
        world.close(1, 3);
        let (rest, times) = count(&mut world, &MEMBERS[..2]);
        all.extend(rest);
        assert_eq!(all.len(), 90, "nothing is lost");
        assert!(times.iter().all(|times| *times == 1));
        // It comes back, and gets nothing of what others got.
        join(&mut world, (0, 9, "three"), expiry, 1000);
        assert_eq!(world.tagged(0, 9), []);
        publish(&mut world, 90..120);
        let members = [MEMBERS[0], MEMBERS[1], (0, 9, "three")];
        let (fresh, times) = count(&mut world, &members);
        assert_eq!((fresh.len(), times.iter().sum()), (30, 30));
    }
}

#[test]
fn a_worker_that_falls_out_of_the_tail_draws_like_the_others() {
    let mut world = World::new(&Rules::default(), Limits { tail_records: 1, ..Limits::default() });
    join(&mut world, MEMBERS[0], Duration::ZERO, 10_000);
    join(&mut world, MEMBERS[2], Duration::ZERO, 10_000);
    // The first worker sleeps while the second's member goes, messages come, and another member joins there.
    let post = |world: &mut World, numbers: std::ops::Range<u32>| {
        for n in numbers {
            let message = Message::new(Topic::parse("a/b").unwrap(), n.to_string());
            world.append(message, Durability::Fsync);
        }
        while world.turn(1) {}
    };
    post(&mut world, 0..300);
    let first = world.tagged(1, 3).len();
    world.hubs[1].close(slot(3), ORIGIN, world.now);
    post(&mut world, 300..600);
    let login = Login { session: named("four", Duration::ZERO, true, 10_000), ..Login::default() };
    world.hubs[1].login(slot(4), AskId(1), login, world.now);
    while world.turn(1) {}
    world.hubs[1].subscribe_for(slot(4), AskId(2), &shared(1), world.now);
    while world.turn(1) {}
    post(&mut world, 600..900);
    let last = world.tagged(1, 4).len();
    assert!(first > 60 && last > 60, "{first}, {last}");
    world.settle();
    // Messages that the member that went had not acknowledged come to the others.
    let mut all: Vec<u32> = world.tagged(0, 1).iter().map(|(body, _)| body.parse().unwrap()).collect();
    let rest = world.tagged(1, 4).len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len() + last + rest, 900);
}

#[test]
fn what_comes_to_a_member_that_is_gone_before_it_is_in_waits_for_the_next() {
    let mut world = world();
    join(&mut world, MEMBERS[0], EXPIRY, 100);
    world.close(0, 1);
    let login = Login { session: named("one", EXPIRY, false, 100), ..Login::default() };
    world.hubs[0].login(slot(2), AskId(1), login, world.now);
    // Its connection goes when its return to the group stands in the log, and messages above it.
    let is_return = |world: &mut World| {
        let mut appends = world.hubs[0].appends().iter();
        appends.any(|append| append.draft.entry.topic().as_str().starts_with("$share/"))
    };
    while !is_return(&mut world) {
        world.pass_appends(0);
        world.step(0);
    }
    world.pass_appends(0);
    for n in 0..10 {
        world.append(Message::new(Topic::parse("a/b").unwrap(), n.to_string()), Durability::Fsync);
    }
    world.close(0, 2);
    world.enter(0, 3, named("one", EXPIRY, false, 100));
    let got: BTreeSet<u32> = world.tagged(0, 3).iter().map(|(body, _)| body.parse().unwrap()).collect();
    assert_eq!(got, (0..10).collect());
}

#[test]
fn an_heir_that_lags_for_another_filters_sake_gets_what_was_left() {
    let mut world = world();
    world.enter(0, 1, named("heir", EXPIRY, false, 1));
    let terms = Terms { qos: 1, ..Terms::default() };
    world.subscribe_on(0, 1, &Subscribe { terms, ..Subscribe::to([Filter::parse("own").unwrap()]) });
    for n in 0..5 {
        world.publish("own", &format!("own {n}"));
    }
    join(&mut world, MEMBERS[2], Duration::ZERO, 100);
    publish(&mut world, 0..10);
    assert_eq!(world.tagged(1, 3).len(), 10);
    assert!(world.subscribe_on(0, 1, &shared(1)).refused.is_empty());
    world.close(1, 3);
    let mut got = Vec::new();
    while let [(body, tag)] = &world.tagged(0, 1)[..] {
        got.push(body.clone());
        world.tell(0, 1, &Ack::Done(*tag)).unwrap();
    }
    let expected = (0..5).map(|n| format!("own {n}")).chain((0..10).map(|n| n.to_string()));
    assert_eq!(got, expected.collect::<Vec<_>>());
}

#[test]
fn what_a_slow_member_has_not_read_goes_to_the_others() {
    let mut world = world();
    join(&mut world, MEMBERS[0], Duration::ZERO, 1000);
    join(&mut world, MEMBERS[2], Duration::ZERO, 1);
    publish(&mut world, 0..100);
    assert_eq!(world.tagged(1, 3).len(), 1, "its window is full");
    let (mut all, _) = count(&mut world, &MEMBERS[..1]);
    world.close(1, 3);
    let (rest, times) = count(&mut world, &MEMBERS[..1]);
    assert!(times.iter().all(|times| *times == 1));
    all.extend(rest);
    assert_eq!(all.len(), 100);
}

#[test]
fn an_heir_that_dies_too_leaves_what_it_inherited() {
    let mut world = world();
    for who in MEMBERS {
        join(&mut world, who, Duration::ZERO, if who.1 == 1 { 1000 } else { 1 });
    }
    publish(&mut world, 0..100);
    let (mut all, _) = count(&mut world, &MEMBERS[..1]);
    for (worker, index, _) in [MEMBERS[2], MEMBERS[1]] {
        world.tagged(worker, index);
        world.close(worker, index);
    }
    let (rest, _) = count(&mut world, &MEMBERS[..1]);
    all.extend(rest);
    assert_eq!(all.len(), 100);
}

#[test]
fn messages_wait_while_all_members_are_away() {
    let mut world = world();
    join(&mut world, MEMBERS[0], EXPIRY, 1000);
    join(&mut world, MEMBERS[2], EXPIRY, 1000);
    publish(&mut world, 0..20);
    let (mut all, _) = count(&mut world, &[MEMBERS[0]]);
    // The other has acknowledged nothing.
    world.close(1, 3);
    let (rest, _) = count(&mut world, &[MEMBERS[0]]);
    all.extend(rest);
    world.close(0, 1);
    publish(&mut world, 20..40);
    world.enter(1, 8, named("three", EXPIRY, false, 1000));
    let (rest, times) = count(&mut world, &[(1, 8, "three")]);
    assert_eq!(rest.keys().copied().collect::<Vec<_>>(), (20..40).collect::<Vec<_>>());
    assert!(times.iter().all(|times| *times == 1));
    world.enter(0, 9, named("one", EXPIRY, false, 1000));
    assert_eq!(world.tagged(0, 9), []);
}

#[test]
fn a_group_without_anybody_ends() {
    let mut world = world();
    join(&mut world, MEMBERS[0], Duration::ZERO, 1000);
    world.close(0, 1);
    publish(&mut world, 0..10);
    join(&mut world, MEMBERS[2], Duration::ZERO, 1000);
    assert_eq!(world.tagged(1, 3), []);
}

#[test]
fn a_member_that_unsubscribes_leaves_the_rest_to_the_others() {
    let mut world = world();
    join(&mut world, MEMBERS[0], Duration::ZERO, 1000);
    join(&mut world, MEMBERS[2], Duration::ZERO, 1);
    publish(&mut world, 0..50);
    let one = Unsubscribe::One(Filter::parse("a/#").unwrap(), Some("g".into()));
    world.hubs[1].unsubscribe_from(slot(3), AskId(6), &one, world.now);
    world.settle();
    publish(&mut world, 50..60);
    let (all, times) = count(&mut world, &[MEMBERS[0], MEMBERS[2]]);
    assert_eq!((all.len(), times.iter().sum()), (60, 60));
}

#[test]
fn a_filter_of_ones_own_beside_the_group_takes_everything() {
    let mut world = world();
    for who in MEMBERS {
        join(&mut world, who, Duration::ZERO, 1000);
    }
    world.subscribe_on(0, 1, &Subscribe::to([Filter::parse("a/b").unwrap()]));
    publish(&mut world, 0..60);
    assert_eq!(world.tagged(0, 1).len(), 60);
    let others = world.tagged(0, 2).len() + world.tagged(1, 3).len();
    assert!((20..60).contains(&others), "{others}");
}

#[test]
fn qos_2_stays_with_its_session() {
    let mut world = world();
    for who in [MEMBERS[0], MEMBERS[2]] {
        world.enter(who.0, who.1, named(who.2, EXPIRY, false, 1000));
        world.subscribe_on(who.0, who.1, &shared(2));
    }
    for n in 0..20 {
        world.publish_at("a/b", &n.to_string(), 2);
    }
    let own = world.tagged(1, 3);
    assert!(!own.is_empty());
    let others = world.tagged(0, 1).len();
    world.close(1, 3);
    assert_eq!(world.tagged(0, 1), [], "MQTT-4.8.2-5");
    world.enter(1, 7, named("three", EXPIRY, false, 1000));
    assert_eq!(world.tagged(1, 7), own, "it comes to its session again");
    assert_eq!(own.len() + others, 20);
}

#[test]
fn members_that_leave_at_once_leave_nothing_behind() {
    // Each may be the other's heir, and has gone before it hears so.
    for shift in 0..8 {
        let mut world = world();
        world.publish("other", &"x".repeat(shift));
        for who in MEMBERS {
            join(&mut world, who, Duration::ZERO, 1000);
        }
        publish(&mut world, 0..30 + shift as u32);
        let (mut all, _) = count(&mut world, &MEMBERS[..1]);
        world.hubs[0].close(slot(2), ORIGIN, world.now);
        world.hubs[1].close(slot(3), ORIGIN, world.now);
        world.settle();
        let (rest, times) = count(&mut world, &MEMBERS[..1]);
        all.extend(rest);
        assert_eq!(all.len(), 30 + shift, "nothing is lost");
        assert!(times.iter().all(|times| *times == 1));
    }
}

#[test]
fn all_leave_at_once_and_messages_wait() {
    for shift in 0..8 {
        let mut world = world();
        for who in MEMBERS {
            join(&mut world, who, EXPIRY, 1000);
        }
        publish(&mut world, 0..30 + shift);
        for (worker, index, _) in MEMBERS {
            world.hubs[worker].close(slot(index), ORIGIN, world.now);
        }
        world.settle();
        publish(&mut world, 100..110);
        let back: Vec<Member> = MEMBERS.iter().map(|who| (who.0, who.1 + 10, who.2)).collect();
        for (worker, index, name) in &back {
            world.enter(*worker, *index, named(name, EXPIRY, false, 1000));
        }
        let (all, times) = count(&mut world, &back);
        assert_eq!(all.len() as u32, 40 + shift);
        assert!(times.iter().all(|times| *times == 1));
    }
}

#[test]
fn a_leave_that_the_log_refuses_is_said_again() {
    let mut world = world();
    join(&mut world, MEMBERS[0], Duration::ZERO, 1000);
    join(&mut world, MEMBERS[2], Duration::ZERO, 1000);
    publish(&mut world, 0..30);
    world.takes = false;
    world.close(1, 3);
    world.takes = true;
    publish(&mut world, 30..60);
    world.pass(Duration::from_secs(1));
    publish(&mut world, 60..90);
    let (all, times) = count(&mut world, &MEMBERS[..1]);
    assert_eq!(all.len(), 90);
    assert!(times.iter().all(|times| *times == 1));
}

#[test]
fn whoever_loses_all_subscriptions_is_a_member_no_more() {
    let mut world = world();
    join(&mut world, MEMBERS[0], Duration::ZERO, 1000);
    join(&mut world, MEMBERS[2], Duration::ZERO, 1000);
    publish(&mut world, 0..30);
    let (mut all, _) = count(&mut world, &[MEMBERS[0], MEMBERS[2]]);
    world.hubs[1].unsubscribe_from(slot(3), AskId(6), &Unsubscribe::All, world.now);
    publish(&mut world, 30..60);
    world.close(1, 3);
    publish(&mut world, 60..90);
    all.extend(count(&mut world, &MEMBERS[..1]).0);
    assert_eq!(all.len(), 90);
}

#[test]
fn whoever_may_no_more_is_a_member_no_more() {
    for by_rules in [true, false] {
        let mut world = world();
        world.welcome(0, 1, user("ann"), named("one", EXPIRY, false, 1000));
        world.subscribe_on(0, 1, &shared(1));
        let eve = if by_rules { None } else { user("eve") };
        world.welcome(1, 3, eve, named("three", EXPIRY, false, 1000));
        world.subscribe_on(1, 3, &shared(1));
        publish(&mut world, 0..30);
        let (mut all, _) = count(&mut world, &MEMBERS[..1]);
        if by_rules {
            let users = TopicRule { subscribe: vec![Who::User], ..TopicRule::fallback() };
            let rules = Arc::new(Rules::new(vec![users]));
            world.hubs.iter_mut().for_each(|hub| hub.set_rules(Arc::clone(&rules)));
        } else {
            let nothing = Identity { subscribe: Some(Vec::new()), ..Identity::user("eve") };
            let welcome = world.welcome(1, 3, Some(Arc::new(nothing)), SessionWish::None);
            assert_eq!(welcome.refused.len(), 1);
        }
        world.settle();
        world.came(1, 3);
        publish(&mut world, 30..60);
        assert_eq!(world.tagged(1, 3), [], "by rules: {by_rules}");
        world.close(1, 3);
        all.extend(count(&mut world, &MEMBERS[..1]).0);
        assert_eq!(all.len(), 60, "by rules: {by_rules}");
    }
}

#[test]
fn who_subscribes_twice_in_one_breath_is_one_member() {
    let mut world = world();
    join(&mut world, MEMBERS[0], Duration::ZERO, 1000);
    world.enter(1, 3, named("three", Duration::ZERO, false, 1000));
    for ask in [2, 3] {
        world.hubs[1].subscribe_for(slot(3), AskId(ask), &shared(1), world.now);
    }
    world.settle();
    assert!([2, 3].iter().all(|ask| world.clients[1].subscribed.contains_key(&(3, *ask))), "both are answered");
    publish(&mut world, 0..300);
    let both = world.tagged(1, 3).len();
    assert!((100..200).contains(&both), "half of them: {both}");
    let (mut all, _) = count(&mut world, &MEMBERS[..1]);
    world.close(1, 3);
    publish(&mut world, 300..330);
    let (rest, times) = count(&mut world, &MEMBERS[..1]);
    all.extend(rest);
    assert_eq!(all.len(), 330);
    assert!(times.iter().all(|times| *times == 1));
}

#[test]
fn who_unsubscribes_before_he_is_in_is_not_in() {
    let mut world = world();
    join(&mut world, MEMBERS[0], Duration::ZERO, 1000);
    world.enter(1, 3, named("three", EXPIRY, false, 1000));
    world.hubs[1].subscribe_for(slot(3), AskId(2), &shared(1), world.now);
    let one = Unsubscribe::One(Filter::parse("a/#").unwrap(), Some("g".into()));
    world.hubs[1].unsubscribe_from(slot(3), AskId(6), &one, world.now);
    world.settle();
    assert!(world.clients[1].subscribed.contains_key(&(3, 2)), "the subscription is answered");
    assert!(world.clients[1].said.contains(&(3, 6, Answer::Unsubscribed(true))));
    publish(&mut world, 0..30);
    assert_eq!(world.tagged(1, 3), []);
    assert_eq!(world.tagged(0, 1).len(), 30);
}

#[test]
fn who_goes_before_he_is_in_again_has_lost_nothing() {
    let mut world = world();
    join(&mut world, MEMBERS[2], EXPIRY, 1000);
    world.close(1, 3);
    publish(&mut world, 0..20);
    let login = Login { session: named("three", EXPIRY, false, 1000), ..Login::default() };
    world.hubs[1].login(slot(5), AskId(1), login, world.now);
    while !world.clients[1].welcomes.contains_key(&(5, 1)) {
        assert!(world.turn(0) | world.turn(1), "it is welcomed");
    }
    world.close(1, 5);
    world.enter(0, 7, named("three", EXPIRY, false, 1000));
    let (all, times) = count(&mut world, &[(0, 7, "three")]);
    assert_eq!(all.len(), 20);
    assert!(times.iter().all(|times| *times == 1));
    publish(&mut world, 20..30);
    assert_eq!(world.tagged(0, 7).len(), 10, "its filter is there still");
}

#[test]
fn whoever_is_behind_many_changes_loses_nothing() {
    let mut world = world();
    join(&mut world, MEMBERS[0], Duration::ZERO, 1000);
    join(&mut world, MEMBERS[2], Duration::ZERO, 1);
    publish(&mut world, 0..40);
    let mut all: BTreeSet<u32> = count(&mut world, &MEMBERS[..1]).0.into_keys().collect();
    for n in 0..200 {
        join(&mut world, (0, 2, "two"), Duration::ZERO, 1000);
        publish(&mut world, 40 + n..41 + n);
        all.extend(count(&mut world, &MEMBERS[..2]).0.keys());
        world.close(0, 2);
    }
    loop {
        let (rest, _) = count(&mut world, &[MEMBERS[0], MEMBERS[2]]);
        if rest.is_empty() {
            break;
        }
        all.extend(rest.keys());
    }
    assert_eq!(all.len(), 240);
}

#[test]
fn an_heir_that_is_behind_gets_nothing_twice() {
    for window in [1, 4, 9] {
        let mut world = world();
        for who in MEMBERS {
            join(&mut world, who, Duration::ZERO, if who.1 == 1 { window } else { 1000 });
        }
        publish(&mut world, 0..90);
        let mut all = Vec::new();
        let mut take = |world: &mut World, rounds| {
            for _ in 0..rounds {
                all.extend(count(world, &MEMBERS[..1]).0.into_keys());
            }
        };
        take(&mut world, 3);
        world.close(0, 2);
        take(&mut world, 3);
        world.close(1, 3);
        take(&mut world, 100);
        all.sort_unstable();
        assert_eq!(all, (0..90).collect::<Vec<_>>());
    }
}

#[test]
fn what_a_filter_of_ones_own_takes_too_stays_with_the_session() {
    let mut world = world();
    join(&mut world, MEMBERS[0], Duration::ZERO, 1000);
    join(&mut world, MEMBERS[2], EXPIRY, 1000);
    let own = Terms { qos: 1, ..Terms::default() };
    world.subscribe_on(1, 3, &Subscribe { terms: own, ..Subscribe::to([Filter::parse("a/b").unwrap()]) });
    publish(&mut world, 0..30);
    assert_eq!(world.tagged(1, 3).len(), 30);
    let (mut group, _) = count(&mut world, &MEMBERS[..1]);
    world.close(1, 3);
    group.extend(count(&mut world, &MEMBERS[..1]).0);
    assert_eq!(group.len(), 30, "the group has all");
    world.enter(1, 5, named("three", EXPIRY, false, 1000));
    assert_eq!(world.tagged(1, 5).len(), 30, "and so has the session");
}

#[test]
fn what_other_filters_had_does_not_come_again_after_going_back() {
    let mut world = world();
    join(&mut world, MEMBERS[0], EXPIRY, 4);
    let own = Terms { qos: 1, ..Terms::default() };
    world.subscribe_on(0, 1, &Subscribe { terms: own, ..Subscribe::to([Filter::parse("own").unwrap()]) });
    join(&mut world, MEMBERS[2], Duration::ZERO, 1000);
    publish(&mut world, 0..20);
    while !count(&mut world, &MEMBERS[..1]).1.is_empty() {}
    world.publish("own", "1000");
    assert_eq!(count(&mut world, &MEMBERS[..1]).0.into_keys().collect::<Vec<_>>(), [1000]);
    // It goes back, and is taken over while it still reads.
    world.close(1, 3);
    world.enter(1, 5, named("one", EXPIRY, false, 1000));
    let got: Vec<u32> = count(&mut world, &[(1, 5, "one")]).0.into_keys().collect();
    assert!(!got.is_empty() && !got.contains(&1000), "{got:?}");
}

#[test]
fn qos_2_is_dropped_and_counted_when_its_session_ends() {
    let mut world = world();
    for who in [MEMBERS[0], MEMBERS[2]] {
        world.enter(who.0, who.1, named(who.2, Duration::ZERO, false, 1000));
        world.subscribe_on(who.0, who.1, &shared(2));
    }
    for n in 0..20 {
        world.publish_at("a/b", &n.to_string(), 2);
    }
    let own = world.tagged(1, 3);
    world.tell(1, 3, &Ack::Received(own[0].1)).unwrap();
    world.tagged(0, 1);
    world.close(1, 3);
    assert_eq!(world.tagged(0, 1), [], "MQTT-4.8.2-5");
    assert_eq!(world.hubs[1].counters().dropped, own.len() as u64 - 1, "all but the one that was received");
}

#[test]
fn nothing_waits_for_a_session_that_was_thrown_away() {
    for goodbye in [true, false] {
        let mut world = world();
        join(&mut world, MEMBERS[0], EXPIRY, 1000);
        if goodbye {
            world.hubs[0].goodbye(slot(1), Goodbye { expiry: Some(Duration::ZERO), will: false });
        } else {
            world.enter(1, 5, named("one", EXPIRY, true, 1000));
        }
        world.close(0, 1);
        publish(&mut world, 0..10);
        join(&mut world, MEMBERS[2], EXPIRY, 1000);
        assert_eq!(world.tagged(1, 3), [], "goodbye: {goodbye}");
    }
}
