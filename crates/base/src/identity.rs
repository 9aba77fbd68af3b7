//! Identities: the user and the device that a client has proved to be, and the rights of its token.

use std::fmt::Write;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::clock::UnixMillis;
use crate::quota::Account;
use crate::topic::{Filter, Topic};

/// The longest name of a user or a device, in bytes: percent-encoded, both fit into a topic.
pub const MAX_NAME_BYTES: usize = 128;

/// A proved identity. It is shared by all connections and requests under one token.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Identity {
    /// The user (claim `sub`); an operator's token may have none.
    pub user: Option<Box<str>>,
    /// The device (claim `device`).
    pub device: Option<Box<str>>,
    /// The filters that the user may publish to, if the token has any; else the topic rules alone decide.
    pub publish: Option<Vec<Filter>>,
    /// The filters that the user may subscribe to, if the token has any.
    pub subscribe: Option<Vec<Filter>>,
    /// Whether the user may see and end connections, and use all topics.
    pub admin: bool,
    /// The moment from which the token is no longer valid (claim `exp`).
    pub expires: Option<UnixMillis>,
    /// The use of the user's bounds, counted over all connections of the user.
    pub account: Option<Arc<Account>>,
}

impl Identity {
    /// A user with nothing but a name.
    pub fn user(name: &str) -> Self {
        Self { user: Some(name.into()), ..Self::default() }
    }

    /// Whether the token is no longer valid.
    pub fn is_expired(&self, now: UnixMillis) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }

    /// The identity on this device, unless the identity names one itself.
    pub fn on_device(self: &Arc<Self>, device: Option<Box<str>>) -> Arc<Self> {
        if self.device.is_some() || device.is_none() {
            return Arc::clone(self);
        }
        Arc::new(Self { device, ..Self::clone(self) })
    }

    /// The identity on the device of this name; an error if the identity has another device. A name that no device can
    /// have is left out.
    pub fn at_device(self: &Arc<Self>, named: Option<&str>) -> Result<Arc<Self>, DeviceError> {
        match (self.device.as_deref(), named) {
            (Some(own), Some(named)) if own != named => Err(DeviceError),
            // An identity without a user has no devices.
            (None, Some(named)) if self.user.is_some() => Ok(self.on_device(check_name(named).ok())),
            _ => Ok(Arc::clone(self)),
        }
    }

    /// The user's inboxes: `user/NAME` and `user/NAME/DEVICE`, names percent-encoded (RULES 25).
    pub fn inboxes(&self) -> SmallVec<[Topic; 2]> {
        let Some(user) = &self.user else { return SmallVec::new() };
        let own = format!("user/{}", encode(user));
        let device = self.device.as_ref().map(|device| format!("{own}/{}", encode(device)));
        [Some(own), device].into_iter().flatten().filter_map(|name| Topic::parse(&name).ok()).collect()
    }

    /// Whether this topic or filter lies within the user's inbox, whatever wildcards come after the name.
    pub(crate) fn owns(&self, text: &str) -> bool {
        let Some(user) = &self.user else { return false };
        text.strip_prefix("user/").is_some_and(|rest| rest.split('/').next() == Some(&*encode(user)))
    }
}

/// A name from outside as a level of a topic: `/`, `+`, `#`, `%` and control characters are percent-encoded (RULES 25).
pub fn encode(name: &str) -> String {
    let mut level = String::with_capacity(name.len());
    for character in name.chars() {
        if matches!(character, '/' | '+' | '#' | '%') || character.is_control() {
            let mut bytes = [0; 4];
            for byte in character.encode_utf8(&mut bytes).bytes() {
                // Writing to a string can't fail.
                let _ = write!(level, "%{byte:02X}");
            }
        } else {
            level.push(character);
        }
    }
    level
}

/// The name that [`encode`] was given.
pub fn decode(level: &str) -> String {
    let bytes = level.as_bytes();
    let (mut name, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        let code = level.get(at + 1..at + 3).filter(|_| *byte == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok());
        name.push(code.unwrap_or(*byte));
        at += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&name).into_owned()
}

/// A text that can't be the name of a user or a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a name of a user or a device has 1 to {MAX_NAME_BYTES} bytes and no control characters")]
pub struct NameError;

/// An identity is for another device than the one that was named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the token is for another device than the one that was named")]
pub struct DeviceError;

/// Checks the name of a user or a device.
pub fn check_name(name: &str) -> Result<Box<str>, NameError> {
    let fits = !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.chars().any(char::is_control);
    if fits { Ok(name.into()) } else { Err(NameError) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inboxes_have_encoded_names() {
        let mut identity = Identity::user("a/b+c#100%");
        identity.device = Some("phone".into());
        let names: Vec<String> = identity.inboxes().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["user/a%2Fb%2Bc%23100%25", "user/a%2Fb%2Bc%23100%25/phone"]);
        assert!(identity.owns("user/a%2Fb%2Bc%23100%25/#"));
        assert!(!identity.owns("user/a"));
        assert!(Identity::default().inboxes().is_empty());
    }

    #[test]
    fn an_identity_is_on_its_own_device_only() {
        let phone = Arc::new(Identity { device: Some("phone".into()), ..Identity::user("ann") });
        assert_eq!(phone.at_device(Some("phone")).unwrap().device.as_deref(), Some("phone"));
        for other in ["", "desk", "pho\nne", &"x".repeat(500)] {
            assert_eq!(phone.at_device(Some(other)), Err(DeviceError), "{other:?}");
        }
        let ann = Arc::new(Identity::user("ann"));
        assert_eq!(ann.at_device(Some("desk")).unwrap().device.as_deref(), Some("desk"));
        for none in ["", "a\nb", &"x".repeat(500)] {
            assert_eq!(ann.at_device(Some(none)).unwrap().device, None, "{none:?}");
        }
        assert_eq!(Arc::new(Identity::default()).at_device(Some("desk")).unwrap().device, None);
    }

    #[test]
    fn names_come_back_as_they_were() {
        for name in ["ann", "a/b+c#100%", "Jürgen", "%41", "100%", "x\u{7f}"] {
            assert_eq!(decode(&encode(name)), name);
        }
    }

    #[test]
    fn names_are_bounded() {
        assert_eq!(check_name(""), Err(NameError));
        assert_eq!(check_name("a\nb"), Err(NameError));
        assert_eq!(check_name(&"x".repeat(MAX_NAME_BYTES + 1)), Err(NameError));
        assert_eq!(check_name("Jürgen").as_deref(), Ok("Jürgen"));
    }
}
