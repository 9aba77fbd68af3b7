//! A server that speaks HTTP, and in lines on port 7000. Try `nc 127.0.0.1 7000`.

mod line;

use std::sync::Arc;
use std::thread;

use everywire_node::{Bind, Config, Listener, Node, Speaks, StartError};

fn main() -> Result<(), StartError> {
    let node = start(8080, 7000)?;
    for (name, address) in node.addresses() {
        println!("{name} listens on {address}");
    }
    loop {
        thread::park();
    }
}

fn start(http: u16, line: u16) -> Result<Node, StartError> {
    let at = |port| Bind { address: ([127, 0, 0, 1], port).into(), configured: true };
    let listener = |port, speaks| Listener { bind: at(port), speaks, tls: false };
    let lines = Speaks::Other("line", Arc::new(line::Lines));
    let listeners = vec![listener(http, Speaks::Http), listener(line, lines)];
    Node::start(Config { listeners, ..Config::default() })
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpStream;

    use super::*;

    struct Client(BufReader<TcpStream>);

    impl Client {
        fn say(&mut self, line: &str) {
            self.0.get_mut().write_all(format!("{line}\r\n").as_bytes()).unwrap();
        }

        fn hear(&mut self) -> String {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            line.trim_end().into()
        }
    }

    #[test]
    fn what_one_wire_publishes_the_other_hears() {
        let node = start(0, 0).unwrap();
        let address = |name| node.addresses().iter().find(|(other, _)| *other == name).unwrap().1;
        let connect = |name| Client(BufReader::new(TcpStream::connect(address(name)).unwrap()));
        let (mut ann, mut bob, mut web) = (connect("line"), connect("line"), connect("http"));
        ann.say("SUB room/+");
        assert!(ann.hear().starts_with("OK "));
        bob.say("PUB room/1 hello you");
        assert!(bob.hear().starts_with("OK "));
        assert_eq!(ann.hear(), "MSG room/1 hello you");
        web.say("POST /v1/messages?topic=room/2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\na\nb");
        assert!(web.hear().ends_with("200 OK"));
        assert_eq!(ann.hear(), "MSG room/2 a b");
        for (wrong, why) in
            [("HELLO", "ERR commands are"), ("SUB $own/x", "ERR not allowed"), ("PUB a+ x", "ERR a topic")]
        {
            bob.say(wrong);
            let heard = bob.hear();
            assert!(heard.starts_with(why), "{wrong}: {heard}");
        }
        bob.say("QUIT");
        assert_eq!(bob.hear(), "");
        node.drain();
        assert_eq!(ann.hear(), "BYE drain");
    }
}
