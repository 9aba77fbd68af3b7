//! Malformed requests and the answers to them: they are refused rather than repaired, however they are cut.

use everywire_wire::kit::cut_at_every_byte;

use crate::setup;

/// Malformed heads: all bytes up to the empty line are one head; `¶` stands for CR LF.
const MALFORMED: &[(&str, u16, &str)] = &[
    ("GET / HTTP/1.1¶¶", 400, "no Host"),
    ("GET / HTTP/1.1¶Host: localhost¶Host: localhost¶¶", 400, "two Hosts"),
    ("GET / HTTP/1.1¶Host:¶¶", 400, "an empty Host"),
    ("GET / HTTP/1.1¶Host: a b¶¶", 400, "a Host with a space"),
    ("GET / HTTP/1.1¶Host: localhost/x¶¶", 400, "a Host with a path"),
    ("GET / HTTP/1.1¶Host : localhost¶¶", 400, "a space before the colon"),
    ("GET / HTTP/1.1¶ Host: localhost¶¶", 400, "a first field that is folded"),
    ("GET / HTTP/1.1¶Host: localhost¶X: a¶ b¶¶", 400, "a folded field"),
    ("GET / HTTP/1.1¶Host: localhost¶X: a¶\tb¶¶", 400, "a field folded with a tab"),
    ("GET / HTTP/1.1¶Host: localhost¶X: a\rb¶¶", 400, "a bare CR in a value"),
    ("GET / HTTP/1.1¶Host: localhost¶X: a\0b¶¶", 400, "a NUL in a value"),
    ("GET / HTTP/1.1¶Host: localhost¶X: a\x01b¶¶", 400, "a control character in a value"),
    ("GET / HTTP/1.1¶Host: localhost¶X\x7f: a¶¶", 400, "a control character in a name"),
    ("GET / HTTP/1.1¶Host: localhost¶: a¶¶", 400, "a field without a name"),
    ("GET / HTTP/1.1¶Host: localhost¶X¶¶", 400, "a field without a colon"),
    ("GET / HTTP/1.1¶Host: localhost¶Xé: a¶¶", 400, "a name that is not ASCII"),
    ("GET / HTTP/1.1\nHost: localhost\n\n", 400, "bare LFs"),
    ("GET / HTTP/1.1¶Host: localhost\n¶", 400, "one bare LF"),
    ("GET / HTTP/1.1\rHost: localhost¶¶", 400, "a bare CR in the first line"),
    ("GET  / HTTP/1.1¶Host: localhost¶¶", 400, "two spaces after the method"),
    ("GET / HTTP/1.1 ¶Host: localhost¶¶", 400, "a space after the version"),
    ("GET /\tx HTTP/1.1¶Host: localhost¶¶", 400, "a tab in the target"),
    ("GET /é HTTP/1.1¶Host: localhost¶¶", 400, "a target that is not ASCII"),
    ("GET /#x HTTP/1.1¶Host: localhost¶¶", 400, "a fragment in the target"),
    ("GET x HTTP/1.1¶Host: localhost¶¶", 400, "a target without a slash"),
    ("GET ftp://localhost/ HTTP/1.1¶Host: localhost¶¶", 400, "a target of another scheme"),
    ("CONNECT localhost:80 HTTP/1.1¶Host: localhost¶¶", 400, "a target in authority form"),
    ("GET /¶Host: localhost¶¶", 400, "HTTP/0.9"),
    ("GE(T / HTTP/1.1¶Host: localhost¶¶", 400, "a method that is no token"),
    (" GET / HTTP/1.1¶Host: localhost¶¶", 400, "a space before the method"),
    ("\x16\x03\x01\x02\x00\x01\x00", 400, "the beginning of TLS"),
    ("GET / http/1.1¶Host: localhost¶¶", 400, "a version in small letters"),
    ("GET / HTTP/1,1¶Host: localhost¶¶", 400, "a version with a comma"),
    ("GET / HTTP/2.0¶Host: localhost¶¶", 505, "HTTP/2.0"),
    ("GET / HTTP/1.2¶Host: localhost¶¶", 505, "HTTP/1.2"),
    ("GET / HTTP/0.9¶Host: localhost¶¶", 505, "HTTP/0.9, said"),
    ("POST / HTTP/1.1¶Host: localhost¶Content-Length: 1¶Content-Length: 2¶¶a", 400, "two lengths"),
    ("POST / HTTP/1.1¶Host: localhost¶Content-Length: 1¶Content-Length: 1¶¶a", 400, "the same length twice"),
    ("POST / HTTP/1.1¶Host: localhost¶Content-Length: 1, 1¶¶a", 400, "a list of lengths"),
    ("POST / HTTP/1.1¶Host: localhost¶Content-Length: +1¶¶a", 400, "a length with a sign"),
    ("POST / HTTP/1.1¶Host: localhost¶Content-Length: 0x1¶¶a", 400, "a hexadecimal length"),
    ("POST / HTTP/1.1¶Host: localhost¶Content-Length: 1 1¶¶a", 400, "a length with a space"),
    ("POST / HTTP/1.1¶Host: localhost¶Content-Length:¶¶a", 400, "an empty length"),
    ("POST / HTTP/1.1¶Host: localhost¶Content-Length: 99999999999999999999¶¶a", 400, "a length beyond 64 bits"),
    ("POST / HTTP/1.1¶Host: localhost¶Content-Length: 999999999999¶¶a", 413, "a length beyond all bounds"),
    ("POST / HTTP/1.1¶Host: localhost¶Content-Length: 1¶Transfer-Encoding: chunked¶¶", 400, "a length and chunks"),
    ("POST / HTTP/1.1¶Host: localhost¶Transfer-Encoding: chunked¶Content-Length: 1¶¶", 400, "chunks and a length"),
    ("POST / HTTP/1.1¶Host: localhost¶Transfer-Encoding: chunked, chunked¶¶", 400, "chunked twice"),
    ("POST / HTTP/1.1¶Host: localhost¶Transfer-Encoding: chunked¶Transfer-Encoding: chunked¶¶", 400, "two fields"),
    ("POST / HTTP/1.1¶Host: localhost¶Transfer-Encoding: chunked, gzip¶¶", 400, "chunked, but not last"),
    ("POST / HTTP/1.1¶Host: localhost¶Transfer-Encoding:¶¶", 400, "an empty transfer coding"),
    ("POST / HTTP/1.1¶Host: localhost¶Transfer-Encoding: gzip¶¶", 501, "an unknown transfer coding"),
    ("POST / HTTP/1.1¶Host: localhost¶Transfer-Encoding: gzip, chunked¶¶", 501, "an unknown coding before chunks"),
    ("POST / HTTP/1.1¶Host: localhost¶Transfer-Encoding: xchunked¶¶", 501, "almost chunked"),
    ("POST / HTTP/1.1¶Host: localhost¶Transfer-Encoding: identity¶¶", 501, "a coding that was abolished"),
    ("POST / HTTP/1.0¶Host: localhost¶Transfer-Encoding: chunked¶¶", 400, "chunks in HTTP/1.0"),
    ("POST / HTTP/1.1¶Host: localhost¶Transfer-Encoding: chunked¶¶x¶", 400, "a chunk size that is none"),
    ("POST / HTTP/1.1¶Host: localhost¶Transfer-Encoding: chunked¶¶1\na¶0¶¶", 400, "a chunk size with a bare LF"),
    ("POST / HTTP/1.1¶Host: localhost¶Transfer-Encoding: chunked¶¶1¶ab¶0¶¶", 400, "a chunk longer than its size"),
    ("POST / HTTP/1.1¶Host: localhost¶Transfer-Encoding: chunked¶¶ffffffffffffffffff¶", 413, "a monstrous chunk"),
    ("POST / HTTP/1.1¶Host: localhost¶Content-Type: a¶Content-Type: b¶¶", 400, "two media types"),
];

