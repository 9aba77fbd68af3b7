//! Drafts of two messages, and drafts that are refused if records by which they were judged have changed.
//!
//! Their meaning, as an engine decides it when a record is applied:
//!
//! * A pair is two records at two offsets of which the second is the first's next, or none. The answer is the first's.
//!   The key is the first's too: a duplicate brings neither again.
//! * A guard names a topic by its hash, and an offset. The draft is stale if a record of that topic lies above the
//!   offset, even in the same batch. Only topics of `system::is_guarded` count. A guard that claims makes its draft
//!   count as such a record, once it is accepted.
//! * The last `limits.guards` guarded records are remembered; a guard below those is stale.
//! * Keys come first: a duplicate gets its first answer, even if it is stale by now. A stale draft doesn't use up its
//!   key or its ordered number, and takes no offset.

use everywire_base::ask::{Append, Guard, PublishError};
use everywire_base::cursor::Offset;
use everywire_base::limits::{Limits, RoomBounds};
use everywire_base::record::{Durability, Entry, Message, System};
use everywire_base::topic::Topic;

use super::{Bench, Subject, message, simple};

const STALE: Result<(), PublishError> = Err(PublishError::Stale);

fn keyed(topic: &str, number: u32, key: Option<&str>) -> Message {
    Message { key: key.map(Into::into), from: Some("ann".into()), ..message(topic, number) }
}

/// A record of the server's own.
fn own(topic: &str) -> System {
    System::new(Topic::parse(topic).expect("a topic"), "{}", false)
}

/// An append of the first worker's.
fn append(entry: impl Into<Entry>, guards: &[Guard]) -> Append {
    let mut append = super::append(0, Durability::Fsync, entry);
    append.draft.guards = guards.into();
    append
}

fn results(bench: &Bench, appends: Vec<Append>) -> Vec<Result<(), PublishError>> {
    bench.publish(appends).into_iter().map(|outcome| outcome.result.map(drop)).collect()
}

pub(super) fn a_pair_is_one_publish_at_two_places(subject: &dyn Subject) {
    let limits = Limits::default();
    let bench = Bench::new(subject, &limits);
    let pair = |key: Option<&str>, number| {
        let mut append = append(keyed("user/bob", number, key), &[]);
        append.draft.pair = Some(Box::new(message("user/ann", number).into()));
        append
    };
    let answers = bench.publish(vec![simple(0), pair(Some("k"), 1), pair(Some("k"), 1), pair(None, 2), simple(3)]);
    assert_eq!(answers[1].result, answers[2].result, "its key brings neither a second time");
    let places: Vec<u64> = answers.iter().map(|a| a.result.expect("published").offset.0).collect();
    let from = places[0];
    assert!(from < places[1] && places[2] < places[3] && places[3] + 1 < places[4], "{places:?}");
    let expected = ["t", "user/bob", "user/ann", "user/bob", "user/ann", "t"];
    let topics = |bench: &Bench| -> Vec<String> {
        let shown = bench.kept();
        shown.iter().filter_map(|record| Some(record.message()?.topic.to_string())).collect()
    };
    assert_eq!(topics(&bench), expected);
    let offsets: Vec<u64> = bench.kept().iter().map(|record| record.offset.0).collect();
    assert_eq!([offsets[1], offsets[3]], [places[1], places[3]], "the answer is the first's");
    assert_eq!([offsets[2], offsets[4]], [places[1] + 1, places[3] + 1], "the second has the place behind it");
    let times: Vec<_> = bench.kept().iter().map(|record| record.time).collect();
    assert_eq!(times[1], times[2], "both have one time");
    bench.engine.close();
    if subject.is_durable() {
        drop(bench);
        let bench = Bench::new(subject, &limits);
        assert_eq!(topics(&bench), expected, "both are there after a restart");
        bench.engine.close();
    }
}

pub(super) fn what_was_judged_by_something_older_comes_back(subject: &dyn Subject) {
    let bench = Bench::new(subject, &Limits::default());
    let head = || append(own("$room/r"), &[]);
    let topic = |name: &str| Topic::parse(name).expect("a topic");
    let room = |as_of: u64| Guard::of(&topic("$room/r"), Offset(as_of));
    let at = bench.published(vec![head()])[0].offset.0;
    let say =
        |as_of: u64| append(message("room/r", 1), &[room(as_of), Guard::of(&topic("$of/ann/room/r"), Offset(at))]);
    assert_eq!(results(&bench, vec![say(at), say(at - 1), say(at + 7)]), [Ok(()), STALE, Ok(())]);
    // In one batch the order decides: the head's second record lies above the guard of the second message.
    let next = bench.published(vec![say(at)])[0].offset.0 + 2;
    assert_eq!(results(&bench, vec![say(at), head(), say(at), say(next)]), [Ok(()), Ok(()), STALE, Ok(())]);
    let other = append(message("room/s", 1), &[Guard::of(&topic("$room/s"), Offset(at))]);
    assert_eq!(results(&bench, vec![other, append(message("room/r", 2), &[])]), [Ok(()), Ok(())]);
    let nick = |as_of: u64| Guard { claims: true, ..Guard::of(&topic("$room/r/nick/ann"), Offset(as_of)) };
    let join = |user: &str| append(own(&format!("$of/{user}/room/r")), &[nick(next)]);
    assert_eq!(results(&bench, vec![join("ann"), join("bob")]), [Ok(()), STALE], "of two that want one, one gets it");
    let shown = bench.shown(Offset(at)).len();
    assert_eq!(shown, 9, "what is stale takes no place");
    bench.engine.close();
}

pub(super) fn keys_are_looked_at_before_guards(subject: &dyn Subject) {
    let limits = Limits { rooms: RoomBounds { guards: 2, ..RoomBounds::default() }, ..Limits::default() };
    let bench = Bench::new(subject, &limits);
    let room = Topic::parse("$room/r").expect("a topic");
    let head = || append(own("$room/r"), &[]);
    let say = |key: &str, as_of: Offset| append(keyed("room/r", 1, Some(key)), &[Guard::of(&room, as_of)]);
    let old = bench.published(vec![head()])[0].offset;
    let first = bench.publish(vec![say("k", old), say("seq:p:1", old)]);
    let new = bench.published(vec![head()])[0].offset;
    let again = bench.publish(vec![say("k", old), say("seq:p:1", old), say("l", old), say("seq:p:2", old)]);
    assert_eq!(again[0].result, first[0].result, "a duplicate is answered as it was");
    assert!(again[1].result.is_ok_and(|published| published.duplicate));
    assert_eq!([again[2].result, again[3].result].map(|result| result.map(drop)), [STALE, STALE]);
    let judged_anew = vec![say("l", new), say("seq:p:2", new)];
    assert_eq!(results(&bench, judged_anew), [Ok(()), Ok(())], "neither key was used");
    bench.published(vec![head(), head(), head()]);
    let other = Guard::of(&Topic::parse("$room/s").expect("a topic"), old);
    assert_eq!(results(&bench, vec![append(message("room/s", 1), &[other])]), [STALE], "below what is remembered");
    bench.engine.close();
}
