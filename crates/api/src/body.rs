//! The bodies of calls: JSON objects.

use serde::de::{DeserializeOwned, Error as _};
use serde_json::Value;

/// Reads an object. A list of its values is no object, although serde takes one.
pub(crate) fn object<T: DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    let value: Value = serde_json::from_slice(body)?;
    if !value.is_object() {
        return Err(serde_json::Error::custom("it is no JSON object"));
    }
    serde_json::from_value(value)
}
