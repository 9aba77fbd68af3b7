//! Trusted proxies name the address of their client: by PROXY protocol, version 2, or in the fields of requests.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use everywire_tests::mqtt::Opening;
use everywire_tests::tls::{certificate, curl, text};
use everywire_tests::{Request, Server, until};

const TRUSTING: &str = "trusted_proxies = [\"127.0.0.0/8\"]\n";

/// The header of PROXY protocol, version 2, for 192.0.2.7:40000.
fn header() -> Vec<u8> {
    let addresses = [192, 0, 2, 7, 10, 0, 0, 1, 0x9c, 0x40, 0, 80];
    [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &addresses].concat()
}

fn admin(server: &Server) -> String {
    let token = std::fs::read_to_string(server.setup().data_directory().join("admin.token")).expect("a token");
    format!("Bearer {}", token.trim())
}

/// The remote addresses of all connections of a wire.
fn addresses(server: &Server, wire: &str) -> String {
    let request = Request::get(&format!("/v1/connections?wire={wire}")).header("Authorization", &admin(server));
    server.send(&request).text()
}

#[test]
fn a_header_before_mqtt_in_any_pieces_names_the_client() {
    let server = Server::with(TRUSTING);
    let mut stream = TcpStream::connect(server.address_of("mqtt")).expect("the server accepts");
    stream.set_nodelay(true).expect("an option");
    for byte in [header(), Opening::new("c").bytes()].concat() {
        stream.write_all(&[byte]).expect("the server takes it");
    }
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).expect("CONNACK");
    assert_eq!(connack, [0x20, 2, 0, 0]);
    assert!(addresses(&server, "mqtt").contains("192.0.2.7:40000"), "{}", addresses(&server, "mqtt"));
}

#[test]
fn a_trusted_address_that_sends_no_header_is_served_as_itself() {
    let server = Server::with(TRUSTING);
    assert_eq!(server.get("/healthz").status, 200);
    let mut stream = TcpStream::connect(server.address_of("mqtt")).expect("the server accepts");
    stream.write_all(&Opening::new("c").bytes()).expect("the server takes it");
    stream.read_exact(&mut [0; 4]).expect("CONNACK");
    assert!(addresses(&server, "mqtt").contains("127.0.0.1:"));
}

#[test]
fn a_header_from_elsewhere_or_a_broken_one_ends_the_connection() {
    for (config, bytes) in [("", header()), (TRUSTING, [&header()[..12], &[0x31, 0x11, 0, 0]].concat())] {
        let server = Server::with(config);
        let mut stream = TcpStream::connect(server.address_of("mqtt")).expect("the server accepts");
        stream.write_all(&[bytes, Opening::new("c").bytes()].concat()).expect("the server takes it");
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said); // it may be reset
        assert_eq!(said, b"", "{config}");
        until("it is logged", || server.setup().errors().contains("from 127.0.0.1"));
    }
}

#[test]
fn refusals_name_the_client_and_not_the_proxy() {
    let server = Server::with(&format!("{TRUSTING}[auth]\nsecret = \"0123456789abcdef0123456789abcdef\"\n"));
    let mut stream = TcpStream::connect(server.address_of("mqtt")).expect("the server accepts");
    stream.write_all(&[header(), Opening::new("lamp").bytes()].concat()).expect("the server takes it");
    let _ = stream.read_to_end(&mut Vec::new());
    until("it is logged", || server.setup().errors().contains("login refused of \"lamp\" from 192.0.2.7"));
    let forged = |field: &str, value: &str| {
        Request::get("/v1/messages?topic=t").header("Authorization", "Bearer forged").header(field, value)
    };
    assert_eq!(server.send(&forged("X-Forwarded-For", "198.51.100.1, 192.0.2.8, 127.0.0.1")).status, 401);
    until("the last that is no proxy", || server.setup().errors().contains("login refused from 192.0.2.8 over http"));
    assert_eq!(server.send(&forged("Forwarded", "for=\"[2001:db8::9]:4711\";proto=https")).status, 401);
    until("RFC 7239", || server.setup().errors().contains("login refused from 2001:db8::9 over http"));
}

