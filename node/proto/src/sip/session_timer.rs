//! Session timers (RFC 4028): who refreshes, how often, and when a session that nobody refreshed is given up.

use super::header::{self, Name, Refresher};
use super::message::Message;
use crate::time::Time;
use std::time::Duration;

/// What request and response agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    pub interval: Duration,
    /// In terms of the request that agreed it: its sender (`Uac`) or its receiver.
    pub refresher: Refresher,
    /// The peer understands the extension, so that `Require: timer` may be sent.
    pub peer_supports: bool,
}

impl Agreed {
    /// Session-Expires value for our 2xx.
    pub fn value(&self) -> String {
        let refresher = if self.refresher == Refresher::Uac { "uac" } else { "uas" };
        format!("{};refresher={refresher}", self.interval.as_secs())
    }
}

/// The interval is below our minimum and the peer can be told so: 422 with Min-SE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooSmall;

/// As UAS (RFC 4028 9): what the 2xx to this INVITE or UPDATE will say. `ours`: what we would like where the peer asks for nothing.
pub(crate) fn negotiate(request: &Message, min_se: Duration, ours: Option<Duration>) -> Result<Option<Agreed>, TooSmall> {
    let peer_supports = request.lists(Name::Supported, "timer") || request.lists(Name::Require, "timer");
    let least = request.raw(Name::MinSe).next().and_then(header::seconds).unwrap_or(min_se).max(min_se);
    let Some((asked, refresher)) = request.raw(Name::SessionExpires).next().and_then(header::session_expires) else {
        let interval = ours.filter(|_| peer_supports);
        return Ok(interval.map(|i| Agreed { interval: i.max(least), refresher: Refresher::Uac, peer_supports }));
    };
    if asked < min_se && peer_supports {
        return Err(TooSmall);
    }
    // A proxy may ask on behalf of a caller that does not know the extension; then the refreshing is ours (RFC 4028 table 2).
    let refresher = match refresher {
        _ if !peer_supports => Refresher::Uas,
        Some(r) => r,
        None => Refresher::Uac,
    };
    Ok(Some(Agreed { interval: asked.max(min_se), refresher, peer_supports }))
}

/// The running timer of a session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionTimer {
    pub interval: Duration,
    /// When we send a refresh; `None` where the peer does.
    pub refresh: Option<Time>,
    /// When the session is given up with BYE.
    pub expires: Time,
}

impl SessionTimer {
    pub fn start(now: Time, interval: Duration, we_refresh: bool) -> SessionTimer {
        // RFC 4028 10: half-way through; and BYE the lesser of 32 s or a third before the end.
        let margin = (interval / 3).min(Duration::from_secs(32));
        SessionTimer { interval, refresh: we_refresh.then(|| now + interval / 2), expires: now + interval.saturating_sub(margin) }
    }

    pub fn next_timeout(&self) -> Time {
        self.refresh.map_or(self.expires, |r| r.min(self.expires))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn who_refreshes_and_how_often() {
        let agreed = |secs, refresher, peer_supports| Ok(Some(Agreed { interval: Duration::from_secs(secs), refresher, peer_supports }));
        // (headers, what we would like, outcome) with a minimum of 90 s.
        let rows = [
            ("", None, Ok(None)),
            ("", Some(600), Ok(None)),
            ("Supported: timer\r\n", None, Ok(None)),
            ("k: 100rel, timer\r\n", Some(600), agreed(600, Refresher::Uac, true)),
            ("Supported: timer\r\nMin-SE: 900\r\n", Some(600), agreed(900, Refresher::Uac, true)),
            ("Supported: timer\r\nx: 1800\r\n", None, agreed(1800, Refresher::Uac, true)),
            ("Supported: timer\r\nSession-Expires: 1800;refresher=uas\r\n", Some(60), agreed(1800, Refresher::Uas, true)),
            ("Require: timer\r\nSession-Expires: 90;refresher=uac\r\n", None, agreed(90, Refresher::Uac, true)),
            ("Supported: timer\r\nSession-Expires: 89\r\n", None, Err(TooSmall)),
            ("Session-Expires: 1800\r\n", None, agreed(1800, Refresher::Uas, false)),
            ("Session-Expires: 30;refresher=uac\r\n", None, agreed(90, Refresher::Uas, false)),
        ];
        for (headers, ours, expected) in rows {
            let text = format!(
                "INVITE sip:b@b SIP/2.0\r\nVia: SIP/2.0/UDP a\r\nFrom: <sip:a@a>;tag=1\r\nTo: <sip:b@b>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n{headers}\r\n"
            );
            let request = Message::parse(Bytes::from(text)).expect("a valid INVITE");
            assert_eq!(negotiate(&request, Duration::from_secs(90), ours.map(Duration::from_secs)), expected, "{headers:?}");
        }
    }

    #[test]
    fn half_way_refresh_and_bye_before_the_end() {
        for (secs, refresh, expires) in [(90, 45_000, 60_000), (1800, 900_000, 1_768_000)] {
            let t = SessionTimer::start(Time::ZERO, Duration::from_secs(secs), true);
            assert_eq!((t.refresh, t.expires), (Some(Time::from_millis(refresh)), Time::from_millis(expires)));
            assert_eq!(SessionTimer::start(Time::ZERO, Duration::from_secs(secs), false).next_timeout(), Time::from_millis(expires));
        }
    }
}
