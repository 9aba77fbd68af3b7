//! The purpose of each rule, in the smallest log that shows it.

use std::slice::from_ref;

use everywire_base::limits::Limits;
use everywire_base::record::{Message, Once};

use super::*;

const A: u64 = 1;
const B: u64 = 2;

fn genesis() -> Genesis {
    Genesis::new([1, 2, 3], &Limits::default())
}

fn text(body: &str) -> Message {
    Message::new(Topic::parse("t").unwrap(), body.to_owned())
}

fn keyed(body: &str) -> Message {
    Message { key: Some("k".into()), ..text(body) }
}

fn node(name: &str, change: &NodeChange) -> System {
    system::record(system::node_topic(name).unwrap(), change, false)
}

fn up(name: &str, writer: u64) -> System {
    node(name, &NodeChange::Up { writer, node: name.into(), format: 1, boot: 0, version: "".into() })
}

fn proposal(writer: u64, sequence: u64, entry: impl Into<Entry>) -> Proposal {
    Proposal {
        writer,
        sequence,
        source: None,
        durability: Durability::Fsync,
        sharer: None,
        entry: Some(entry.into()),
        later: None,
        pair: None,
        guards: Vec::new(),
        taken: None,
    }
}

/// The bodies of the records that count in a log of these proposals.
fn counted(judge: &mut Judge, proposals: &[Proposal]) -> Vec<String> {
    let mut bodies = Vec::new();
    for proposal in proposals {
        let offset = judge.at().next();
        let raw = Raw { offset, time: UnixMillis(1_000_000 + 1000 * offset.0), stored: proposal.encode() };
        if let Verdict::Counts(record, _) = judge.judge(&raw).verdict
            && let Some(message) = record.message().filter(|message| !message.topic.is_servers())
        {
            bodies.push(String::from_utf8(message.body.to_vec()).unwrap());
        }
    }
    bodies
}

fn both_up() -> Vec<Proposal> {
    vec![proposal(A, 1, up("a", A)), proposal(B, 1, up("b", B))]
}

fn with_source(proposal: Proposal, source: (u64, u64)) -> Proposal {
    Proposal { source: Some(source), ..proposal }
}

/// Each rule with a log and the bodies that must count, as they don't without the rule.
fn cases() -> Vec<(Rule, Vec<Proposal>, Vec<&'static str>)> {
    let down = |sequence| node("a", &NodeChange::Down { writer: A, sequence });
    let session = system::session_topic(None, "phone").unwrap();
    let claim =
        |owner: &str| system::record(session.clone(), &system::Claim { owner: owner.into(), fresh: false }, false);
    let once = Once { session: session.clone(), tag: 1, generation: 3, until: UnixMillis(u64::MAX) };
    let once = Message { once: Some(Box::new(once)), ..text("once") };
    vec![
        // A late record comes of a life that was declared dead.
        (
            Rule::Writer,
            vec![proposal(B, 2, down(1)), proposal(A, 2, text("zombie")), proposal(B, 3, text("b"))],
            vec!["b"],
        ),
        // A frame comes twice, and late.
        (
            Rule::Sequence,
            vec![
                proposal(A, 2, text("1")),
                proposal(A, 3, text("2")),
                proposal(A, 2, text("1")),
                proposal(A, 3, text("2")),
            ],
            vec!["1", "2"],
        ),
        // Another life carries over a record that this one had written and that came all the same.
        (
            Rule::Source,
            vec![
                proposal(A, 2, text("1")),
                with_source(proposal(B, 2, text("1")), (A, 2)),
                with_source(proposal(B, 3, text("2")), (A, 3)),
            ],
            vec!["1", "2"],
        ),
        // A client publishes again, at another node.
        (Rule::Key, vec![proposal(A, 2, keyed("1")), proposal(B, 2, keyed("1"))], vec!["1"]),
        // A former owner's message lies above the claim of its successor.
        (Rule::Guard, vec![proposal(A, 2, claim("a")), proposal(B, 2, claim("b")), proposal(A, 3, once)], vec![]),
        // Two nodes declare a third one dead, which has written a record in between.
        (
            Rule::Down,
            vec![proposal(A, 2, text("1")), proposal(B, 2, down(1)), proposal(A, 3, text("2"))],
            vec!["1", "2"],
        ),
        // A record that was refused for its key still moves the sequence on.
        (
            Rule::Advance,
            vec![proposal(A, 2, keyed("1")), proposal(A, 3, keyed("1")), proposal(A, 4, text("2"))],
            vec!["1", "2"],
        ),
    ]
}

#[test]
fn each_rule_does_what_it_is_for() {
    for (rule, proposals, expected) in cases() {
        let all: Vec<Proposal> = both_up().into_iter().chain(proposals).collect();
        let judge = || Judge::new(genesis(), Epoch(1));
        assert_eq!(counted(&mut judge(), &all), expected, "{rule:?}");
        assert_ne!(counted(&mut judge().without(Some(rule)), &all), expected, "without {rule:?}");
    }
}

#[test]
fn whoever_goes_on_from_what_another_knew_judges_alike() {
    for (rule, proposals, _) in cases() {
        let all: Vec<Proposal> = both_up().into_iter().chain(proposals).collect();
        for cut in 0..all.len() {
            let mut one = Judge::new(genesis(), Epoch(1));
            counted(&mut one, &all[..cut]);
            let mut two = Judge::decode(&one.encode().into()).unwrap();
            assert_eq!(two.encode(), one.encode());
            assert_eq!(counted(&mut one, &all[cut..]), counted(&mut two, &all[cut..]), "{rule:?}, {cut}");
            assert_eq!((one.chain, one.encode()), (two.chain, two.encode()), "{rule:?}, {cut}");
        }
    }
}

