//! HTTPS beside HTTP, with a real client, and certificates that change while it serves (RULES 37).

use std::fs;
use std::process::{Command, Stdio};

use everywire_tests::tls::{certificate, curl, text};
use everywire_tests::{Setup, until};
use rustix::process::Signal;

#[test]
fn https_serves_what_http_serves_and_reloads_its_certificate() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    certificate(directory.path(), "first");
    let files = directory.path().display();
    let tls = format!("[tls]\ncert = \"{files}/cert.pem\"\nkey = \"{files}/key.pem\"\nlisten = \"127.0.0.1:0\"\n");
    let server = Setup::new().config(&tls).start();
    let https = format!("https://{}", server.ready()["https"].as_str().expect("an address"));

    let large = "x".repeat(200_000);
    fs::write(directory.path().join("body"), &large).expect("a file");
    let topic = format!("{https}/v1/messages?topic=t");
    let published = curl(directory.path(), &["--data-binary", "@body", &topic]);
    assert!(text(&published).contains("\"durability\":\"fsync\""), "{}", text(&published));
    assert_eq!(server.get("/v1/messages?topic=t").json()["messages"][0]["body"], large.as_str());
    let read = curl(directory.path(), &[&topic]);
    assert!(text(&read).contains(&large), "what is longer than a record of TLS comes whole");
    let events = format!("{https}/v1/events?topic=t&after=earliest&format=body");
    let streamed = curl(directory.path(), &["--no-buffer", "--max-time", "2", &events]);
    assert!(text(&streamed).contains(&large));

    let plain = curl(directory.path(), &[&topic.replace("https", "http")]);
    assert!(!plain.status.success(), "plain HTTP on the TLS listener is refused: {}", text(&plain));

    certificate(directory.path(), "second");
    assert!(!curl(directory.path(), &[&topic]).status.success(), "the first certificate is still served");
    server.signal(Signal::HUP);
    until("the second certificate", || curl(directory.path(), &[&topic]).status.success());
}

#[test]
fn a_key_that_does_not_fit_is_refused_at_start() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    certificate(directory.path(), "first");
    fs::rename(directory.path().join("key.pem"), directory.path().join("old.pem")).expect("a file");
    certificate(directory.path(), "second");
    let files = directory.path().display();
    let tls = format!("[tls]\ncert = \"{files}/cert.pem\"\nkey = \"{files}/old.pem\"\nlisten = \"127.0.0.1:0\"\n");
    let failed = Setup::new().config(&tls).fail();
    assert_eq!(failed.code, Some(1));
    assert!(failed.errors.contains("certificate"), "{}", failed.errors);
}

#[test]
fn each_listener_speaks_its_own_protocols_by_alpn() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    certificate(directory.path(), "first");
    let files = directory.path().display();
    let keys = format!("cert = \"{files}/cert.pem\"\nkey = \"{files}/key.pem\"\n");
    let places = "listen = \"127.0.0.1:0\"\ntcp = \"127.0.0.1:0\"\nmqtt = \"127.0.0.1:0\"\n";
    let server = Setup::new().config(&format!("[tls]\n{keys}{places}")).start();
    let offer = |listener: &str, names: &[&str]| {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &server.address_of(listener).to_string()]).args(names);
        text(&command.stdin(Stdio::null()).output().expect("openssl runs"))
    };
    for (listener, name) in
        [("https", "http/1.1"), ("mqtts", "mqtt"), ("mqtts", "x-amzn-mqtt-ca"), ("tcps", "everywire")]
    {
        let said = offer(listener, &["-alpn", name]);
        assert!(said.contains(&format!("ALPN protocol: {name}")), "{listener}: {said}");
    }
    for listener in ["mqtts", "tcps"] {
        for names in [&["-alpn", "h2,nothing"][..], &[]] {
            let said = offer(listener, names);
            assert!(said.contains("No ALPN negotiated") && said.contains("BEGIN CERTIFICATE"), "{listener}: {said}");
        }
    }
    let said = offer("https", &["-alpn", "h2"]);
    assert!(said.contains("no application protocol"), "HTTP/2 is not spoken: {said}");
    until("a failed handshake is logged", || server.setup().errors().contains("handshake failed from 127.0.0.1"));
}
