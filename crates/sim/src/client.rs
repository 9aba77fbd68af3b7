//! Clients of the simulated world: publishers that retry until they are acknowledged, readers that always resume.

use everywire_base::cursor::Cursor;
use everywire_base::topic::Filter;

use crate::checker::{Acknowledged, Checker, number_of};
use crate::http;
use crate::mqtt::{Mqtt, Writer, Written};
use crate::native::{Native, News};
use crate::net::{HTTP, Leave, MQTT, Network, TCP};

/// How a reader reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Transport {
    Poll,
    LongPoll,
    Sse,
    Stream,
    /// The native protocol on TCP, by cursor.
    Native,
    /// The native protocol within WebSocket, by cursor.
    WebSocket,
    /// MQTT at most once, by cursor.
    Mqtt,
    /// The native protocol on TCP, in a session.
    Session,
    /// The native protocol within WebSocket, in a session.
    WebSocketSession,
    /// MQTT in a session, at least once.
    MqttSession,
    /// MQTT in a session, exactly once.
    MqttOnce,
}

impl Transport {
    /// That which reads exactly once stands last.
    pub(crate) const ALL: [Transport; 11] = [
        Transport::Poll,
        Transport::LongPoll,
        Transport::Sse,
        Transport::Stream,
        Transport::Native,
        Transport::WebSocket,
        Transport::Mqtt,
        Transport::Session,
        Transport::WebSocketSession,
        Transport::MqttSession,
        Transport::MqttOnce,
    ];

    /// The quality of service of those that speak MQTT.
    fn qos(self) -> u8 {
        match self {
            Transport::MqttSession => 1,
            Transport::MqttOnce => 2,
            _ => 0,
        }
    }

    fn is_native(self) -> bool {
        matches!(self, Transport::Native | Transport::WebSocket | Transport::Session | Transport::WebSocketSession)
    }

    fn listener(self) -> u16 {
        match self {
            Transport::Native | Transport::Session => TCP,
            Transport::Mqtt | Transport::MqttSession | Transport::MqttOnce => MQTT,
            _ => HTTP,
        }
    }
}

/// A reader: one connection at a time, and a cursor that outlives it.
pub(crate) struct Reader {
    pub(crate) number: usize,
    pub(crate) transport: Transport,
    pub(crate) filters: Vec<Filter>,
    pub(crate) cursor: Option<String>,
    pub(crate) link: Option<u32>,
    /// Bytes that the server may send before the reader reads.
    pub(crate) window: usize,
    /// It reads nothing for so many more steps.
    pub(crate) stalled: u32,
    received: Vec<u8>,
    /// The body of a stream, without its chunks' frames.
    body: Vec<u8>,
    /// The head of the stream has come.
    streaming: bool,
    asked: bool,
    native: Native,
    mqtt: Mqtt,
}

impl Reader {
    pub(crate) fn new(number: usize, transport: Transport, filters: Vec<Filter>, window: usize) -> Self {
        Self {
            number,
            transport,
            filters,
            cursor: None,
            link: None,
            window,
            stalled: 0,
            received: Vec::new(),
            body: Vec::new(),
            streaming: false,
            asked: false,
            native: Native::new(
                matches!(transport, Transport::WebSocket | Transport::WebSocketSession),
                matches!(transport, Transport::Session | Transport::WebSocketSession),
            ),
            mqtt: Mqtt::new(number, transport.qos()),
        }
    }

    /// Forgets the connection, not the cursor.
    pub(crate) fn disconnect(&mut self, network: &mut Network, how: Leave) {
        if let Some(link) = self.link.take() {
            if how == Leave::Closed && self.asked && self.transport.qos() > 0 {
                self.mqtt.leave(network, link);
            }
            network.leave(link, how);
        }
        self.received.clear();
        self.body.clear();
        (self.streaming, self.asked) = (false, false);
        self.native.disconnected();
    }

    /// Connects, asks, reads: whatever is next. At most `most` bytes are read.
    pub(crate) fn step(&mut self, network: &mut Network, checker: &mut Checker, most: usize) -> Result<(), String> {
        if self.stalled > 0 {
            self.stalled -= 1;
            return Ok(());
        }
        let link = *self.link.get_or_insert_with(|| network.connect(self.transport.listener(), self.window));
        if !self.asked {
            self.asked = true;
            match self.transport.listener() {
                _ if self.transport.is_native() => {
                    self.native.begin(network, link, &self.filters, self.cursor.as_deref());
                }
                MQTT => self.mqtt.begin(network, link, &self.filters, self.cursor.as_deref()),
                _ => network.send(link, self.request().as_bytes()),
            }
        }
        let Some(bytes) = network.receive(link, most) else {
            self.disconnect(network, Leave::Closed);
            return Ok(());
        };
        self.received.extend(bytes);
        match self.transport {
            Transport::Poll | Transport::LongPoll => self.take_poll(checker),
            Transport::Sse => self.take_events(checker),
            Transport::Stream => self.take_lines(checker),
            _ => self.take_frames(network, link, checker),
        }
    }