#[test]
fn one_wrong_time_neither_ends_windows_nor_stops_them() {
    const YEAR: u64 = 365 * 24 * 3_600_000;
    let mut judge = Judge::new(genesis(), Epoch(1));
    counted(&mut judge, &both_up());
    let mut sequence = 1;
    let mut at = |judge: &mut Judge, time: u64, message: Message| {
        sequence += 1;
        let raw =
            Raw { offset: judge.at().next(), time: UnixMillis(time), stored: proposal(A, sequence, message).encode() };
        judge.judge(&raw).verdict
    };
    let now = 1_002_000;
    assert!(matches!(at(&mut judge, now, keyed("1")), Verdict::Counts(..)));
    assert!(matches!(at(&mut judge, now + 10 * YEAR, keyed("1")), Verdict::Known(_)), "no key is forgotten at once");
    for second in 0..130 {
        let is_known = matches!(at(&mut judge, now + second * 1000, keyed("1")), Verdict::Known(_));
        assert_eq!(is_known, second < 110, "after {second} s, ten of which the wrong time has used up");
        if !is_known {
            break;
        }
    }
}

#[test]
fn a_life_that_has_ended_never_comes_again_and_bytes_of_others_count_for_nothing() {
    let mut judge = Judge::new(genesis(), Epoch(1));
    let bye = node("a", &NodeChange::Bye { writer: A });
    let of_another = node("b", &NodeChange::Bye { writer: B });
    let proposals =
        [proposal(A, 2, bye), proposal(A, 1, up("a", A)), proposal(A, 3, text("late")), proposal(B, 2, text("b"))];
    counted(&mut judge, &both_up());
    assert_eq!(counted(&mut judge, &proposals), ["b"]);
    assert_eq!(
        counted(&mut judge, &[proposal(3, 1, up("c", 3)), proposal(3, 2, of_another), proposal(B, 3, text("b"))]),
        ["b"]
    );
    for stored in [&b""[..], b"foreign", &[0xff; 40]] {
        let raw = Raw { offset: judge.at().next(), time: UnixMillis(1), stored: stored.to_vec().into() };
        assert_eq!(judge.judge(&raw), Judged { of: None, verdict: Verdict::Foreign, differs: None });
    }
    assert_eq!(counted(&mut judge, from_ref(&proposal(B, 4, text("c")))), ["c"]);
}

#[test]
fn an_entry_of_a_later_versions_kind_counts_is_kept_as_it_is_and_its_writer_goes_on() {
    let mut judge = Judge::new(genesis(), Epoch(1));
    counted(&mut judge, &both_up());
    let mut fields = Vec::new();
    prost::encoding::string::encode(77, &"only a later version reads this".to_owned(), &mut fields);
    let mut say = |sequence, as_of| {
        let guard = Guard { topic: 7, as_of: Offset(as_of), claims: true };
        let of_later = Proposal {
            entry: None,
            later: Some(fields.clone().into()),
            guards: vec![guard],
            ..proposal(A, sequence, text(""))
        };
        let raw = Raw { offset: judge.at().next(), time: UnixMillis(9), stored: of_later.encode() };
        judge.judge(&raw).verdict
    };
    let Verdict::Counts(record, None) = say(2, 2) else { panic!("it doesn't count") };
    assert!(matches!(&record.content, Content::Unknown(stored) if stored.ends_with(&fields)));
    let mut stored = Vec::new();
    record.encode(&mut stored);
    assert_eq!(Record::decode(Partition(0), stored.into()), Ok((*record).clone()), "it is read as it was kept");
    assert_eq!(say(3, 2), Verdict::Refused(PublishError::Stale), "the one before has claimed what it was judged by");
    assert_eq!(say(3, 3), Verdict::OutOfSequence);
    assert_eq!(counted(&mut judge, &[proposal(A, 4, text("on"))]), ["on"]);
}

#[test]
fn a_beat_tells_who_has_judged_otherwise() {
    let mut judge = Judge::new(genesis(), Epoch(1));
    counted(&mut judge, &both_up());
    let beat =
        |writer, at, chain| node("a", &NodeChange::Beat { writer, at, chain, synced: 0, read: None, owes: vec![] });
    let mut say = |sequence, at, chain| {
        let raw = Raw {
            offset: judge.at().next(),
            time: UnixMillis(1),
            stored: proposal(A, sequence, beat(A, at, chain)).encode(),
        };
        let differs = judge.judge(&raw).differs;
        (judge.writers()[&A].beat, differs)
    };
    let ((at, chain), none) = say(2, 0, 0);
    assert_eq!(none, None);
    let ((second, _), same) = say(3, at.0, chain);
    assert_eq!(same, None);
    assert_eq!(say(4, second.0, chain).1, Some(A));
}

#[test]
fn who_goes_on_knows_what_others_owe() {
    let mut judge = Judge::new(genesis(), Epoch(1));
    counted(&mut judge, &both_up());
    let debt = GroupDebt { group: "$share/g/a".into(), after: 1 };
    let beat = |read, owes| node("a", &NodeChange::Beat { writer: A, at: 0, chain: 0, synced: 0, read, owes });
    let (first, second) = (beat(None, Vec::new()), beat(Some(2), vec![debt.clone()]));
    counted(&mut judge, &[proposal(A, 2, first), proposal(A, 3, text("x")), proposal(A, 4, second)]);
    let joined = Judge::decode(&judge.encode().into()).unwrap();
    for roster in [judge.roster(), joined.roster()] {
        let life = roster.lives().find(|life| !life.owes.is_empty()).unwrap();
        assert_eq!((&*life.owes, life.floor, life.beat), (&[debt.clone()][..], Offset(2), Offset(5)));
    }
}
