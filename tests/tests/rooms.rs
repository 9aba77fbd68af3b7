//! Rooms as people use them, over each wire: they found them, join, read, talk, and are thrown out.

use everywire_tests::mqtt::{self, Mqtt, Opening};
use everywire_tests::people::{Person, configured, person, server, with_token};
use everywire_tests::{EventStream, Request, Response, Server, Setup};
use serde_json::{Value, json};

/// The users of a room with their roles.
fn members(answer: &Response) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let members = answer.json()["members"].as_array().expect("a list").clone();
    members.iter().map(|member| (text(&member["user"]), text(&member["role"]))).collect()
}

#[test]
fn a_room_is_founded_joined_talked_in_and_left() {
    let server = server("");
    let (ann, bob) = (person("ann"), person("bob"));
    let room = ann.found(&server, "lobby", &json!({"title": "Lobby"}));
    assert_eq!(room["topic"], "room/lobby");
    assert_eq!((&room["role"], &room["owners"], &room["members"]), (&json!("owner"), &json!(["ann"]), &json!(1)));
    assert_eq!(ann.does(&server, "PUT", "/v1/rooms/lobby", &json!({})), 409, "it is there already");
    let joined = bob.ask(&server, "POST", "/v1/rooms/lobby/join", &json!({"nick": "Bobby"})).json();
    assert_eq!((&joined["role"], &joined["nick"]), (&json!("member"), &json!("Bobby")));
    assert_eq!((ann.says(&server, "lobby", "hello"), bob.says(&server, "lobby", "hi")), (200, 200));
    assert_eq!(bob.reads(&server, "lobby"), Ok(vec!["hello".into(), "hi".into()]));
    let list = ann.get(&server, "/v1/rooms/lobby/members");
    assert_eq!(members(&list), [("ann".into(), "owner".into()), ("bob".into(), "member".into())]);
    let own = bob.get(&server, "/v1/rooms?member=me").json();
    assert_eq!((&own["rooms"][0]["room"], &own["more"]), (&json!("lobby"), &json!(false)));
    assert_eq!(bob.does(&server, "POST", "/v1/rooms/lobby/leave", &json!({})), 200);
    assert_eq!(bob.get(&server, "/v1/rooms?member=me").json()["rooms"], json!([]));
    assert_eq!(ann.does(&server, "POST", "/v1/rooms/lobby/leave", &json!({})), 409, "the last owner stays");
    assert_eq!(server.get("/v1/rooms").status, 401, "rooms are for those who are known");
    let count = |name: &str| server.metric(name).round() as i64;
    assert_eq!((count("everywire_rooms"), count("everywire_memberships")), (1, 1));
}

#[test]
fn a_members_room_is_its_members_alone_on_every_wire() {
    let server = server("");
    let (ann, bob, eve) = (person("ann"), person("bob"), person("eve"));
    ann.found(&server, "secret", &json!({"join": "members", "listed": false}));
    assert_eq!(ann.says(&server, "secret", "psst"), 200);
    for (what, status) in [("", 404), ("/members", 404)] {
        assert_eq!(eve.get(&server, &format!("/v1/rooms/secret{what}")).status, status, "{what}");
    }
    assert_eq!((eve.join(&server, "secret"), eve.says(&server, "secret", "x")), (404, 403));
    assert_eq!(eve.reads(&server, "secret"), Err(403));
    for target in [
        "/v1/events?topic=room/secret",
        "/v1/stream?topic=room/secret/%23",
        "/v1/messages?topic=room/secret&before=latest",
    ] {
        assert_eq!(eve.get(&server, target).status, 403, "{target}");
    }
    let mut client = eve.mqtt(&server);
    client.send(&mqtt::packet(0x82, &[&[0, 1][..], &mqtt::text("room/secret"), &[1]].concat()));
    assert_eq!(client.packet_of(9).expect("SUBACK"), [0, 1, 0x80]);
    // An invited user hears of it in the inbox, and joins.
    assert_eq!(ann.does(&server, "POST", "/v1/rooms/secret/invites", &json!({"user": "bob"})), 200);
    let invitation = bob.get(&server, "/v1/messages?topic=user/bob").json()["messages"][0].clone();
    assert_eq!((&invitation["event"], &invitation["from"]), (&json!("invite"), &json!("ann")));
    assert_eq!(invitation["body"]["topic"], "room/secret");
    assert_eq!(bob.reads(&server, "secret"), Err(403), "an invitation is no membership yet");
    assert_eq!((bob.join(&server, "secret"), bob.says(&server, "secret", "what?")), (200, 200));
    assert_eq!(bob.reads(&server, "secret"), Ok(vec!["psst".into(), "what?".into()]));
    // A token's filter takes the place of a membership.
    let reader = with_token("cid", &["--subscribe", "room/secret"]);
    assert_eq!(reader.reads(&server, "secret").map(|all| all.len()), Ok(2));
    assert_eq!(reader.says(&server, "secret", "x"), 403);
}

