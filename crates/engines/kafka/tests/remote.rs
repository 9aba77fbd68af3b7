//! The suite of remote engines on a real Kafka: three brokers of `dev/kafka`, which must run.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use everywire_base::cursor::Offset;
use everywire_base::record::Durability;
use everywire_kafka::{Address, Kafka};
use everywire_log::remote::{Connect as _, Item, Refusal, Remote, RemoteError};
use everywire_log::suite::remote::{RemoteSubject, genesis, run};

mod common;

use common::{BROKERS, prefix};

fn at(prefix: &str) -> Box<dyn Remote> {
    Kafka::new(Address::parse(&common::address(prefix)).expect("an address")).connect()
}

/// Runs `dev/kafka`.
fn kafka(arguments: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../dev/kafka");
    let output = Command::new(script).args(arguments).output().expect("dev/kafka runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn make(name: &str, partitions: &str, settings: &[&str]) {
    let mut arguments = vec!["tool", "org.apache.kafka.tools.TopicCommand", "--bootstrap-server", BROKERS, "--create"];
    arguments.extend(["--topic", name, "--partitions", partitions, "--replication-factor", "3"]);
    for setting in settings {
        arguments.extend(["--config", setting]);
    }
    kafka(&arguments);
}

struct Subject(String);

impl RemoteSubject for Subject {
    fn connect(&self) -> Box<dyn Remote> {
        at(&self.0)
    }

    fn restart(&self) {
        unreachable!("a leader that starts anew is no other life");
    }

    fn fences_lives(&self) -> bool {
        false
    }
}

#[test]
#[ignore = "needs Kafka: dev/kafka test"]
fn kafka_keeps_the_promises_of_a_remote_engine() {
    run(&|| Box::new(Subject(prefix())));
}

#[test]
#[ignore = "needs Kafka: dev/kafka test"]
fn leaders_that_die_lose_and_double_nothing() {
    let prefix = prefix();
    let (mut writer, mut reader) = (at(&prefix), at(&prefix));
    let mut state = writer.open(Some(&genesis(1))).expect("opened");
    reader.open(None).expect("opened");
    let (mut wanted, mut unknown) = (Vec::new(), 0);
    for broker in ["1", "2", "3"] {
        kafka(&["kill", broker]);
        let until = Instant::now() + Duration::from_secs(8);
        while Instant::now() < until {
            let text = Bytes::from(wanted.len().to_string());
            match writer.append(state.life().expect("a life"), std::slice::from_ref(&text)) {
                Ok(promise) => assert_eq!(promise, Durability::Replicated),
                Err(RemoteError::Refused(refusal)) => panic!("{refusal}"),
                // The record may be there.
                Err(_) => unknown += 1,
            }
            wanted.push(text);
            while let Err(error) = writer.open(None).map(|opened| state = opened) {
                assert!(!matches!(error, RemoteError::Refused(_)), "{error}");
            }
        }
        kafka(&["start", broker]);
    }
    let (mut found, mut after): (Vec<Bytes>, _) = (Vec::new(), Offset::BEGINNING);
    loop {
        match reader.read(after, 1 << 20, Duration::ZERO) {
            Ok(batch) => {
                after = batch.seen;
                let of = |item| if let Item::Record(raw) = item { Some(raw.stored) } else { None };
                found.extend(batch.items.into_iter().filter_map(of));
                if after >= batch.head {
                    break;
                }
            }
            Err(_) => while reader.open(None).is_err() {},
        }
    }
    assert!(found.windows(2).all(|pair| number(&pair[0]) < number(&pair[1])), "in order, none twice");
    assert!(wanted.len() - found.len() <= unknown, "{} of {}, {unknown} unknown", found.len(), wanted.len());
}

fn number(text: &Bytes) -> u32 {
    std::str::from_utf8(text).expect("text").parse().expect("a number")
}

/// The first offset that Kafka has of the snapshots' pieces.
fn first_piece(prefix: &str) -> u64 {
    let place = format!("{prefix}.snapshots:1:-2");
    let output = Command::new("kcat").args(["-Q", "-b", BROKERS, "-t", &place]).output().expect("kcat runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split("offset").nth(1).and_then(|text| text.trim().parse().ok()).unwrap_or_else(|| panic!("no offset: {text}"))
}

#[test]
#[ignore = "needs Kafka: dev/kafka test"]
fn what_is_removed_takes_no_room_and_the_rest_stays() {
    let prefix = prefix();
    let mut remote = at(&prefix);
    remote.open(Some(&genesis(1))).expect("opened");
    let value = |n: u8| Bytes::from(vec![n; 1_200_000]);
    for n in 0..3 {
        remote.blobs().put(&format!("s/{n}"), value(n)).expect("kept");
    }
    assert_eq!(first_piece(&prefix), 0);
    remote.blobs().remove("s/1").expect("removed");
    assert_eq!(first_piece(&prefix), 0, "an older one is there");
    remote.blobs().remove("s/0").expect("removed");
    assert_eq!(first_piece(&prefix), 6, "a value has three pieces");
    assert_eq!(remote.blobs().get("s/2"), Ok(Some(value(2))));
    assert_eq!(remote.blobs().names(), Ok(vec!["s/2".into()]));
    assert_eq!(at(&prefix).open(None).expect("opened anew").genesis, genesis(1), "the genesis stays");
}

#[test]
#[ignore = "needs Kafka: dev/kafka test"]
fn what_does_not_fit_is_refused_with_what_to_do() {
    // The number of a topic's partitions, and its settings.
    type Made<'a> = (&'a str, &'a [&'a str]);
    let (time, log) = ("message.timestamp.type=LogAppendTime", "cleanup.policy=delete");
    let (both, kept) = ("cleanup.policy=compact,delete", "retention.ms=-1");
    let log_fits: Made<'_> = ("1", &[time, log, "max.message.bytes=4000000"]);
    let snapshots_fit: Made<'_> = ("2", &[both, kept]);
    let cases: &[(Made<'_>, Made<'_>, &str)] = &[
        (("2", log_fits.1), snapshots_fit, ".log has 2 partitions, and must have 1"),
        (("1", &["message.timestamp.type=CreateTime", log]), snapshots_fit, "LogAppendTime"),
        (("1", &[time, "cleanup.policy=compact"]), snapshots_fit, "cleanup.policy"),
        (("1", &[time, "unclean.leader.election.enable=true"]), snapshots_fit, "unclean.leader.election.enable"),
        (("1", &[time, "max.message.bytes=1000"]), snapshots_fit, "max.message.bytes"),
        (("1", &[time, log, "retention.ms=60000"]), snapshots_fit, "retention.ms"),
        (("1", &[time, log, "retention.bytes=1000000"]), snapshots_fit, "retention.bytes"),
        (log_fits, ("1", snapshots_fit.1), ".snapshots has 1 partitions, and must have 2"),
        (log_fits, ("2", &["cleanup.policy=compact", kept]), "cleanup.policy=compact, and must have compact,delete"),
        (log_fits, ("2", &[both, "retention.ms=604800000"]), "retention.ms"),
        (log_fits, ("2", &[both, kept, "retention.bytes=1000000"]), "retention.bytes"),
    ];
    for (log, snapshots, said) in cases {
        let prefix = prefix();
        make(&format!("{prefix}.log"), log.0, log.1);
        make(&format!("{prefix}.snapshots"), snapshots.0, snapshots.1);
        match at(&prefix).open(Some(&genesis(1))) {
            Err(RemoteError::Refused(Refusal::Unusable(text))) => assert!(text.contains(said), "{said}: {text}"),
            other => panic!("{said}: {other:?}"),
        }
    }
    let prefix = prefix();
    make(&format!("{prefix}.log"), log_fits.0, log_fits.1);
    make(&format!("{prefix}.snapshots"), snapshots_fit.0, snapshots_fit.1);
    let opens = |longest: usize| {
        let kafka = Kafka::new(Address::parse(&common::address(&prefix)).expect("an address"));
        kafka.with_longest(longest).connect().open(Some(&genesis(1)))
    };
    assert!(opens(2 << 20).is_ok());
    let Err(RemoteError::Refused(Refusal::Unusable(text))) = opens(3 << 20) else { panic!("it is too long") };
    assert!(text.contains("max.message.bytes=4000000") && text.contains("max_message"), "{text}");
}

