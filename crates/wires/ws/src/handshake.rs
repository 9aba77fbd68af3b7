//! The opening handshake (RFC 6455 §4.2), subprotocols (§1.9).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use everywire_wire::{Carried, Context, Denied, Framing, Upgrade, UpgradeRequest, Wire};
use sha1::{Digest, Sha1};

use crate::deflate::{Plain, deflated};
use crate::echo::{ECHO_MESSAGE_BYTES, Echo};
use crate::extension::negotiate;
use crate::socket::WebSocket;

/// The constant of §1.3, by which the key is answered.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A protocol that WebSocket carries.
pub struct Subprotocol {
    /// Its name in `Sec-WebSocket-Protocol`.
    pub name: &'static str,
    /// Another name by which some clients ask for it.
    pub also: Option<&'static str>,
    /// Makes it for a connection.
    pub make: Make,
}

impl Subprotocol {
    /// The one of its names that this is, if any.
    fn called(&self, name: &str) -> Option<&'static str> {
        std::iter::once(self.name).chain(self.also).find(|own| *own == name)
    }
}

/// Makes a carried protocol for the connection of a request.
pub type Make = Box<dyn Fn(&UpgradeRequest<'_>) -> Box<dyn Carried> + Send + Sync>;

/// Makes WebSocket connections of HTTP requests: on `/v1/ws`, and on `/v1/echo` if wanted.
pub struct WsUpgrade {
    subprotocols: Vec<Subprotocol>,
    /// Paths on which only one of them is spoken.
    paths: Vec<(&'static str, &'static str)>,
    echoes: bool,
}

impl WsUpgrade {
    /// An upgrade with these subprotocols; a client that names none speaks the first.
    pub fn new(subprotocols: Vec<Subprotocol>) -> Self {
        Self { subprotocols, paths: Vec::new(), echoes: false }
    }

    /// Adds a path of its own for a subprotocol.
    #[must_use]
    pub fn on(mut self, path: &'static str, subprotocol: &'static str) -> Self {
        self.paths.push((path, subprotocol));
        self
    }

    /// Adds `/v1/echo` for conformance tests.
    #[must_use]
    pub fn with_echo(self, echoes: bool) -> Self {
        Self { echoes, ..self }
    }

    /// The protocol that the client wants (§4.2.2), and the name by which it asked for it.
    fn choose(&self, request: &UpgradeRequest<'_>) -> Result<(&Subprotocol, Option<&'static str>), Denied> {
        let values = request.all("sec-websocket-protocol").filter_map(|value| std::str::from_utf8(value).ok());
        let mut named = values.flat_map(|value| value.split(',')).map(str::trim).filter(|name| !name.is_empty());
        let mut names_any = false;
        let only = self.paths.iter().find(|(path, _)| *path == request.path).map(|(_, name)| *name);
        let here = || self.subprotocols.iter().filter(|known| only.is_none_or(|only| known.name == only));
        let known = named.find_map(|name| {
            names_any = true;
            here().find_map(|known| Some((known, Some(known.called(name)?))))
        });
        match (known, here().next()) {
            (Some(found), _) => Ok(found),
            (None, Some(first)) if !names_any => Ok((first, None)),
            _ => {
                let there: Vec<_> = here().map(|known| known.name).collect();
                Err(denied(400, &format!("no such subprotocol here: there are {}", there.join(", ")), vec![]))
            }
        }
    }
}

impl Upgrade for WsUpgrade {
    fn serves(&self, path: &str) -> bool {
        let is_own = self.paths.iter().any(|(own, _)| *own == path);
        path == "/v1/ws" || is_own || (self.echoes && path == "/v1/echo")
    }

    fn upgrade(&self, cx: &mut Context<'_>, request: &UpgradeRequest<'_>) -> Result<Box<dyn Wire>, Denied> {
        let key = check(request)?;
        let is_echo = request.path == "/v1/echo";
        let (carried, protocol): (Box<dyn Carried>, _) = if is_echo {
            (Box::new(Echo), None)
        } else {
            let (chosen, name) = self.choose(request)?;
            ((chosen.make)(request), name)
        };
        let offers = request.all("sec-websocket-extensions").filter_map(|value| std::str::from_utf8(value).ok());
        let agreed = negotiate(offers);
        cx.out.write(|out| {
            let accept = STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize());
            out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n");
            out.extend_from_slice(format!("Sec-WebSocket-Accept: {accept}\r\n").as_bytes());
            if let Some(name) = protocol {
                out.extend_from_slice(format!("Sec-WebSocket-Protocol: {name}\r\n").as_bytes());
            }
            if let Some(agreed) = agreed {
                out.extend_from_slice(format!("Sec-WebSocket-Extensions: {}\r\n", agreed.response()).as_bytes());
            }
            out.extend_from_slice(b"\r\n");
        });
        let framing: &'static dyn Framing = match agreed {
            Some(agreed) => deflated(agreed.bits),
            None => &Plain,
        };
        let bound = is_echo.then_some(ECHO_MESSAGE_BYTES as u32);
        let mut socket = WebSocket::new(carried, framing, agreed.is_some(), bound, cx.now);
        socket.begin(cx);
        Ok(Box::new(socket))
    }
}

/// Checks the request (§4.2.1), and gives the key.
fn check<'a>(request: &'a UpgradeRequest<'_>) -> Result<&'a str, Denied> {
    const UPGRADE: (&str, &str) = ("Upgrade", "websocket");
    if request.method != "GET" {
        return Err(denied(405, "a WebSocket is opened with GET", vec![("Allow", "GET")]));
    }
    if !has_token(request, "upgrade", "websocket") || !has_token(request, "connection", "upgrade") {
        let detail = "this address speaks WebSocket: send Connection: Upgrade and Upgrade: websocket";
        return Err(denied(426, detail, vec![UPGRADE, ("Connection", "Upgrade")]));
    }
    if request.one("sec-websocket-version") != Some("13") {
        let detail = "only version 13 of WebSocket is spoken here (Sec-WebSocket-Version: 13)";
        return Err(denied(426, detail, vec![("Sec-WebSocket-Version", "13"), UPGRADE, ("Connection", "Upgrade")]));
    }
    let key = request.one("sec-websocket-key");
    key.filter(|key| STANDARD.decode(key).is_ok_and(|key| key.len() == 16))
        .ok_or_else(|| denied(400, "Sec-WebSocket-Key must be 16 bytes in base64, once", vec![]))
}

fn denied(status: u16, detail: &str, fields: Vec<(&'static str, &'static str)>) -> Denied {
    Denied { status, detail: detail.into(), fields }
}

/// Whether a list of tokens has this one, in any case (RFC 9110 §5.6.1).
fn has_token(request: &UpgradeRequest<'_>, field: &str, token: &str) -> bool {
    let values = request.all(field).filter_map(|value| std::str::from_utf8(value).ok());
    values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(token))
}
