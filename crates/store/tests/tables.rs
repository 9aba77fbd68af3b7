//! The suite for every kind of tables, and the tests of those on the disk.
#![expect(clippy::unwrap_used, reason = "a test fails as it likes")]

use std::fs;
use std::path::Path;

use everywire_store::tables::{Batch, FjallTables, MemoryTables, Table, Tables};

fn on_both(test: fn(&dyn Tables)) {
    test(&MemoryTables::default());
    let directory = tempfile::tempdir().unwrap();
    test(&FjallTables::open(directory.path()).unwrap());
}

fn put(tables: &dyn Tables, table: Table, keys: &[&str]) {
    let mut batch = Batch::default();
    for key in keys {
        batch.set(table, key.as_bytes(), format!("<{key}>").into_bytes());
    }
    tables.write(batch).unwrap();
}

fn keys(tables: &dyn Tables, table: Table, from: &str, to: Option<&str>, limit: usize) -> Vec<String> {
    let mut found = Vec::new();
    tables
        .scan(table, from.as_bytes(), to.map(str::as_bytes), &mut |key, value| {
            let key = String::from_utf8(key.to_vec()).unwrap();
            assert_eq!(value, format!("<{key}>").as_bytes());
            found.push(key);
            found.len() < limit
        })
        .unwrap();
    found
}

#[test]
fn what_was_written_is_found_and_what_was_removed_is_not() {
    on_both(|tables| {
        put(tables, Table::Topics, &["a", "b"]);
        assert_eq!(tables.get(Table::Topics, b"a").unwrap().as_deref(), Some(&b"<a>"[..]));
        assert_eq!(tables.get(Table::Index, b"a").unwrap(), None, "each table has its own keys");
        let mut batch = Batch::default();
        batch.remove(Table::Topics, b"a");
        batch.set(Table::Topics, b"b", b"new".to_vec());
        batch.set(Table::Meta, b"a", Vec::new());
        tables.write(batch).unwrap();
        assert_eq!(tables.get(Table::Topics, b"a").unwrap(), None);
        assert_eq!(tables.get(Table::Topics, b"b").unwrap().as_deref(), Some(&b"new"[..]));
        assert_eq!(tables.get(Table::Meta, b"a").unwrap().as_deref(), Some(&b""[..]));
    });
}

#[test]
fn a_scan_is_sorted_and_ends_where_it_shall() {
    on_both(|tables| {
        put(tables, Table::Retained, &["b/2", "a", "b", "b/1", "c", "é"]);
        assert_eq!(keys(tables, Table::Retained, "", None, 10), ["a", "b", "b/1", "b/2", "c", "é"]);
        assert_eq!(keys(tables, Table::Retained, "b", Some("c"), 10), ["b", "b/1", "b/2"]);
        assert_eq!(keys(tables, Table::Retained, "b/", None, 2), ["b/1", "b/2"]);
        assert!(keys(tables, Table::Retained, "c", Some("b"), 10).is_empty());
        assert!(keys(tables, Table::Topics, "", None, 10).is_empty());
    });
}

#[test]
fn a_long_scan_is_whole() {
    on_both(|tables| {
        let names: Vec<String> = (0..3000).map(|n| format!("{n:05}")).collect();
        put(tables, Table::Index, &names.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(keys(tables, Table::Index, "", None, usize::MAX), names);
        assert_eq!(keys(tables, Table::Index, "00100", Some("00612"), usize::MAX), names[100..612]);
        for (from, to, limit) in [("00100", "00612", 9000), ("", "1", 9000), ("00100", "00612", 300), ("5", "1", 9000)]
        {
            let mut found = Vec::new();
            let take = &mut |key: &[u8], _: &[u8]| {
                found.push(String::from_utf8(key.to_vec()).unwrap());
                found.len() < limit
            };
            tables.scan_back(Table::Index, from.as_bytes(), to.as_bytes(), take).unwrap();
            let within = names.iter().rev().filter(|name| (from..to).contains(&name.as_str())).take(limit);
            assert!(found.iter().eq(within), "from {from} to {to}");
        }
    });
}

#[test]
fn clearing_leaves_nothing_and_reopening_leaves_all() {
    on_both(|tables| {
        put(tables, Table::Topics, &["a"]);
        tables.sync().unwrap();
        tables.reopen().unwrap();
        assert_eq!(keys(tables, Table::Topics, "", None, 10), ["a"]);
        tables.clear().unwrap();
        assert!(keys(tables, Table::Topics, "", None, 10).is_empty());
        put(tables, Table::Topics, &["b"]);
        assert_eq!(keys(tables, Table::Topics, "", None, 10), ["b"]);
    });
}

fn filled(directory: &Path) {
    let tables = FjallTables::open(directory).unwrap();
    put(&tables, Table::Topics, &["a", "b"]);
    tables.sync().unwrap();
}

#[test]
fn a_directory_opens_again_with_what_it_had() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path());
    let tables = FjallTables::open(directory.path()).unwrap();
    assert_eq!(keys(&tables, Table::Topics, "", None, 10), ["a", "b"]);
}

#[test]
fn a_directory_of_another_format_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path());
    fs::write(directory.path().join("FORMAT"), "everywire-store 0\n").unwrap();
    let tables = FjallTables::open(directory.path()).unwrap();
    assert!(keys(&tables, Table::Topics, "", None, 10).is_empty());
}

#[test]
fn a_directory_is_one_processs() {
    let directory = tempfile::tempdir().unwrap();
    let _first = FjallTables::open(directory.path()).unwrap();
    let Err(error) = FjallTables::open(directory.path()) else { panic!("it is taken") };
    assert!(error.to_string().contains("in use"), "{error}");
}

fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn whatever_is_overwritten_the_directory_opens_and_works() {
    let model = tempfile::tempdir().unwrap();
    filled(model.path());
    for damaged in files(&model.path().join("tables")) {
        let directory = tempfile::tempdir().unwrap();
        filled(directory.path());
        let path = directory.path().join(damaged.strip_prefix(model.path()).unwrap());
        if path.exists() {
            fs::write(&path, b"not what it was, and long enough to be taken for something").unwrap();
        }
        let tables = FjallTables::open(directory.path()).unwrap();
        put(&tables, Table::Topics, &["c"]);
        assert!(keys(&tables, Table::Topics, "", None, 10).contains(&"c".to_owned()), "{}", damaged.display());
    }
}

/// The journal's file is long from the beginning, but nearly all of it is a hole, which takes no room on the disk.
#[test]
fn empty_tables_take_little() {
    let directory = tempfile::tempdir().unwrap();
    let tables = FjallTables::open(directory.path()).unwrap();
    let empty = tables.bytes();
    assert!(empty > 0 && empty < 8 << 20, "{empty} bytes");
    let mut batch = Batch::default();
    for n in 0..4096u32 {
        batch.set(Table::Index, &n.to_be_bytes(), vec![n as u8; 1024]);
    }
    tables.write(batch).unwrap();
    tables.sync().unwrap();
    assert!(tables.bytes() > empty + (1 << 20), "{} bytes after {empty}", tables.bytes());
}
