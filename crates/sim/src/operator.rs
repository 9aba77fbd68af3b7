//! An operator, who ends the connections of users over the API now and then, and asks which there are.
//!
//! A kick that was answered has ended each connection that its user had when it was asked for, at whichever worker. A
//! user who is connected is in the registry.

use serde_json::Value;

use crate::client::Reader;
use crate::http;
use crate::net::{HTTP, Leave, Network};
use crate::tokens::OPERATOR;

/// An operator with one connection.
#[derive(Default)]
pub(crate) struct Operator {
    link: Option<u32>,
    received: Vec<u8>,
    asked: Option<Asked>,
    /// Connections that must not outlive their kick, by their reader.
    kicked: Vec<(usize, u32)>,
    /// The number of connections in the last answer.
    listed: Option<usize>,
    /// The number of kicks that were answered.
    pub(crate) kicks: u64,
}

/// The question that waits for its answer.
enum Asked {
    /// An end of these connections.
    Kick(Vec<(usize, u32)>),
    /// A list of the connections of a user.
    List,
}

impl Operator {
    /// Asks to end the connections of a user, if no other question is under way.
    pub(crate) fn kick(&mut self, network: &mut Network, readers: &[Reader], place: usize) {
        let Some(user) = readers[place].user() else { return };
        let connected = |(number, reader): (usize, &Reader)| Some((number, reader.link.filter(|_| reader.is_in())?));
        let meant = readers.iter().enumerate().filter(|(_, reader)| reader.user().as_ref() == Some(&user));
        let meant = meant.filter_map(connected).collect();
        self.ask(network, &format!("DELETE /v1/users/{user}/connections"), Asked::Kick(meant));
    }

    /// Asks for the connections of a user.
    pub(crate) fn list(&mut self, network: &mut Network, user: &str) {
        self.ask(network, &format!("GET /v1/connections?user={user}"), Asked::List);
    }

    /// Whether an answer is awaited.
    pub(crate) fn waits(&self) -> bool {
        self.asked.is_some()
    }

    /// Takes the number of connections that were listed.
    pub(crate) fn listed(&mut self) -> Option<usize> {
        self.listed.take()
    }

    fn ask(&mut self, network: &mut Network, what: &str, asked: Asked) {
        if self.asked.is_some() {
            return;
        }
        let link = *self.link.get_or_insert_with(|| network.connect(HTTP, 1 << 16));
        let request = format!("{what} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {OPERATOR}\r\n\r\n");
        network.send(link, request.as_bytes());
        self.asked = Some(asked);
    }

    pub(crate) fn disconnect(&mut self, network: &mut Network, how: Leave) {
        self.link.take().into_iter().for_each(|link| network.leave(link, how));
        self.received.clear();
        self.asked = None;
    }

    /// Takes an answer that has come.
    pub(crate) fn step(&mut self, network: &mut Network) -> Result<(), String> {
        let Some(link) = self.link else { return Ok(()) };
        let Some(bytes) = network.receive(link, usize::MAX) else {
            self.disconnect(network, Leave::Closed);
            return Ok(());
        };
        self.received.extend(bytes);
        let Some(head) = http::head(&self.received) else { return Ok(()) };
        let end = head.bytes + head.length.ok_or("an answer of the API without a length")?;
        if self.received.len() < end {
            return Ok(());
        }
        let body: Vec<u8> = self.received.drain(..end).skip(head.bytes).collect();
        match (head.status, self.asked.take()) {
            (200, Some(Asked::Kick(meant))) => {
                self.kicks += 1;
                self.kicked.extend(meant);
            }
            (200, Some(Asked::List)) => {
                let answer: Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
                self.listed = answer["connections"].as_array().map(Vec::len);
            }
            // The log, the store or the check of its token was busy.
            (503, Some(_)) => {}
            (status, _) => return Err(format!("the API answered {status}: {}", String::from_utf8_lossy(&body))),
        }
        Ok(())
    }

    /// Complains of a connection that has outlived its kick.
    pub(crate) fn verdict(&self, readers: &[Reader]) -> Result<(), String> {
        let outlived = self.kicked.iter().find(|(reader, link)| readers[*reader].link == Some(*link));
        outlived.map_or(Ok(()), |(reader, link)| Err(format!("connection {link} of reader {reader} outlived its kick")))
    }
}