    fn request(&self) -> String {
        let topics: Vec<String> =
            self.filters.iter().map(|f| format!("topic={}", f.as_str().replace('#', "%23"))).collect();
        let query = topics.join("&");
        // A reader that has no cursor yet begins at the earliest, so that it wants everything.
        let after = self.cursor.as_deref().unwrap_or("earliest");
        let (path, more) = match self.transport {
            Transport::Poll => ("messages", "&limit=7"),
            Transport::LongPoll => ("messages", "&wait=5&limit=20"),
            Transport::Sse => ("events", ""),
            _ => ("stream", ""),
        };
        format!("GET /v1/{path}?{query}&after={after}{more} HTTP/1.1\r\nHost: localhost\r\n\r\n")
    }

    fn take_poll(&mut self, checker: &mut Checker) -> Result<(), String> {
        let Some(head) = http::head(&self.received) else { return Ok(()) };
        let length = head.length.ok_or("a poll's answer has no length")?;
        if self.received.len() < head.bytes + length {
            return Ok(());
        }
        let body: Vec<u8> = self.received.drain(..head.bytes + length).skip(head.bytes).collect();
        self.asked = false;
        match head.status {
            204 => self.stand_at(&head.cursor.ok_or("a 204 without a cursor")?, checker),
            200 => {
                let poll: http::Poll = serde_json::from_slice(&body).map_err(|e| format!("a poll's body: {e}"))?;
                if poll.gap {
                    let gap = format!("asked after {:?}, and got up to {}", self.cursor, poll.cursor);
                    checker.readings[self.number].gaps.push(gap);
                }
                for message in &poll.messages {
                    self.came(&message.topic, &message.cursor, &message.bytes(), checker)?;
                }
                self.stand_at(&poll.cursor, checker)
            }
            503 => Ok(()),
            status => Err(format!("a poll was answered {status}: {}", String::from_utf8_lossy(&body))),
        }
    }

    fn take_head(&mut self) -> Result<bool, String> {
        if !self.streaming {
            let Some(head) = http::head(&self.received) else { return Ok(false) };
            if head.status != 200 {
                return Err(format!("a stream was answered {}", head.status));
            }
            self.received.drain(..head.bytes);
            self.streaming = true;
        }
        http::take_chunks(&mut self.received, &mut self.body);
        Ok(true)
    }

