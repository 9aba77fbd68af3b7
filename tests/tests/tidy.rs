//! Habits as tests: each cited rule stands in the tree, files stay short enough to be read at once, and comments begin
//! with what they are about.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use everywire_tests::root;

/// The most lines of a source file.
const LONGEST: usize = 600;

/// Folders that hold no text of ours.
const FOREIGN: &[&str] = &["target", "node_modules", ".git", "corpus", "vendor", "everywire-data", "artifacts"];

#[test]
fn every_rule_that_is_cited_stands_in_the_tree() {
    let pages = [("RULES", numbers("docs/rules.md")), ("DESIGN", numbers("docs/design.md"))];
    let mut wrong = Vec::new();
    for (path, text) in texts(&["rs", "md", "toml", "py", "js", "mjs", "sh"]) {
        for (word, there) in &pages {
            for cited in citations(&text, word) {
                if !there.contains(&cited) {
                    wrong.push(format!("{}: {word} {cited} is in no page", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn citations_are_read_as_people_read_them() {
    let text = "(RULES 1, 2 and 5; DESIGN 4 to 6) RULES 40";
    assert_eq!(citations(text, "RULES"), [1, 2, 5, 40]);
    assert_eq!(citations(text, "DESIGN"), [4, 5, 6]);
}

#[test]
fn no_source_file_is_too_long() {
    let long: Vec<String> = texts(&["rs"])
        .into_iter()
        .filter(|(path, _)| !path.ends_with("everywire.v1.rs"))
        .filter(|(_, text)| text.lines().count() > LONGEST)
        .map(|(path, text)| format!("{}: {} lines", path.display(), text.lines().count()))
        .collect();
    assert!(long.is_empty(), "more than {LONGEST} lines; look for the idea that is missing:\n{}", long.join("\n"));
}

#[test]
fn comments_begin_with_the_noun_that_they_are_about() {
    let words = ["What", "Who", "Whose", "Whom", "Whatever", "Whoever"];
    let is_question = |line: &str| {
        let comment = ["///", "//!", "//"].iter().find_map(|mark| line.trim_start().strip_prefix(mark));
        comment.and_then(|text| text.split_whitespace().next()).is_some_and(|word| words.contains(&word))
    };
    let mut wrong = Vec::new();
    // The texts of the command line's help are no comments.
    for (path, text) in texts(&["rs"]).iter().filter(|(path, _)| !path.ends_with("server/src/cli.rs")) {
        let lines = text.lines().zip(1..).filter(|(line, _)| is_question(line));
        wrong.extend(lines.map(|(line, number)| format!("{}:{number}: {}", path.display(), line.trim())));
    }
    assert!(wrong.is_empty(), "name the thing, as in `/// The answer of a worker.`:\n{}", wrong.join("\n"));
}

/// Playwright takes the promise of an `async` condition for a yes: such a test waits for nothing.
#[test]
fn no_window_waits_for_a_promise() {
    let asynchronous = concat!("waitForFunction(", "async");
    let texts = texts(&["mjs"]);
    let wrong: Vec<_> = texts.iter().filter(|(_, text)| text.contains(asynchronous)).map(|(path, _)| path).collect();
    assert!(wrong.is_empty(), "ask in the test itself, in a loop: {wrong:?}");
}

/// The numbers of a page's list: lines that begin with `N. `.
fn numbers(page: &str) -> BTreeSet<u32> {
    let text = fs::read_to_string(root().join(page)).expect("the page");
    text.lines().filter_map(|line| line.split_once(". ")?.0.parse().ok()).collect()
}

/// The numbers that follow a word: `RULES 1, 2 and 5`, `RULES 4 to 6`.
fn citations(text: &str, word: &str) -> Vec<u32> {
    let mut cited = Vec::new();
    for (at, _) in text.match_indices(word) {
        let mut rest = text[at + word.len()..].strip_prefix(' ');
        while let Some(text) = rest {
            let digits = leading_digits(text);
            let Ok(number) = text[..digits].parse::<u32>() else { break };
            cited.push(number);
            let after = &text[digits..];
            if let Some((last, _)) = after.strip_prefix(" to ").map(|range| range.split_at(leading_digits(range))) {
                cited.extend(last.parse().ok().into_iter().flat_map(|last: u32| number + 1..=last));
                break;
            }
            rest = after.strip_prefix(", ").or_else(|| after.strip_prefix(" and "));
        }
    }
    cited
}

fn leading_digits(text: &str) -> usize {
    text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len()
}

/// All our files with one of these endings.
fn texts(endings: &[&str]) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    walk(&root(), &mut |path| {
        let is_it = path.extension().and_then(|ending| ending.to_str()).is_some_and(|ending| endings.contains(&ending));
        if let Some(text) = is_it.then(|| fs::read_to_string(path).ok()).flatten() {
            found.push((path.strip_prefix(root()).unwrap_or(path).to_owned(), text));
        }
    });
    assert!(found.len() > 10, "only {} files were found", found.len());
    found
}

fn walk(folder: &Path, take: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if FOREIGN.contains(&name.to_string_lossy().as_ref()) {
            continue;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&path, take);
        } else {
            take(&path);
        }
    }
}
