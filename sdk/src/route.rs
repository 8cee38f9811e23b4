//! Where a call goes: the answer to `new_call` and `call_event`. Start with [`Route`].

use crate::Ivr;
use crate::types::{
    DropAction, DropCode, Extension, Greeting, HttpCall, IvrAction, IvrCommand, JoinAction, MonitorLeg, OutboundCall, Phrase, PlayMode,
    RedirectAction, Ringback, Routing, RtpEndpoint,
};
use std::fmt;

/// What becomes of the caller (`new_call`), or of the party that is left (`call_event`).
///
/// ```
/// # use hookswitch_sdk::Route;
/// # use std::time::Duration;
/// Route::ivr();
/// Route::drop("busy");
/// Route::call("sip:+4687551234@trunk.example").ring_for(Duration::from_secs(25)).record("call.wav");
/// Route::redirect(["sip:desk@other.example"]);
/// ```
///
/// The methods after `call` say how it is made; after anything else they do nothing, the call's log says so, and the harness in
/// [`testing`](crate::testing) fails the test.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Boxed, as the command of an [`Ivr`](crate::Ivr) is.
    pub(crate) routing: Box<Routing>,
    pub(crate) mistakes: Vec<&'static str>,
}

impl From<Routing> for Route {
    fn from(routing: Routing) -> Route {
        Route { routing: Box::new(routing), mistakes: Vec::new() }
    }
}

/// `busy`, `decline`, `reject`, `noAnswer`, `unavailable`, `notFound`, `forbidden`, `gone`, `timeout`, `congestion`, `notAcceptable`
/// (or with dashes), or a SIP status from `400` to `699`.
impl From<&str> for DropCode {
    fn from(code: &str) -> DropCode {
        match code {
            "busy" => DropCode::Busy,
            "decline" => DropCode::Decline,
            "reject" => DropCode::Reject,
            "noAnswer" | "no-answer" => DropCode::NoAnswer,
            "unavailable" => DropCode::Unavailable,
            "notFound" | "not-found" => DropCode::NotFound,
            "forbidden" => DropCode::Forbidden,
            "gone" => DropCode::Gone,
            "timeout" => DropCode::Timeout,
            "congestion" => DropCode::Congestion,
            "notAcceptable" | "not-acceptable" => DropCode::NotAcceptable,
            other => match other.parse() {
                Ok(status) => DropCode::SipCode(status),
                Err(_) => DropCode::Ext(Extension { name: other.into(), json: "{}".into() }),
            },
        }
    }
}

impl From<String> for DropCode {
    fn from(code: String) -> DropCode {
        code.as_str().into()
    }
}

impl From<u16> for DropCode {
    fn from(status: u16) -> DropCode {
        DropCode::SipCode(status)
    }
}

impl DropCode {
    /// The status that an unanswered caller gets.
    pub fn status(&self) -> u16 {
        match self {
            DropCode::Busy => 486,
            DropCode::Decline | DropCode::Reject | DropCode::Ext(_) => 603,
            DropCode::NoAnswer | DropCode::Unavailable => 480,
            DropCode::NotFound => 404,
            DropCode::Forbidden => 403,
            DropCode::Gone => 410,
            DropCode::Timeout => 408,
            DropCode::Congestion => 503,
            DropCode::NotAcceptable => 488,
            DropCode::SipCode(status) => *status,
        }
    }
}

/// Each name as [`Route::drop`] takes it.
impl fmt::Display for DropCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DropCode::Busy => "busy",
            DropCode::Decline => "decline",
            DropCode::Reject => "reject",
            DropCode::NoAnswer => "noAnswer",
            DropCode::Unavailable => "unavailable",
            DropCode::NotFound => "notFound",
            DropCode::Forbidden => "forbidden",
            DropCode::Gone => "gone",
            DropCode::Timeout => "timeout",
            DropCode::Congestion => "congestion",
            DropCode::NotAcceptable => "notAcceptable",
            DropCode::SipCode(status) => return status.fmt(f),
            DropCode::Ext(ext) => &ext.name,
        })
    }
}

