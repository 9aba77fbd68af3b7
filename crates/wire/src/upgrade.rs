//! The upgrade from an HTTP request to another protocol (RFC 9110 §7.8): the request that the HTTP wire hands over, so
//! that wires need not know each other.

use std::sync::Arc;

use everywire_base::identity::Identity;

use crate::{Context, Wire};

/// Takes over connections whose HTTP request asks for another protocol on some paths.
pub trait Upgrade: Send + Sync {
    /// Whether the path is one of its own.
    fn serves(&self, path: &str) -> bool;

    /// Answers the request. It writes the whole response `101` and gives the wire that goes on, or writes nothing and
    /// gives the refusal. The client's address, origin and credentials have been checked.
    fn upgrade(&self, cx: &mut Context<'_>, request: &UpgradeRequest<'_>) -> Result<Box<dyn Wire>, Denied>;
}

/// A request on a path of an [`Upgrade`].
pub struct UpgradeRequest<'a> {
    /// The path, without the query.
    pub path: &'a str,
    /// The method.
    pub method: &'a str,
    /// The header fields in their order, names as they came.
    pub fields: &'a [(&'a str, &'a [u8])],
    /// The identity that the credentials of the request prove.
    pub identity: Option<Arc<Identity>>,
}

impl UpgradeRequest<'_> {
    /// The values of a field that may be repeated, in their order; the name is compared without case.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.fields.iter().filter(move |f| f.0.eq_ignore_ascii_case(name)).map(|f| f.1)
    }

    /// The value of a field that stands once, as text.
    pub fn one(&self, name: &str) -> Option<&str> {
        let mut all = self.fields.iter().filter(|f| f.0.eq_ignore_ascii_case(name)).map(|f| f.1);
        let first = all.next()?;
        if all.next().is_some() { None } else { std::str::from_utf8(first).ok().map(str::trim) }
    }
}

/// The refusal of an upgrade, which the HTTP wire answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Denied {
    /// The status code.
    pub status: u16,
    /// A text for people: the fault, and the way to mend it.
    pub detail: Box<str>,
    /// Header fields that the status asks for.
    pub fields: Vec<(&'static str, &'static str)>,
}
