//! Measures the log alone, and in the same run the disk beneath it.
//!
//! `cargo run --release -p everywire-log --example log_bench -- [--seconds 3] [--dir /tmp]`
//!
//! Prints the disk's own fdatasync/s, then for each number of appends in flight: appends/s, commits/s, CPU, and the
//! longest commit. One client thread keeps all of them in flight, each as its own submit, as workers would; bodies have
//! 128 bytes. The directory is removed at the end.

use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, unbounded};
use everywire_base::ask::{Append, Draft, Outcome};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Partition;
use everywire_base::id::{AskId, Mailbox, ReplyTo, Slot};
use everywire_base::limits::Limits;
use everywire_base::record::{Durability, Message};
use everywire_base::topic::Topic;
use everywire_log::disk::{Disk, RealDisk};
use everywire_log::embedded::{Embedded, Options};
use everywire_log::engine::{Bell, Engine};
use everywire_log::suite::Recorder;
use everywire_log::tail::Tail;

const IN_FLIGHT: [u32; 4] = [1, 8, 256, 2048];
const BODY: [u8; 128] = [b'x'; 128];

struct Arguments {
    time: Duration,
    directory: PathBuf,
}

fn arguments() -> Result<Arguments, Box<dyn Error>> {
    let mut found = Arguments { time: Duration::from_secs(3), directory: std::env::temp_dir() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        match word.as_str() {
            "--seconds" => found.time = Duration::from_secs(value.parse::<u64>()?.clamp(1, 600)),
            "--dir" => found.directory = value.into(),
            _ => return Err(format!("unknown option {word}; there are --seconds and --dir").into()),
        }
    }
    Ok(found)
}

/// Syncs per second: behind the end of a file, or within a part that was filled before.
fn syncs_per_second(disk: &dyn Disk, is_filled: bool, time: Duration) -> Result<f64, Box<dyn Error>> {
    let file = disk.create("probe")?;
    let (block, room) = ([7; 256], 16 << 20);
    if is_filled {
        for at in (0..room).step_by(1 << 20) {
            file.write_at(at, &vec![0; 1 << 20])?;
        }
        file.sync()?;
    }
    let (began, mut count) = (Instant::now(), 0u64);
    while began.elapsed() < time {
        file.write_at(count * 256 % room, &block)?;
        file.sync()?;
        count += 1;
    }
    disk.remove("probe")?;
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

/// Hands answers to the client; stands in for the store too, which is always up to date.
struct Client {
    answers: Sender<Vec<Outcome>>,
    tail: OnceLock<Arc<Tail>>,
    last: AtomicU64,
    longest: AtomicU64,
    began: Instant,
}

impl Bell for Client {
    fn head_moved(&self) {
        if let Some(tail) = self.tail.get() {
            tail.set_applied(tail.head());
        }
        let now = self.began.elapsed().as_micros() as u64;
        let before = self.last.swap(now, Ordering::Relaxed);
        self.longest.fetch_max(now - before, Ordering::Relaxed);
    }

    fn outcomes(&self, _: Mailbox, outcomes: Vec<Outcome>) {
        // The client has gone when the measurement is over.
        let _ = self.answers.send(outcomes);
    }

    fn now(&self) -> UnixMillis {
        UnixMillis(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64))
    }
}

/// The process's CPU time, in seconds: clock ticks of user and system, a hundred a second on Linux.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok()).unwrap_or_default();
    (ticks(11) + ticks(12)) / 100.0
}

fn append(topic: &Topic, ask: u32) -> Append {
    let reply_to = ReplyTo::Connection { worker: 0, slot: Slot::default(), ask: AskId(ask) };
    let message = Message::new(topic.clone(), &BODY[..]);
    Append::new(reply_to, Draft::new(message, Durability::Fsync))
}

fn closed_loop(engine: &dyn Engine, answers: &Receiver<Vec<Outcome>>, in_flight: u32, time: Duration) -> (u64, f64) {
    let topic = Topic::parse("bench/topic").expect("a topic");
    let (began, mut done, mut open) = (Instant::now(), 0, 0);
    let mut appends: Vec<Append> = (0..in_flight).map(|n| append(&topic, n)).collect();
    loop {
        open += appends.len();
        engine.submit(&mut appends);
        open -= appends.len();
        if open == 0 {
            break;
        }
        let outcomes = answers.recv().expect("the appender runs");
        open -= outcomes.len();
        done += outcomes.iter().filter(|o| o.result.is_ok()).count() as u64;
        if began.elapsed() < time {
            appends.extend(outcomes.iter().map(|o| append(&topic, o.reply_to.ask().expect("an ask").0)));
        } else {
            appends.clear();
        }
    }
    (done, began.elapsed().as_secs_f64())
}

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { time, directory } = arguments()?;
    let directory = tempfile::Builder::new().prefix("everywire-log-bench").tempdir_in(directory)?;
    let disk = Arc::new(RealDisk::new(directory.path())?);
    let appending = syncs_per_second(&*disk, false, time.min(Duration::from_secs(3)))?;
    let overwriting = syncs_per_second(&*disk, true, time.min(Duration::from_secs(3)))?;
    println!("disk alone: {appending:.0} fdatasync/s appending, {overwriting:.0} overwriting");
    for in_flight in IN_FLIGHT {
        // The probe runs right before each, since a shared machine's disk changes from second to second.
        let overwriting = syncs_per_second(&*disk, true, Duration::from_secs(1))?;
        let (sender, answers) = unbounded();
        let (tail, last, longest) = (OnceLock::new(), AtomicU64::new(0), AtomicU64::new(0));
        let bell = Arc::new(Client { answers: sender, tail, last, longest, began: Instant::now() });
        let options = Options::seeded(bell.now().0);
        let (engine, appender) = Embedded::open(Arc::clone(&disk) as _, options, &Limits::default(), bell.clone())?;
        let _ = bell.tail.set(Arc::clone(&engine.tails()[0]));
        let thread = std::thread::spawn(|| appender.run());
        bell.last.store(bell.began.elapsed().as_micros() as u64, Ordering::Relaxed);
        let cpu = cpu_seconds();
        let (done, seconds) = closed_loop(&*engine, &answers, in_flight, time);
        let cpu = cpu_seconds() - cpu;
        let longest = bell.longest.load(Ordering::Relaxed) as f64 / 1000.0;
        let rate = done as f64 / seconds;
        let commits = engine.metrics().syncs.get() as f64 / seconds;
        engine.close();
        thread.join().map_err(|_| "the appender failed")?;
        let ratio = rate / (f64::from(in_flight) * overwriting);
        println!(
            "{in_flight:>5} in flight: {rate:>8.0} appends/s, {commits:>5.0} commits/s, {:.2} µs CPU each, longest commit \
             {longest:.1} ms, {ratio:.2} of in flight × {overwriting:.0} fdatasync/s",
            cpu * 1e6 / done.max(1) as f64,
        );
    }
    reopen(&disk)
}

/// Measures a start with all records that were written.
fn reopen(disk: &Arc<RealDisk>) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    let bell = Recorder::new(UnixMillis(0));
    let (engine, appender) = Embedded::open(Arc::clone(disk) as _, Options::seeded(1), &Limits::default(), bell)?;
    let (records, bytes) = (engine.tails()[0].head().0, engine.archive(Partition(0)).bytes());
    println!("opened again in {:?}: {records} records, {} MiB", began.elapsed(), bytes >> 20);
    appender.close();
    Ok(())
}
