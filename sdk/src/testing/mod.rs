//! A call without a phone: drives a handler by plain `cargo test`, hook by hook, as the node would.
//!
//! ```
//! use hookswitch_sdk::{Handler, Ivr, IvrRequest, NewCall, Result, Route, testing::Call};
//!
//! #[derive(Default)]
//! struct Box;
//!
//! impl Handler for Box {
//!     fn new_call(&mut self, _call: &NewCall) -> Result<Route> {
//!         Ok(Route::ivr())
//!     }
//!     fn get_ivr_command(&mut self, request: &IvrRequest) -> Result<Ivr> {
//!         Ok(match request.recording {
//!             None => Ivr::record("message.wav").beep().max_s(60).stop_on("#"),
//!             Some(_) => Ivr::play("thanks.wav").then_hangup(),
//!         })
//!     }
//! }
//!
//! let mut call = Call::from("alice").to("voicemail").dial::<Box>();
//! call.speak_s(4);
//! call.press("#");
//! call.assert_plays(&["thanks.wav"]);
//! call.wait();
//! call.assert_ended("ivrHangup");
//! assert_eq!(call.ladder(), "\
//! new-call: ivr
//! get-ivr-command: record message.wav after a beep up to 60 s until #
//! recorded 4 s: stop-digit
//! get-ivr-command: play thanks.wav, hang up
//! ended: ivrHangup");
//! ```
//!
//! What an answer of the handler says is checked as the node checks it: a test with an impossible one fails. There is no media: phrases
//! take no time, and nothing fails to play. It is about decisions; [`scenario`] runs a whole call as a node would, media and all, and
//! `hookswitch guest push` and a phone show the rest.

mod check;
pub(crate) mod fake;
mod live;
mod scenario;

pub use live::Live;
pub use scenario::scenario;

use crate::types::{NewCallRequest, Privacy, SessionInfo};
use crate::{Handler, HostError};
use fake::{World, world};

/// A call before it is dialled: who calls whom, and what the tenant has set up.
#[derive(Debug)]
#[must_use = "a call does nothing until it is dialled"]
pub struct Call {
    request: NewCallRequest,
}

impl Call {
    /// A call of `caller`, in a world of its own: store, settings, log and clock begin anew.
    pub fn from(caller: &str) -> Call {
        world(|world| *world = World::default());
        Call::also_from(caller)
    }

    /// A call of `caller` in the same world as those before it in this test.
    pub fn also_from(caller: &str) -> Call {
        let id = fake::serial();
        let info = SessionInfo {
            session_id: format!("session-{id}"),
            domain: "test.localhost".into(),
            ivr_server: "127.0.0.1".into(),
            trace_id: format!("trace-{id}"),
            ..SessionInfo::default()
        };
        let request = NewCallRequest {
            info,
            participant_id: format!("caller-{id}"),
            sip_call_id: format!("call-{id}@test"),
            calling_party: caller.into(),
            from_user: caller.into(),
            called_party: "ivr".into(),
            src_addr: "127.0.0.1".into(),
            ..NewCallRequest::default()
        };
        Call { request }
    }

    /// The number that is called; `ivr` if not said.
    pub fn to(mut self, called_party: &str) -> Call {
        self.request.called_party = called_party.into();
        self
    }

    /// The caller hides.
    pub fn private(mut self) -> Call {
        self.request.calling_party_privacy = Privacy::Secret;
        self
    }

    pub fn display_name(mut self, name: &str) -> Call {
        self.request.display_name = Some(name.into());
        self
    }

    /// One more `X-` or `P-` header of the INVITE.
    pub fn header(mut self, name: &str, value: &str) -> Call {
        let name = name.to_ascii_lowercase();
        let headers = if name.starts_with("p-") { &mut self.request.p_headers } else { &mut self.request.x_headers };
        headers.push((name, value.into()));
        self
    }

    /// Everything else that the request says.
    pub fn with(mut self, change: impl FnOnce(&mut NewCallRequest)) -> Call {
        change(&mut self.request);
        self
    }

    /// A setting of the tenant, for [`config`](crate::config).
    pub fn config(self, key: &str, value: &str) -> Call {
        world(|world| world.config.insert(key.into(), value.into()));
        self
    }

    /// For [`secrets`](crate::secrets).
    pub fn secret(self, name: &str, value: &str) -> Call {
        world(|world| world.secrets.insert(name.into(), value.into()));
        self
    }

    /// A file among the tenant's prompts, for [`prompts`](crate::prompts).
    pub fn prompt(self, file_name: &str, content: &[u8]) -> Call {
        world(|world| world.prompts.insert(file_name.into(), content.into()));
        self
    }

    /// What the next [`http`](crate::http) request gets; requests are answered in the order of these.
    pub fn response(self, status: u16, body: &str) -> Call {
        let response = crate::http::Response { status, headers: Vec::new(), body: body.into() };
        world(|world| world.responses.push_back(Ok(response)));
        self
    }

    /// The next [`http`](crate::http) request fails so.
    pub fn no_response(self, error: HostError) -> Call {
        world(|world| world.responses.push_back(Err(error)));
        self
    }

    /// The call comes in: the handler's `new_call` decides, and in the IVR gives its first command.
    #[track_caller]
    pub fn dial<H: Handler>(self) -> Live<H> {
        Live::start(self.request, H::default())
    }

    /// The same with a handler in a certain state.
    #[track_caller]
    pub fn dial_with<H: Handler>(self, handler: H) -> Live<H> {
        Live::start(self.request, handler)
    }
}
