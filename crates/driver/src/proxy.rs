//! PROXY protocol, version 2 (haproxy, `doc/proxy-protocol.txt`, §2.2): a proxy says for whom it speaks, before TLS.
//!
//! Only connections from trusted proxies may begin so; such a connection that begins otherwise is served as what it is.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::connection::{Flag, Inbound};
use crate::connections::Connections;
use crate::net::Net;
use crate::tls::{Tls, Transport};
use everywire_base::id::Slot;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, version and command, family, length.
const HEAD: usize = 16;
/// The most bytes behind it: addresses, and fields that are not read here.
const MOST: usize = 4096;

/// A connection from a trusted proxy that has not said yet for whom it speaks.
pub(crate) struct Proxied {
    bytes: Vec<u8>,
    then: Option<Tls>,
}

/// The beginning of such a connection.
enum Beginning {
    /// A header, with the client for whom the proxy speaks, if not for itself.
    Header(Option<SocketAddr>),
    /// No header.
    Other,
    /// The proxy has ended it.
    End,
}

impl Proxied {
    /// A connection whose bytes after the header are encrypted with `then`, or plain.
    pub(crate) fn new(then: Option<Tls>) -> Self {
        Self { bytes: Vec::new(), then }
    }

    /// Reads the header and not a byte more.
    fn read<N: Net>(&mut self, net: &mut N, socket: &mut N::Socket) -> io::Result<Beginning> {
        loop {
            let seen = self.bytes.len().min(SIGNATURE.len());
            if self.bytes[..seen] != SIGNATURE[..seen] {
                return Ok(Beginning::Other);
            }
            let wanted = match self.bytes.get(..HEAD) {
                None => HEAD,
                Some(head) => HEAD + usize::from(u16::from_be_bytes([head[14], head[15]])),
            };
            if wanted > HEAD + MOST {
                return Err(malformed("a header of more than 4,096 bytes"));
            }
            if self.bytes.len() == wanted {
                return source(&self.bytes).map(Beginning::Header);
            }
            let before = self.bytes.len();
            self.bytes.resize(wanted, 0);
            let result = net.read(socket, &mut self.bytes[before..]);
            self.bytes.truncate(before + *result.as_ref().unwrap_or(&0));
            if result? == 0 {
                return Ok(Beginning::End);
            }
        }
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("PROXY protocol: {what}"))
}

/// The client for whom the proxy speaks; `None` for itself, or for a kind of address that isn't known here.
fn source(header: &[u8]) -> io::Result<Option<SocketAddr>> {
    let (command, family, rest) = (header[12], header[13], &header[HEAD..]);
    let port = |at: usize| Some(u16::from_be_bytes([*rest.get(at)?, *rest.get(at + 1)?]));
    let address = match (command, family) {
        (0x21, 0x11) => rest.first_chunk::<4>().map(|bytes| IpAddr::V4(Ipv4Addr::from(*bytes))).zip(port(8)),
        (0x21, 0x21) => rest.first_chunk::<16>().map(|bytes| IpAddr::V6(Ipv6Addr::from(*bytes))).zip(port(32)),
        // The proxy speaks for itself, or for an address of another kind.
        (0x20 | 0x21, _) => return Ok(None),
        _ => return Err(malformed("a version or command that isn't known")),
    };
    address.map(|found| Some(found.into())).ok_or_else(|| malformed("a header without its addresses"))
}

impl<N: Net> Connections<N> {
    /// Whether an address is a trusted proxy's.
    pub(crate) fn is_trusted(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(address))
    }

    /// Notes the address for which a trusted proxy sends a request.
    pub(crate) fn came_from(&mut self, slot: Slot, address: IpAddr) {
        let Some(connection) = self.table.get_mut(slot).filter(|c| c.is(Flag::ThroughProxy)) else { return };
        if connection.address().ip() != address {
            let held = connection.take_held();
            let before = connection.set_address(SocketAddr::new(address, 0));
            if connection.set(Flag::Counted, false) {
                self.crowd.leave(before.ip());
            }
            self.unweigh(before.ip(), held);
            self.came_from.push((slot, address));
        }
    }

    /// Reads the header in which a proxy says for whom it speaks. Gives the bytes that turned out to be the client's,
    /// if there is none.
    pub(crate) fn open_proxied(&mut self, slot: Slot, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(connection) = self.table.get_mut(slot) else { return Ok(0) };
        let Transport::Proxied(proxied) = &mut connection.transport else { return Ok(0) };
        let beginning = match proxied.read(&mut self.net, &mut connection.socket) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                connection.inbound = Inbound::Nothing;
                return Ok(0);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(0),
            other => other?,
        };
        let bytes = std::mem::take(&mut proxied.bytes);
        let then = proxied.then.take();
        connection.transport = Transport::new(then);
        match beginning {
            Beginning::End => connection.inbound = Inbound::Ended,
            Beginning::Header(None) => {
                connection.set(Flag::ThroughProxy, false);
            }
            Beginning::Header(Some(source)) => {
                connection.set_address(source);
                connection.set(Flag::ThroughProxy, false);
                self.came_from.push((slot, source.ip()));
            }
            Beginning::Other => return connection.transport.begin_with(&bytes, buffer),
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        [&SIGNATURE[..], &[command, family], &(rest.len() as u16).to_be_bytes(), rest].concat()
    }

    #[test]
    fn sources() {
        let v4 = [192, 0, 2, 7, 10, 0, 0, 1, 0x9c, 0x40, 0, 80];
        assert_eq!(source(&header(0x21, 0x11, &v4)).unwrap(), Some("192.0.2.7:40000".parse().unwrap()));
        let with_more = [&v4[..], &[4, 0, 1, 0]].concat();
        assert_eq!(source(&header(0x21, 0x11, &with_more)).unwrap(), Some("192.0.2.7:40000".parse().unwrap()));
        let mut v6 = [0; 36];
        (v6[0], v6[1], v6[15], v6[33]) = (0xfd, 0, 1, 80);
        assert_eq!(source(&header(0x21, 0x21, &v6)).unwrap(), Some("[fd00::1]:80".parse().unwrap()));
        assert_eq!(source(&header(0x20, 0, &[])).unwrap(), None, "a proxy that looks whether we live");
        assert_eq!(source(&header(0x21, 0x31, &[0; 216])).unwrap(), None, "a Unix socket");
        assert!(source(&header(0x21, 0x11, &v4[..8])).is_err());
        assert!(source(&header(0x11, 0x11, &v4)).is_err(), "another version");
    }
}
