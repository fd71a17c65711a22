//! Who a request acts as: the connection's identity, the bearer of a token, or somebody whom these may act as.
//!
//! A token is never written to a log or into an error: every failure is the same `Unauthorized`, why is told nobody but
//! a trace that does not name the token.

mod bearer;
mod bootstrap;
pub(crate) mod impersonate;
mod service_account;

use std::borrow::Cow;

use coracle_api::status::ApiError;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::core::Core;
use crate::identity::Identity;

pub(crate) use bearer::{AUDIENCE, Verified, verify};

/// Who makes a request.
pub(crate) struct Asking<'a> {
    /// Who proved to be somebody.
    pub(crate) own: Cow<'a, Identity>,
    /// As whom they act, if as somebody else.
    pub(crate) other: Option<Identity>,
}

impl Asking<'_> {
    /// Who the request acts as.
    pub(crate) fn identity(&self) -> &Identity {
        self.other.as_ref().unwrap_or(&self.own)
    }
}

/// Settles who a request acts as, and takes the credentials out of its headers, so that nothing behind sees them.
///
/// A certificate wins over a token, as in Kubernetes; a request with neither acts as nobody in particular.
pub(crate) fn authenticate<'a>(
    core: &Core,
    connection: &'a Identity,
    headers: &mut HeaderMap,
) -> Result<Asking<'a>, ApiError> {
    let credentials = headers.remove(AUTHORIZATION);
    let own = match (credentials, bearer::from_protocols(headers)) {
        (credentials, protocol) if connection.is_anonymous() => {
            match credentials
                .as_ref()
                .and_then(bearer::from_header)
                .or(protocol.as_deref())
            {
                Some(token) => Cow::Owned(verify(core, token, &[AUDIENCE])?.identity),
                None if credentials.is_some() => return Err(ApiError::unauthorized()),
                None => Cow::Borrowed(connection),
            }
        }
        _ => Cow::Borrowed(connection),
    };
    let other = impersonate::act_as(core, &own, headers)?;
    Ok(Asking { own, other })
}
