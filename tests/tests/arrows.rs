//! The crates that each crate may depend on. Dependencies for tests alone are exempt.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand, Package};

/// Each crate with those of our crates that it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("wire", &["base"]),
    ("http", &["base", "wire"]),
    ("ws", &["base", "wire"]),
    ("native-frames", &[]),
    ("native", &["base", "wire", "native-frames"]),
    ("mqtt-packets", &[]),
    ("mqtt", &["base", "wire", "mqtt-packets"]),
    ("auth", &["base"]),
    // The model of rooms knows the vocabulary alone; the node feeds it and asks it.
    ("rooms", &["base"]),
    ("log", &["base"]),
    // An engine elsewhere implements the log's trait, and knows nothing of a node.
    ("redis", &["base", "log"]),
    ("store", &["base", "log"]),
    ("kafka", &["base", "log"]),
    // A bridge is one more worker of the log, and reads what the store has of it.
    ("bridge", &["base", "log", "store", "kafka"]),
    // The hub tells presence by the state of the rooms.
    ("hub", &["base", "log", "rooms"]),
    // The driver hands asks to the log and pulls from its tail; it is generic over the wire.
    ("driver", &["base", "wire", "hub", "log"]),
    ("api", &["base", "rooms"]),
    ("client", &["base", "native-frames", "mqtt-packets"]),
    (
        "node",
        &[
            "base",
            "wire",
            "http",
            "ws",
            "native",
            "mqtt",
            "native-frames",
            "auth",
            "hub",
            "log",
            "store",
            "driver",
            "api",
            "rooms",
            "bridge",
        ],
    ),
    // The binary alone knows the engines; a node takes any.
    ("server", &["base", "auth", "client", "node", "kafka", "redis"]),
    (
        "sim",
        &[
            "base",
            "wire",
            "http",
            "ws",
            "native",
            "mqtt",
            "mqtt-packets",
            "native-frames",
            "auth",
            "hub",
            "log",
            "store",
            "driver",
            "api",
            "rooms",
            "node",
        ],
    ),
    ("example-line", &["base", "wire", "node"]),
    ("tests", &[]),
];

/// Foreign crates that only the named ones of ours may use.
const RESERVED: &[(&str, &[&str])] = &[
    ("mio", &["driver"]),
    ("rustls", &["driver", "redis"]),
    ("axum", &["api"]),
    ("fjall", &["store"]),
    ("krafka", &["kafka", "bridge"]),
    // The simulation runs the API's router, on a clock that stands still.
    ("tokio", &["api", "node", "bridge", "kafka", "sim"]),
    ("httparse", &["http", "client"]),
    // The client of Redis; our crate of that name is `everywire-redis`.
    ("redis", &["redis"]),
];

/// The crates of the wires and the hub. They may use none of [`BANNED_FROM_PURE`], nor the clocks, sockets and threads
/// that their `clippy.toml` bans.
const PURE: &[&str] = &["http", "ws", "native", "mqtt", "mqtt-packets", "hub", "wire", "base"];
const BANNED_FROM_PURE: &[&str] = &["rand", "rand_chacha", "tokio", "mio", "socket2", "crossbeam-channel", "getrandom"];

fn ours() -> Vec<Package> {
    let metadata = MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata");
    metadata.workspace_packages().into_iter().cloned().collect()
}

fn short(name: &str) -> &str {
    name.strip_prefix("everywire-").unwrap_or(name)
}

/// The names of the crates that a crate is built with, except for development.
fn dependencies(package: &Package) -> BTreeSet<&str> {
    let kinds = package.dependencies.iter().filter(|d| d.kind != DependencyKind::Development);
    kinds.map(|dependency| dependency.name.as_str()).collect()
}

#[test]
fn crates_depend_only_along_the_arrows() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut wrong = Vec::new();
    for package in ours() {
        let name = short(&package.name).to_owned();
        let Some(allowed) = allowed.get(name.as_str()) else {
            wrong.push(format!("{name} is not in the table of arrows"));
            continue;
        };
        let of_ours = dependencies(&package).into_iter().filter_map(|d| d.strip_prefix("everywire-"));
        wrong.extend(
            of_ours.filter(|d| !allowed.contains(d)).map(|d| format!("{name} → {d} is no arrow of this table")),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_crate_of_the_table_is_there() {
    let there: BTreeSet<String> = ours().iter().map(|p| short(&p.name).to_owned()).collect();
    let missing: Vec<_> = ARROWS.iter().map(|(name, _)| *name).filter(|name| !there.contains(*name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn foreign_crates_stay_where_they_belong() {
    let mut wrong = Vec::new();
    for package in ours() {
        let name = short(&package.name).to_owned();
        let uses = dependencies(&package);
        for (foreign, homes) in RESERVED {
            if uses.contains(foreign) && !homes.contains(&name.as_str()) {
                wrong.push(format!("{foreign} belongs to {homes:?}, not to {name}"));
            }
        }
        if PURE.contains(&name.as_str()) {
            wrong.extend(BANNED_FROM_PURE.iter().filter(|b| uses.contains(*b)).map(|b| format!("{name} uses {b}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
