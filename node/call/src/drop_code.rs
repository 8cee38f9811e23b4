//! What a `dropCode` means on the wire (IC-166): a status for an INVITE that is not answered yet, a Reason for the BYE of one that is.
//!
//! It does not choose who is dropped; see `session.rs`.

/// The named codes: name, SIP status, Q.850 cause and its text.
const NAMED: &[(&str, u16, u8, &str)] = &[
    ("busy", 486, 17, "User busy"),
    ("decline", 603, 21, "Call rejected"),
    ("reject", 603, 21, "Call rejected"),
    ("noanswer", 480, 19, "No answer from user"),
    ("unavailable", 480, 19, "No answer from user"),
    ("notfound", 404, 1, "Unallocated number"),
    ("forbidden", 403, 21, "Call rejected"),
    ("gone", 410, 22, "Number changed"),
    ("timeout", 408, 102, "Recovery on timer expiry"),
    ("congestion", 503, 34, "No circuit available"),
    ("notacceptable", 488, 79, "Service not implemented"),
];

/// A checked drop code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropCode {
    pub status: u16,
    pub q850: u8,
    text: &'static str,
}

impl DropCode {
    /// `None` is the default, decline. An unknown name or a number outside 400..=699 is `Err` with the default to use.
    pub fn parse(code: Option<&str>) -> Result<DropCode, DropCode> {
        let code = code.map(str::trim).unwrap_or("decline");
        if let Ok(status) = code.parse::<u16>() {
            return if (400..=699).contains(&status) { Ok(DropCode::from_status(status)) } else { Err(DropCode::from_status(603)) };
        }
        let named = NAMED.iter().find(|(name, ..)| code.eq_ignore_ascii_case(name));
        named.map(|&(_, status, q850, text)| DropCode { status, q850, text }).ok_or(DropCode::from_status(603))
    }

    fn from_status(status: u16) -> DropCode {
        let named = NAMED.iter().find(|(_, s, ..)| *s == status);
        let (q850, text) = named.map_or((16, "Normal call clearing"), |&(_, _, q850, text)| (q850, text));
        DropCode { status, q850, text }
    }

    /// Value of the BYE's Reason header (RFC 3326).
    pub fn reason(self) -> String {
        reason(self.q850, self.text)
    }
}

pub(crate) fn reason(q850: u8, text: &str) -> String {
    format!("Q.850;cause={q850};text=\"{text}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ic_166_drop_codes_map_to_status_and_cause() {
        let table: &[(Option<&str>, u16, u8)] = &[
            (None, 603, 21),
            (Some("busy"), 486, 17),
            (Some("decline"), 603, 21),
            (Some("reject"), 603, 21),
            (Some("noAnswer"), 480, 19),
            (Some("unavailable"), 480, 19),
            (Some("notFound"), 404, 1),
            (Some("forbidden"), 403, 21),
            (Some("gone"), 410, 22),
            (Some("timeout"), 408, 102),
            (Some("congestion"), 503, 34),
            (Some("notAcceptable"), 488, 79),
            (Some("486"), 486, 17),
            (Some("400"), 400, 16),
            (Some("699"), 699, 16),
        ];
        for &(code, status, q850) in table {
            let got = DropCode::parse(code).expect("a code of the row");
            assert_eq!((got.status, got.q850), (status, q850), "{code:?}");
        }
        assert_eq!(DropCode::parse(Some("busy")).unwrap().reason(), "Q.850;cause=17;text=\"User busy\"");
    }

    #[test]
    fn ic_166_other_codes_fall_back_to_decline_and_say_so() {
        for code in ["", "200", "302", "399", "700", "99999", "-1", "engaged", "486 Busy\r\nX: y"] {
            assert_eq!(DropCode::parse(Some(code)).map_err(|d| d.status), Err(603), "{code:?}");
        }
    }
}