#[test]
fn a_ban_holds_whatever_a_token_says_and_over_a_restart() {
    let server = server("");
    let (ann, eve) = (person("ann"), person("eve"));
    let filtered = with_token("eve", &["--publish", "room/#", "--subscribe", "room/#"]);
    ann.found(&server, "lobby", &json!({}));
    assert_eq!((eve.join(&server, "lobby"), eve.says(&server, "lobby", "spam")), (200, 200));
    assert_eq!(eve.give(&server, "lobby", "ann", "banned"), 403);
    assert_eq!(ann.give(&server, "lobby", "eve", "banned"), 200);
    let is_out = |server: &Server| {
        for eve in [&eve, &filtered] {
            assert_eq!((eve.says(server, "lobby", "more"), eve.reads(server, "lobby")), (403, Err(403)));
            assert_eq!(eve.join(server, "lobby"), 403);
        }
        let banned = ann.get(server, "/v1/rooms/lobby/members?role=banned");
        assert_eq!(members(&banned), [("eve".into(), "banned".into())]);
        assert_eq!(members(&ann.get(server, "/v1/rooms/lobby/members")).len(), 1);
    };
    is_out(&server);
    let setup: Setup = server.kill();
    let server = setup.start();
    is_out(&server);
    assert_eq!(ann.give(&server, "lobby", "eve", "none"), 200);
    assert_eq!((eve.join(&server, "lobby"), eve.says(&server, "lobby", "sorry")), (200, 200));
    assert_eq!(eve.reads(&server, "lobby"), Ok(vec!["spam".into(), "sorry".into()]));
}

#[test]
fn roles_say_who_talks_and_who_sees_to_the_room() {
    let server = server("");
    let [ann, bob, cid, dan] = ["ann", "bob", "cid", "dan"].map(person);
    ann.found(&server, "hall", &json!({"talk": "voiced", "subject_by": "admins"}));
    assert_eq!((dan.says(&server, "hall", "x"), dan.reads(&server, "hall")), (403, Ok(vec![])), "who only listens");
    assert_eq!((bob.join(&server, "hall"), bob.says(&server, "hall", "1")), (200, 200));
    assert_eq!(bob.does(&server, "PATCH", "/v1/rooms/hall", &json!({"subject": "us"})), 403);
    assert_eq!(ann.give(&server, "hall", "bob", "admin"), 200);
    assert_eq!(bob.does(&server, "PATCH", "/v1/rooms/hall", &json!({"subject": "us", "talk": "admins"})), 200);
    let told = dan.get(&server, "/v1/messages?topic=room/hall").json()["messages"][1].clone();
    assert_eq!((&told["event"], &told["body"], &told["from"]), (&json!("subject"), &json!("us"), &json!("bob")));
    assert_eq!(
        (cid.join(&server, "hall"), cid.says(&server, "hall", "2"), bob.says(&server, "hall", "3")),
        (200, 403, 200)
    );
    // Admins give roles to members; owners to all.
    assert_eq!(bob.give(&server, "hall", "cid", "admin"), 403);
    assert_eq!((bob.give(&server, "hall", "ann", "member"), bob.give(&server, "hall", "dan", "member")), (403, 200));
    assert_eq!((bob.give(&server, "hall", "cid", "none"), bob.give(&server, "hall", "cid", "none")), (200, 404));
    assert_eq!(ann.give(&server, "hall", "ann", "member"), 409, "the last owner stays");
    assert_eq!(ann.give(&server, "hall", "bob", "owner"), 200);
    assert_eq!((bob.give(&server, "hall", "ann", "member"), ann.give(&server, "hall", "bob", "none")), (200, 403));
    assert_eq!(bob.does(&server, "DELETE", "/v1/rooms/hall", &json!({})), 200);
    assert_eq!(bob.get(&server, "/v1/rooms/hall").status, 404);
}

