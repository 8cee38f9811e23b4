//! What a handler may decide. Start with [`Handler`].

use crate::{CallEvent, Ivr, IvrRequest, NewCall, Notification, Result, Route};

/// Decides about the calls of a tenant.
///
/// The node makes one value of it, by `Default`, for each session, asks it, and drops it when the session is over; so its fields are the
/// state of one call. Hooks of one session never overlap. When a hook panics or runs out of time, a fresh value serves the session
/// from then on: its requests say `info.restarted`, and what the session should remember must be in [`Route::remember`].
///
/// A decision may take 20 ms of CPU time, and 5 s (`get_ivr_command`: 8 s) altogether.
pub trait Handler: Default {
    /// A call comes in; the caller hears nothing yet. By default it is declined (603).
    fn new_call(&mut self, call: &NewCall) -> Result<Route> {
        let _ = call;
        Ok(Route::drop("decline"))
    }

    /// The IVR has just answered, or the command before has ended: what next? By default the caller is released.
    ///
    /// `request` holds what became of the command before: its digits, its recording.
    fn get_ivr_command(&mut self, request: &IvrRequest) -> Result<Ivr> {
        let _ = request;
        Ok(Ivr::hangup())
    }

    /// A party left, or could not be reached: what becomes of the other? By default it is released.
    fn call_event(&mut self, event: &CallEvent) -> Result<Route> {
        let _ = event;
        Ok(Route::drop("decline"))
    }

    /// News that needs no answer. Return at once: the node allows 250 ms.
    fn notify(&mut self, news: &Notification) {
        let _ = news;
    }
}

/// For tenants with numbers in IN mode; exported by `export!(MyHandler, call_identifier)`.
pub trait CallIdentifier: Handler {
    /// Which call is this? Asked in place of `new_call`; the call then goes to the IVR, with this JSON text as its session reference.
    fn get_call_identifier(&mut self, request: &crate::types::CallIdentifierRequest) -> Result<Option<String>>;
}

/// For tenants with devices of their own; exported by `export!(MyHandler, remote_call)`.
pub trait RemoteCall: Handler {
    /// A call for a device. It rings until `calls::answer_remote_call` or `calls::hangup_call`, for a minute at most. The answer is the session
    /// reference, as JSON text.
    fn new_remote_call(&mut self, call: &crate::types::RemoteCallRequest) -> Result<Option<String>>;
}
