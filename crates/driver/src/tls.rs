//! TLS between a socket and its wire (RFC 8446, RFC 5246), through rustls; or nothing.

use std::io::{self, IoSlice, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use everywire_wire::Outbox;
use rustls::ServerConnection;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{AcceptedAlert, Acceptor};

use crate::net::Net;
use crate::proxy::Proxied;

pub use rustls::ServerConfig;

/// Slices of one `writev`.
const SLICES: usize = 64;
/// Bytes that rustls may hold for us before the socket has taken them.
const TLS_BUFFER: usize = 64 << 10;

/// The way in which bytes travel on a connection.
pub(crate) enum Transport {
    /// As they are.
    Plain,
    /// To be encrypted, once the client has said which protocols it speaks.
    Greeting(Box<Greeting>),
    /// Encrypted.
    Tls(Box<ServerConnection>),
    /// From a trusted proxy, which may say for whom it speaks before anything else.
    Proxied(Box<Proxied>),
}

/// The result of a flush.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flushed {
    /// Everything was written.
    All,
    /// The socket takes no more at present.
    Some,
}

impl Transport {
    /// The transport of a new connection of a listener.
    pub(crate) fn new(tls: Option<Tls>) -> Self {
        tls.map_or(Transport::Plain, |tls| {
            Transport::Greeting(Box::new(Greeting { acceptor: Acceptor::default(), tls }))
        })
    }

    /// Begins with bytes that were read already; gives those of them that are plain.
    pub(crate) fn begin_with(&mut self, bytes: &[u8], buffer: &mut [u8]) -> io::Result<usize> {
        if let Transport::Greeting(greeting) = self {
            greeting.acceptor.read_tls(&mut &*bytes)?;
            return Ok(0);
        }
        buffer[..bytes.len()].copy_from_slice(bytes);
        Ok(bytes.len())
    }

    /// Reads plain bytes; 0 is the end.
    pub(crate) fn read<N: Net>(&mut self, net: &mut N, socket: &mut N::Socket, buffer: &mut [u8]) -> io::Result<usize> {
        if let Transport::Greeting(greeting) = self {
            let Some(connection) = greeting.read(net, socket)? else { return Ok(0) };
            *self = Transport::Tls(Box::new(connection));
        }
        let Transport::Tls(tls) = self else { return net.read(socket, buffer) };
        loop {
            match tls.reader().read(buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                // An end without close_notify: the wires' own framing tells whether something is missing.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                done => return done,
            }
            tls.read_tls(&mut Wired { net, socket })?;
            tls.process_new_packets().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("TLS: {e}")))?;
        }
    }

    /// Writes the outbox, and what TLS itself has to say. Also gives the number of bytes that the socket took.
    pub(crate) fn flush<N: Net>(
        &mut self,
        net: &mut N,
        socket: &mut N::Socket,
        outbox: &mut Outbox,
    ) -> (io::Result<Flushed>, u64) {
        let mut written = 0;
        let result = match self {
            Transport::Plain => flush_plain(net, socket, outbox, &mut written),
            // Nothing is written before the wire has read something.
            Transport::Proxied(_) | Transport::Greeting(_) => Ok(Flushed::All),
            Transport::Tls(tls) => flush_tls(tls, net, socket, outbox, &mut written),
        };
        (result, written)
    }

    /// Whether TLS itself has something to write.
    pub(crate) fn wants_write(&self) -> bool {
        matches!(self, Transport::Tls(tls) if tls.wants_write())
    }

    /// Says that nothing more will come, within TLS.
    pub(crate) fn finish(&mut self) {
        if let Transport::Tls(tls) = self {
            tls.send_close_notify();
        }
    }
}

/// A client that has not said yet which protocols it speaks.
pub(crate) struct Greeting {
    acceptor: Acceptor,
    tls: Tls,
}

impl Greeting {
    /// Reads the first message of the handshake; `None` is the end.
    fn read<N: Net>(&mut self, net: &mut N, socket: &mut N::Socket) -> io::Result<Option<ServerConnection>> {
        loop {
            let failed = |(error, mut alert): (rustls::Error, AcceptedAlert), net: &mut N, socket: &mut N::Socket| {
                let _ = alert.write_all(&mut Wired { net, socket }); // the client may be gone
                io::Error::new(io::ErrorKind::InvalidData, format!("TLS: {error}"))
            };
            match self.acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let config = self.tls.fitting(accepted.client_hello().alpn());
                    let made = accepted.into_connection(config).map_err(|error| failed(error, net, socket));
                    let mut connection = made?;
                    connection.set_buffer_limit(Some(TLS_BUFFER));
                    return Ok(Some(connection));
                }
                Err(error) => return Err(failed(error, net, socket)),
            }
            if self.acceptor.read_tls(&mut Wired { net: &mut *net, socket: &mut *socket })? == 0 {
                return Ok(None);
            }
        }
    }
}