impl Route {
    /// Answer the call; the node then asks `get_ivr_command`.
    pub fn ivr() -> Route {
        Routing::Ivr(IvrAction { session_reference: None, participant_id: None, extra: Vec::new() }).into()
    }

    /// Refuse the call: `"busy"` (486), `"decline"` or `"reject"` (603), `"noAnswer"` or `"unavailable"` (480), `"notFound"` (404),
    /// `"forbidden"` (403), `"gone"` (410), `"timeout"` (408), `"congestion"` (503), `"notAcceptable"` (488), or a status from 400 to 699. A party
    /// that was answered already is released instead.
    pub fn drop(code: impl Into<DropCode>) -> Route {
        Routing::Drop(DropAction { drop_code: Some(code.into()), session_reference: None, extra: Vec::new() }).into()
    }

    /// Call this SIP URI and connect the two. The tenant must be allowed to call it.
    #[inline(never)] // It is large: it lies on the stack only here.
    pub fn call(dest_addr: impl Into<String>) -> Route {
        Routing::Call(OutboundCall { dest_addr: dest_addr.into(), ..OutboundCall::default() }).into()
    }

    /// Connect with a participant of this session that is not connected.
    pub fn join(participant_id: impl Into<String>) -> Route {
        let participant_id = participant_id.into();
        let plain = JoinAction {
            participant_id,
            session_reference: None,
            call_recording: false,
            recording_file_name: None,
            recording: None,
            extra: Vec::new(),
        };
        Routing::Join(plain).into()
    }

    /// Connect with a device that sends and takes plain RTP; `codec` is `PCMU`, `PCMA` or `GSM`.
    pub fn http_call(receive_ip: impl Into<String>, receive_port: u16, codec: impl Into<String>) -> Route {
        let endpoint = RtpEndpoint {
            receive_ip: receive_ip.into(),
            receive_port,
            codec: codec.into(),
            telephone_event_payload_type: None,
            crypto: Vec::new(),
        };
        Routing::Httpcall(HttpCall { endpoint, session_reference: None, extra: Vec::new() }).into()
    }

    /// 302 with these SIP URIs, the best first: the caller's side tries them instead. Only an unanswered call can be redirected.
    pub fn redirect<S: Into<String>>(contacts: impl IntoIterator<Item = S>) -> Route {
        let contacts = contacts.into_iter().map(Into::into).collect();
        Routing::Redirect(RedirectAction { status: 302, contacts, session_reference: None, extra: Vec::new() }).into()
    }

    /// An action of a newer node, its data as JSON.
    pub fn ext(name: impl Into<String>, json: impl Into<String>) -> Route {
        Routing::Ext(Extension { name: name.into(), json: json.into() }).into()
    }

    /// Gives the session JSON text to keep, up to 4096 bytes: every later request and event carries it, also to a handler that had to
    /// be restarted. It replaces what was kept before.
    pub fn remember(mut self, session_reference: impl Into<String>) -> Route {
        let place = match &mut *self.routing {
            Routing::Drop(action) => &mut action.session_reference,
            Routing::Ivr(action) => &mut action.session_reference,
            Routing::Call(action) => &mut action.session_reference,
            Routing::Join(action) => &mut action.session_reference,
            Routing::Httpcall(action) => &mut action.session_reference,
            Routing::Redirect(action) => &mut action.session_reference,
            Routing::Ext(_) => {
                self.mistakes.push("Route::remember: an extension carries its own data");
                return self;
            }
        };
        *place = Some(session_reference.into());
        self
    }

    /// Of a call: give up after so many seconds, 1 to 300; 60 if not given. `call_event` decides then.
    pub fn max_ring_s(self, seconds: u32) -> Route {
        self.with(|call| call.max_ring_time_ms = Some(seconds.saturating_mul(1000)))
    }

