//! What operators ask: users' secrets, and what became of a message.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

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

    /// Adds a static user, or changes how the password is checked. The secret is JSON.
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

    /// What became of a message.
    pub fn trace(&mut self, id: &str) -> Result<Trace, ClientError> {
        read(&self.get(&format!("/v1/messages/{}/trace", utf8_percent_encode(id, NON_ALPHANUMERIC)))?)
    }
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Trace {
    /// Its topic.
    pub topic: String,
    /// Its place.
    pub cursor: String,
    /// How it is kept.
    pub stored: Stored,
    /// Those who are subscribed now.
    pub recipients: Vec<Recipient>,
    /// Whether that is all of them.
    pub complete: bool,
    /// What isn't known, and why.
    pub note: String,
}

/// How a message is kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Stored {
    /// `fsync`, `memory` or `none`.
    pub durability: String,
    /// When it was published.
    pub time: String,
    /// When it expires, if it does.
    pub expires: Option<String>,
}

/// What became of a message for one who is subscribed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Recipient {
    /// The connection's name.
    pub connection: String,
    /// Who is at the other end.
    pub user: Option<String>,
    /// On which device.
    pub device: Option<String>,
    /// What it speaks.
    pub wire: String,
    /// `written`, `acknowledged`, `lagging` or `subscribed_later`.
    pub fate: String,
    /// When it was written.
    pub written: Option<String>,
    /// When it was acknowledged.
    pub acknowledged: Option<String>,
}
