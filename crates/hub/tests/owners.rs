//! The owners of the hub: which may name which, without a circle.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Each folder of the hub, with the folders whose types its files may name.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("floor", &[]),
    ("delivery", &["floor"]),
    ("sessions", &["floor", "delivery", "ground"]),
    ("groups", &["floor", "delivery", "ground"]),
    ("registry", &["floor", "delivery", "ground"]),
    ("presence", &["floor", "delivery", "ground"]),
    ("publishing", &["floor"]),
];

#[test]
fn an_owner_names_only_what_lies_under_it() {
    let mut wrong = Vec::new();
    for (owner, below) in MAY_NAME {
        for (file, text) in files(owner) {
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            for name in code.flat_map(|line| line.split("crate::").skip(1)) {
                let is_below = |name: &str| name == *owner || below.contains(&name);
                if !names(name).all(is_below) {
                    wrong.push(format!("{file} names crate::{name}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_but_the_page_of_wiring_knows_the_hub() {
    let owners = MAY_NAME.iter().flat_map(|(owner, _)| files(owner));
    let wrong: Vec<String> = owners
        .filter(|(_, text)| text.contains("impl Hub") || text.contains("&mut Hub"))
        .map(|(file, _)| file)
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The first words of what follows `crate::`, which may be a list in braces.
fn names(path: &str) -> impl Iterator<Item = &str> {
    let list = path.strip_prefix('{').map_or(path, |list| list.split('}').next().unwrap_or_default());
    let names = list.split(',').take(if path.starts_with('{') { usize::MAX } else { 1 });
    names.map(|name| name.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default())
}

fn files(owner: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(owner);
    let files = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let files: Vec<_> = files.map(|file| file.expect("an entry").path()).collect();
    assert!(!files.is_empty(), "{owner} is a folder");
    files.iter().map(|path| (path.display().to_string(), fs::read_to_string(path).expect("a text"))).collect()
}

#[test]
fn no_two_types_have_one_name() {
    let mut seen = BTreeMap::new();
    let mut twice = Vec::new();
    for (file, text) in
        MAY_NAME.iter().flat_map(|(owner, _)| files(owner)).filter(|(file, _)| !file.ends_with("tests.rs"))
    {
        for line in text.lines() {
            let words = line.split_whitespace().skip_while(|word| word.starts_with("pub")).take(2).collect::<Vec<_>>();
            let [keyword, name] = words[..] else { continue };
            let name =
                name.trim_end_matches(|c: char| !c.is_alphanumeric()).split(['<', '(', ';']).next().unwrap_or(name);
            if !["struct", "enum", "trait", "type"].contains(&keyword) {
                continue;
            }
            if let Some(other) = seen.insert(name.to_owned(), file.clone()) {
                twice.push(format!("{name}: {other}, {file}"));
            }
        }
    }
    assert!(seen.len() > 40, "types are found");
    assert!(twice.is_empty(), "{}", twice.join("\n"));
}