    /// The same as a duration; parts of a second count.
    pub fn ring_for(self, time: std::time::Duration) -> Route {
        // More than it holds is more than the node takes: it is refused by name there.
        let ms = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        self.with(|call| call.max_ring_time_ms = Some(ms))
    }

    /// Of a call: record the connection under this name.
    pub fn record(self, file_name: impl Into<String>) -> Route {
        self.with(|call| {
            call.call_recording = true;
            call.recording_file_name = Some(file_name.into());
        })
    }

    /// Of a call: what the waiting party hears.
    pub fn ringback(self, tone: Ringback) -> Route {
        self.with(|call| call.ringback_tone = Some(tone))
    }

    /// Of a call: what the caller alone is told, after the callee answered and before they hear each other.
    ///
    /// ```
    /// # use hookswitch_sdk::{Ivr, Route, types::PlayMode};
    /// Route::call("sip:desk@office.example")
    ///     .greet_callee(Ivr::play("a-customer-calls.wav"))
    ///     .greet_caller(Ivr::play("you-are-recorded.wav"))
    ///     .greet_in_order(PlayMode::CalleeFirst);
    /// ```
    pub fn greet_caller(self, words: Ivr) -> Route {
        self.greet(words, |greeting| &mut greeting.caller)
    }

    /// Of a call: what the callee alone is told.
    pub fn greet_callee(self, words: Ivr) -> Route {
        self.greet(words, |greeting| &mut greeting.callee)
    }

    /// Of a call: which greeting plays first. Both at once, if not given.
    pub fn greet_in_order(self, mode: PlayMode) -> Route {
        self.with(|call| greeting(call).play_mode = Some(mode))
    }

    fn greet(mut self, words: Ivr, side: fn(&mut Greeting) -> &mut Vec<Phrase>) -> Route {
        let mut command = words.command;
        let phrases = std::mem::take(&mut command.phrases);
        if *command != IvrCommand::default() {
            self.mistakes.push("Route: a greeting plays and does nothing else");
        }
        self.mistakes.extend(words.mistakes);
        self.with(|call| *side(greeting(call)) = phrases)
    }

    /// Of a call: this SIP URI is called too, once the two are connected, and hears both of them; nobody hears it, and whatever becomes of
    /// it the call goes on.
    pub fn monitored_by(self, dest_addr: impl Into<String>) -> Route {
        let (dest_addr, none) = (dest_addr.into(), Vec::new);
        self.with(|call| {
            call.monitor = Some(MonitorLeg { dest_addr, sip_from: None, p_headers: none(), x_headers: none(), extra: none() });
        })
    }

    /// Of a call: user part of From; the caller's identity if not given.
    pub fn sip_from(self, user: impl Into<String>) -> Route {
        self.with(|call| call.sip_from = Some(user.into()))
    }

    /// Of a call: the name that From shows.
    pub fn display_name(self, name: impl Into<String>) -> Route {
        self.with(|call| call.display_name = Some(name.into()))
    }

    /// Of a call: hide the caller.
    pub fn private(self) -> Route {
        self.with(|call| call.caller_privacy = true)
    }

    /// Of a call: one more `X-` header.
    pub fn x_header(self, name: impl Into<String>, value: impl Into<String>) -> Route {
        self.with(|call| call.x_headers.push((name.into(), value.into())))
    }

    /// Of a call: send this `X-` or `P-` header of the incoming call along.
    pub fn copy_header(self, name: impl Into<String>) -> Route {
        self.with(|call| call.copy_headers.push(name.into()))
    }

    /// Of a call: everything else that [`OutboundCall`] says.
    pub fn with(mut self, change: impl FnOnce(&mut OutboundCall)) -> Route {
        match &mut *self.routing {
            Routing::Call(call) => change(call),
            _ => self.mistakes.push("Route: how a call is made can only be said after Route::call"),
        }
        self
    }

    /// What the node gets.
    pub fn as_routing(&self) -> &Routing {
        &self.routing
    }
}

