//! A server survives a full disk (RULES 31). The disk is a small file system of its own, which needs the right to
//! mount.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use everywire_tests::{EventStream, Request, Response, Server, Setup, read_all, until};
use tempfile::TempDir;

const KEEP_ALL: &str = "[[topics]]\nmatch = \"live\"\ndurability = \"none\"\n[[topics]]\nmatch = \"#\"\nhistory = { max_messages = 1000000, max_bytes = \"4GiB\" }\n";
// The small disk is full long before the default of `limits.disk_bytes`, which is at least 1 GiB.
const DISK_MIB: usize = 64;
const BALLAST_BYTES: usize = 24 << 20;

/// A file system of a few MiB in memory, unmounted at the end.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let directory = TempDir::with_prefix("everywire-disk-").expect("a directory");
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={DISK_MIB}m"), "everywire-test"])
            .arg(directory.path())
            .output()
            .expect("the command mount");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "this test needs the right to mount a tmpfs (run it as root): {error}");
        Self(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// A file that takes room until it is removed.
    fn ballast(&self) -> PathBuf {
        let file = self.path().join("ballast");
        fs::write(&file, vec![1; BALLAST_BYTES]).expect("room for the ballast");
        file
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

fn body(number: usize) -> String {
    format!("{number:0>32768}")
}

fn publish(server: &Server, number: usize) -> Response {
    server.send(&Request::post("/v1/messages?topic=t", body(number)))
}

/// Publishes from `number` on until a message is refused; returns the first refused one.
fn fill(server: &Server, mut number: usize) -> (usize, Response) {
    loop {
        let answer = publish(server, number);
        if answer.status != 200 {
            return (number, answer);
        }
        number += 1;
        assert!(number < DISK_MIB * 32, "more was acknowledged than the disk can hold");
    }
}

/// The answer to a CONNECT of MQTT 3.1.1 for a clean session.
fn clean_mqtt_session(server: &Server) -> [u8; 4] {
    let mut socket = TcpStream::connect(server.ready()["mqtt"].as_str().expect("an address")).expect("connected");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    socket.write_all(b"\x10\x11\x00\x04MQTT\x04\x02\x00\x3c\x00\x05phone").expect("CONNECT");
    let mut answer = [0; 4];
    socket.read_exact(&mut answer).expect("CONNACK");
    answer
}

fn numbers(server: &Server) -> Vec<usize> {
    let all = read_all(server.address(), "topic=t");
    all.iter().map(|body| body.trim_start_matches('0').parse().unwrap_or(0)).collect()
}

#[test]
fn a_full_disk_refuses_loses_nothing_and_recovers_by_itself() {
    let disk = SmallDisk::mount();
    let ballast = disk.ballast();
    let mqtt = ["--mqtt", "127.0.0.1:0"];
    let setup = mqtt.into_iter().fold(Setup::new().config(KEEP_ALL), Setup::argument);
    let server = setup.data(&disk.path().join("data")).start();
    let mut stream = EventStream::open(server.address(), &Request::get("/v1/events?topic=t"));
    stream.block().expect("the first block");

    let (full, refused) = fill(&server, 0);
    assert!(full > 100, "some room was used: {full}");
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.header("Retry-After").is_some(), "{refused:?}");
    let detail = refused.json()["detail"].as_str().unwrap_or_default().to_owned();
    assert!(detail.contains("disk"), "the reason: {detail}");
    assert_eq!(numbers(&server), (0..full).collect::<Vec<_>>(), "reading goes on, nothing acknowledged is lost");
    for number in 0..full {
        assert!(stream.event().body() == body(number), "streams go on: {number}");
    }
    assert_eq!(publish(&server, full).status, 503, "still full");

    let live = server.send(&Request::post("/v1/messages?topic=live", "x"));
    assert_eq!(live.status, 200, "what only passes needs no disk: {live:?}");
    assert_eq!(clean_mqtt_session(&server), [0x20, 2, 0, 0], "nor does a session that is not kept: CONNACK");

    fs::remove_file(ballast).expect("the ballast");
    until("service returns by itself", || publish(&server, full).status == 200);
    assert!(stream.event().body() == body(full), "the stream goes on, too");
    let (full, _) = fill(&server, full + 1);
    assert_eq!(numbers(&server), (0..full).collect::<Vec<_>>());

    let setup = server.kill();
    let server = setup.start();
    assert_eq!(numbers(&server), (0..full).collect::<Vec<_>>(), "and after a kill on the full disk");
}