    fn take_frames(&mut self, network: &mut Network, link: u32, checker: &mut Checker) -> Result<(), String> {
        while let Some(news) = self.next_news(network, link)? {
            for news in news {
                match news {
                    News::Message { topic, cursor, body, may_repeat } => {
                        let last = checker.readings[self.number].seen.last().map_or(0, |seen| seen.0);
                        if may_repeat && offset_of(&cursor)? <= last {
                            continue;
                        }
                        self.came(&topic, &cursor, &body, checker)?;
                        self.stand_at(&cursor, checker)?;
                    }
                    News::Gap(gap) => checker.readings[self.number].gaps.push(gap),
                    News::Close => {
                        self.disconnect(network, Leave::Closed);
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn next_news(&mut self, network: &mut Network, link: u32) -> Result<Option<Vec<News>>, String> {
        if self.transport.is_native() {
            let wanted = (&self.filters[..], self.cursor.as_deref());
            self.native.next(&mut self.received, network, link, wanted)
        } else {
            self.mqtt.next(&mut self.received, network, link)
        }
    }

    fn take_events(&mut self, checker: &mut Checker) -> Result<(), String> {
        if !self.take_head()? {
            return Ok(());
        }
        while let Some(event) = http::event(&mut self.body) {
            if event.name.as_deref() == Some("gap") {
                checker.readings[self.number].gaps.push(event.data);
            } else if !event.data.is_empty() {
                let envelope: everywire_base::envelope::Envelope =
                    serde_json::from_str(&event.data).map_err(|e| format!("an event's data: {e}: {}", event.data))?;
                self.came(&envelope.topic, &envelope.cursor, &envelope.bytes(), checker)?;
            }
            if let Some(id) = event.id {
                self.stand_at(&id, checker)?;
            }
        }
        Ok(())
    }

    fn take_lines(&mut self, checker: &mut Checker) -> Result<(), String> {
        if !self.take_head()? {
            return Ok(());
        }
        while let Some(end) = self.body.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.body.drain(..=end).collect();
            let text = String::from_utf8_lossy(&line);
            if text.trim().is_empty() {
                continue;
            }
            if text.starts_with("{\"gap\"") {
                checker.readings[self.number].gaps.push(text.into_owned());
                continue;
            }
            let envelope: everywire_base::envelope::Envelope =
                serde_json::from_slice(&line).map_err(|e| format!("a line: {e}: {text}"))?;
            self.came(&envelope.topic, &envelope.cursor, &envelope.bytes(), checker)?;
            self.stand_at(&envelope.cursor, checker)?;
        }
        Ok(())
    }

    fn came(&mut self, topic: &str, cursor: &str, body: &[u8], checker: &mut Checker) -> Result<(), String> {
        let offset = offset_of(cursor)?;
        checker.came(self.number, topic, offset, number_of(body)?)
    }

    fn stand_at(&mut self, cursor: &str, checker: &mut Checker) -> Result<(), String> {
        let offset = offset_of(cursor)?;
        if let Some(before) = &self.cursor
            && offset_of(before)? > offset
        {
            return Err(format!("{} went back from {before} to {cursor}", checker.readings[self.number].name));
        }
        self.cursor = Some(cursor.to_owned());
        Ok(())
    }
}

fn offset_of(cursor: &str) -> Result<u64, String> {
    let cursor: Cursor = cursor.parse().map_err(|_| format!("{cursor} is no cursor"))?;
    Ok(cursor.positions()[0].1.0)
}

/// A publisher: sends one message after the other, each until it is acknowledged.
pub(crate) struct Publisher {
    pub(crate) link: Option<u32>,
    /// The message under way.
    pub(crate) number: Option<u64>,
    sent: bool,
    received: Vec<u8>,
    /// It speaks MQTT, and publishes exactly once; else HTTP, and says again what was not answered.
    writer: Option<Writer>,
}

impl Publisher {
    pub(crate) fn over_http() -> Self {
        Self { link: None, number: None, sent: false, received: Vec::new(), writer: None }
    }

    pub(crate) fn over_mqtt(number: usize) -> Self {
        Self { writer: Some(Writer::new(number)), ..Self::over_http() }
    }

    pub(crate) fn disconnect(&mut self, network: &mut Network, how: Leave, checker: &mut Checker) {
        if let Some(link) = self.link.take() {
            network.leave(link, how);
        }
        if let Some(writer) = &mut self.writer {
            writer.disconnected(network, how, checker);
        }
        self.received.clear();
        self.sent = false;
    }

    /// Sends or waits, if it has a message; `padding` makes the body longer.
    pub(crate) fn step(&mut self, network: &mut Network, checker: &mut Checker, padding: usize) -> Result<(), String> {
        let Some(number) = self.number else { return Ok(()) };
        let listener = if self.writer.is_some() { MQTT } else { HTTP };
        let link = *self.link.get_or_insert_with(|| network.connect(listener, 1 << 16));
        // The same bytes at each retry: the padding depends on the number alone.
        let body = format!("{number}{}", "x".repeat(padding * (number as usize % 7)));
        let topic = checker.publishes[&number].topic.clone();
        if !std::mem::replace(&mut self.sent, true) {
            if let Some(writer) = &mut self.writer {
                writer.begin(network, link, checker);
            } else {
                let request = format!(
                    "POST /v1/messages?topic={topic} HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: k{number}\r\n\
                     Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                network.send(link, request.as_bytes());
            }
        }
        let Some(bytes) = network.receive(link, usize::MAX) else {
            self.disconnect(network, Leave::Closed, checker);
            return Ok(());
        };
        self.received.extend(bytes);
        let Some(writer) = &mut self.writer else { return self.take_answer(number, checker) };
        match writer.go_on(&mut self.received, network, link, (topic.as_str(), &body), checker)? {
            Written::Yes => {
                checker.acknowledge(number);
                self.number = None;
            }
            Written::NotYet => {}
            Written::Closed => self.disconnect(network, Leave::Closed, checker),
        }
        Ok(())
    }

    fn take_answer(&mut self, number: u64, checker: &mut Checker) -> Result<(), String> {
        let Some(head) = http::head(&self.received) else { return Ok(()) };
        let end = head.bytes + head.length.ok_or("an answer without a length")?;
        if self.received.len() < end {
            return Ok(());
        }
        let body: Vec<u8> = self.received.drain(..end).skip(head.bytes).collect();
        self.sent = false;
        match head.status {
            200 => {
                let answer: serde_json::Value = serde_json::from_slice(&body).map_err(|e| e.to_string())?;
                let offset = offset_of(answer["cursor"].as_str().ok_or("an answer without a cursor")?)?;
                let publish = checker.publishes.get_mut(&number).ok_or("an answer to nothing")?;
                publish.acknowledged = Acknowledged::At(offset);
                self.number = None;
                Ok(())
            }
            503 => Ok(()), // again
            status => Err(format!("publishing was answered {status}: {}", String::from_utf8_lossy(&body))),
        }
    }
}
