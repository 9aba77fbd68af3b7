//! Runs simulated worlds: `everywire-sim --seed N` repeats one, `--seeds N` runs many.

use std::process::ExitCode;

use clap::Parser;

/// Runs simulated worlds from seeds; a failing seed is printed.
#[derive(Parser)]
struct Arguments {
    /// Run the world of this seed alone.
    #[arg(long)]
    seed: Option<u64>,
    /// Run the worlds of so many seeds.
    #[arg(long, default_value_t = 500)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seeds = match arguments.seed {
        Some(seed) => seed..seed + 1,
        None => arguments.from..arguments.from + arguments.seeds,
    };
    let (mut passed, mut failed) = (0, 0);
    let (mut acknowledged, mut delivered, mut cuts, mut crashes) = (0, 0, 0, 0);
    for seed in seeds {
        match everywire_sim::run(seed) {
            Ok(outcome) => {
                passed += 1;
                acknowledged += outcome.acknowledged;
                delivered += outcome.delivered;
                cuts += outcome.cuts;
                crashes += outcome.crashes;
            }
            Err(error) => {
                failed += 1;
                println!(
                    "seed {seed}: {error}\n  repeat it with: cargo run --release -p everywire-sim -- --seed {seed}"
                );
            }
        }
    }
    println!("{acknowledged} messages acknowledged, {delivered} delivered, {cuts} cuts, {crashes} crashes");
    println!("{passed} passed, {failed} failed");
    ExitCode::from(u8::from(failed > 0))
}