#[test]
#[ignore = "needs Kafka: dev/kafka test"]
fn what_is_too_large_for_the_topic_is_refused_and_nothing_behind_it_waits() {
    let prefix = prefix();
    let mut remote = at(&prefix);
    let life = remote.open(Some(&genesis(1))).expect("opened").life().expect("a life").clone();
    let tool = ["tool", "kafka.admin.ConfigCommand", "--bootstrap-server", BROKERS, "--alter", "--topic"];
    kafka(&[&tool[..], &[&format!("{prefix}.log"), "--add-config", "max.message.bytes=2500000"]].concat());
    // The topic is looked at whenever a connection is made.
    let mut remote = at(&prefix);
    remote.open(None).expect("opened");
    let mut large = vec![Bytes::from_static(b"small"); 3];
    large.push(Bytes::from(vec![1; 3 << 20]));
    match remote.append(&life, &large) {
        Err(RemoteError::Refused(Refusal::Unusable(text))) => assert!(text.contains("max.message.bytes"), "{text}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(remote.append(&life, &large[..1]), Ok(Durability::Replicated));
    let batch = remote.read(Offset::BEGINNING, 1 << 20, Duration::ZERO).expect("read");
    assert_eq!(batch.items.len(), 1, "nothing of what was refused is there");
}

#[test]
#[ignore = "needs Kafka: dev/kafka test"]
fn who_may_not_and_who_is_away_is_told() {
    let open = |address: &str| {
        let mut remote = Kafka::new(Address::parse(address).expect("an address")).connect();
        remote.open(Some(&genesis(1))).expect_err("it can't be")
    };
    let prefix = prefix();
    assert!(matches!(open("kafka://127.0.0.1:1/x"), RemoteError::Cut(_)));
    let wrong = open(&format!("kafka://everywire:wrong@127.0.0.1:19094/{prefix}"));
    assert!(matches!(&wrong, RemoteError::Refused(Refusal::Unusable(text)) if text.contains("refuses us")), "{wrong}");
    let forbidden = open(&format!("kafka://nobody:secret@127.0.0.1:19094/{prefix}?mechanism=PLAIN"));
    assert!(matches!(&forbidden, RemoteError::Refused(Refusal::Unusable(_))), "{forbidden}");
}
