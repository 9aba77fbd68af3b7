//! Sources: records out of logs that somebody else keeps.

use everywire_base::ask::{Append, PublishError};
use everywire_base::limits::Limits;
use everywire_base::record::Durability;
use everywire_base::source::Source;

use super::{Bench, Subject, append, message, verdicts};

/// The record of this source at this position, which comes after that one.
fn taken(id: u64, after: u64, position: u64) -> Append {
    let append = append(0, Durability::Fsync, message("t", position as u32));
    Append { source: Some(Source { id, after, position }), ..append }
}

pub(super) fn each_record_is_taken_over_once(subject: &dyn Subject) {
    let limits = Limits::default();
    let bench = Bench::new(subject, &limits);
    let (new, again) = (Ok(false), Ok(true));
    let first = vec![
        taken(7, 3, 4),
        taken(7, 0, 3),
        taken(7, 0, 3),
        taken(7, 5, 9),
        taken(7, 3, 5),
        taken(8, 0, 1),
        taken(7, 3, 5),
        taken(7, 5, 9),
    ];
    let expected = [Err(0), new, again, Err(3), new, new, again, new];
    assert_eq!(
        verdicts(&bench.publish(first)),
        expected,
        "in one batch or several; behind what is missing nothing goes on"
    );
    let again_and_on = vec![taken(7, 0, 1), taken(7, 0, 9), taken(7, 5, 10), taken(7, 9, 12), taken(8, 1, 2)];
    assert_eq!(verdicts(&bench.publish(again_and_on)), [again, again, Err(9), new, new]);
    let bodies = || {
        let kept = bench.kept();
        let public = kept.iter().filter_map(|record| record.message()).filter(|message| !message.topic.is_servers());
        public.map(|message| String::from_utf8_lossy(&message.body).into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(bodies(), ["3", "5", "1", "9", "12", "2"], "each is there once, in its order");
    bench.engine.close();
    if subject.is_durable() {
        drop(bench);
        let bench = Bench::new(subject, &limits);
        let back = vec![taken(7, 5, 9), taken(7, 5, 12), taken(7, 9, 13), taken(7, 12, 13), taken(9, 0, 1)];
        assert_eq!(verdicts(&bench.publish(back)), [again, again, Err(12), new, new], "it holds over restarts");
        bench.engine.close();
    }
}

pub(super) fn they_are_bounded(subject: &dyn Subject) {
    let bench = Bench::new(subject, &Limits { bridge_sources: 2, ..Limits::default() });
    let outcomes = bench.publish(vec![taken(1, 0, 1), taken(2, 0, 1), taken(3, 0, 1), taken(2, 1, 2)]);
    let results: Vec<_> = outcomes.iter().map(|outcome| outcome.result.map(|published| published.duplicate)).collect();
    assert_eq!(results, [Ok(false), Ok(false), Err(PublishError::KeysFull), Ok(false)]);
    bench.engine.close();
}
