//! The caller of the API, and its rights (RULES 22).

use std::net::IpAddr;
use std::sync::Arc;

use everywire_base::identity::Identity;
use http::StatusCode;

use crate::problem::Problem;

/// The identity of the caller, if it has one.
#[derive(Clone, Default)]
pub(crate) struct Caller(pub(crate) Option<Arc<Identity>>);

/// The address of the caller.
#[derive(Clone, Copy)]
pub(crate) struct From(pub(crate) IpAddr);

impl Caller {
    pub(crate) fn admin(&self) -> Result<(), Problem> {
        match &self.0 {
            Some(who) if who.admin => Ok(()),
            Some(_) => {
                Err(Problem::new(StatusCode::FORBIDDEN, "this is for operators: a token with the claim `admin`"))
            }
            None => Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "this is for operators: send the token of DATA/admin.token, or one with the claim `admin`, as \
                 `Authorization: Bearer …`",
            )),
        }
    }

    /// Lets through an operator, or the user in question.
    pub(crate) fn admin_or(&self, user: &str) -> Result<(), Problem> {
        if self.0.as_ref().is_some_and(|who| who.user.as_deref() == Some(user)) { Ok(()) } else { self.admin() }
    }
}
