//! Links to one recording's audio (UR-033): a bearer token that opens that file, for a while, and nothing else. It holds no secret of the
//! tenant's: whoever has it can hear this recording until it expires or the recording goes.
//!
//! ```text
//! {"alg":"HS256","typ":"recording"} . {"domain":D,"recording":R,"by":WHO,"exp":…} . HMAC-SHA-256 with DATA/keys/links
//! ```

use super::seal::load_key;
use crate::jwt;
use crate::limits;
use ring::hmac;
use serde_json::{Value, json};
use std::io;
use std::path::Path;
use std::time::Duration;

const HEADER: &str = r#"{"alg":"HS256","typ":"recording"}"#;

/// What a valid link says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub domain: String,
    pub recording: String,
    /// Who made it.
    pub by: String,
}

/// Makes and reads links. Shows nothing of its key.
pub struct Links {
    key: hmac::Key,
    public_url: String,
}

impl Links {
    /// `public_url`: how others reach this node's API, without a slash at its end.
    pub fn load(data: &Path, public_url: &str) -> io::Result<Links> {
        Ok(Links { key: hmac::Key::new(hmac::HMAC_SHA256, &load_key(data, "links")?), public_url: public_url.to_owned() })
    }

    /// Where a recording's audio is fetched.
    pub fn url(&self, domain: &str, recording: &str) -> String {
        format!("{}/{domain}/recordings/{recording}/audio", self.public_url)
    }

    /// A token for this recording, until `now` (milliseconds since the Unix epoch) and `life`, and when that is.
    pub fn mint(&self, now: u64, domain: &str, recording: &str, by: &str, life: Duration) -> (String, u64) {
        let expires = now / 1000 + life.min(limits::LINK_LONGEST).as_secs();
        let claims = json!({ "domain": domain, "recording": recording, "by": by, "exp": expires });
        let signed = format!("{}.{}", jwt::encode(HEADER), jwt::encode(claims.to_string()));
        let tag = hmac::sign(&self.key, signed.as_bytes());
        (format!("{signed}.{}", jwt::encode(tag)), expires * 1000)
    }

    /// What it says, if this node made it and it has not expired. The signature is compared in constant time.
    pub fn verify(&self, now: u64, token: &str) -> Option<Link> {
        let parts = jwt::parse(token, "HS256")?;
        hmac::verify(&self.key, parts.signed, &parts.signature).ok()?;
        // From here on the words are the node's own.
        let text = |claim: &str| parts.claims.get(claim).and_then(Value::as_str).map(str::to_owned);
        if now / 1000 >= parts.claims.get("exp")?.as_u64()? {
            return None;
        }
        Some(Link { domain: text("domain")?, recording: text("recording")?, by: text("by")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ur_033_a_link_opens_one_recording_for_a_while() {
        let (folder, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let links = Links::load(folder.path(), "https://node").expect("made");
        let (token, expires) = links.mint(5_000, "a.example", "r", "token ci", Duration::from_secs(60));
        assert_eq!(expires, 65_000);
        assert_eq!(links.url("a.example", "r"), "https://node/a.example/recordings/r/audio");
        let expected = Link { domain: "a.example".into(), recording: "r".into(), by: "token ci".into() };
        assert_eq!(links.verify(64_999, &token), Some(expected.clone()));
        assert_eq!(Links::load(folder.path(), "https://node").expect("read").verify(64_999, &token), Some(expected), "after a restart");
        assert_eq!(links.verify(65_000, &token), None, "expired");
        assert_eq!(Links::load(other.path(), "https://node").expect("made").verify(6_000, &token), None, "another node's");
        for place in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
            assert_eq!(links.verify(6_000, &String::from_utf8(bytes).expect("ASCII")), None, "character {place}");
        }
        let longest = links.mint(0, "a.example", "r", "x", Duration::from_secs(1_000_000)).1;
        assert_eq!(longest, 24 * 3600 * 1000, "nothing is open for longer than a day");
    }
}