fn greeting(call: &mut OutboundCall) -> &mut Greeting {
    call.greeting.get_or_insert_with(|| Greeting { play_mode: None, caller: Vec::new(), callee: Vec::new() })
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.routing.fmt(f)
    }
}

impl fmt::Display for Routing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Routing::Drop(action) => write!(f, "drop {}", action.drop_code.as_ref().unwrap_or(&DropCode::Decline)),
            Routing::Ivr(_) => f.write_str("ivr"),
            Routing::Call(call) => write!(f, "call {}", call.dest_addr),
            Routing::Join(action) => write!(f, "join {}", action.participant_id),
            Routing::Httpcall(action) => write!(f, "httpcall {}:{}", action.endpoint.receive_ip, action.endpoint.receive_port),
            Routing::Redirect(action) => write!(f, "redirect {} {}", action.status, action.contacts.join(", ")),
            Routing::Ext(ext) => write!(f, "ext {}", ext.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_takes_its_details_and_others_say_so() {
        let route = Route::call("sip:a@b").max_ring_s(20).record("x.wav").x_header("x-a", "1").private().remember("{}");
        let route = route.monitored_by("sip:m@b");
        let Routing::Call(call) = &*route.routing else { panic!("{route}") };
        assert_eq!(call.max_ring_time_ms, Some(20_000));
        assert_eq!((call.call_recording, call.recording_file_name.as_deref()), (true, Some("x.wav")));
        assert_eq!((call.x_headers.len(), call.caller_privacy, call.session_reference.as_deref()), (1, true, Some("{}")));
        assert_eq!(call.monitor.as_ref().map(|leg| leg.dest_addr.as_str()), Some("sip:m@b"));
        assert!(route.mistakes.is_empty());
        let Routing::Call(call) = Route::call("sip:a@b").ring_for(std::time::Duration::from_millis(1500)).routing.as_ref().clone() else {
            panic!("no call")
        };
        assert_eq!(call.max_ring_time_ms, Some(1500));
        assert_eq!(Route::ivr().max_ring_s(1).mistakes.len(), 1);
        assert_eq!(Route::ext("mixer-join", "{}").remember("1").mistakes.len(), 1);
    }

    #[test]
    fn greetings_are_phrases_and_nothing_else() {
        let route = Route::call("sip:a@b").greet_caller(Ivr::play("a.wav").then_silence_ms(100)).greet_callee(Ivr::play("b.wav"));
        let route = route.greet_in_order(PlayMode::CallerFirst);
        let Routing::Call(call) = &*route.routing else { panic!("{route}") };
        let greeting = call.greeting.as_ref().expect("there is one");
        assert_eq!((greeting.caller.len(), greeting.callee.len(), greeting.play_mode), (2, 1, Some(PlayMode::CallerFirst)));
        assert!(route.mistakes.is_empty(), "{:?}", route.mistakes);
        assert_eq!(Route::call("sip:a@b").greet_caller(Ivr::play("a.wav").then_hangup()).mistakes.len(), 1);
        assert_eq!(Route::ivr().greet_callee(Ivr::play("a.wav")).mistakes.len(), 1);
    }

    #[test]
    fn drop_codes_and_their_status() {
        let names = [
            ("busy", 486),
            ("decline", 603),
            ("reject", 603),
            ("noAnswer", 480),
            ("unavailable", 480),
            ("notFound", 404),
            ("forbidden", 403),
            ("gone", 410),
            ("timeout", 408),
            ("congestion", 503),
            ("notAcceptable", 488),
            ("699", 699),
        ];
        for (name, status) in names {
            let code = DropCode::from(name);
            assert!(!matches!(code, DropCode::Ext(_)), "{name}");
            assert_eq!((code.status(), code.to_string().as_str()), (status, name));
        }
        assert!(matches!(DropCode::from("later"), DropCode::Ext(ext) if ext.name == "later"));
    }
}
