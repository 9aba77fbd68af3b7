//! What a token says, as an identity.

use std::time::Duration;

use everywire_base::clock::UnixMillis;
use everywire_base::identity::{Identity, check_name};
use everywire_base::topic::Filter;
use serde::{Deserialize, Serialize};

/// The claims that Everywire reads; others are ignored.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Claims {
    /// The user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// The device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Where he may publish; without it the topic rules alone decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<Vec<String>>,
    /// What he may subscribe to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscribe: Option<Vec<String>>,
    /// Whether he may see and end connections, and use all topics.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub admin: bool,
    /// The second since 1970 from which it holds no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exp: Option<f64>,
    /// The second from which it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<f64>,
}

/// A moment; one that is beyond all time is none.
fn at(seconds: f64) -> Option<UnixMillis> {
    Duration::try_from_secs_f64(seconds.max(0.0)).ok().map(|since| UnixMillis(since.as_millis() as u64))
}

/// Clocks differ by so much, in seconds.
const LEEWAY: f64 = 30.0;

impl Claims {
    /// Whose claims these are, or what is wrong with them.
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