/// The certificates of a listener, and the protocols behind them (RFC 7301).
#[derive(Clone, Debug)]
pub struct Tls {
    config: Arc<ServerConfig>,
    /// The configuration for clients that name only other protocols; without it they are refused.
    others: Option<Arc<ServerConfig>>,
}

impl Tls {
    /// TLS for a listener that speaks these protocols, and refuses clients that name only others.
    pub fn strict(certificates: &ServerConfig, protocols: &[&str]) -> Self {
        let mut config = certificates.clone();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Self { config: Arc::new(config), others: None }
    }

    /// TLS for a listener that speaks these protocols, also with clients that name only others.
    pub fn lenient(certificates: &ServerConfig, protocols: &[&str]) -> Self {
        let mut others = certificates.clone();
        others.alpn_protocols.clear();
        Self { others: Some(Arc::new(others)), ..Self::strict(certificates, protocols) }
    }

    /// The same with other certificates.
    pub(crate) fn renewed(&self, certificates: &ServerConfig) -> Self {
        let with = |config: &Arc<ServerConfig>| {
            let mut fresh = certificates.clone();
            fresh.alpn_protocols.clone_from(&config.alpn_protocols);
            Arc::new(fresh)
        };
        Self { config: with(&self.config), others: self.others.as_ref().map(with) }
    }

    fn fitting<'a>(&self, offered: Option<impl Iterator<Item = &'a [u8]>>) -> Arc<ServerConfig> {
        let is_ours = |name: &[u8]| self.config.alpn_protocols.iter().any(|own| own == name);
        let others = self.others.as_ref().filter(|_| offered.is_some_and(|mut names| !names.any(is_ours)));
        Arc::clone(others.unwrap_or(&self.config))
    }
}

fn would_block(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(n) => Ok(Some(n)),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(Some(0)),
        Err(e) => Err(e),
    }
}

fn flush_plain<N: Net>(
    net: &mut N,
    socket: &mut N::Socket,
    outbox: &mut Outbox,
    written: &mut u64,
) -> io::Result<Flushed> {
    while !outbox.is_empty() {
        let result = if let Some(bytes) = outbox.only() {
            net.write(socket, &[IoSlice::new(bytes)])
        } else {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = outbox.slices(&mut slices);
            net.write(socket, &slices[..filled])
        };
        let Some(n) = would_block(result)? else { return Ok(Flushed::Some) };
        outbox.advance(n);
        *written += n as u64;
    }
    Ok(Flushed::All)
}

fn flush_tls<N: Net>(
    tls: &mut ServerConnection,
    net: &mut N,
    socket: &mut N::Socket,
    outbox: &mut Outbox,
    written: &mut u64,
) -> io::Result<Flushed> {
    loop {
        while !outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = outbox.slices(&mut slices);
            let taken = tls.writer().write_vectored(&slices[..filled])?;
            if taken == 0 {
                break;
            }
            outbox.advance(taken);
        }
        while tls.wants_write() {
            let Some(n) = would_block(tls.write_tls(&mut Wired { net, socket }))? else { return Ok(Flushed::Some) };
            *written += n as u64;
        }
        // During the handshake TLS takes no more than its buffer, and nothing is written before it is over.
        if outbox.is_empty() || tls.is_handshaking() {
            return Ok(Flushed::All);
        }
    }
}

/// A socket as rustls wants it.
struct Wired<'a, N: Net> {
    net: &'a mut N,
    socket: &'a mut N::Socket,
}

impl<N: Net> Read for Wired<'_, N> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.net.read(self.socket, buffer)
    }
}

impl<N: Net> Write for Wired<'_, N> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.net.write(self.socket, &[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.net.write(self.socket, slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An error for certificates that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read, or holds no PEM of that kind.
    #[error("can't read the {what} in {}: {source}", path.display())]
    File {
        /// `certificate` or `private key`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: rustls::pki_types::pem::Error,
    },
    /// Certificate and key don't go together, or are of a kind that isn't known.
    #[error("the certificate and its key can't be used: {0}")]
    Unusable(#[from] rustls::Error),
}

/// Reads a chain of certificates and its private key, both PEM.
pub fn load(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let failed = |what, path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::File { what, path, source }
    };
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(failed("certificate", cert))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(failed("private key", key))?;
    Ok(Arc::new(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?))
}