#[test]
fn topic_rules_may_ask_for_members_and_owners() {
    let rules = "[[topics]]\nmatch = \"room/#\"\npublish = [\"owner\"]\nsubscribe = [\"member\"]\n";
    let server = server("");
    drop(server);
    let server = Server::with(&format!("{}{rules}", configured("")));
    let (ann, bob) = (person("ann"), person("bob"));
    assert_eq!(
        (ann.reads(&server, "news"), ann.says(&server, "news", "x")),
        (Err(403), 403),
        "nobody's room has no members"
    );
    ann.found(&server, "news", &json!({}));
    assert_eq!((ann.says(&server, "news", "one"), bob.reads(&server, "news")), (200, Err(403)));
    assert_eq!((bob.join(&server, "news"), bob.says(&server, "news", "x")), (200, 403));
    assert_eq!(bob.reads(&server, "news"), Ok(vec!["one".into()]));
}

#[test]
fn what_is_told_of_changes_is_told_by_the_server_alone() {
    let server = server("");
    let (ann, bob) = (person("ann"), person("bob"));
    ann.found(&server, "lobby", &json!({}));
    for event in ["edit", "recall", "react", "subject", "invite"] {
        for topic in ["room/lobby", "room/nobodys", "user/ann"] {
            let target = format!("/v1/messages?topic={topic}&event={event}");
            assert_eq!(bob.send(&server, Request::post(&target, "x")).status, 403, "{event} to {topic}");
        }
        let elsewhere = bob.send(&server, Request::post(&format!("/v1/messages?topic=t&event={event}"), "x"));
        assert_eq!(elsewhere.status, 200, "{event} elsewhere is anybody's word");
    }
}

#[test]
fn a_name_that_is_founded_again_knows_nobody() {
    let server = server("");
    let (ann, bob) = (person("ann"), person("bob"));
    ann.found(&server, "club", &json!({"join": "members"}));
    assert_eq!(ann.give(&server, "club", "bob", "member"), 200);
    assert_eq!(bob.reads(&server, "club"), Ok(vec![]));
    assert_eq!(ann.does(&server, "DELETE", "/v1/rooms/club", &json!({})), 200);
    ann.found(&server, "club", &json!({"join": "members"}));
    let is_forgotten = |server: &Server| {
        assert_eq!((bob.reads(server, "club"), bob.says(server, "club", "x")), (Err(403), 403));
        assert_eq!(members(&ann.get(server, "/v1/rooms/club/members")).len(), 1);
        assert_eq!(bob.get(server, "/v1/rooms?member=me").json()["rooms"], json!([]));
    };
    is_forgotten(&server);
    let server = server.kill().start();
    is_forgotten(&server);
    // A name whose topic has kept messages can be founded by an operator alone.
    assert_eq!(bob.says(&server, "free", "mine"), 200);
    assert_eq!(bob.does(&server, "PUT", "/v1/rooms/free", &json!({})), 409);
    let operator = with_token("root", &["--admin"]);
    assert_eq!(operator.does(&server, "PUT", "/v1/rooms/free", &json!({"owner": "bob"})), 201);
    assert_eq!(bob.get(&server, "/v1/rooms/free").json()["role"], "owner");
}

