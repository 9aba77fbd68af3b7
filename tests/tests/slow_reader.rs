//! A reader that stops reading costs no memory, and gets everything when it goes on (DESIGN 5).
//!
//! `EVERYWIRE_SLOW_MB` (30 unless set) is the number of megabytes published meanwhile: 100 for the measured run.

use everywire_tests::{EventStream, Request, Server, tuned};

const KEEP_ALL: &str = "[[topics]]\nmatch = \"#\"\nhistory = { max_messages = 1000000, max_bytes = \"4GiB\" }\n";
const BODY_BYTES: usize = 64 << 10;
const MEGABYTE: usize = 1 << 20;
/// The memory that may come and go with the allocator's caches in each of the store's reader threads. It does not grow
/// with the number of published bytes: 4, 18 and 11 MiB were seen after 30, 100 and 300 MB.
const SLACK_BYTES: u64 = 24 << 20;

fn body(number: usize) -> String {
    format!("{number:010}").repeat(BODY_BYTES / 10)
}

fn publish(server: &Server, topic: &str, count: usize) {
    let mut connection = server.connect();
    for number in 0..count {
        let answer = connection.exchange(&Request::post(&format!("/v1/messages?topic={topic}"), body(number)));
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[test]
fn a_reader_who_stalls_costs_nothing_and_then_gets_everything() {
    let count = tuned("EVERYWIRE_SLOW_MB", 30) * MEGABYTE / BODY_BYTES;
    let server = Server::with(KEEP_ALL);
    // The first messages fill the shared recent window and warm the caches, so that later growth is the cost of the
    // reader.
    publish(&server, "warm-up", count.max(64 * MEGABYTE / BODY_BYTES));
    let before = server.resident_bytes();

    let mut stalled = EventStream::open(server.address(), &Request::get("/v1/events?topic=t"));
    stalled.block().expect("the first block");
    publish(&server, "t", count);
    let grown = server.resident_bytes().saturating_sub(before);
    println!("{count} messages of {BODY_BYTES} bytes: {} KiB more", grown >> 10);
    assert!(grown < SLACK_BYTES, "the server has {grown} bytes more, for {} published", count * BODY_BYTES);

    for number in 0..count {
        assert!(stalled.event().body() == body(number), "message {number} comes in its turn");
    }
    publish(&server, "t", 1);
    assert!(stalled.event().body() == body(0), "and it is live again");
    let grown = server.resident_bytes().saturating_sub(before);
    println!("after catching up: {} KiB more", grown >> 10);
    assert!(grown < SLACK_BYTES, "catching up left {grown} bytes more");
}
