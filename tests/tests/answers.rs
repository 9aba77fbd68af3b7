//! The message that a message answers (`ref`): said over each wire that publishes, told over each that delivers.

use everywire_tests::mqtt::{packet, property, text};
use everywire_tests::native::{field, number};
use everywire_tests::people::{Person, person, server};
use everywire_tests::{EventStream, LineStream, Request, Server};
use serde_json::{Value, json};

/// Publishes an answer to a message over each wire, each with the wire's name as its body.
fn publish(server: &Server, ann: &Person, answered: &str) -> [&'static str; 5] {
    let request = Request::post(&format!("/v1/messages?topic=t&ref={answered}"), "http");
    assert_eq!(ann.send(server, request).status, 200);
    let batch = json!({"messages": [{"topic": "t", "ref": answered, "body": "batch"}]});
    assert_eq!(ann.ask(server, "POST", "/v1/batch", &batch).json()[0]["status"], 200);
    let mut socket = ann.socket(server);
    socket.send(&json!({"publish": {"id": 1, "topic": "t", "ref": answered, "body": "ws"}}));
    assert_eq!(socket.frame("published")["id"], 1);
    let mut wired = ann.wired(server);
    let fields = [number(1, 1), field(2, b"t"), field(3, b"tcp"), field(9, answered.as_bytes())];
    wired.send(&field(4, &fields.concat()));
    wired.frame(4);
    let mut client = ann.mqtt_5(server, "publisher");
    let fields = [&text("t")[..], &[0, 1], &property("everywire-ref", answered), b"mqtt"];
    client.send(&packet(0x32, &fields.concat()));
    assert_eq!(client.packet_of(4).expect("PUBACK")[..2], [0, 1]);
    ["http", "batch", "ws", "tcp", "mqtt"]
}

#[test]
fn every_wire_says_and_tells_what_a_message_answers() {
    let server = server("");
    let ann = person("ann");
    let request = Request::post("/v1/messages?topic=t", "question");
    let answered = ann.send(&server, request).json()["id"].as_str().unwrap().to_owned();
    let mut socket = ann.socket(&server);
    socket.send(&json!({"subscribe": {"id": 1, "topics": ["t"]}}));
    socket.frame("subscribed");
    let mut wired = ann.wired(&server);
    wired.send(&field(2, &[number(1, 1), field(2, b"t")].concat()));
    wired.frame(2);
    let mut client = ann.mqtt_5(&server, "reader");
    client.send(&packet(0x82, &[&[0, 1, 0][..], &text("t"), &[0]].concat()));
    client.packet_of(9).expect("SUBACK");
    let mut events: EventStream = ann.events(&server, "t");
    let request = Request::get("/v1/stream?topic=t").header("Authorization", &format!("Bearer {}", ann.token));
    let mut lines = LineStream::open(server.address(), &request);
    let said = publish(&server, &ann, &answered);

    let told = |message: &Value| (message["body"].clone(), message["ref"].clone());
    let page = ann.get(&server, "/v1/messages?topic=t&after=earliest").json()["messages"].clone();
    for (at, wire) in said.iter().enumerate() {
        let expected = (json!(wire), json!(answered));
        assert_eq!(told(&page[at + 1]), expected);
        assert_eq!(told(&events.event().json()), expected);
        assert_eq!(told(&lines.next_line()), expected);
        assert_eq!(told(&socket.frame("message")), expected);
        let texts = wired.frame(5);
        assert!([*wire, &answered].iter().all(|text| texts.contains(&(*text).into())), "{wire}: {texts:?}");
        let publish = String::from_utf8_lossy(&client.packet_of(3).expect("PUBLISH")).into_owned();
        assert!(publish.ends_with(wire), "{publish:?}");
        assert_eq!(publish.matches("everywire-ref").count(), 1, "{publish:?}");
        assert!(publish.contains(&answered), "{publish:?}");
    }
}
