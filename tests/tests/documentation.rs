//! The settings, metrics and links that the documentation names exist, and those that exist are documented.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use everywire_tests::{Server, binary, root};

fn page(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The pages of the documentation, with their paths.
fn pages() -> Vec<(PathBuf, String)> {
    let in_root = ["README.md", "README.zh-CN.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"];
    let mut paths: Vec<PathBuf> = in_root.iter().map(|name| root().join(name)).collect();
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            match entry.extension() {
                _ if entry.is_dir() => folders.push(entry),
                Some(ending) if ending == "md" => paths.push(entry),
                _ => {}
            }
        }
    }
    paths.into_iter().filter_map(|path| Some((path.clone(), fs::read_to_string(path).ok()?))).collect()
}

/// The words in backticks of a text.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The keys that a section of the configuration knows, as `everywire check` lists them.
fn known(section: &str) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("f.toml");
    let text = match section {
        "" => "unheard_of = 1\n".to_owned(),
        "topics" => "[[topics]]\nmatch = \"a\"\nunheard_of = 1\n".to_owned(),
        "bridge" => "[[bridge]]\nunheard_of = 1\n".to_owned(),
        "tls" => "[tls]\ncert = \"c\"\nkey = \"k\"\nunheard_of = 1\n".to_owned(),
        section => format!("[{section}]\nunheard_of = 1\n"),
    };
    fs::write(&file, text).expect("a file");
    let output = Command::new(binary()).env_clear().arg("check").arg("--config").arg(&file).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let list = said.split_once("known here are ").unwrap_or_else(|| panic!("{section}: {said}")).1;
    list.trim().split(", ").map(str::to_owned).collect()
}

/// The first cells of the rows of the tables in a part of a page.
fn first_cells(page: &str, heading: &str) -> Vec<String> {
    let from = page.find(heading).unwrap_or_else(|| panic!("no heading {heading}"));
    let part = &page[from + heading.len()..];
    let part = part.split("\n## ").next().unwrap_or_default().split("\n### ").next().unwrap_or_default();
    let rows = part.lines().filter(|line| line.starts_with("| "));
    rows.filter_map(|row| Some(row.trim_matches('|').split(" | ").next()?.trim().to_owned())).collect()
}

/// The settings of a table: a name without a section has that of the name before it in its cell.
fn settings(page: &str, heading: &str, section: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for cell in first_cells(page, heading) {
        let mut prefix = section.to_owned();
        for name in code(&cell).filter(|name| !name.contains(['[', '…', '-'])) {
            match name.rsplit_once('.') {
                Some((before, _)) => {
                    before.clone_into(&mut prefix);
                    names.insert(name.to_owned());
                }
                None if prefix.is_empty() => drop(names.insert(name.to_owned())),
                None => drop(names.insert(format!("{prefix}.{name}"))),
            }
        }
    }
    names
}

/// The keys of the first block of TOML below a heading.
fn block_keys(page: &str, heading: &str) -> Vec<String> {
    let from = page.find(heading).unwrap_or_else(|| panic!("no heading {heading}"));
    let block = page[from..].split("```toml").nth(1).and_then(|rest| rest.split("```").next()).unwrap_or_default();
    block.lines().filter_map(|line| Some(line.split_once(" = ")?.0.trim().to_owned())).collect()
}

#[test]
fn every_setting_is_documented_and_the_other_way_round() {
    let operating = page("docs/operating.md");
    let mut documented = settings(&operating, "\n## Settings", "");
    documented.extend(settings(&operating, "\n### Limits", "limits").into_iter().filter(|name| *name != "limits."));
    documented.extend(settings(&operating, "\n### Topics", "topics"));
    documented.extend(block_keys(&page("docs/mqtt.md"), "\n## Settings").into_iter().map(|key| format!("mqtt.{key}")));
    let kafka = page("docs/kafka.md");
    for heading in ["\n## In\n", "\n## Out\n", "\n## Both\n"] {
        documented.extend(settings(&kafka, heading, "bridge"));
    }
    let mut known_here = BTreeSet::new();
    for section in ["", "http", "mqtt", "auth", "tls", "log", "limits", "topics", "bridge"] {
        let full = |key: String| if section.is_empty() { key } else { format!("{section}.{key}") };
        known_here.extend(known(section).into_iter().map(full));
    }
    // These are sections, and a listener that is still to come.
    for name in ["auth", "tls", "log", "limits", "topics", "bridge", "xmpp"] {
        assert!(known_here.remove(name), "{name}");
    }
    let missing: Vec<_> = known_here.difference(&documented).collect();
    let invented: Vec<_> = documented.difference(&known_here).collect();
    assert!(missing.is_empty(), "settings without documentation: {missing:?}");
    assert!(invented.is_empty(), "documented settings that don't exist: {invented:?}");
}

#[test]
fn every_metric_is_documented_and_the_other_way_round() {
    let server = Server::start();
    let text = server.get("/metrics").text();
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let shown: BTreeSet<String> = families
        .map(|(name, kind)| if kind == "counter" { format!("{name}_total") } else { name.to_owned() })
        .collect();
    let operating = page("docs/operating.md");
    let is_one = |name: &&str| name.starts_with("everywire_") || name.starts_with("process_");
    let bare = |name: &str| name.split(['{', ' ']).next().unwrap_or_default().to_owned();
    let documented: BTreeSet<String> = code(&operating).filter(is_one).map(bare).collect();
    let missing: Vec<_> = shown.difference(&documented).collect();
    assert!(missing.is_empty(), "metrics that docs/operating.md doesn't name: {missing:?}");
    for (path, text) in pages() {
        let named: BTreeSet<String> = code(&text).filter(is_one).map(bare).collect();
        let invented: Vec<_> = named.iter().filter(|name| !is_shown(name, &shown)).collect();
        assert!(path.ends_with("CHANGELOG.md") || invented.is_empty(), "{} names {invented:?}", path.display());
    }
}

/// Whether a name is a metric's, or that of a part of a histogram, or one of several of a kind (`everywire_log_…`).
fn is_shown(name: &str, shown: &BTreeSet<String>) -> bool {
    let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
    shown.contains(of_histogram.unwrap_or(name)) || name.ends_with(['…', '*'])
}

/// The names under which the headings of a page can be linked, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut fenced = false;
    let headings = text.lines().filter(|line| {
        fenced ^= line.trim_start().starts_with("```");
        !fenced && line.starts_with('#')
    });
    let anchor = |heading: &str| {
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    for (path, text) in pages() {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.starts_with("mailto:") || link.contains(char::is_whitespace) {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let folder = path.parent().expect("a folder");
            let target = if file.is_empty() { path.clone() } else { folder.join(file) };
            let is_there = match fs::read_to_string(&target) {
                Ok(page) => anchor.is_empty() || anchors(&page).contains(anchor),
                Err(_) => target.exists() && anchor.is_empty(),
            };
            if !is_there {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere: {broken:#?}");
}
