//! Reading a topic backwards.

use everywire_tests::{Request, Server, until};
use serde_json::json;

#[test]
fn pages_go_back_to_the_first_message_and_forwards_from_where_they_began() {
    let server = Server::start();
    for n in 1..=25 {
        server.publish("t", &n.to_string());
        server.publish("other", "x");
    }
    let (mut before, mut all, mut pages, mut newest) = ("latest".to_owned(), Vec::new(), 0, String::new());
    loop {
        let page = server.get(&format!("/v1/messages?topic=t&before={before}&limit=10"));
        assert_eq!((page.status, page.json()["gap"].clone()), (200, json!(false)), "{page:?}");
        let bodies = page.bodies();
        newest = if pages == 0 { page.cursor() } else { newest };
        all.splice(0..0, bodies);
        pages += 1;
        before = page.json()["before"].as_str().expect("where to go on").to_owned();
        if page.json()["more"] == json!(false) {
            break;
        }
    }
    let expected: Vec<String> = (1..=25).map(|n| n.to_string()).collect();
    assert_eq!((pages, all), (3, expected));
    server.publish("t", "26");
    assert_eq!(server.get(&format!("/v1/messages?topic=t&after={newest}")).bodies(), ["26"]);
    let first = server.get("/v1/messages?topic=t&limit=1").json()["messages"][0]["cursor"].clone();
    let nothing = server.get(&format!("/v1/messages?topic=t&before={}", first.as_str().expect("a cursor")));
    assert_eq!(nothing.status, 204);
}

#[test]
fn what_is_lost_or_of_another_log_is_a_gap() {
    let server = Server::with("[[topics]]\nmatch = \"#\"\nhistory = { max_messages = 3 }\n");
    for n in 1..=9 {
        server.publish("t", &n.to_string());
    }
    let latest = || server.get("/v1/messages?topic=t&before=latest");
    until("retention has taken six", || latest().bodies() == ["7", "8", "9"]);
    assert_eq!(latest().json()["gap"], json!(true));
    let elsewhere = server.get("/v1/messages?topic=t&before=zzzz:7&limit=1");
    assert_eq!((elsewhere.bodies(), &elsewhere.json()["gap"]), (vec!["9".to_owned()], &json!(true)));
}

#[test]
fn who_may_not_read_forwards_may_not_read_backwards() {
    let server = Server::with("[[topics]]\nmatch = \"closed/#\"\nsubscribe = []\n");
    server.send(&Request::post("/v1/messages?topic=closed/t", "secret"));
    assert_eq!(server.get("/v1/messages?topic=closed/t&before=latest").status, 403);
    assert_eq!(server.get("/v1/messages?topic=user/ann&before=latest").status, 401);
    for query in
        ["topic=a&topic=b&before=latest", "topic=%23&before=latest", "topic=a&before=x", "topic=a&before=latest&wait=1"]
    {
        assert_eq!(server.get(&format!("/v1/messages?{query}")).status, 400, "{query}");
    }
}
