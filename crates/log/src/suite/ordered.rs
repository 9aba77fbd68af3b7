//! Ordered keys.

use everywire_base::ask::{Append, Outcome, Published};
use everywire_base::limits::Limits;
use everywire_base::record::{Durability, Message};

use super::{Bench, Subject, append, message, verdicts};

/// A message of this producer with this number; its body is the number too.
fn ordered(user: Option<&str>, producer: &str, number: u32) -> Append {
    let key = Some(format!("seq:{producer}:{number}").into());
    append(0, Durability::Fsync, Message { key, from: user.map(Into::into), ..message("t", number) })
}

pub(super) fn keys_count_without_holes(subject: &dyn Subject) {
    let limits = Limits::default();
    let bench = Bench::new(subject, &limits);
    let (new, again) = (Ok(false), Ok(true));
    let p = |number| ordered(Some("ann"), "p", number);
    let first = bench.publish(vec![p(2), p(1), p(1), p(3), p(2), p(2), p(3), p(5)]);
    assert_eq!(verdicts(&first), [Err(1), new, again, Err(2), new, again, new, Err(4)], "in one batch or several");
    let place = |outcome: &Outcome| outcome.result.map(|p| (p.id(), p.offset)).expect("published");
    assert_eq!(place(&first[1]), place(&first[2]), "a duplicate is answered with the first's place");
    let others = vec![ordered(Some("bob"), "p", 1), ordered(None, "p", 1), ordered(Some("ann"), "q", 2)];
    assert_eq!(verdicts(&bench.publish(others)), [new, new, Err(1)], "each identity's producers count for themselves");
    let mut elsewhere = p(3);
    let changed = elsewhere.draft.entry.message_mut().expect("it is a message");
    (changed.topic, changed.body) = (message("u", 0).topic, "other".into());
    assert_eq!(verdicts(&bench.publish(vec![elsewhere])), [again], "whatever the topic and the body");
    // The numbers go far beyond the window of ordinary keys.
    for number in 4..=40 {
        assert_eq!(verdicts(&bench.publish(vec![p(number)])), [new]);
    }
    if subject.follows_bell() {
        bench.pass(limits.idempotency_window * 2);
    }
    let old = bench.publish(vec![p(1), p(40), p(42)]);
    assert_eq!(verdicts(&old), [again, again, Err(41)]);
    assert!(!old[0].result.expect("published").is_placed(), "the place of an old one is forgotten");
    assert!(old[1].result.expect("published").is_placed());
    let kept = bench.kept();
    let keyed = kept.iter().filter(|record| record.message().is_some_and(|message| message.key.is_some()));
    assert_eq!(keyed.count(), 42, "each is there once");
    bench.engine.close();
    if !subject.is_durable() {
        return;
    }
    drop(bench);
    let bench = Bench::new(subject, &limits);
    bench.bell.set_now(old[1].result.expect("published").time);
    let back = bench.publish(vec![p(40), p(42), p(41), p(1)]);
    assert_eq!(verdicts(&back), [again, Err(41), new, again], "it holds over restarts");
    let (before, after): (Published, Published) =
        (old[1].result.expect("published"), back[0].result.expect("published"));
    assert_eq!(after, before);
    bench.engine.close();
}

pub(super) fn producers_are_bounded(subject: &dyn Subject) {
    let limits = Limits { ordered_producers: 3, ordered_producers_each: 2, ..Limits::default() };
    let bench = Bench::new(subject, &limits);
    let one = |user, producer, number| verdicts(&bench.publish(vec![ordered(Some(user), producer, number)]))[0];
    for producer in ["a", "b"] {
        assert_eq!(one("ann", producer, 1), Ok(false));
    }
    assert_eq!(one("ann", "a", 2), Ok(false));
    assert_eq!(one("ann", "c", 1), Ok(false), "the one of hers that was used least lately goes for it");
    assert_eq!((one("ann", "b", 2), one("ann", "a", 3)), (Err(1), Ok(false)));
    assert_eq!((one("bob", "x", 1), one("cid", "y", 1)), (Ok(false), Ok(false)), "beyond all it is anybody's");
    assert_eq!((one("ann", "c", 2), one("bob", "x", 1)), (Err(1), Ok(true)));
    bench.engine.close();
}
