//! The conformance suite of [`Remote`]: the behaviour that every engine elsewhere must show.

use std::time::Duration;

use bytes::Bytes;
use everywire_base::cursor::Offset;
use everywire_base::limits::Limits;

use crate::remote::{Batch, Genesis, Item, Life, LogState, Raw, Refusal, Remote, RemoteError};

/// A remote log under test, empty at the beginning.
pub trait RemoteSubject {
    /// Another connection to it, not opened yet.
    fn connect(&self) -> Box<dyn Remote>;

    /// Restarts its master, which has all that it had. Connections from before may be dead.
    fn restart(&self);

    /// Whether each life of its master is an epoch that binds appends. An engine whose brokers agree on the records,
    /// and show no others, doesn't need that: its epochs are those of their leaders.
    fn fences_lives(&self) -> bool;
}

/// Runs all checks, each with a log of its own.
pub fn run(make: &dyn Fn() -> Box<dyn RemoteSubject>) {
    let checks: [fn(&dyn RemoteSubject); 9] = [
        a_log_is_made_once_and_only_when_it_may_be,
        all_read_the_same_in_one_order,
        an_append_is_whole,
        a_reader_takes_pieces,
        a_reader_waits_for_what_comes,
        nothing_counts_in_another_life,
        a_new_life_of_the_master_is_an_epoch,
        what_was_let_go_of_is_told,
        large_values_are_kept_by_name,
    ];
    for check in checks {
        check(&*make());
    }
}

const ALL: usize = usize::MAX;
const WAIT: Duration = Duration::from_secs(20);

/// The genesis with which the suite makes its logs.
pub fn genesis(number: u64) -> Genesis {
    Genesis::new([number, 7, 9], &Limits::default())
}

fn opened(subject: &dyn RemoteSubject) -> (Box<dyn Remote>, LogState) {
    let mut remote = subject.connect();
    let state = remote.open(Some(&genesis(1))).expect("opened");
    (remote, state)
}

fn life(state: &LogState) -> &Life {
    state.life().expect("a log has an epoch")
}

