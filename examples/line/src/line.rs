//! Commands in lines, for `nc`: `SUB FILTER`, `PUB TOPIC TEXT`, `QUIT`. Answers: `OK …`, `ERR …`. Lines without a
//! command: `MSG TOPIC TEXT`, `GAP TOPIC`, `BYE REASON`.

use std::io::Write as _;

use everywire_base::ask::Subscribe;
use everywire_base::clock::{Monotonic, Now};
use everywire_base::id::AskId;
use everywire_base::parcel::{Delivery, Format, Parcel, Taken};
use everywire_base::reason::Reason;
use everywire_base::record::Message;
use everywire_base::terms::RetainHandling;
use everywire_base::topic::{Filter, Topic};
use everywire_wire::{Answer, Ask, Context, Input, Listen, Peer, Progress, Then, Wire};

const MAX_LINE: usize = 4096;

/// Makes a [`Line`] for each connection.
pub(crate) struct Lines;

impl Listen for Lines {
    fn accept(&self, _: &Peer, _: Now) -> Box<dyn Wire> {
        Box::new(Line::default())
    }
}

/// The wire of one client. It owns two numbers; everything that waits is in the driver and the hub.
#[derive(Default)]
struct Line {
    next_ask: u32,
    waiting: usize,
}

impl Line {
    fn ask(&mut self, cx: &mut Context<'_>, ask: Ask) {
        cx.asks.push((AskId(self.next_ask), ask));
        self.next_ask = self.next_ask.wrapping_add(1);
        self.waiting += 1;
    }

    /// A client with too many unanswered asks, or too many unread answers, is not read until there are fewer.
    fn then(&self, cx: &Context<'_>) -> Then {
        if self.waiting < cx.limits.pipelined_asks && cx.has_room() { Then::Open } else { Then::Paused }
    }

    fn command(&mut self, cx: &mut Context<'_>, line: &[u8]) -> Result<(), String> {
        let line = str::from_utf8(line).map_err(|_| "a line is UTF-8")?;
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        match command {
            "SUB" => {
                let filter = Filter::parse(rest).map_err(|e| e.to_string())?;
                let subscribe = Subscribe { retained: RetainHandling::Always, ..Subscribe::to([filter]) };
                self.ask(cx, Ask::Subscribe(subscribe));
            }
            "PUB" => {
                let (topic, text) = rest.split_once(' ').ok_or("it is PUB TOPIC TEXT")?;
                let topic = Topic::parse(topic).map_err(|e| e.to_string())?;
                let draft = cx.draft(Message::new(topic, text.to_owned()), None).map_err(|e| e.to_string())?;
                self.ask(cx, Ask::Publish(draft));
            }
            _ => return Err("commands are SUB, PUB and QUIT".into()),
        }
        Ok(())
    }
}

impl Wire for Line {
    fn read(&mut self, cx: &mut Context<'_>, input: Input<'_>) -> Progress {
        let (Input::Bytes(bytes) | Input::End(bytes)) = input;
        let mut used = 0;
        while let Some(end) = bytes[used..].iter().position(|byte| *byte == b'\n') {
            let line = bytes[used..used + end].trim_ascii_end();
            used += end + 1;
            if line == b"QUIT" {
                return Progress { used, then: Then::Closed(Reason::Done) };
            }
            if let Err(why) = self.command(cx, line) {
                say(cx, format_args!("ERR {why}"));
            }
            if matches!(self.then(cx), Then::Paused) {
                return Progress { used, then: Then::Paused };
            }
        }
        let then = match input {
            Input::End(_) => Then::Closed(Reason::PeerClosed),
            Input::Bytes(_) if bytes.len() - used > MAX_LINE => Then::Closed(Reason::TooLarge("a line")),
            Input::Bytes(_) => Then::Open,
        };
        Progress { used, then }
    }

    fn answer(&mut self, cx: &mut Context<'_>, _: AskId, answer: Answer) -> Then {
        self.waiting -= 1;
        match answer {
            Answer::Published(Ok(done)) => say(cx, format_args!("OK {}", done.id())),
            Answer::Published(Err(why)) => say(cx, format_args!("ERR {why}")),
            Answer::Subscribed(done) => match done.refused.first() {
                None => say(cx, format_args!("OK {}", done.cursor)),
                Some((_, why)) => say(cx, format_args!("ERR {why}")),
            },
            _ => {}
        }
        self.then(cx)
    }

    fn push(&mut self, cx: &mut Context<'_>, delivery: &Delivery<'_>) -> Taken {
        match delivery {
            // The line is made once for all connections of this protocol on this worker.
            Delivery::Message(parcel, _) | Delivery::Retained(parcel, _) => {
                cx.out.share(&parcel.rendition(Format::bare("line"), render));
            }
            Delivery::Gap(gap) => say(cx, format_args!("GAP {}", gap.topic)),
            Delivery::Release(_) | Delivery::Signal(_) | Delivery::Conversation(_) => {}
        }
        Taken::Yes
    }

    fn settle(&mut self, cx: &mut Context<'_>) -> Then {
        self.then(cx)
    }

    fn deadline(&self) -> Option<Monotonic> {
        None
    }

    fn tick(&mut self, cx: &mut Context<'_>) -> Then {
        self.then(cx)
    }

    fn farewell(&mut self, cx: &mut Context<'_>, reason: &Reason) -> Then {
        say(cx, format_args!("BYE {}", reason.as_str()));
        Then::Closed(reason.clone())
    }

    fn holds(&self) -> usize {
        0
    }

    fn name(&self) -> &'static str {
        "line"
    }
}

fn say(cx: &mut Context<'_>, words: std::fmt::Arguments<'_>) {
    // Writing to memory can't fail.
    cx.out.write(|out| drop(writeln!(out, "{words}")));
}

fn render(parcel: &Parcel, out: &mut Vec<u8>) {
    let Message { topic, body, .. } = parcel.message();
    let text = String::from_utf8_lossy(body).replace(['\r', '\n'], " ");
    let _ = writeln!(out, "MSG {topic} {text}");
}