#[test]
fn names_that_deceive_or_flood_are_refused() {
    let server = server("");
    let (ann, bob) = (person("ann"), person("bob"));
    let heap = format!("a{}", "%CC%81".repeat(40));
    for room in ["a%E2%80%AEb", "%E2%80%8B", "e%CC%81", &*heap, "%20a", &*"x".repeat(129), "a%0Ab"] {
        assert_eq!(ann.does(&server, "PUT", &format!("/v1/rooms/{room}"), &json!({})), 400, "{room}");
    }
    let markup = "%3Cimg%20src=x%20onerror=alert(1)%3E";
    let room = ann.found(&server, markup, &json!({"title": "<b>hi</b>"}));
    assert_eq!((&room["room"], &room["title"]), (&json!("<img src=x onerror=alert(1)>"), &json!("<b>hi</b>")));
    ann.found(&server, "a%2Fb", &json!({}));
    assert_eq!(ann.get(&server, "/v1/rooms/a%2Fb").json()["topic"], "room/a%2Fb");
    let piled = format!("a{}", "\u{301}".repeat(100_000));
    assert_eq!(ann.does(&server, "PATCH", "/v1/rooms/a%2Fb", &json!({ "title": piled })), 413);
    let piled = format!("a{}", "\u{301}".repeat(100));
    assert_eq!(ann.does(&server, "PATCH", "/v1/rooms/a%2Fb", &json!({ "title": piled })), 400);
    // A nick must be visible, and differ from all others in more than its case.
    let nick = |who: &Person, nick: &str| who.does(&server, "POST", "/v1/rooms/a%2Fb/join", &json!({ "nick": nick }));
    assert_eq!((nick(&bob, "\u{200b}"), nick(&bob, "ANN"), nick(&bob, "Bobby")), (400, 409, 200));
    assert_eq!((nick(&ann, "BOBBY"), nick(&ann, "bob"), nick(&ann, "Annie")), (409, 409, 200));
    assert_eq!(ann.does(&server, "POST", "/v1/rooms/nowhere/invites", &json!({"user": "bob"})), 404);
    assert_eq!(ann.does(&server, "POST", "/v1/rooms/a%2Fb/invites", &json!({"user": "x".repeat(129)})), 400);
    assert_eq!(ann.does(&server, "PUT", "/v1/rooms/x", &json!({"join": "somehow"})), 400);
}

#[test]
fn of_those_who_want_the_same_at_once_one_gets_it() {
    let server = server("");
    let ann = person("ann");
    ann.found(&server, "rush", &json!({}));
    let people: Vec<Person> = (0..8).map(|n| person(&format!("p{n}"))).collect();
    let wish = json!({"nick": "King"});
    let got: Vec<u16> = std::thread::scope(|scope| {
        let (server, wish) = (&server, &wish);
        let join = |who| scope.spawn(move || Person::does(who, server, "POST", "/v1/rooms/rush/join", wish));
        let all: Vec<_> = people.iter().map(join).collect();
        all.into_iter().map(|thread| thread.join().expect("an answer")).collect()
    });
    assert_eq!(got.iter().filter(|status| **status == 200).count(), 1, "{got:?}");
    assert!(got.iter().all(|status| [200, 409].contains(status)), "{got:?}");
}

#[test]
fn rooms_and_memberships_are_bounded() {
    let server = server("[limits]\nrooms_each = 2\nroom_members = 2\nrooms_per_user = 3\n");
    let [ann, bob, cid] = ["ann", "bob", "cid"].map(person);
    for (room, status) in [("a", 201), ("b", 201), ("c", 429)] {
        assert_eq!(ann.does(&server, "PUT", &format!("/v1/rooms/{room}"), &json!({})), status, "{room}");
    }
    assert_eq!((bob.join(&server, "a"), cid.join(&server, "a"), bob.join(&server, "a")), (200, 429, 200));
    for room in ["d", "e"] {
        bob.found(&server, room, &json!({}));
    }
    assert_eq!(bob.join(&server, "b"), 429);
    assert_eq!(bob.does(&server, "POST", "/v1/rooms/a/leave", &json!({})), 200);
    assert_eq!(bob.join(&server, "b"), 200);
}

/// The conversations of a user, each with the numbers of unread messages and of mentions.
fn unread(who: &Person, server: &Server) -> Vec<(String, u64, u64)> {
    let list = who.get(server, "/v1/conversations").json();
    let all = list["conversations"].as_array().unwrap_or_else(|| panic!("{list}")).clone();
    let number = |value: &Value| value.as_u64().expect("a number");
    let name = |value: &Value| value.as_str().expect("a name").to_owned();
    all.iter().map(|one| (name(&one["conversation"]), number(&one["unread"]), number(&one["mentions"]))).collect()
}

