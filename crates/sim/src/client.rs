//! Clients of the simulated world: publishers that retry until they are acknowledged, readers that always resume.

use everywire_base::cursor::Cursor;
use everywire_base::topic::Filter;

use crate::checker::{Acknowledged, Checker, Loss, number_of};
use crate::http;
use crate::mqtt::{self, Mqtt, Writer, Written};
use crate::native::{self, Native, News};
use crate::net::{HTTP, Leave, MQTT, Network, TCP};
use crate::tokens;

/// The transport of a reader.
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
    /// All transports. Exactly once stands last.
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

    /// The quality of service of the transports over MQTT.
    fn qos(self) -> u8 {
        match self {
            Transport::MqttSession => 1,
            Transport::MqttOnce => 2,
            _ => 0,
        }
    }

    /// Whether the client keeps the place itself up to which it has read.
    pub(crate) fn is_by_cursor(self) -> bool {
        self.qos() == 0 && !matches!(self, Transport::Session | Transport::WebSocketSession)
    }

    /// Whether the server tells its readers of gaps: MQTT has no word for it.
    pub(crate) fn tells_gaps(self) -> bool {
        self.listener() != MQTT
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
    /// The number of bytes that the server may send before the reader reads.
    pub(crate) window: usize,
    /// The number of steps for which it reads nothing.
    pub(crate) stalled: u32,
    /// The seconds for which its tokens are valid, if it logs in.
    tokens: Option<u32>,
    received: Vec<u8>,
    /// The body of a stream, without the frames of its chunks.
    body: Vec<u8>,
    /// The head of the stream has come.
    streaming: bool,
    asked: bool,
    /// The server has ended a stream, or not begun it: the reader comes again.
    is_refused: bool,
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
            tokens: None,
            received: Vec::new(),
            body: Vec::new(),
            streaming: false,
            asked: false,
            is_refused: false,
            native: Native::new(
                matches!(transport, Transport::WebSocket | Transport::WebSocketSession),
                matches!(transport, Transport::Session | Transport::WebSocketSession),
            ),
            mqtt: Mqtt::new(number, transport.qos()),
        }
    }

    /// Logs in on each connection, with a token that is valid for this many seconds.
    pub(crate) fn with_tokens(self, seconds: u32) -> Self {
        Self { tokens: Some(seconds), ..self }
    }

    /// Its name as a user, if it logs in.
    pub(crate) fn user(&self) -> Option<String> {
        self.tokens.map(|_| format!("reader{}", self.number))
    }

    /// Whether the server has let its connection in, for as long as that lasts.
    pub(crate) fn is_in(&self) -> bool {
        self.streaming || self.native.is_in() || self.mqtt.is_in
    }

    /// Whether the server begins at the earliest message for it: it knows no place, and has no session that does.
    pub(crate) fn is_beginning(&self) -> bool {
        if self.transport.is_by_cursor() { self.cursor.is_none() } else { !self.native.has_subscribed() }
    }

    /// A fresh token, if it logs in.
    fn token(&self, network: &Network) -> Option<String> {
        Some(tokens::token(&self.user()?, network.now(), self.tokens?))
    }

    /// Forgets the connection, but not the cursor.
    pub(crate) fn disconnect(&mut self, network: &mut Network, how: Leave) {
        if let Some(link) = self.link.take() {
            if how == Leave::Closed && self.asked && self.transport.qos() > 0 {
                self.mqtt.leave(network, link);
            }
            network.leave(link, how);
        }
        self.received.clear();
        self.body.clear();
        if self.asked {
            self.mqtt.disconnected();
        }
        (self.streaming, self.asked) = (false, false);
        self.native.disconnected();
    }

    /// Does its next step: connects, asks or reads. At most `most` bytes are read.
    pub(crate) fn step(&mut self, network: &mut Network, checker: &mut Checker, most: usize) -> Result<(), String> {
        if self.stalled > 0 {
            self.stalled -= 1;
            return Ok(());
        }
        let link = *self.link.get_or_insert_with(|| network.connect(self.transport.listener(), self.window));
        if !self.asked {
            self.asked = true;
            let (token, cursor) = (self.token(network), self.cursor.as_deref());
            match self.transport.listener() {
                _ if self.transport.is_native() => {
                    self.native.begin(network, link, token, (&self.filters, cursor));
                }
                MQTT => self.mqtt.begin(network, link, token, (&self.filters, cursor)),
                _ => network.send(link, self.request(token).as_bytes()),
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
        }?;
        if std::mem::take(&mut self.is_refused) {
            self.disconnect(network, Leave::Closed);
        }
        Ok(())
    }

    fn request(&self, token: Option<String>) -> String {
        let topics: Vec<String> =
            self.filters.iter().map(|f| format!("topic={}", f.as_str().replace('#', "%23"))).collect();
        let query = topics.join("&");
        // A reader without a cursor begins at the earliest message, so that it wants everything.
        let after = self.cursor.as_deref().unwrap_or("earliest");
        let (path, more) = match self.transport {
            Transport::Poll => ("messages", "&limit=7"),
            Transport::LongPoll => ("messages", "&wait=5&limit=20"),
            Transport::Sse => ("events", ""),
            _ => ("stream", ""),
        };
        let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        format!("GET /v1/{path}?{query}&after={after}{more} HTTP/1.1\r\nHost: localhost\r\n{authorization}\r\n")
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
                    checker.gap(self.number, gap)?;
                }
                for message in &poll.messages {
                    self.came(&message.topic, &message.cursor, &message.bytes(), checker)?;
                }
                self.stand_at(&poll.cursor, checker)
            }
            503 => Ok(()),
            // Its token has expired, or it was kicked: again, with a new one.
            401 | 403 if self.tokens.is_some() => {
                self.is_refused = true;
                Ok(())
            }
            status => Err(format!("a poll was answered {status}: {}", String::from_utf8_lossy(&body))),
        }
    }

    fn take_head(&mut self) -> Result<bool, String> {
        if !self.streaming {
            let Some(head) = http::head(&self.received) else { return Ok(false) };
            match head.status {
                200 => {}
                // The node doesn't know its cursor yet.
                503 => {
                    self.is_refused = true;
                    return Ok(false);
                }
                // Its token has expired, or it was kicked: again, with a new one.
                401 | 403 if self.tokens.is_some() => {
                    self.is_refused = true;
                    return Ok(false);
                }
                status => return Err(format!("a stream was answered {status}")),
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
                    News::Gap(gap) => checker.gap(self.number, gap)?,
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
            if event.name.as_deref() == Some("close") {
                self.is_refused = true;
                return Ok(());
            }
            if event.name.as_deref() == Some("gap") {
                checker.gap(self.number, event.data)?;
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
            if text.starts_with("{\"close\"") {
                self.is_refused = true;
                return Ok(());
            }
            if text.starts_with("{\"gap\"") {
                checker.gap(self.number, text.into_owned())?;
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
            && checker.loss != Loss::End
        {
            return Err(format!("{} went back from {before} to {cursor}", checker.readings[self.number].name));
        }
        self.cursor = Some(cursor.to_owned());
        Ok(())
    }
}

/// A connection that a reader with a session has left without a word, while its node still takes it for alive.
pub(crate) struct Ghost {
    pub(crate) reader: usize,
    /// The node at which it is.
    pub(crate) at: usize,
    link: u32,
    received: Vec<u8>,
    is_native: bool,
    /// The offset above which the session is another connection's.
    pub(crate) up_to: Option<u64>,
}

impl Ghost {
    /// The connection of a reader that leaves now, if it has a session.
    pub(crate) fn of(reader: &Reader, at: usize) -> Option<Self> {
        let is_native = reader.transport == Transport::Session;
        let has_session = is_native || reader.transport.qos() > 0;
        let link = reader.link.filter(|_| has_session && reader.is_in())?;
        let received = reader.received.clone();
        Some(Self { reader: reader.number, at, link, received, is_native, up_to: None })
    }

    /// Complains of a message that came over it after another connection had its session.
    pub(crate) fn haunt(&mut self, network: &mut Network) -> Result<(), String> {
        let Some(bytes) = network.receive(self.link, usize::MAX) else { return Ok(()) };
        self.received.extend(bytes);
        let cursors =
            if self.is_native { native::cursors(&mut self.received) } else { mqtt::cursors(&mut self.received) }?;
        for cursor in cursors {
            let offset = offset_of(&cursor)?;
            if self.up_to.is_some_and(|up_to| offset > up_to) {
                let Self { reader, at, .. } = self;
                return Err(format!("node {at} delivers {offset} for reader {reader}, whose session is at another"));
            }
        }
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
    /// The state of MQTT, if it publishes exactly once over MQTT; else it publishes over HTTP, and repeats a request
    /// that was not answered.
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

    /// Sends its message or waits for the answer, if it has one; `padding` makes the body longer.
    pub(crate) fn step(&mut self, network: &mut Network, checker: &mut Checker, padding: usize) -> Result<(), String> {
        let Some(number) = self.number else { return Ok(()) };
        let listener = if self.writer.is_some() { MQTT } else { HTTP };
        let link = *self.link.get_or_insert_with(|| network.connect(listener, 1 << 16));
        // The bytes are the same at each retry: the padding depends on the number alone.
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