#[test]
fn what_is_no_request_is_refused_and_the_connection_ends() {
    for (request, status, what) in MALFORMED {
        let bytes = request.replace('¶', "\r\n");
        let reply = cut_at_every_byte(setup::plain, bytes.as_bytes());
        let reply = String::from_utf8(reply).unwrap();
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {reply}");
        assert!(reply.contains("\r\nConnection: close\r\n"), "{what}: {reply}");

        let mut pair = setup::plain();
        pair.send(bytes.as_bytes());
        assert!(pair.bench.closed().is_some(), "{what} must end the connection");
        assert_eq!(pair.node.calls(), [], "{what} must not reach the API");
    }
}

#[test]
fn a_head_may_be_as_long_as_its_bound_and_no_longer() {
    let head = |length: usize| {
        let fixed = "GET / HTTP/1.1\r\nHost: localhost\r\nX: \r\n\r\n".len();
        format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(length - fixed))
    };
    for (length, status) in [(16 << 10, 200), ((16 << 10) + 1, 431)] {
        let mut pair = setup::plain();
        pair.send(head(length).as_bytes());
        let reply = String::from_utf8(pair.bench.take_output()).unwrap();
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{length} bytes: {reply}");
    }
}

#[test]
fn a_head_has_at_most_100_fields() {
    for (fields, status) in [(99, 200), (100, 431)] {
        let mut pair = setup::plain();
        let more = "X: y\r\n".repeat(fields);
        pair.send(format!("GET / HTTP/1.1\r\nHost: localhost\r\n{more}\r\n").as_bytes());
        let reply = String::from_utf8(pair.bench.take_output()).unwrap();
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{fields} fields: {reply}");
    }
}
