//! The bounds of bodies: the longest one of a route, and the callers who may send it. Both are known before any of it
//! is read.

use everywire_base::rules::{Caller, Refusal};

/// The longest body of a route that is not named below.
const BODY_BYTES: usize = 64 << 10;
/// The longest list of users: a thousand names.
const USERS_BYTES: usize = 256 << 10;
/// The longest request for a guest.
const GUEST_BYTES: usize = 4 << 10;

/// The longest edit: a message of the usual bound, each of whose bytes may be escaped.
const EDIT_BYTES: usize = 1 << 20;

/// The caller that a route needs.
enum Needs {
    /// Any caller.
    Nobody,
    /// An operator.
    Operator,
}

/// The longest body that a call may have, or the reason why it may have none.
pub fn longest_body(method: &str, path: &str, who: Caller<'_>) -> Result<usize, Refusal> {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let (needs, bytes) = match (method, &parts[..]) {
        ("POST", ["v1", "guests"]) => (Needs::Nobody, GUEST_BYTES),
        ("POST", ["v1", "users", "query"]) => (Needs::Operator, USERS_BYTES),
        ("PATCH", ["v1", "messages", _]) => (Needs::Nobody, EDIT_BYTES),
        ("PUT", ["v1", "users", _, "secret"]) => (Needs::Operator, BODY_BYTES),
        _ => (Needs::Nobody, BODY_BYTES),
    };
    match (needs, who) {
        (Needs::Operator, None) => Err(Refusal::Unauthorized("this".into())),
        (Needs::Operator, Some(who)) if !who.admin => {
            Err(Refusal::Forbidden("this is for operators: a token with the claim `admin`".into()))
        }
        _ => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use everywire_base::identity::Identity;

    use super::*;

    #[test]
    fn an_operators_route_takes_no_body_of_others() {
        let (ann, admin) = (Identity::user("ann"), Identity { admin: true, ..Identity::default() });
        for (method, path) in [("PUT", "/v1/users/ann/secret"), ("POST", "/v1/users/query")] {
            assert!(matches!(longest_body(method, path, None), Err(Refusal::Unauthorized(_))), "{path}");
            assert!(matches!(longest_body(method, path, Some(&ann)), Err(Refusal::Forbidden(_))), "{path}");
            assert!(longest_body(method, path, Some(&admin)).is_ok_and(|bytes| bytes <= USERS_BYTES), "{path}");
        }
        assert_eq!(longest_body("POST", "/v1/guests", None), Ok(GUEST_BYTES));
        assert_eq!(longest_body("POST", "/nothing", None), Ok(BODY_BYTES));
    }
}