fn texts(texts: &[&'static str]) -> Vec<Bytes> {
    texts.iter().map(|text| Bytes::from_static(text.as_bytes())).collect()
}

fn raws(items: &[Item]) -> Vec<&Raw> {
    items.iter().filter_map(|item| if let Item::Record(raw) = item { Some(raw) } else { None }).collect()
}

/// Reads up to the head, in pieces of about this many bytes.
fn read_all(remote: &mut dyn Remote, mut after: Offset, piece: usize) -> Vec<Item> {
    let mut items = Vec::new();
    loop {
        let batch = remote.read(after, piece, Duration::ZERO).expect("read");
        assert!(batch.seen >= after && batch.head >= batch.seen, "{batch:?}");
        assert!(batch.items.is_empty() || batch.seen >= last(&batch.items), "what was given was seen: {batch:?}");
        let is_done = batch.seen >= batch.head;
        assert!(is_done || batch.seen > after, "a read goes on: {batch:?}");
        after = batch.seen;
        items.extend(batch.items);
        if is_done {
            return items;
        }
    }
}

fn last(items: &[Item]) -> Offset {
    match items.last() {
        Some(Item::Record(raw)) => raw.offset,
        Some(Item::Epoch(entry)) => entry.begin,
        None => Offset::BEGINNING,
    }
}

fn bodies(items: &[Item]) -> Vec<Bytes> {
    raws(items).into_iter().map(|raw| raw.stored.clone()).collect()
}

fn a_log_is_made_once_and_only_when_it_may_be(subject: &dyn RemoteSubject) {
    let mut first = subject.connect();
    assert_eq!(first.open(None), Err(RemoteError::Refused(Refusal::NoLog)), "nothing is made in silence");
    let made = first.open(Some(&genesis(1))).expect("made");
    assert_eq!((made.genesis, made.epochs.len(), made.epochs[0].parent), (genesis(1), 1, None));
    let mut second = subject.connect();
    let found = second.open(Some(&genesis(2))).expect("opened");
    assert_eq!((found.genesis, &found.epochs), (genesis(1), &made.epochs), "who comes second takes what is there");
    assert_eq!(first.open(None).expect("opened again").epochs, made.epochs);
}

fn all_read_the_same_in_one_order(subject: &dyn RemoteSubject) {
    let ((mut one, state), (mut two, _)) = (opened(subject), opened(subject));
    for n in 0..50u32 {
        let records = [Bytes::from(format!("a{n}")), Bytes::from(format!("b{n}"))];
        let writer = if n % 2 == 0 { &mut one } else { &mut two };
        writer.append(life(&state), &records[..=(n as usize % 2)]).expect("appended");
    }
    let items = read_all(&mut *one, Offset::BEGINNING, ALL);
    assert_eq!(items, read_all(&mut *two, Offset::BEGINNING, ALL));
    let expected: Vec<Bytes> = (0..50)
        .flat_map(|n| [Some(format!("a{n}")), (n % 2 == 1).then(|| format!("b{n}"))])
        .flatten()
        .map(Bytes::from)
        .collect();
    assert_eq!(bodies(&items), expected);
    let raws = raws(&items);
    assert!(raws.windows(2).all(|pair| pair[0].offset < pair[1].offset), "offsets go up");
    assert!(raws[0].offset > Offset::BEGINNING && raws[0].time.0 > 0);
    let middle = raws[20].offset;
    assert_eq!(bodies(&read_all(&mut *one, middle, ALL)), expected[21..], "a reader goes on anywhere");
}

fn an_append_is_whole(subject: &dyn RemoteSubject) {
    let (mut remote, state) = opened(subject);
    let records: Vec<Bytes> = (0..crate::remote::APPEND_RECORDS).map(|n| Bytes::from(n.to_string())).collect();
    let promise = remote.append(life(&state), &records).expect("appended");
    assert_eq!(remote.append(life(&state), &[]), Ok(promise), "of nothing there is the promise of all below");
    let large = Bytes::from(vec![7; crate::remote::APPEND_BYTES]);
    remote.append(life(&state), std::slice::from_ref(&large)).expect("appended");
    remote.append(life(&state), &[Bytes::new()]).expect("appended");
    let read = bodies(&read_all(&mut *remote, Offset::BEGINNING, ALL));
    assert_eq!((read.len(), &read[..records.len()]), (records.len() + 2, &records[..]));
    assert_eq!(read[records.len()..], [large, Bytes::new()]);
}

fn a_reader_takes_pieces(subject: &dyn RemoteSubject) {
    let (mut remote, state) = opened(subject);
    for n in 0..100u32 {
        remote.append(life(&state), &[Bytes::from(vec![n as u8; 1000])]).expect("appended");
    }
    let all = read_all(&mut *remote, Offset::BEGINNING, ALL);
    assert_eq!(read_all(&mut *remote, Offset::BEGINNING, 1), all, "even in the smallest pieces");
    assert_eq!(read_all(&mut *remote, Offset::BEGINNING, 5000), all);
}

fn a_reader_waits_for_what_comes(subject: &dyn RemoteSubject) {
    let ((mut reader, state), (mut writer, _)) = (opened(subject), opened(subject));
    let head = last(&read_all(&mut *reader, Offset::BEGINNING, ALL)).max(state.head);
    let Batch { items, .. } = reader.read(head, ALL, Duration::ZERO).expect("read");
    assert!(items.is_empty(), "without a wait there is what is there");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let mut items = Vec::new();
            let until = std::time::Instant::now() + WAIT;
            while items.is_empty() && std::time::Instant::now() < until {
                items = reader.read(head, ALL, WAIT).expect("read").items;
            }
            items
        });
        writer.append(life(&state), &texts(&["x"])).expect("appended");
        assert_eq!(bodies(&waiting.join().expect("a reader")), texts(&["x"]));
    });
}