#[test]
fn what_is_said_between_two_stands_in_both_inboxes_under_one_id() {
    let server = server("");
    let (ann, bob) = (person("ann"), person("bob"));
    let sent = ann.tells(&server, "bob", "hi bob").json();
    let inbox = |who: &Person, server: &Server| {
        let answer = who.get(server, &format!("/v1/messages?topic=user/{}", who.user));
        answer.json()["messages"][0].clone()
    };
    let (of_bob, of_ann) = (inbox(&bob, &server), inbox(&ann, &server));
    assert_eq!((&of_bob["id"], &of_ann["id"]), (&sent["id"], &sent["id"]));
    assert_eq!((&of_bob["from"], &of_bob["to"], &of_bob["topic"]), (&json!("ann"), &Value::Null, &json!("user/bob")));
    assert_eq!((&of_ann["from"], &of_ann["to"], &of_ann["topic"]), (&json!("ann"), &json!("bob"), &json!("user/ann")));
    bob.tells(&server, "ann", "hi ann");
    assert_eq!(unread(&bob, &server), [("user/ann".into(), 1, 0)]);
    assert_eq!(unread(&ann, &server), [("user/bob".into(), 1, 0)]);
    // A message that is no chat belongs to the application: the sender's inbox gets no copy.
    ann.send(&server, Request::post("/v1/messages?topic=user/bob&event=alarm", "x"));
    assert_eq!(ann.get(&server, "/v1/messages?topic=user/ann").bodies(), ["hi bob", "hi ann"]);
    let server = server.kill().start();
    assert_eq!(inbox(&ann, &server)["id"], sent["id"], "after a restart too");
}

#[test]
fn unread_is_counted_above_a_mark_that_only_rises() {
    let server = server("");
    let [ann, bob, cid] = ["ann", "bob", "cid"].map(person);
    ann.found(&server, "lobby", &json!({}));
    assert_eq!(ann.says(&server, "lobby", "before"), 200);
    assert_eq!((bob.join(&server, "lobby"), cid.join(&server, "lobby")), (200, 200));
    for text in ["one", "@bob two", "three @Bob!", "@bobby four"] {
        assert_eq!(ann.says(&server, "lobby", text), 200);
    }
    assert_eq!(bob.says(&server, "lobby", "mine"), 200);
    ann.ask(&server, "PATCH", "/v1/rooms/lobby", &json!({"subject": "not counted"}));
    assert_eq!(unread(&bob, &server), [("room/lobby".into(), 5, 2)]);
    assert_eq!(unread(&ann, &server), [("room/lobby".into(), 1, 0)]);
    let list = bob.get(&server, "/v1/conversations").json();
    assert_eq!(list["conversations"][0]["last"]["body"], "mine");
    let messages = bob.get(&server, "/v1/messages?topic=room/lobby").json()["messages"].clone();
    let read = |cursor: &Value| {
        let answer = bob.ask(&server, "PUT", "/v1/conversations/room%2Flobby/read", &json!({ "cursor": cursor }));
        (answer.status, answer.json()["unread"].as_u64())
    };
    assert_eq!(read(&messages[2]["cursor"]), (200, Some(2)));
    assert_eq!(read(&messages[0]["cursor"]), (200, Some(2)), "it doesn't go back");
    let ahead =
        messages[0]["cursor"].as_str().expect("a cursor").split_once(':').expect("a cursor").0.to_owned() + ":999999";
    assert_eq!(read(&json!(ahead)).0, 400, "nor ahead of the log");
    assert_eq!(cid.does(&server, "PUT", "/v1/conversations/room%2Fnone/read", &json!({"cursor": ahead})), 400);
    assert_eq!(
        cid.does(&server, "PUT", "/v1/conversations/user%2Fann/read", &json!({"cursor": messages[0]["cursor"]})),
        404
    );
    let only = cid.get(&server, "/v1/conversations?unread=1").json()["conversations"].as_array().map(Vec::len);
    assert_eq!(only, Some(1));
    // The counts are the same after a restart.
    let server = server.kill().start();
    assert_eq!(unread(&bob, &server), [("room/lobby".into(), 2, 1)]);
    let set =
        bob.ask(&server, "PATCH", "/v1/conversations/room%2Flobby", &json!({"muted": true, "notify": "mentions"}));
    assert_eq!((&set.json()["muted"], &set.json()["notify"]), (&json!(true), &json!("mentions")));
    assert_eq!(bob.get(&server, "/v1/conversations").json()["conversations"][0]["muted"], true);
}

