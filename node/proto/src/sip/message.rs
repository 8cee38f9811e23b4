//! A parsed SIP message: an index over its bytes, typed headers on demand.

use bytes::Bytes;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    Invite,
    Ack,
    Bye,
    Cancel,
    Options,
    Update,
    Info,
    Register,
    Prack,
    Refer,
    Notify,
    Subscribe,
    Message,
    Publish,
    Other(String),
}

/// Why a message did not become an event. `Display` is what the log says; `code` names the counter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("malformed: {0}")]
    Malformed(&'static str),
    #[error("too large: {0} bytes")]
    TooLarge(usize),
    #[error("method {0:?} not supported")]
    Method(Method),
    #[error("out of transactions")]
    Overload,
    #[error("no dialog or transaction matches")]
    NoMatch,
}

/// A SIP or SIPS URI (RFC 3261 19.1), or tel: (RFC 3966) with the number as `user`. Parts are unescaped on access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uri {
    pub scheme: String,
    pub user: Option<String>,
    /// Without brackets for IPv6.
    pub host: String,
    pub port: Option<u16>,
    /// In order, names lower-case.
    pub parameters: Vec<(String, Option<String>)>,
    pub headers: Option<String>,
}

impl Uri {
    pub fn parse(_text: &str) -> Option<Uri> {
        todo!()
    }
}

/// `"Display" <uri>;params` as in From, To, Contact, P-Asserted-Identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameAddr {
    pub display: Option<String>,
    pub uri: Uri,
    pub parameters: Vec<(String, Option<String>)>,
}

pub struct Message {
    _bytes: Bytes,
}

impl Message {
    pub fn parse(_bytes: Bytes) -> Result<Message, Refusal> {
        todo!()
    }
    /// `None` for a response.
    pub fn method(&self) -> Option<&Method> {
        todo!()
    }
    pub fn request_uri(&self) -> Option<&Uri> {
        todo!()
    }
    /// `None` for a request.
    pub fn status(&self) -> Option<u16> {
        todo!()
    }
    pub fn reason_phrase(&self) -> Option<String> {
        todo!()
    }
    pub fn call_id(&self) -> &str {
        todo!()
    }
    pub fn from(&self) -> Option<NameAddr> {
        todo!()
    }
    pub fn to(&self) -> Option<NameAddr> {
        todo!()
    }
    /// First header of that name (compact names count as their long ones), unfolded, trimmed; bytes that are not UTF-8 become U+FFFD.
    pub fn header(&self, _name: &str) -> Option<String> {
        todo!()
    }
    /// All header lines of that name, in order, not split at commas.
    pub fn headers(&self, _name: &str) -> Vec<String> {
        todo!()
    }
    /// Every header line as (name as sent, value), in order.
    pub fn all_headers(&self) -> Vec<(String, String)> {
        todo!()
    }
    /// The name-addrs of a header that may list several (comma-separated or repeated), bad ones left out.
    pub fn name_addrs(&self, _name: &str) -> Vec<NameAddr> {
        todo!()
    }
    pub fn body(&self) -> Bytes {
        todo!()
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Message")
    }
}