fn nothing_counts_in_another_life(subject: &dyn RemoteSubject) {
    if !subject.fences_lives() {
        return;
    }
    let (mut remote, state) = opened(subject);
    let own = life(&state).clone();
    let other_run = Life { run: "another".into(), ..own.clone() };
    remote.append(&own, &texts(&["a"])).expect("appended");
    let moved = Err(RemoteError::Refused(Refusal::Moved));
    assert_eq!(remote.append(&other_run, &texts(&["b"])), moved);
    let unknown = Life { epoch: everywire_base::cursor::Epoch(own.epoch.0 ^ 1), ..own.clone() };
    assert_eq!(remote.append(&unknown, &texts(&["c"])), moved);
    // The engine doesn't have the log of that writer: it has begun an epoch, and the former one is over.
    let state = remote.open(None).expect("opened");
    assert_ne!(life(&state), &own);
    assert_eq!(remote.append(&own, &texts(&["d"])), moved);
    remote.append(life(&state), &texts(&["e"])).expect("appended");
    assert_eq!(bodies(&read_all(&mut *remote, Offset::BEGINNING, ALL)), texts(&["a", "e"]));
}

fn a_new_life_of_the_master_is_an_epoch(subject: &dyn RemoteSubject) {
    if !subject.fences_lives() {
        return;
    }
    let (mut remote, before) = opened(subject);
    remote.append(life(&before), &texts(&["a", "b"])).expect("appended");
    let read = read_all(&mut *remote, Offset::BEGINNING, ALL);
    subject.restart();
    let mut other = subject.connect();
    let after = other.open(None).expect("opened");
    let entry = after.epochs.last().expect("an epoch").clone();
    assert_eq!((after.epochs.len(), &after.epochs[..1]), (2, &before.epochs[..]));
    let fork = raws(&read).last().expect("records").offset;
    assert_eq!(entry.parent, Some((life(&before).epoch, fork)), "nothing was lost");
    assert!(entry.begin >= Offset(fork.0 + (1 << 20)), "offsets jump: {entry:?}");
    assert_ne!(entry.life, *life(&before));
    let refused = other.append(life(&before), &texts(&["late"]));
    assert_eq!(refused, Err(RemoteError::Refused(Refusal::Moved)));
    other.append(&entry.life, &texts(&["c"])).expect("appended");
    // The former connection goes on when it opens the log anew, and reads where the epoch began.
    let again = remote.open(None).expect("opened");
    assert_eq!((again.epochs, again.genesis), (after.epochs, before.genesis));
    let items = read_all(&mut *remote, fork, ALL);
    assert_eq!(items[0], Item::Epoch(entry.clone()));
    assert_eq!(bodies(&items), texts(&["c"]));
    assert!(raws(&items)[0].offset > entry.begin);
}

fn what_was_let_go_of_is_told(subject: &dyn RemoteSubject) {
    let (mut remote, state) = opened(subject);
    for n in 0..100u32 {
        remote.append(life(&state), &[Bytes::from(vec![n as u8; 10_000])]).expect("appended");
    }
    let all = read_all(&mut *remote, Offset::BEGINNING, ALL);
    let offsets: Vec<Offset> = raws(&all).iter().map(|raw| raw.offset).collect();
    remote.trim(offsets[59]).expect("let go of");
    assert_eq!(bodies(&read_all(&mut *remote, offsets[59], ALL)).len(), 40, "what is above stays");
    let trimmed = remote.open(None).expect("opened").trimmed;
    assert!(trimmed <= offsets[59], "{trimmed}");
    if trimmed > offsets[0] {
        let refused = remote.read(Offset::BEGINNING, ALL, Duration::ZERO);
        assert_eq!(refused, Err(RemoteError::Refused(Refusal::Trimmed(trimmed))));
    }
}

fn large_values_are_kept_by_name(subject: &dyn RemoteSubject) {
    let ((mut one, _), (mut two, _)) = (opened(subject), opened(subject));
    let value = Bytes::from((0..3_000_000u32).map(|n| n as u8).collect::<Vec<u8>>());
    one.blobs().put("a/1", value.clone()).expect("kept");
    one.blobs().put("b/2", Bytes::new()).expect("kept");
    assert_eq!(two.blobs().get("a/1"), Ok(Some(value)));
    assert_eq!((two.blobs().get("b/2"), two.blobs().get("c")), (Ok(Some(Bytes::new())), Ok(None)));
    let mut names = two.blobs().names().expect("names");
    names.sort_unstable();
    assert_eq!(names, ["a/1".into(), "b/2".into()] as [Box<str>; 2]);
    two.blobs().remove("a/1").expect("removed");
    two.blobs().remove("a/1").expect("removed already");
    assert_eq!(one.blobs().get("a/1"), Ok(None));
}
