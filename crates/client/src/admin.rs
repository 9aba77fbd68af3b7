//! The calls of operators: users' secrets, rooms, and the fate of a message.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::Value;

use crate::client::{Client, PATIENCE, Response, parameter};
use crate::connection::Request;
use crate::error::ClientError;

#[derive(Deserialize)]
struct Page {
    users: Vec<Name>,
    more: bool,
}

#[derive(Deserialize)]
struct Name {
    user: String,
}

fn of_user(name: &str) -> String {
    format!("/v1/users/{}/secret", utf8_percent_encode(name, NON_ALPHANUMERIC))
}

fn of_room(name: &str) -> String {
    format!("/v1/rooms/{}", utf8_percent_encode(name, NON_ALPHANUMERIC))
}

fn read<'a, T: Deserialize<'a>>(response: &'a Response) -> Result<T, ClientError> {
    serde_json::from_slice(&response.body).map_err(|error| ClientError::Protocol(error.to_string()))
}

impl Client {
    /// The names of all static users.
    pub fn users(&mut self) -> Result<Vec<String>, ClientError> {
        let mut names: Vec<String> = Vec::new();
        loop {
            let mut target = "/v1/users?limit=1000".to_owned();
            if let Some(last) = names.last() {
                parameter(&mut target, "after", last);
            }
            let page: Page = read(&self.get(&target)?)?;
            names.extend(page.users.into_iter().map(|name| name.user));
            if !page.more {
                return Ok(names);
            }
        }
    }

    /// Adds a static user, or changes the secret that checks the password. The secret is JSON.
    pub fn put_user_secret(&mut self, name: &str, secret: &str) -> Result<(), ClientError> {
        let (target, body) = (of_user(name), Some(secret.as_bytes()));
        self.exchange(&Request { method: "PUT", target: &target, fields: Vec::new(), body }, PATIENCE).map(|_| ())
    }

    /// Removes a static user.
    pub fn delete_user_secret(&mut self, name: &str) -> Result<(), ClientError> {
        let target = of_user(name);
        self.exchange(&Request { method: "DELETE", target: &target, fields: Vec::new(), body: None }, PATIENCE)
            .map(|_| ())
    }

    /// All rooms, listed or not.
    pub fn rooms(&mut self) -> Result<Vec<RoomLine>, ClientError> {
        let mut all: Vec<RoomLine> = Vec::new();
        loop {
            let mut target = "/v1/rooms?limit=1000".to_owned();
            if let Some(last) = all.last() {
                parameter(&mut target, "after", &last.room);
            }
            let page: RoomPage = read(&self.get(&target)?)?;
            all.extend(page.rooms);
            if !page.more {
                return Ok(all);
            }
        }
    }

    /// The properties of a room.
    pub fn room(&mut self, name: &str) -> Result<serde_json::Map<String, Value>, ClientError> {
        read(&self.get(&of_room(name))?)
    }

    /// All members of a room.
    pub fn room_members(&mut self, name: &str) -> Result<Vec<RoomMember>, ClientError> {
        let mut all: Vec<RoomMember> = Vec::new();
        loop {
            let mut target = format!("{}/members?limit=1000", of_room(name));
            if let Some(last) = all.last() {
                parameter(&mut target, "after", &last.user);
            }
            let page: MemberPage = read(&self.get(&target)?)?;
            all.extend(page.members);
            if !page.more {
                return Ok(all);
            }
        }
    }

    /// Ends a user's membership in a room.
    pub fn remove_from_room(&mut self, name: &str, user: &str) -> Result<(), ClientError> {
        let target = format!("{}/members/{}", of_room(name), utf8_percent_encode(user, NON_ALPHANUMERIC));
        self.exchange(&Request { method: "DELETE", target: &target, fields: Vec::new(), body: None }, PATIENCE)
            .map(|_| ())
    }

    /// The fate of a message for each recipient.
    pub fn trace(&mut self, id: &str) -> Result<Trace, ClientError> {
        read(&self.get(&format!("/v1/messages/{}/trace", utf8_percent_encode(id, NON_ALPHANUMERIC)))?)
    }
}

#[derive(Deserialize)]
struct RoomPage {
    rooms: Vec<RoomLine>,
    more: bool,
}

#[derive(Deserialize)]
struct MemberPage {
    members: Vec<RoomMember>,
    more: bool,
}

/// A room in a list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RoomLine {
    /// Its name.
    pub room: String,
    /// The title.
    pub title: String,
    /// `open` or `members`.
    pub join: String,
    /// The number of its members.
    pub members: u64,
}

/// A member of a room.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RoomMember {
    /// The user.
    pub user: String,
    /// `owner`, `admin` or `member`.
    pub role: String,
    /// The member's name in the room.
    pub nick: String,
    /// The time at which the membership began.
    pub since: String,
}

/// The fate of a message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Trace {
    /// Its topic.
    pub topic: String,
    /// Its position.
    pub cursor: String,
    /// The durability of the message, and its times.
    pub stored: Stored,
    /// The present subscribers.
    pub recipients: Vec<Recipient>,
    /// Whether these are all of them.
    pub complete: bool,
    /// The limits of what is known, and the reason.
    pub note: String,
}

/// The durability of a stored message, and its times.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Stored {
    /// `fsync`, `replicated`, `memory` or `none`.
    pub durability: String,
    /// The time at which it was published.
    pub time: String,
    /// The time at which it expires, if it does.
    pub expires: Option<String>,
}

/// The fate of a message for one subscriber.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Recipient {
    /// The connection's name.
    pub connection: String,
    /// The user, if there is an identity.
    pub user: Option<String>,
    /// The device.
    pub device: Option<String>,
    /// The wire.
    pub wire: String,
    /// `written`, `acknowledged`, `lagging` or `subscribed_later`.
    pub fate: String,
    /// The time at which it was written.
    pub written: Option<String>,
    /// The time at which it was acknowledged.
    pub acknowledged: Option<String>,
}