#[test]
fn a_message_is_edited_recalled_and_reacted_to_by_whoever_may() {
    let server = server("");
    let [ann, bob, eve] = ["ann", "bob", "eve"].map(person);
    ann.found(&server, "lobby", &json!({}));
    assert_eq!((bob.join(&server, "lobby"), eve.join(&server, "lobby")), (200, 200));
    for text in ["one", "two", "three"] {
        assert_eq!(bob.says(&server, "lobby", text), 200);
    }
    let ids: Vec<String> =
        bob.folded(&server, "room/lobby").iter().map(|m| m["id"].as_str().expect("an id").into()).collect();
    let change = |who: &Person, method: &str, id: usize, what: &str| {
        who.does(&server, method, &format!("/v1/messages/{}{what}", ids[id]), &json!({"body": "new"}))
    };
    assert_eq!((change(&eve, "PATCH", 0, ""), change(&bob, "PATCH", 0, "")), (403, 200));
    assert_eq!((change(&eve, "DELETE", 1, ""), change(&ann, "DELETE", 1, "")), (403, 200), "owners recall");
    assert_eq!((change(&bob, "PATCH", 1, ""), change(&ann, "PATCH", 2, "")), (404, 403), "what is recalled stays so");
    for who in [&ann, &eve, &eve] {
        assert_eq!(change(who, "PUT", 2, "/reactions/%F0%9F%91%8D"), 200);
    }
    assert_eq!(
        (change(&ann, "DELETE", 2, "/reactions/%F0%9F%91%8D"), change(&ann, "PUT", 1, "/reactions/x")),
        (200, 404)
    );
    let is_right = |messages: &[Value]| {
        assert_eq!(messages.len(), 3, "{messages:?}");
        assert_eq!((&messages[0]["body"], &messages[0]["edited"]), (&json!("new"), &json!(true)));
        assert_eq!((&messages[1]["body"], &messages[1]["recalled"]), (&Value::Null, &json!(true)));
        assert_eq!((&messages[2]["body"], &messages[2]["reactions"]), (&json!("three"), &json!({"👍": ["eve"]})));
    };
    is_right(&bob.folded(&server, "room/lobby"));
    // A reader of the topic sees each change, and the id of the message that it changes.
    let raw = eve.get(&server, "/v1/messages?topic=room/lobby").json()["messages"].clone();
    let event = |n: usize| (raw[n]["event"].clone(), raw[n]["ref"].clone(), raw[n]["from"].clone());
    assert_eq!(event(2), (json!("edit"), json!(ids[0]), json!("bob")));
    assert_eq!(event(3), (json!("recall"), json!(ids[1]), json!("ann")));
    assert_eq!(event(4), (json!("react"), json!(ids[2]), json!("ann")));
    assert_eq!(raw.as_array().map(Vec::len), Some(7), "a reaction that was there already is no news");
    let server = server.kill().start();
    is_right(&bob.folded(&server, "room/lobby"));
    assert_eq!(unread(&eve, &server), [("room/lobby".into(), 2, 0)], "changes and recalled ones don't count");
}

