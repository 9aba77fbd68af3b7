//! The resources that strangers who do nothing, or never finish, can take from others.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use everywire_tests::mqtt::{Mqtt, Opening};
use everywire_tests::native::upgrade;
use everywire_tests::{PATIENCE, Request, Server, Setup, until};

#[test]
fn idle_strangers_leave_the_files_that_publishing_needs() {
    let server = Setup::new().open_files(64).start();
    let mut publisher = server.connect();
    let strangers: Vec<_> = (0..100).filter_map(|_| TcpStream::connect(server.address()).ok()).collect();
    assert!(strangers.len() > 64, "they wait in the system's queue");
    for n in 0..40 {
        let response = publisher.exchange(&Request::post("/v1/messages?topic=t", n.to_string()));
        assert_eq!(response.status, 200, "message {n}: {response:?}");
    }
    let page = publisher.exchange(&Request::get("/v1/messages?topic=t"));
    assert_eq!(page.bodies().len(), 40);
    until("the log says what to do", || server.setup().errors().contains("raise the limit of open files"));
    drop(strangers);
    assert_eq!(server.get("/healthz").status, 200, "who waited comes in as others go");
}

/// The beginnings of requests and packets that never end.
fn unfinished() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let part = vec![b'x'; 300 << 10];
    let mqtt = [&Opening::new("").bytes()[..], &[0x30, 0x80, 0x80, 0x20, 0, 1, b't'], &part].concat();
    let tcp = [&b"EVERYW/1\x80\x80\x20"[..], &part].concat();
    let frame = [&[0x82, 0xff][..], &(600_u64 << 10).to_be_bytes(), &[0; 4], &part].concat();
    let head = |target: &str, length: usize| {
        format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n").into_bytes()
    };
    vec![
        ("a packet of MQTT", "mqtt", mqtt),
        ("a length of MQTT", "mqtt", [&Opening::new("").bytes()[..], &[0x30, 0x80]].concat()),
        ("a frame on TCP", "tcp", tcp),
        ("a message on WebSocket", "http", [upgrade().as_bytes(), &frame].concat()),
        ("the head of a frame", "http", [upgrade().as_bytes(), &[0x82]].concat()),
        ("a batch", "http", [head("/v1/batch", 4 << 20), part.clone()].concat()),
        ("a request's head", "http", b"POST /v1/messages".to_vec()),
    ]
}

#[test]
fn what_is_not_finished_in_time_is_given_up_on_every_wire() {
    let server = Server::with("[limits]\nslow_request = \"1s\"\n");
    let begin = |listener: &str, bytes: &[u8]| {
        let mut stream = TcpStream::connect(server.address_of(listener)).expect("the server accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(bytes).expect("the server takes it");
        stream
    };
    let all = unfinished();
    let streams: Vec<_> = all.iter().map(|(what, listener, bytes)| (what, begin(listener, bytes))).collect();
    for (what, mut stream) in streams {
        match stream.read_to_end(&mut Vec::new()) {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::ConnectionReset => {}
            Err(e) => panic!("{what} is waited for: {e}"),
        }
    }
    assert!(server.metric("everywire_unfinished_bytes") < 1.0, "nothing is held any more");
    assert!(server.metric("everywire_refusals_total") >= 5.0);
}

#[test]
fn an_idle_client_that_has_finished_everything_stays() {
    let server = Server::with("[limits]\nslow_request = \"1s\"\n");
    let mut client = Mqtt::open(server.address_of("mqtt"), &Opening::new("c"));
    let mut late = Mqtt::open(server.address_of("mqtt"), &Opening::new("late"));
    late.send(&[0x30]);
    assert!(late.packet().is_none(), "the time for what wasn't finished is over");
    assert!(client.is_served());
}

/// Sends parts of long messages, and returns the number of bytes that the server holds of them.
fn hold(server: &Server, at: SocketAddr, opening: &[u8], count: usize) -> f64 {
    let part = vec![0; 900 << 10];
    let streams: Vec<_> = (0..count)
        .filter_map(|_| {
            let mut stream = TcpStream::connect(at).ok()?;
            let _ = stream.write_all(opening).and_then(|()| stream.write_all(&part)); // it may be ended
            Some(stream)
        })
        .collect();
    let held = server.metric("everywire_unfinished_bytes");
    drop(streams);
    held
}

#[test]
fn strangers_hold_bounded_bytes() {
    let server = Server::with("[limits]\nunfinished_bytes_per_address = \"4MiB\"\n");
    let workers = 2.0; // at most: the bound is one of each worker
    let before = server.resident_bytes();
    let held = hold(&server, server.address_of("tcp"), b"EVERYW/1\x80\x80\x40", 100);
    assert!(held > 0.0 && held <= workers * f64::from(5 << 20), "{held} bytes are held");
    assert!(server.resident_bytes() < before + (64 << 20), "and cost memory");
}

#[test]
fn before_login_64_kib_are_held() {
    let server = Server::with("[auth]\nsecret = \"0123456789abcdef0123456789abcdef\"\n");
    for (listener, opening) in [("tcp", &b"EVERYW/1\x80\x80\x40"[..]), ("mqtt", &[0x10, 0x80, 0x80, 0x40])] {
        let mut stream = TcpStream::connect(server.address_of(listener)).expect("the server accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let _ = stream.write_all(&[opening, &vec![0; 200 << 10]].concat()); // it may be ended
        let end = stream.read_to_end(&mut Vec::new());
        assert!(end.is_ok() || end.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset), "{listener}");
    }
    until("it is logged", || server.setup().errors().contains("limits.unfinished_bytes_before_login"));
}
