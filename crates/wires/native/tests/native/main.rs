//! The native protocol as its clients see it.
#![expect(clippy::unwrap_used, reason = "a test fails as it likes")]

mod lines;
mod protobuf;
mod setup;

use everywire_wire::kit::Cut;
use everywire_wire::kit::golden::{cases, longest_input, transcribe};

/// Plays a table, whole and cut at every byte. `EVERYWIRE_BLESS=1` writes down what really came.
#[test]
fn frames_in_json() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/json.txt");
    let text = std::fs::read_to_string(path).unwrap();
    let whole = transcribe(&text, setup::json, Cut::Whole);
    if std::env::var_os("EVERYWIRE_BLESS").is_some() {
        std::fs::write(path, whole).unwrap();
        return;
    }
    assert!(whole == text, "{}", first_difference(&whole, &text));
    for case in cases(&text) {
        for cut in (0..longest_input(case)).map(Cut::At).chain([Cut::EveryByte]) {
            let other = transcribe(case, setup::json, cut);
            assert!(other == case, "{cut:?}: {}", first_difference(&other, case));
        }
    }
}

fn first_difference(got: &str, expected: &str) -> String {
    let at = got.lines().zip(expected.lines()).take_while(|(a, b)| a == b).count();
    let line = |text: &str| text.lines().nth(at).unwrap_or("(the end)").to_owned();
    format!("line {}\nexpected {}\ngot      {}", at + 1, line(expected), line(got))
}
