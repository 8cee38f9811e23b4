//! Why a hook gives no answer although the handler works.

use crate::types::HostError;
use std::error::Error;
use std::fmt;

/// What a hook returns: its answer, or a [`Failure`].
pub type Result<T> = std::result::Result<T, Failure>;

/// The handler has no answer. The call goes the way that the tenant set up for this (one more try in the IVR, then the fallback), and the
/// text appears in the tenant's log. The handler lives on, unlike after a panic.
///
/// Every error becomes one by `?`; [`Failure::new`] makes one of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// One line, at most 1024 bytes; more is cut.
    pub message: String,
}

impl Failure {
    pub fn new(message: impl Into<String>) -> Failure {
        Failure { message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

// `Failure` itself is no `Error`: only so can every error become one.
impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Failure {
        match (&error as &dyn Error).downcast_ref::<HostError>() {
            Some(host) => Failure::new(host.text()),
            None => Failure::new(error.to_string()),
        }
    }
}

impl HostError {
    /// In words, for people; `Display` is for debugging.
    pub fn text(&self) -> String {
        match self {
            HostError::Unsupported(what) => format!("not offered by this node: {what}"),
            HostError::NotAvailable(what) => format!("not available: {what}"),
            HostError::BadValue(what) => format!("bad value: {what}"),
            HostError::Unknown(what) => format!("unknown: {what}"),
            HostError::WrongState(what) => format!("wrong state: {what}"),
            HostError::Denied(what) => format!("denied: {what}"),
            HostError::Limit(what) => format!("limit reached: {what}"),
            HostError::Timeout => "no result in time".into(),
            HostError::Ext(ext) => ext.name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_becomes_a_failure() {
        fn host() -> Result<()> {
            Err(HostError::Denied("x.example".into()))?
        }
        fn number() -> Result<u8> {
            Ok("300".parse::<u8>()?)
        }
        assert_eq!(host(), Err(Failure::new("denied: x.example")));
        assert!(number().is_err_and(|failure| failure.message.contains("too large")));
    }
}
