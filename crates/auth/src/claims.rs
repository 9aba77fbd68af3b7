//! The claims of a token, and the identity that follows from them.

use std::time::Duration;

use everywire_base::clock::UnixMillis;
use everywire_base::identity::{Identity, check_name};
use everywire_base::topic::Filter;
use serde::Serialize;
use serde_json::{Map, Value};

/// The claims that Everywire reads; others are ignored.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Claims {
    /// The user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// The device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The filters where the user may publish; without them the topic rules alone decide.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publish: Option<Vec<String>>,
    /// The filters to which the user may subscribe; without them the topic rules alone decide.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscribe: Option<Vec<String>>,
    /// Whether the user may see and end connections, and use all topics.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub admin: bool,
    /// The second since 1970 from which the token is invalid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exp: Option<f64>,
    /// The second from which the token is valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nbf: Option<f64>,
    /// The audience; one of its names must be a name of this server.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aud: Vec<String>,
    /// The issuer of the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// The name under which the user wants to be shown; only guests' tokens have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// The moment; `None` if it is too far away for a time.
fn at(seconds: f64) -> Option<UnixMillis> {
    Duration::try_from_secs_f64(seconds.max(0.0)).ok().map(|since| UnixMillis(since.as_millis() as u64))
}

/// The tolerated difference of clocks, in seconds.
const LEEWAY: f64 = 30.0;

impl Claims {
    /// Reads claims; says which one is of the wrong type. A claim that is `null` is absent, except for the claims that
    /// bound the time: a token must not hold for ever by accident.
    pub(crate) fn read(claims: &Value) -> Result<Self, String> {
        let Value::Object(claims) = claims else { return Err("the claims are not a JSON object".into()) };
        Ok(Self {
            sub: text(claims, "sub")?,
            device: text(claims, "device")?,
            publish: filters(claims, "publish")?,
            subscribe: filters(claims, "subscribe")?,
            admin: flag(claims, "admin")?,
            exp: seconds(claims, "exp")?,
            nbf: seconds(claims, "nbf")?,
            aud: audience(claims)?,
            iss: text(claims, "iss")?,
            name: None,
        })
    }

    /// The identity that these claims give, or the fault in them.
    pub(crate) fn identity(&self, now: UnixMillis) -> Result<Identity, String> {
        let seconds = now.0 as f64 / 1000.0;
        if self.exp.is_some_and(|exp| exp <= seconds) {
            return Err("the token has expired".into());
        }
        if self.nbf.is_some_and(|nbf| nbf > seconds + LEEWAY) {
            return Err("the token does not hold yet".into());
        }
        let name = |name: &Option<String>, what: &str| {
            let checked = name.as_deref().map(check_name).transpose();
            checked.map_err(|error| format!("the claim `{what}`: {error}"))
        };
        let user = name(&self.sub, "sub")?;
        if user.is_none() && !self.admin {
            return Err("the token names no user: the claim `sub` is missing".into());
        }
        let filters = |filters: &Option<Vec<String>>, what: &str| {
            let parse = |text: &String| Filter::parse(text).map_err(|error| format!("the claim `{what}`: {error}"));
            filters.as_ref().map(|all| all.iter().map(parse).collect::<Result<Vec<_>, _>>()).transpose()
        };
        Ok(Identity {
            user,
            device: name(&self.device, "device")?,
            publish: filters(&self.publish, "publish")?,
            subscribe: filters(&self.subscribe, "subscribe")?,
            admin: self.admin,
            expires: self.exp.and_then(at),
            account: None,
        })
    }
}

fn wrong_type<T>(name: &str, wanted: &str, found: &Value) -> Result<T, String> {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    Err(format!("the claim `{name}` must be {wanted}, and is {found}"))
}

fn text(claims: &Map<String, Value>, name: &str) -> Result<Option<String>, String> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => wrong_type(name, "a string", other),
    }
}

fn filters(claims: &Map<String, Value>, name: &str) -> Result<Option<Vec<String>>, String> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(list)) => strings(name, "a list of filters", list).map(Some),
        Some(other) => wrong_type(name, "a list of filters", other),
    }
}

fn strings(name: &str, wanted: &str, list: &[Value]) -> Result<Vec<String>, String> {
    let string = |value: &Value| value.as_str().map(str::to_owned);
    list.iter().map(|value| string(value).map_or_else(|| wrong_entry(name, wanted, value), Ok)).collect()
}

fn wrong_entry<T>(name: &str, wanted: &str, found: &Value) -> Result<T, String> {
    wrong_type(name, wanted, found).map_err(|what: String| what.replace(", and is ", ", and has in it "))
}

fn flag(claims: &Map<String, Value>, name: &str) -> Result<bool, String> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(other) => wrong_type(name, "true or false", other),
    }
}

fn seconds(claims: &Map<String, Value>, name: &str) -> Result<Option<f64>, String> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => match value.as_f64() {
            Some(seconds) => Ok(Some(seconds)),
            None => wrong_type(name, "a number of seconds since 1970", value),
        },
    }
}

/// One name, or several (RFC 7519 §4.1.3).
fn audience(claims: &Map<String, Value>) -> Result<Vec<String>, String> {
    const WANTED: &str = "a string or a list of strings";
    match claims.get("aud") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(one)) => Ok(vec![one.clone()]),
        Some(Value::Array(list)) => strings("aud", WANTED, list),
        Some(other) => wrong_type("aud", WANTED, other),
    }
}
