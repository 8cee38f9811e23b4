//! How collected digits are reported where the handler asked for it (IC-224, IC-231, IC-232): a digest in place of what was pressed.
//!
//! Four digits are guessed in ten thousand tries whatever the digest: it keeps them out of logs and out of sight, no more.

use crate::hook::DigitProtection;
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2_of_digits::Sha256;
use std::fmt::Write as _;

impl DigitProtection {
    /// What is said in place of these digits. Of none nothing is said: that nobody pressed a key is no secret, and a handler must see it.
    pub fn digest(&self, digits: &str) -> String {
        if digits.is_empty() {
            return String::new();
        }
        match self {
            DigitProtection::Md5 { salt } => hex(&Md5::new().chain_update(salt).chain_update(digits).finalize()),
            DigitProtection::HmacSha256 { salt } => match Hmac::<Sha256>::new_from_slice(salt.as_bytes()) {
                Ok(mac) => hex(&mac.chain_update(digits).finalize().into_bytes()),
                // HMAC takes keys of any length. Were one refused, silence says less than the digits.
                Err(_) => String::new(),
            },
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ic_224_231_232_digests_are_those_of_other_tools() {
        let md5 = |salt: &str| DigitProtection::Md5 { salt: salt.into() };
        let hmac = |salt: &str| DigitProtection::HmacSha256 { salt: salt.into() };
        for (protection, digits, digest) in [
            // printf 'pepper4711' | md5sum
            (md5("pepper"), "4711", "8e96b12c57bf88daa3c0242f2cfce72c"),
            // RFC 1321 A.5: salt and digits are one text.
            (
                md5("1234567890123456789012345678901234567890"),
                "1234567890123456789012345678901234567890",
                "57edf4a22be3c955ac49da2e2107b67a",
            ),
            (md5(""), "12#", "c4950298c3236fd9ee35782b043e9365"),
            // printf 4711 | openssl dgst -sha256 -hmac pepper
            (hmac("pepper"), "4711", "1231326f59c9bb151b60c0df6f52a6c1c1811acb023e9f056e3bf359bc8e9e6e"),
            (md5("pepper"), "", ""),
            (hmac("pepper"), "", ""),
        ] {
            assert_eq!(protection.digest(digits), digest, "{protection:?} {digits}");
        }
    }
}
