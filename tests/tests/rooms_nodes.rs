//! Rooms on nodes that share a log: presence, typing and read marks are the same on each.

use everywire_tests::mqtt::{Mqtt, Opening, packet, text};
use everywire_tests::people::{configured, person};
use everywire_tests::{Cluster, JsonSocket, Server, Setup, until};
use serde_json::{Value, json};

/// The next signal of this kind.
fn signal(socket: &mut JsonSocket, kind: &str) -> Value {
    loop {
        let signal = socket.frame("signal");
        if signal["kind"] == kind {
            return signal;
        }
    }
}

#[test]
fn people_on_other_nodes_are_there_too() {
    let cluster = Cluster::with(&configured(""));
    let [a, b, c] = &cluster.nodes[..] else { panic!("three nodes") };
    let (ann, bob) = (person("ann"), person("bob"));
    ann.found(a, "lobby", &json!({}));
    until("the room is on the other node", || bob.get(b, "/v1/rooms/lobby").status == 200);
    assert_eq!(bob.join(b, "lobby"), 200);
    let mut first = ann.socket(a);
    first.send(&json!({"subscribe": {"id": 1, "topics": ["$conversations"]}}));
    first.frame("subscribed");
    let mut second = bob.socket(b);
    second.send(&json!({"subscribe": {"id": 1, "topics": ["$conversations"]}}));
    second.frame("subscribed");
    assert_eq!(signal(&mut first, "here")["user"], "bob");
    second.send(&json!({"enter": {"id": 2, "room": "lobby", "nick": "Bobby"}}));
    assert_eq!(second.frame("entered")["nick"], "Bobby");
    assert_eq!(signal(&mut first, "entered")["nick"], "Bobby");
    second.send(&json!({"typing": {"conversation": "room/lobby"}}));
    assert_eq!(signal(&mut first, "typing")["user"], "bob");
    first.send(&json!({"publish": {"id": 3, "topic": "room/lobby", "event": "chat", "body": "hi"}}));
    let cursor = first.frame("published")["cursor"].clone();
    while second.frame("message")["body"] != "hi" {}
    second.send(&json!({"read": {"id": 4, "conversation": "room/lobby", "cursor": cursor}}));
    assert_eq!(signal(&mut first, "read")["cursor"], cursor);
    // A node with neither of the two users knows the same.
    let occupants = || ann.get(c, "/v1/rooms/lobby/occupants").json()["occupants"].clone();
    let expected = json!([{"user": "bob", "nick": "Bobby", "voice": "participant", "connections": 1}]);
    until("the third node knows who is in", || occupants() == expected);
    let members = ann.get(c, "/v1/rooms/lobby/members").json()["members"].clone();
    let presence: Vec<&Value> = members.as_array().expect("a list").iter().map(|member| &member["presence"]).collect();
    assert_eq!(presence, ["here", "here"]);
    second.send(&json!({"leave": {"id": 5, "room": "lobby"}}));
    assert_eq!(signal(&mut first, "left")["user"], "bob");
    until("the third node knows who is out", || occupants() == json!([]));
}

/// Enters a shared subscription, and subscribes to the mark that ends a round.
fn member(server: &Server, name: &str) -> Mqtt {
    let mut client = Mqtt::open(server.address_of("mqtt"), &Opening::new(name));
    for (id, filter) in [(1, "$share/g/work"), (2, "end")] {
        client.send(&packet(0x82, &[&[0, id][..], &text(filter), &[0]].concat()));
        client.packet_of(9).expect("SUBACK");
    }
    client
}

/// The number of messages that come before the mark.
fn taken(client: &mut Mqtt) -> usize {
    for count in 0.. {
        let message = client.packet_of(3).expect("a message");
        if message.starts_with(&text("end")) {
            return count;
        }
    }
    unreachable!("the mark comes")
}

#[test]
fn a_node_that_comes_knows_who_is_there_and_shares_with_them() {
    let mut cluster = Cluster::with(&configured(""));
    let (ann, bob) = (person("ann"), person("bob"));
    ann.found(&cluster.nodes[0], "lobby", &json!({}));
    until("the room is on the other node", || bob.get(&cluster.nodes[1], "/v1/rooms/lobby").status == 200);
    assert_eq!(bob.join(&cluster.nodes[1], "lobby"), 200);
    let mut socket = bob.socket(&cluster.nodes[1]);
    socket.send(&json!({"enter": {"id": 1, "room": "lobby", "nick": "Bobby"}}));
    socket.frame("entered");
    let knows = |server: &Server| {
        until("it knows who is in", || {
            let occupants = ann.get(server, "/v1/rooms/lobby/occupants").json()["occupants"].clone();
            occupants[0]["nick"] == "Bobby" && occupants[0]["connections"] == 1
        });
        until("and who is there", || {
            let members = ann.get(server, "/v1/rooms/lobby/members").json()["members"].clone();
            members
                .as_array()
                .is_some_and(|all| all.iter().any(|one| one["user"] == "bob" && one["presence"] == "here"))
        });
    };
    // It is back before the others have declared it dead.
    let killed = cluster.kill(2).start();
    knows(&killed);
    let fresh = Setup::node(&cluster.redis.url(), "d").config(&configured("")).start();
    knows(&fresh);
}

#[test]
fn a_node_that_comes_shares_with_the_members_elsewhere() {
    let mut cluster = Cluster::start();
    let mut near = member(&cluster.nodes[0], "near");
    let killed = cluster.kill(2).start();
    let mut far = member(&killed, "far");
    until("each message comes once", || {
        (0..20).for_each(|n| drop(cluster.nodes[1].publish("work", &n.to_string())));
        cluster.nodes[1].publish("end", "");
        let (near, far) = (taken(&mut near), taken(&mut far));
        near + far == 20 && near > 0 && far > 0
    });
}
