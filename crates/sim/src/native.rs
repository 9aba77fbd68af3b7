//! Readers that speak the native protocol, on TCP or within WebSocket: by cursor, or in a session.
//!
//! A session promises at least once: messages that were not acknowledged come again after a cut, in order. The reader
//! counts a message that it has seen before as seen; everything else is checked as on every other wire. A session that
//! was welcomed exists at the next connection, whatever happened to the server.

use everywire_base::topic::Filter;
use everywire_native_frames::{
    self as pb, ClientFrame, Encode as _, Length, PREAMBLE, ServerFrame, client_frame::Frame as Asked,
    server_frame::Frame as Said,
};

use crate::net::Network;
use crate::websocket::{self, Came};

/// The number of messages that a session takes before it acknowledges them: fewer than half of the smallest window, as
/// a message that came twice may count twice until the next acknowledgement.
const UNACKNOWLEDGED: u32 = 2;

/// The number of its subscription.
const SUBSCRIPTION: u64 = 1;

/// An event that some received bytes hold.
pub(crate) enum News {
    /// A message; in a session, one that was not acknowledged may come again.
    Message { topic: String, cursor: String, body: Vec<u8>, may_repeat: bool },
    /// A gap, in the server's words.
    Gap(String),
    /// The server ends the connection.
    Close,
}

/// The transport of the frames.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Over {
    #[default]
    Tcp,
    /// WebSocket, before the handshake was answered.
    Handshake,
    WebSocket,
}

/// The state of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Entry {
    /// The server has said nothing yet.
    #[default]
    Out,
    /// The server has welcomed it.
    In,
    /// The server has confirmed its subscription: no message may come before.
    Confirmed,
}

/// The state of such a reader: the part of one connection, and the session that outlives it.
#[derive(Default)]
pub(crate) struct Native {
    over: Over,
    wants_session: bool,
    entry: Entry,
    /// The token that it shows on this connection.
    token: Option<String>,
    session: Option<String>,
    /// The server has confirmed the subscription: with a session it need not be repeated.
    has_subscribed: bool,
    unacknowledged: u32,
}

impl Native {
    pub(crate) fn new(within_websocket: bool, wants_session: bool) -> Self {
        let over = if within_websocket { Over::Handshake } else { Over::Tcp };
        Self { over, wants_session, ..Self::default() }
    }

    /// Sends the first bytes of a new connection.
    pub(crate) fn begin(
        &mut self,
        network: &mut Network,
        link: u32,
        token: Option<String>,
        (filters, cursor): (&[Filter], Option<&str>),
    ) {
        self.token = token;
        if self.over == Over::Tcp {
            network.send(link, PREAMBLE);
            self.hello(network, link, filters, cursor);
        } else {
            self.over = Over::Handshake;
            network.send(link, websocket::HANDSHAKE);
        }
    }

    /// Whether the server has let this connection in.
    pub(crate) fn is_in(&self) -> bool {
        self.entry != Entry::Out
    }

    /// Whether the server has confirmed its subscription: until then it subscribes again.
    pub(crate) fn has_subscribed(&self) -> bool {
        self.has_subscribed
    }

    fn hello(&mut self, network: &mut Network, link: u32, filters: &[Filter], cursor: Option<&str>) {
        let token = self.token.clone().unwrap_or_default();
        if self.wants_session {
            let session = self.session.clone().unwrap_or_else(|| "new".to_owned());
            self.send(network, link, Asked::Hello(pb::Hello { session, token, expiry: 3600, ..pb::Hello::default() }));
        } else if self.token.is_some() {
            self.send(network, link, Asked::Hello(pb::Hello { token, ..pb::Hello::default() }));
        } else {
            self.subscribe(network, link, filters, cursor);
        }
    }

    /// Reads the next frame; `None` if it isn't whole yet.
    pub(crate) fn next(
        &mut self,
        received: &mut Vec<u8>,
        network: &mut Network,
        link: u32,
        (filters, cursor): (&[Filter], Option<&str>),
    ) -> Result<Option<Vec<News>>, String> {
        let frame = match self.over {
            Over::Tcp => next_frame(received)?,
            Over::Handshake => match websocket::opened(received) {
                None => return Ok(None),
                Some(false) => return Ok(Some(vec![News::Close])),
                Some(true) => {
                    self.over = Over::WebSocket;
                    self.hello(network, link, filters, cursor);
                    return Ok(Some(Vec::new()));
                }
            },
            Over::WebSocket => match websocket::next(received, network, link)? {
                None => None,
                Some(Came::Message(frame)) => Some(frame),
                Some(Came::Close) => return Ok(Some(vec![News::Close])),
                Some(Came::Nothing) => return Ok(Some(Vec::new())),
            },
        };
        let Some(frame) = frame else { return Ok(None) };
        let frame = ServerFrame::decode(&frame[..]).map_err(|error| error.to_string())?.frame;
        self.take(frame.ok_or("an unknown frame")?, network, link, (filters, cursor)).map(Some)
    }