#[test]
fn what_was_said_between_two_is_changed_for_both_and_a_block_holds() {
    let server = server("[limits]\nedit_window = \"1h\"\n");
    let [ann, bob, eve] = ["ann", "bob", "eve"].map(person);
    let id = ann.tells(&server, "bob", "tpyo").json()["id"].as_str().expect("an id").to_owned();
    let target = format!("/v1/messages/{id}");
    assert_eq!(eve.does(&server, "PATCH", &target, &json!({"body": "x"})), 404, "it isn't there for others");
    assert_eq!(bob.does(&server, "PATCH", &target, &json!({"body": "x"})), 403);
    assert_eq!(ann.does(&server, "PATCH", &target, &json!({"body": "typo"})), 200);
    assert_eq!(bob.does(&server, "PUT", &format!("{target}/reactions/ok"), &json!({})), 200);
    for who in [&ann, &bob] {
        let messages = who.folded(&server, &format!("user/{}", who.user));
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert_eq!((&messages[0]["body"], &messages[0]["reactions"]), (&json!("typo"), &json!({"ok": ["bob"]})));
    }
    assert_eq!(bob.does(&server, "PUT", "/v1/blocked/ann", &json!({})), 200);
    assert_eq!(ann.tells(&server, "bob", "hello?").status, 403);
    let mut client = ann.mqtt(&server);
    client.send(&mqtt::packet(0x32, &[&mqtt::text("user/bob")[..], &[0, 7], b"by another way?"].concat()));
    client.packet();
    assert_eq!(ann.does(&server, "PUT", &format!("{target}/reactions/hm"), &json!({})), 403);
    assert_eq!(bob.get(&server, "/v1/blocked").json(), json!({"blocked": ["ann"]}));
    let server = server.kill().start();
    assert_eq!((ann.tells(&server, "bob", "?").status, bob.tells(&server, "ann", "!").status), (403, 200));
    assert_eq!(bob.get(&server, "/v1/messages?topic=user/bob").bodies(), ["tpyo", "typo", "ok", "!"]);
    assert_eq!(bob.does(&server, "DELETE", "/v1/blocked/ann", &json!({})), 200);
    assert_eq!(ann.tells(&server, "bob", "back").status, 200);
}

#[test]
fn who_changes_a_message_at_the_same_moment_loses_nothing() {
    let server = server("");
    let ann = person("ann");
    ann.found(&server, "lobby", &json!({}));
    assert_eq!(ann.says(&server, "lobby", "what do you think?"), 200);
    let id = ann.folded(&server, "room/lobby")[0]["id"].as_str().expect("an id").to_owned();
    let people: Vec<Person> = (0..6).map(|n| person(&format!("p{n}"))).collect();
    std::thread::scope(|scope| {
        let (server, id) = (&server, &id);
        for who in &people {
            scope.spawn(move || {
                let target = format!("/v1/messages/{id}/reactions/yes");
                while who.does(server, "PUT", &target, &json!({})) == 503 {}
            });
        }
    });
    let reactions = ann.folded(&server, "room/lobby")[0]["reactions"]["yes"].as_array().map(Vec::len);
    assert_eq!(reactions, Some(people.len()));
}

/// A stream of a user. It reads a further topic, whose marker shows that all messages before it have come.
fn stream(who: &Person, server: &Server, topics: &str) -> EventStream {
    let request = Request::get(&format!("/v1/events?topic={topics}&topic=marker"));
    EventStream::open(server.address(), &request.header("Authorization", &format!("Bearer {}", who.token)))
}

