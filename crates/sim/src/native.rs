//! Readers that speak the native protocol, on TCP or within WebSocket: by cursor, or in a session.
//!
//! In a session at least once is promised: what was not acknowledged comes again after a cut, in order. The reader counts
//! what it has seen already as seen; everything else is checked as on every other wire. A session that was welcomed is
//! there at the next time, whatever happened to the server.

use everywire_base::topic::Filter;
use everywire_native_frames::{
    self as pb, ClientFrame, Encode as _, Length, PREAMBLE, ServerFrame, client_frame::Frame as Asked,
    server_frame::Frame as Said,
};

use crate::net::Network;
use crate::websocket::{self, Came};

/// How many messages a session takes before it acknowledges them: fewer than half of the smallest window, as some that came
/// twice may count twice until the next acknowledgement.
const UNACKNOWLEDGED: u32 = 2;

/// What comes of some bytes.
pub(crate) enum News {
    /// A message; in a session, one that was not acknowledged may come again.
    Message { topic: String, cursor: String, body: Vec<u8>, may_repeat: bool },
    /// A gap, in the server's words.
    Gap(String),
    /// The server ends it.
    Close,
}

/// What carries the frames.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Over {
    #[default]
    Tcp,
    /// Before the handshake was answered.
    Handshake,
    WebSocket,
}

/// The state of such a reader that belongs to one connection, and the session that outlives it.
#[derive(Default)]
pub(crate) struct Native {
    over: Over,
    wants_session: bool,
    session: Option<String>,
    /// The server has confirmed the subscription: with a session it need not be asked for again.
    has_subscribed: bool,
    /// Of this connection: nothing may come before its subscription is confirmed.
    is_unconfirmed: bool,
    unacknowledged: u32,
}

impl Native {
    pub(crate) fn new(within_websocket: bool, wants_session: bool) -> Self {
        let over = if within_websocket { Over::Handshake } else { Over::Tcp };
        Self { over, wants_session, ..Self::default() }
    }

    /// What a new connection begins with.
    pub(crate) fn begin(&mut self, network: &mut Network, link: u32, filters: &[Filter], cursor: Option<&str>) {
        if self.over == Over::Tcp {
            network.send(link, PREAMBLE);
            self.hello(network, link, filters, cursor);
        } else {
            self.over = Over::Handshake;
            network.send(link, websocket::HANDSHAKE);
        }
    }

    fn hello(&mut self, network: &mut Network, link: u32, filters: &[Filter], cursor: Option<&str>) {
        if self.wants_session {
            let session = self.session.clone().unwrap_or_else(|| "new".to_owned());
            self.send(network, link, Asked::Hello(pb::Hello { session, expiry: 3600, ..pb::Hello::default() }));
        } else {
            self.is_unconfirmed = true;
            self.subscribe(network, link, filters, cursor);
        }
    }

    /// Understands the next frame; `None` if it isn't whole yet.
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
        match frame.ok_or("an unknown frame")? {
            Said::Welcome(welcome) => {
                if self.session.is_some() && !welcome.resumed {
                    return Err(format!("session {:?} was lost", self.session));
                }
                self.session = Some(welcome.session);
                self.is_unconfirmed = !welcome.resumed;
                if !self.has_subscribed {
                    self.subscribe(network, link, filters, None);
                }
            }
            Said::Subscribed(_) => (self.has_subscribed, self.is_unconfirmed) = (true, false),
            Said::Message(_) if self.is_unconfirmed => return Err("a message before its subscription".into()),
            Said::Message(m) => {
                self.unacknowledged += 1;
                if self.wants_session && self.unacknowledged >= UNACKNOWLEDGED {
                    self.unacknowledged = 0;
                    self.send(network, link, Asked::Ack(pb::Ack { cursor: m.cursor.clone() }));
                }
                return Ok(Some(vec![News::Message {
                    topic: m.topic,
                    cursor: m.cursor,
                    body: m.body,
                    may_repeat: self.wants_session,
                }]));
            }
            Said::Gap(gap) => return Ok(Some(vec![News::Gap(format!("{gap:?}"))])),
            Said::Close(_) => return Ok(Some(vec![News::Close])),
            Said::Ping(_) => self.send(network, link, Asked::Pong(pb::Pong {})),
            Said::Error(error) if error.code != 503 && error.code != 429 => return Err(format!("refused: {error:?}")),
            _ => {}
        }
        Ok(Some(Vec::new()))
    }

    /// The connection is over.
    pub(crate) fn disconnected(&mut self) {
        (self.unacknowledged, self.is_unconfirmed) = (0, false);
    }

    fn subscribe(&self, network: &mut Network, link: u32, filters: &[Filter], cursor: Option<&str>) {
        let topics = filters.iter().map(|filter| filter.as_str().to_owned()).collect();
        let after = cursor.unwrap_or("earliest").to_owned();
        self.send(network, link, Asked::Subscribe(pb::Subscribe { id: 1, topics, after }));
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
