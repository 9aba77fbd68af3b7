//! Puts the web files into the crate, compressed: a table of names, tags and bytes for `src/web.rs`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use flate2::Compression;
use flate2::write::GzEncoder;

/// The folders, and what their files' names begin with.
const FOLDERS: [(&str, &str); 2] = [("../../web", ""), ("../../sdk/js/src", "sdk/")];

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
            let bytes = fs::read(path)?;
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

/// FNV-1a: tells one version of a file from another.
fn tag(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
