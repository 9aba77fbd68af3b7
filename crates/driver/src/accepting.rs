//! Accepting: a bounded number of connections in each turn, as long as there are files for them, each given to the
//! worker with the fewest.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use everywire_base::network::neighbourhood;
use everywire_base::notice::{Notice, Refused};
use everywire_base::reason::Reason;

use crate::connection::Flag;
use crate::connections::Connections;
use crate::crowd;
use crate::mail::{Accepted, Mail};
use crate::net::Net;
use crate::notices::From;
use crate::worker::Worker;

/// The delay after which a client with too many connections may come again.
const AGAIN: Duration = Duration::from_secs(1);
/// Connections accepted in one turn.
const ACCEPTS: usize = 256;

impl<N: Net> Worker<N> {
    /// Accepts a bounded number of connections from each listener that has some.
    pub(crate) fn accept(&mut self) {
        let mut listeners = std::mem::take(&mut self.accepting);
        listeners.retain(|listener| (0..ACCEPTS).all(|_| self.accept_one(*listener)));
        self.accepting.extend(listeners);
    }

    /// Accepts one connection; says whether there may be more.
    fn accept_one(&mut self, listener: u16) -> bool {
        let open = self.open_connections();
        let connections = &mut self.connections;
        let Some(socket) = &mut connections.listeners[usize::from(listener)].socket else { return false };
        if open >= self.most_connections {
            let why = format!(
                "{open} connections are open, and the files that are left are the log's, the store's and its readers': \
                 further clients wait; raise the limit of open files (LimitNOFILE, ulimit -Hn)"
            );
            return self.stall(listener, &why);
        }
        match connections.net.accept(socket) {
            Ok((socket, address)) => self.accepted(socket, address, listener),
            Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.accept_failures = 0;
                return false;
            }
            // Out of descriptors or memory: waiting clients stay in the kernel's queue until a connection closes.
            Err(e) => return self.stall(listener, &format!("can't accept: {e}; raise the limit of open files")),
        }
        true
    }

    fn accepted(&mut self, socket: N::Socket, address: SocketAddr, listener: u16) {
        // A proxy's connections are counted for the clients for whom it speaks.
        let is_proxy = self.connections.is_trusted(address.ip());
        if is_proxy || self.connections.crowd.enter(address.ip(), self.most_of(address.ip())) {
            let account = if is_proxy { None } else { self.accounts.of(neighbourhood(address.ip())) };
            return self.place(Accepted { socket, address, listener, account, is_counted: !is_proxy });
        }
        self.connections.metrics.refused.add(1);
        self.refused_connection(Some(address.ip()), "limits.address_connections are open");
        self.connections.net.close(socket);
    }

    /// Counts clients for whom proxies speak against the bounds of their addresses.
    pub(crate) fn count_addresses(&mut self) {
        for (slot, address) in std::mem::take(&mut self.connections.came_from) {
            let most = self.most_of(address);
            let Connections { table, crowd, .. } = &mut self.connections;
            let Some(connection) = table.get_mut(slot) else { continue };
            let is_counted = crowd.enter(address, most);
            connection.set(Flag::Counted, is_counted);
            let account = if is_counted { self.accounts.of(neighbourhood(address)) } else { None };
            connection.set_account(account);
            if is_counted {
                continue;
            }
            self.refused_connection(Some(address), "limits.address_connections are open");
            self.connections.end_soon(slot, Reason::Overloaded(AGAIN));
        }
    }

    /// The number of connections that an address may have.
    fn most_of(&self, address: IpAddr) -> u64 {
        crowd::most_of(address, &self.connections.limits, self.most_connections)
    }

    fn refused_connection(&mut self, address: Option<IpAddr>, why: &str) {
        self.connections.notices.push((None, From { address, wire: "" }, Notice::new(Refused::Connection, why)));
    }

    /// Puts off accepting to a later turn.
    fn stall(&mut self, listener: u16, why: &str) -> bool {
        if self.accept_failures == 0 {
            self.refused_connection(None, why);
        }
        self.accept_failures += 1;
        self.stalled.push(listener);
        false
    }

    /// The connections of a worker, and those that are on their way to it from here.
    fn load(&self, worker: usize) -> u64 {
        let metrics = &self.all_metrics[worker];
        metrics.connections.get() + self.handed[worker].saturating_sub(metrics.adopted.get())
    }

    fn open_connections(&self) -> u64 {
        (0..self.posts.len()).map(|worker| self.load(worker)).sum()
    }

    /// Gives a connection to the worker with the fewest.
    fn place(&mut self, accepted: Accepted<N::Socket>) {
        let own = usize::from(self.number);
        let least = (0..self.posts.len()).min_by_key(|w| (self.load(*w), *w != own)).unwrap_or(own);
        if least == own {
            return self.connections.adopt(accepted);
        }
        self.handed[least] += 1;
        if let Err(Mail::Accepted(accepted)) = self.posts[least].send(Mail::Accepted(accepted)) {
            self.connections.adopt(accepted);
        }
    }
}
