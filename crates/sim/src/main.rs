//! Runs simulated worlds: `everywire-sim --seed N` repeats those of one seed, `--seeds N` runs those of many.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use clap::Parser;
use everywire_sim::Outcome;
use everywire_sim::cluster::{self, Events};

/// Runs simulated worlds from seeds; a failing seed is printed.
#[derive(Parser)]
struct Arguments {
    /// Run the worlds of this seed alone.
    #[arg(long)]
    seed: Option<u64>,
    /// Run the worlds of so many seeds.
    #[arg(long, default_value_t = 500)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Run worlds of so many nodes alone: 1, or 3 that share one log. `trimmed` are 3 whose engine keeps a small window,
    /// `rolling` 3 that are drained one after the other. Without it a seed makes a world of each but the last.
    #[arg(long, value_parser = ["1", "3", "trimmed", "rolling"])]
    nodes: Option<String>,
}

/// A kind of worlds.
struct Kind {
    nodes: &'static str,
    run: fn(u64) -> Result<Outcome, String>,
}

const KINDS: [Kind; 4] = [
    Kind { nodes: "1", run: everywire_sim::run },
    Kind { nodes: "3", run: cluster::run },
    Kind { nodes: "trimmed", run: |seed| cluster::run_with(seed, Events::Trimmed) },
    Kind { nodes: "rolling", run: |seed| cluster::run_with(seed, Events::Rolling) },
];

/// The number of kinds that are run unless others are asked for.
const USUAL: usize = 3;

/// The worlds that were run, and the sums of what happened in those that passed.
#[derive(Default)]
struct Totals {
    passed: u64,
    failed: u64,
    sum: Outcome,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (from, seeds) = arguments.seed.map_or((arguments.from, arguments.seeds), |seed| (seed, 1));
    let kinds = if arguments.nodes.is_some() { &KINDS[..] } else { &KINDS[..USUAL] };
    let is_wanted = |kind: &&Kind| arguments.nodes.as_deref().is_none_or(|nodes| nodes == kind.nodes);
    let (mut passed, mut failed) = (0, 0);
    for kind in kinds.iter().filter(is_wanted) {
        let totals = run_all(kind, from..from + seeds);
        println!("worlds of {} nodes: {}", kind.nodes, totals.sum);
        (passed, failed) = (passed + totals.passed, failed + totals.failed);
    }
    println!("{passed} passed, {failed} failed");
    ExitCode::from(u8::from(failed > 0))
}

/// Runs the worlds of a kind, as many at once as there are processors.
fn run_all(kind: &Kind, seeds: std::ops::Range<u64>) -> Totals {
    let (next, totals) = (AtomicU64::new(seeds.start), Mutex::new(Totals::default()));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if !seeds.contains(&seed) {
                        return;
                    }
                    let result = (kind.run)(seed);
                    totals.lock().expect("no thread panics while it counts").count(kind, seed, result);
                }
            });
        }
    });
    totals.into_inner().expect("no thread panics while it counts")
}

impl Totals {
    fn count(&mut self, kind: &Kind, seed: u64, result: Result<Outcome, String>) {
        match result {
            Ok(outcome) => {
                self.passed += 1;
                self.sum += outcome;
            }
            Err(error) => {
                self.failed += 1;
                println!(
                    "seed {seed}: {error}\n  repeat it with: cargo run --release -p everywire-sim -- --nodes {} --seed {seed}",
                    kind.nodes
                );
            }
        }
    }
}
