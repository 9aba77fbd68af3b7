//! Puts the web files into the crate, compressed: a table of names, tags and bytes for `src/web.rs`. The pages are made
//! of one frame, `page.html`. Each page preloads the modules that its own module imports, so that no list of them has
//! to be kept.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use flate2::Compression;
use flate2::write::GzEncoder;

/// The directories, and the prefixes of their files' names.
const FOLDERS: [(&str, &str); 3] = [("../../web", ""), ("../../sdk/js/src", "sdk/"), ("../../docs", "docs/")];

/// The frame of all pages.
const FRAME: &str = "page.html";

/// A page.
struct Page {
    /// Its name under `/web/`.
    name: &'static str,
    /// Its module there.
    module: &'static str,
    description: &'static str,
    /// The style sheets and the like: their kind and their address.
    links: &'static [(&'static str, &'static str)],
}

const PAGES: [Page; 4] = [
    Page {
        name: "index.html",
        module: "home.js",
        description: "Say something, and see it come over short poll, long poll, Server-Sent Events, WebSocket and MQTT.",
        links: &[("stylesheet", "style.css"), ("stylesheet", "home.css")],
    },
    Page {
        name: "chat.html",
        module: "chat.js",
        description: "Rooms to talk in, over whichever wire gets through.",
        links: &[("stylesheet", "style.css"), ("stylesheet", "chat.css"), ("manifest", "chat.webmanifest")],
    },
    Page {
        name: "lab.html",
        module: "lab.js",
        description: "Short poll, long poll, Server-Sent Events, WebSocket and MQTT side by side: what each costs.",
        links: &[
            ("stylesheet", "style.css"),
            ("stylesheet", "tables.css"),
            ("stylesheet", "lab.css"),
            ("stylesheet", "vendor/uplot.css"),
        ],
    },
    Page {
        name: "console.html",
        module: "console.js",
        description: "Who is connected to this server.",
        links: &[("stylesheet", "style.css"), ("stylesheet", "tables.css")],
    },
];

fn main() -> io::Result<()> {
    let mut files = Vec::new();
    for (folder, prefix) in FOLDERS {
        println!("cargo:rerun-if-changed={folder}");
        walk(Path::new(folder), prefix, &mut files)?;
    }
    println!("cargo:rerun-if-changed={FRAME}");
    let frame = fs::read_to_string(FRAME)?;
    for page in PAGES {
        let html = framed(&frame, &page, &files)?;
        files.push((page.name.to_owned(), html.into_bytes()));
    }
    files.sort();
    embed(&files)
}

/// Writes the table, and beside it the files that it includes.
fn embed(files: &[(String, Vec<u8>)]) -> io::Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?);
    let mut table = String::from("&[\n");
    for (number, (name, bytes)) in files.iter().enumerate() {
        let mut gzip = GzEncoder::new(fs::File::create(out.join(number.to_string()))?, Compression::best());
        gzip.write_all(bytes)?;
        gzip.finish()?;
        let tag = tag(bytes);
        let _ = writeln!(
            table,
            "File {{ name: {name:?}, tag: \"{tag:016x}\", gzip: include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{number}\")) }},"
        );
    }
    table.push_str("]\n");
    fs::write(out.join("files.rs"), table)
}

/// A page in its frame.
fn framed(frame: &str, page: &Page, files: &[(String, Vec<u8>)]) -> io::Result<String> {
    let mut modules = BTreeSet::new();
    imports(page.module, files, &mut modules)?;
    modules.remove(page.module);
    let preloads = modules.iter().map(|name| ("modulepreload", name.as_str()));
    let links: Vec<_> = page
        .links
        .iter()
        .copied()
        .chain(preloads)
        .map(|(rel, name)| format!("<link rel=\"{rel}\" href=\"web/{name}\">"))
        .collect();
    Ok(frame
        .replace("{description}", page.description)
        .replace("{module}", page.module)
        .replace("{links}", &links.join("\n  ")))
}

/// Collects a module and all that it imports, without the modules that it loads later.
fn imports(module: &str, files: &[(String, Vec<u8>)], seen: &mut BTreeSet<String>) -> io::Result<()> {
    if !seen.insert(module.to_owned()) {
        return Ok(());
    }
    let (_, bytes) = files
        .iter()
        .find(|(name, _)| name == module)
        .ok_or_else(|| io::Error::other(format!("a page imports {module}, which isn't there")))?;
    for import in String::from_utf8_lossy(bytes).split(" from '").skip(1) {
        let Some((path, _)) = import.split_once('\'').filter(|(path, _)| path.starts_with('.')) else { continue };
        imports(&beside(module, path), files, seen)?;
    }
    Ok(())
}

/// The path that a relative path has from a file.
fn beside(file: &str, path: &str) -> String {
    let mut levels: Vec<_> = file.split('/').collect();
    levels.pop();
    for level in path.split('/') {
        match level {
            "." => {}
            ".." => drop(levels.pop()),
            level => levels.push(level),
        }
    }
    levels.join("/")
}

fn walk(folder: &Path, prefix: &str, files: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), &format!("{name}/"), files)?;
        } else {
            let mut bytes = fs::read(entry.path())?;
            if entry.path().extension().is_some_and(|extension| extension == "js") {
                bytes = without_comments(&String::from_utf8_lossy(&bytes)).into_bytes();
            }
            files.push((name, bytes));
        }
    }
    Ok(())
}

/// Leaves out the comments that stand in lines of their own, and the types in front of expressions: they are half of a
/// module, and for readers of the tree.
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
        if line.trim_start().starts_with("// ") {
            continue;
        }
        kept.push_str(&without_types(line));
        kept.push('\n');
    }
    kept
}

/// Leaves out each `/** @type {…} */` of a line.
fn without_types(line: &str) -> String {
    let mut parts = line.split("/** @type");
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        kept.push_str(part.split_once("*/").map_or(part, |(_, rest)| rest.trim_start()));
    }
    kept
}

/// FNV-1a, which tells one version of a file from another.
fn tag(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
