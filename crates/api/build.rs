//! Puts the web files into the crate, compressed: a table of names, tags and bytes for `src/web.rs`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use flate2::Compression;
use flate2::write::GzEncoder;

/// The folders, and what their files' names begin with.
const FOLDERS: [(&str, &str); 3] = [("../../web", ""), ("../../sdk/js/src", "sdk/"), ("../../docs", "docs/")];

fn main() -> io::Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?);
    let mut table = String::from("&[\n");
    let mut number = 0;
    for (folder, prefix) in FOLDERS {
        println!("cargo:rerun-if-changed={folder}");
        let mut files = Vec::new();
        walk(Path::new(folder), prefix, &mut files)?;
        files.sort();
        for (name, path) in files {
            let mut bytes = fs::read(&path)?;
            if path.extension().is_some_and(|extension| extension == "js") {
                bytes = without_comments(&String::from_utf8_lossy(&bytes)).into_bytes();
            }
            let mut gzip = GzEncoder::new(fs::File::create(out.join(number.to_string()))?, Compression::best());
            gzip.write_all(&bytes)?;
            gzip.finish()?;
            let tag = tag(&bytes);
            let _ = writeln!(
                table,
                "File {{ name: {name:?}, tag: \"{tag:016x}\", gzip: include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{number}\")) }},"
            );
            number += 1;
        }
    }
    table.push_str("]\n");
    fs::write(out.join("files.rs"), table)
}

fn walk(folder: &Path, prefix: &str, files: &mut Vec<(String, PathBuf)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), &format!("{name}/"), files)?;
        } else {
            files.push((name, entry.path()));
        }
    }
    Ok(())
}

/// Leaves out the block comments that begin a line: they are half of a module, and for who reads the tree.
fn without_comments(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines();
    while let Some(mut line) = lines.next() {
        if line.trim_start().starts_with("/**") {
            while !line.contains("*/") {
                line = lines.next().unwrap_or("*/");
            }
            line = line.split_once("*/").map_or("", |(_, rest)| rest);
            if line.trim().is_empty() {
                continue;
            }
        }
        kept.push_str(line);
        kept.push('\n');
    }
    kept
}

/// FNV-1a: tells one version of a file from another.
fn tag(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
