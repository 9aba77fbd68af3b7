//! Reading, from sockets to wires: new bytes, bytes that a wire did not use yet, and the end.
//!
//! The end is told last: a wire hears of it when it has taken all bytes that came before, or would use none of them, so
//! that a paused one gets the bytes that were sent before a goodbye.

use std::io;

use everywire_base::id::Slot;
use everywire_base::notice::{Notice, Refused};
use everywire_base::reason::Reason;
use everywire_wire::{Input, Position, Then};

use crate::connection::{Flag, Inbound, List, Phase};
use crate::connections::Connections;
use crate::net::Net;
use crate::tls::Transport;

impl<N: Net> Connections<N> {
    /// Reads from a connection once, and offers the wire all that it did not use yet.
    pub(crate) fn serve(&mut self, slot: Slot, position: &Position) {
        let Some(connection) = self.table.get_mut(slot) else { return };
        connection.delist(List::Serve);
        match connection.phase {
            Phase::Open => {}
            Phase::Lingering => return self.linger(slot),
            Phase::Paused | Phase::Closing => return,
        }
        let mut kept = connection.take_input();
        let mut buffer = std::mem::take(&mut self.buffer);
        self.renew(slot);
        match self.receive(slot, &mut buffer, kept.len()) {
            Err(error) => {
                self.note(slot, Notice::new(Refused::Handshake, error.to_string()));
                self.alert(slot);
                self.drop_now(slot, &Reason::PeerClosed);
            }
            Ok(n) if kept.is_empty() => {
                let used = self.offer(slot, position, &buffer[..n]);
                self.keep(slot, buffer[used..n].to_vec());
                self.weigh(slot, n, position);
            }
            Ok(n) => {
                kept.extend_from_slice(&buffer[..n]);
                let used = self.offer(slot, position, &kept);
                kept.drain(..used);
                self.keep(slot, kept);
                self.weigh(slot, n, position);
            }
        }
        self.buffer = buffer;
    }

    /// Reads the bytes that have come, before the connection is judged by its silence. Bytes that aren't offered now,
    /// since the wire is paused or the log has no room, are only noted as come.
    pub(crate) fn look(&mut self, slot: Slot, position: &Position, holds: bool) {
        let Some(connection) = self.table.get_mut(slot).filter(|c| c.is_alive()) else { return };
        let is_served = connection.phase == Phase::Open && !holds && !connection.is_listed(List::Ask);
        if connection.inbound == Inbound::Nothing {
            connection.inbound = Inbound::Bytes;
        }
        if is_served {
            return self.serve(slot, position);
        }
        let mut kept = connection.take_input();
        let mut buffer = std::mem::take(&mut self.buffer);
        if let Ok(n) = self.receive(slot, &mut buffer, kept.len()) {
            kept.extend_from_slice(&buffer[..n]);
        }
        self.buffer = buffer;
        self.keep(slot, kept);
    }

    /// Reads once, unless as many bytes are kept as the wire may leave unused. An error is one of TLS: a reset
    /// connection has ended, like any other.
    fn receive(&mut self, slot: Slot, buffer: &mut [u8], kept: usize) -> io::Result<usize> {
        let Some(connection) = self.table.get_mut(slot) else { return Ok(0) };
        if !matches!(connection.inbound, Inbound::Bytes | Inbound::LastBytes) || kept >= buffer.len() {
            return Ok(0);
        }
        if matches!(connection.transport, Transport::Proxied(_)) {
            return self.open_proxied(slot, buffer);
        }
        let result = connection.transport.read(&mut self.net, &mut connection.socket, buffer);
        let plain = matches!(connection.transport, Transport::Plain);
        let result = match result {
            Ok(0) => {
                connection.inbound = Inbound::Ended;
                Ok(0)
            }
            Ok(n) => {
                self.metrics.bytes_in.add(n as u64);
                self.last_read = n as u64;
                connection.heard = self.now.monotonic;
                connection.bytes_in += n as u64;
                // A short read took all bytes that were there: the next ones come with an event of their own.
                if plain && n < buffer.len() && connection.inbound == Inbound::Bytes {
                    connection.inbound = Inbound::Nothing;
                }
                Ok(n)
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                connection.inbound = Inbound::Nothing;
                Ok(0)
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(e) if e.kind() == io::ErrorKind::InvalidData => Err(e),
            Err(_) => {
                connection.inbound = Inbound::Ended;
                Ok(0)
            }
        };
        if connection.transport.wants_write() {
            self.enlist(slot, List::Flush);
        }
        result
    }

    /// Offers bytes to the wire until it uses none, takes none or wants more later, and then the end, if it has come.
    /// Gives the number of bytes that it used.
    fn offer(&mut self, slot: Slot, position: &Position, bytes: &[u8]) -> usize {
        let ended = self.table.get_mut(slot).is_some_and(|c| c.inbound == Inbound::Ended);
        let (mut used, mut is_end) = (0, false);
        loop {
            let rest = &bytes[used..];
            is_end |= rest.is_empty();
            if is_end && !ended {
                return used;
            }
            let input = if is_end { Input::End(rest) } else { Input::Bytes(rest) };
            let Some(progress) = self.call(slot, Some(position), |wire, cx| wire.read(cx, input)) else { return used };
            used += progress.used;
            let became = matches!(progress.then, Then::Become(_));
            let later = matches!(progress.then, Then::Later);
            let stuck = progress.used == 0 && !became;
            self.go_on(slot, progress.then);
            let Some(connection) = self.table.get_mut(slot).filter(|c| c.phase == Phase::Open) else { return used };
            if later {
                return used;
            }
            if stuck && is_end {
                // It may go on writing to a peer that has only ended its side, but not to one that is gone.
                if connection.is(Flag::Deaf) {
                    self.drop_now(slot, &Reason::PeerClosed);
                }
                return used;
            }
            is_end = stuck;
        }
    }

    /// Keeps the bytes that were not used, and has the connection served again if there may be more.
    fn keep(&mut self, slot: Slot, rest: Vec<u8>) {
        let room = self.limits.receive_buffer_bytes;
        let Some(connection) = self.table.get_mut(slot).filter(|c| c.is_alive()) else { return };
        let unread = matches!(connection.inbound, Inbound::Bytes | Inbound::LastBytes) && rest.len() < room;
        connection.keep_input(rest);
        if connection.phase == Phase::Open && unread {
            self.enlist(slot, List::Serve);
        }
    }

    fn linger(&mut self, slot: Slot) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = self.receive(slot, &mut buffer, 0);
        self.buffer = buffer;
        match self.table.get_mut(slot).map(|c| c.inbound) {
            Some(Inbound::Nothing) if result.is_ok() => {}
            Some(Inbound::Bytes | Inbound::LastBytes) if result.is_ok() => self.enlist(slot, List::Serve),
            _ => self.drop_now(slot, &Reason::Done),
        }
    }
}
