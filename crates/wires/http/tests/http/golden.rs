//! The golden tables, replayed whole, byte by byte, and cut at every byte. `EVERYWIRE_BLESS=1` rewrites them.

use std::path::{Path, PathBuf};

use everywire_wire::kit::Cut;
use everywire_wire::kit::golden::{cases, longest_input, transcribe};

use crate::setup;

fn table(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name).with_extension("txt")
}

fn replay(name: &str) {
    let path = table(name);
    let text = std::fs::read_to_string(&path).unwrap();
    let whole = transcribe(&text, setup::named, Cut::Whole);
    if std::env::var_os("EVERYWIRE_BLESS").is_some() {
        std::fs::write(&path, &whole).unwrap();
        return;
    }
    assert!(whole == text, "{}", first_difference(&whole, &text));
    for case in cases(&text) {
        for cut in (0..longest_input(case)).map(Cut::At).chain([Cut::EveryByte]) {
            let other = transcribe(case, setup::named, cut);
            assert!(other == case, "{cut:?}: {}", first_difference(&other, case));
        }
    }
}

fn first_difference(got: &str, expected: &str) -> String {
    let at = got.lines().zip(expected.lines()).take_while(|(a, b)| a == b).count();
    let case = expected.lines().take(at + 1).filter(|l| l.starts_with("==")).last().unwrap_or_default();
    let line = |text: &str| text.lines().nth(at).unwrap_or("(the end)").to_owned();
    format!("{case}\nline {}\nexpected {}\ngot      {}", at + 1, line(expected), line(got))
}

#[test]
fn publishing() {
    replay("publish");
}

#[test]
fn batches() {
    replay("batch");
}

#[test]
fn polls() {
    replay("poll");
}

#[test]
fn streams() {
    replay("stream");
}

#[test]
fn identities_and_other_protocols() {
    replay("auth");
}

#[test]
fn the_classic_walk_through() {
    replay("classic");
}

#[test]
fn framing_and_refusals() {
    replay("framing");
}

#[test]
fn who_may_speak() {
    replay("guard");
}