#[test]
fn a_ban_acts_before_the_next_message_whatever_somebody_is_connected_with() {
    let server = server("");
    let (ann, eve) = (person("ann"), person("eve"));
    ann.found(&server, "lobby", &json!({}));
    let mut streams = ["room/lobby", "room/%23", "room/lobby/%23"].map(|topics| stream(&eve, &server, topics));
    let mut others = stream(&ann, &server, "room/%23");
    let mut client = eve.mqtt(&server);
    client.send(&mqtt::packet(0x82, &[&[0, 1][..], &mqtt::text("room/lobby"), &[0]].concat()));
    client.send(&mqtt::packet(0x82, &[&[0, 2][..], &mqtt::text("room/+"), &[0]].concat()));
    client.send(&mqtt::packet(0x82, &[&[0, 3][..], &mqtt::text("marker"), &[0]].concat()));
    (0..3).for_each(|_| drop(client.packet_of(9).expect("SUBACK")));
    assert_eq!(ann.says(&server, "lobby", "before"), 200);
    assert!(streams.iter_mut().chain([&mut others]).all(|stream| stream.event().body() == "before"));
    assert!(client.packet_of(3).is_some_and(|packet| packet.ends_with(b"before")));
    assert_eq!(ann.give(&server, "lobby", "eve", "banned"), 200);
    assert_eq!(ann.says(&server, "lobby", "after"), 200);
    assert_eq!(ann.send(&server, Request::post("/v1/messages?topic=marker", "marker")).status, 200);
    for stream in &mut streams {
        assert_eq!(stream.event().body(), "marker");
    }
    assert!(client.packet_of(3).is_some_and(|packet| packet.ends_with(b"marker")));
    assert_eq!([others.event().body(), others.event().body()], ["after", "marker"]);
    // The stream of a reader with no other topic is closed.
    let cid = person("cid");
    let request = Request::get("/v1/events?topic=room/lobby").header("Authorization", &format!("Bearer {}", cid.token));
    let mut only = EventStream::open(server.address(), &request);
    assert_eq!((cid.join(&server, "lobby"), ann.give(&server, "lobby", "cid", "banned")), (200, 200));
    assert_eq!(only.event().event.as_deref(), Some("close"));
}

#[test]
fn wildcards_bring_nothing_of_rooms_that_are_not_theirs_to_read() {
    let server = server("");
    let (ann, eve) = (person("ann"), person("eve"));
    ann.found(&server, "open", &json!({}));
    ann.found(&server, "closed", &json!({"join": "members"}));
    let mut live = stream(&eve, &server, "room/%23");
    for room in ["closed", "open"] {
        assert_eq!(ann.says(&server, room, room), 200);
        let retained = format!("/v1/messages?topic=room/{room}/notice&retain=1");
        assert_eq!(ann.send(&server, Request::post(&retained, room)).status, 200);
    }
    assert_eq!([live.event().body(), live.event().body()], ["open", "open"]);
    for filter in ["room/%23", "%23", "+/+"] {
        let bodies = eve.get(&server, &format!("/v1/messages?topic={filter}")).bodies();
        assert!(bodies.iter().all(|body| body == "open") && !bodies.is_empty(), "{filter}: {bodies:?}");
    }
    let mut client = eve.mqtt(&server);
    client.send(&mqtt::packet(0x82, &[&[0, 1][..], &mqtt::text("room/#"), &[0]].concat()));
    assert!(client.packet_of(3).is_some_and(|packet| packet.ends_with(b"open")), "and what is retained");
    assert!(client.is_served());
    // A new member reads the room too, without subscribing anew.
    assert_eq!(ann.give(&server, "closed", "eve", "member"), 200);
    assert_eq!(ann.says(&server, "closed", "welcome"), 200);
    assert_eq!(live.event().body(), "welcome");
}

#[test]
fn a_session_that_comes_back_gets_nothing_of_a_room_that_has_banned_it() {
    let server = server("");
    let (ann, eve) = (person("ann"), person("eve"));
    ann.found(&server, "lobby", &json!({}));
    let opening = Opening { clean: false, ..Opening::new("eve").credentials("eve", &eve.token) };
    let mut client = Mqtt::open(server.address_of("mqtt"), &opening);
    client.send(&mqtt::packet(0x82, &[&[0, 1][..], &mqtt::text("room/#"), &[1], &mqtt::text("marker"), &[1]].concat()));
    client.packet_of(9).expect("SUBACK");
    client.send(&mqtt::DISCONNECT);
    assert!(client.packet().is_none());
    assert_eq!(ann.says(&server, "lobby", "missed"), 200);
    assert_eq!(ann.give(&server, "lobby", "eve", "banned"), 200);
    assert_eq!(ann.says(&server, "lobby", "after"), 200);
    assert_eq!(ann.send(&server, Request::post("/v1/messages?topic=marker", "marker")).status, 200);
    let mut client = Mqtt::dial(server.address_of("mqtt"));
    client.send(&opening.bytes());
    assert!(client.packet_of(3).is_some_and(|packet| packet.ends_with(b"marker")));
}