#[test]
fn clients_can_not_say_themselves_where_they_come_from() {
    let server = Server::with("[auth]\nsecret = \"0123456789abcdef0123456789abcdef\"\n");
    let request = Request::get("/v1/messages?topic=t").header("Authorization", "Bearer forged");
    server.send(&request.header("X-Forwarded-For", "192.0.2.8"));
    until("it is logged", || server.setup().errors().contains("login refused from 127.0.0.1 over http"));
}

#[test]
fn bounds_of_an_address_are_those_of_the_client() {
    let server = Server::with(&format!("{TRUSTING}[limits]\naddress_connections = 1\n"));
    let begin = || {
        let mut stream = TcpStream::connect(server.address_of("mqtt")).expect("the server accepts");
        stream.write_all(&header()).expect("the server takes it");
        stream
    };
    let mut streams: Vec<_> = (0..5).map(|_| begin()).collect();
    let count = |streams: &mut Vec<TcpStream>| {
        let mut let_in = 0;
        for (n, stream) in streams.iter_mut().enumerate() {
            let _ = stream.write_all(&Opening::new(&format!("c{n}")).bytes()); // it may be ended
            let mut answer = [0; 4];
            let is_answered = stream.read_exact(&mut answer).is_ok();
            // A refused client may get a CONNACK, with a reason other than 0.
            let_in += usize::from(is_answered && answer[3] == 0);
        }
        let_in
    };
    assert_eq!(count(&mut streams), 1, "at all workers together");
}

/// A proxy in front of a listener, which sends the header before its client's bytes: together with them, or byte by
/// byte.
fn proxy(to: SocketAddr, in_pieces: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let mut server = TcpStream::connect(to).expect("the server accepts");
            server.set_nodelay(true).expect("an option");
            let (mut from, mut back) = (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
            std::thread::spawn(move || {
                let mut first = vec![0; 4096];
                let read = from.read(&mut first).expect("the client speaks first");
                let begin = [&header()[..], &first[..read]].concat();
                for piece in begin.chunks(if in_pieces { 1 } else { begin.len() }) {
                    server.write_all(piece).expect("the server takes it");
                }
                let _ = std::io::copy(&mut from, &mut server); // until either has ended
            });
            let mut client = client;
            let _ = std::io::copy(&mut back, &mut client); // until either has ended
        }
    });
    address
}

#[test]
fn a_header_before_tls_names_the_client() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    certificate(directory.path(), "proxied");
    let files = directory.path().display();
    let tls = format!("[tls]\ncert = \"{files}/cert.pem\"\nkey = \"{files}/key.pem\"\nlisten = \"127.0.0.1:0\"\n");
    let server = Server::with(&format!("{TRUSTING}{tls}[auth]\nsecret = \"0123456789abcdef0123456789abcdef\"\n"));
    for in_pieces in [false, true] {
        let through = proxy(server.address_of("https"), in_pieces);
        let topic = format!("https://{through}/v1/messages?topic=t");
        let said = text(&curl(directory.path(), &["--header", "Authorization: Bearer forged", &topic]));
        assert!(said.contains("\"status\":401"), "{said}");
    }
    let line = "login refused from 192.0.2.7 over http";
    until("it is logged", || server.setup().errors().contains(line));
    let direct = format!("https://{}/v1/messages?topic=t", server.address_of("https"));
    let said = text(&curl(directory.path(), &["--header", "Authorization: Bearer forged", &direct]));
    assert!(said.contains("\"status\":401"), "TLS without a header is served too: {said}");
    until("it is logged", || server.setup().errors().contains("login refused from 127.0.0.1 over http"));
}
