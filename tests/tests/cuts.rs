//! Readers that are cut again and again get everything, once and in order.
//!
//! `EVERYWIRE_CUT_MS` (10 unless set) is the time for which they stay away: 2000 for the measured run.

use std::time::Duration;

use everywire_tests::{Chance, Reader, Request, Server, Via, tuned};

const KEEP_ALL: &str = "[[topics]]\nmatch = \"#\"\nhistory = { max_messages = 1000000, max_bytes = \"1GiB\" }\n";
const MESSAGES: usize = 2000;

#[test]
fn cut_readers_get_everything_once_and_in_order() {
    let server = Server::with(KEEP_ALL);
    let (address, away) = (server.address(), tuned("EVERYWIRE_CUT_MS", 10) as u64);
    let expected: Vec<String> = (1..=MESSAGES).map(|n| n.to_string()).collect();
    std::thread::scope(|scope| {
        let readers: Vec<_> = Via::ALL
            .into_iter()
            .flat_map(|via| (1..=3).map(move |seed| (via, seed)))
            .map(|(via, seed)| scope.spawn(move || follow(Reader::new(via, "topic=a&topic=b"), address, seed, away)))
            .collect();
        let mut connection = server.connect();
        for (n, body) in expected.iter().enumerate() {
            let topic = ["a", "b", "not-followed"][n % 2];
            let answer = connection.exchange(&Request::post(&format!("/v1/messages?topic={topic}"), body));
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        for reader in readers {
            let reader = reader.join().expect("a reader ends well");
            assert_eq!((reader.gaps, reader.got == expected), (0, true), "{reader:?}");
        }
    });
}

/// Visits the server until every message has come; each visit is cut after a few messages.
fn follow(mut reader: Reader, address: std::net::SocketAddr, seed: u64, away: u64) -> Reader {
    let mut chance = Chance::new(seed);
    let mut visits = 0;
    while reader.got.len() < MESSAGES {
        reader.visit(address, 1 + chance.below(40) as usize, Duration::from_millis(1 + chance.below(200)));
        std::thread::sleep(Duration::from_millis(chance.below(away.max(1))));
        visits += 1;
        assert!(visits < 100_000, "no progress: {} of {MESSAGES}", reader.got.len());
    }
    reader
}