    fn take(
        &mut self,
        frame: Said,
        network: &mut Network,
        link: u32,
        (filters, cursor): (&[Filter], Option<&str>),
    ) -> Result<Vec<News>, String> {
        match frame {
            Said::Welcome(_) if !self.wants_session => {
                self.entry = Entry::In;
                self.subscribe(network, link, filters, cursor);
            }
            Said::Welcome(welcome) => {
                if self.session.is_some() && !welcome.resumed {
                    return Err(format!("session {:?} was lost", self.session));
                }
                self.session = Some(welcome.session);
                self.entry = if welcome.resumed { Entry::Confirmed } else { Entry::In };
                if !self.has_subscribed {
                    self.subscribe(network, link, filters, None);
                }
            }
            Said::Subscribed(subscribed) => {
                (self.has_subscribed, self.entry) = (true, Entry::Confirmed);
                let gap = format!("its cursor can't be honoured; it goes on from {}", subscribed.cursor);
                return Ok(subscribed.gap.then_some(News::Gap(gap)).into_iter().collect());
            }
            Said::Message(_) if self.entry != Entry::Confirmed => {
                return Err("a message before its subscription".into());
            }
            Said::Message(m) => {
                self.unacknowledged += 1;
                if self.wants_session && self.unacknowledged >= UNACKNOWLEDGED {
                    self.unacknowledged = 0;
                    self.send(network, link, Asked::Ack(pb::Ack { cursor: m.cursor.clone() }));
                }
                return Ok(vec![News::Message {
                    topic: m.topic,
                    cursor: m.cursor,
                    body: m.body,
                    may_repeat: self.wants_session,
                }]);
            }
            Said::Gap(gap) => return Ok(vec![News::Gap(format!("{gap:?}"))]),
            Said::Close(_) => return Ok(vec![News::Close]),
            // The token has expired, or too many logins wait.
            Said::Error(error) if self.token.is_some() && matches!(error.code, 401 | 503) => {
                return Ok(vec![News::Close]);
            }
            // The node doesn't know its cursor yet.
            Said::Error(error) if error.code == 503 && error.id == SUBSCRIPTION => return Ok(vec![News::Close]),
            Said::Ping(_) => self.send(network, link, Asked::Pong(pb::Pong {})),
            Said::Error(error) if error.code != 503 && error.code != 429 => return Err(format!("refused: {error:?}")),
            _ => {}
        }
        Ok(Vec::new())
    }

    /// Forgets the state of the connection, which is over.
    pub(crate) fn disconnected(&mut self) {
        (self.unacknowledged, self.entry) = (0, Entry::Out);
    }

    fn subscribe(&self, network: &mut Network, link: u32, filters: &[Filter], cursor: Option<&str>) {
        let topics = filters.iter().map(|filter| filter.as_str().to_owned()).collect();
        let after = cursor.unwrap_or("earliest").to_owned();
        self.send(network, link, Asked::Subscribe(pb::Subscribe { id: SUBSCRIPTION, topics, after }));
    }

    fn send(&self, network: &mut Network, link: u32, frame: Asked) {
        let frame = ClientFrame { frame: Some(frame) }.encode_to_vec();
        if self.over == Over::Tcp {
            let mut bytes = Vec::new();
            everywire_native_frames::frame(&frame, &mut bytes);
            network.send(link, &bytes);
        } else {
            websocket::say(network, link, &frame);
        }
    }
}

/// The cursors of the messages among the whole frames that have come on TCP.
pub(crate) fn cursors(received: &mut Vec<u8>) -> Result<Vec<String>, String> {
    let mut cursors = Vec::new();
    while let Some(frame) = next_frame(received)? {
        let frame = ServerFrame::decode(&frame[..]).map_err(|error| error.to_string())?.frame;
        if let Some(Said::Message(message)) = frame {
            cursors.push(message.cursor);
        }
    }
    Ok(cursors)
}

/// Takes the next frame on TCP off the front, if it is whole.
fn next_frame(received: &mut Vec<u8>) -> Result<Option<Vec<u8>>, String> {
    let (len, at) = match everywire_native_frames::length(received) {
        Length::Unknown => return Ok(None),
        Length::Malformed => return Err("a frame's length is malformed".into()),
        Length::Known(len, at) => (len as usize, at),
    };
    let is_whole = received.len() >= at + len;
    Ok(is_whole.then(|| received.drain(..at + len).skip(at).collect()))
}
