//! Between the contract's exports and a [`Handler`]: what [`export!`](crate::export) expands to. Not for handlers.
//!
//! One component instance serves one session, so one handler in a thread-local is the session's handler.

use crate::types::{
    self, CallEventRequest, CallIdentifierAnswer, CallIdentifierRequest, IvrCommand, IvrRequest, NewCallRequest, Notification,
    RemoteCallAnswer, RemoteCallRequest, Routing,
};
use crate::{CallIdentifier, Failure, Handler, Ivr, RemoteCall, Result, Route, log};
use std::cell::RefCell;
use std::thread::LocalKey;

/// The session's handler, made when the first hook comes.
pub type Slot<H> = RefCell<Option<H>>;

/// What the contract's hooks return.
pub type Answer<T> = std::result::Result<T, types::Failure>;

/// Runs a hook on the session's handler.
fn with<H: Handler + 'static, T>(slot: &'static LocalKey<Slot<H>>, hook: impl FnOnce(&mut H) -> T) -> T {
    slot.with_borrow_mut(|handler| hook(handler.get_or_insert_with(first)))
}

/// A panic becomes a trap without words: say them before, so that the tenant reads where and why.
fn first<H: Default>() -> H {
    #[cfg(target_arch = "wasm32")]
    std::panic::set_hook(Box::new(|panic| log::write(log::Level::Error, &panic.to_string())));
    H::default()
}

fn refused(failure: Failure) -> types::Failure {
    types::Failure { message: failure.message }
}

/// A builder's misuse is no reason to lose the call.
fn complain(mistakes: &[&'static str]) {
    for mistake in mistakes {
        log::write(log::Level::Warn, mistake);
    }
}

fn routing(answer: Result<Route>) -> Answer<Routing> {
    let Route { routing, mistakes } = answer.map_err(refused)?;
    complain(&mistakes);
    Ok(*routing)
}

fn command(answer: Result<Ivr>) -> Answer<IvrCommand> {
    let Ivr { command, mistakes } = answer.map_err(refused)?;
    complain(&mistakes);
    Ok(*command)
}

pub fn new_call<H: Handler + 'static>(slot: &'static LocalKey<Slot<H>>, call: &NewCallRequest) -> Answer<Routing> {
    routing(with(slot, |handler| handler.new_call(call)))
}

pub fn get_ivr_command<H: Handler + 'static>(slot: &'static LocalKey<Slot<H>>, request: &IvrRequest) -> Answer<IvrCommand> {
    command(with(slot, |handler| handler.get_ivr_command(request)))
}

pub fn call_event<H: Handler + 'static>(slot: &'static LocalKey<Slot<H>>, event: &CallEventRequest) -> Answer<Routing> {
    routing(with(slot, |handler| handler.call_event(event)))
}

pub fn notify<H: Handler + 'static>(slot: &'static LocalKey<Slot<H>>, news: &Notification) {
    with(slot, |handler| handler.notify(news));
}

pub fn get_call_identifier<H: CallIdentifier + 'static>(
    slot: &'static LocalKey<Slot<H>>,
    request: &CallIdentifierRequest,
) -> Answer<CallIdentifierAnswer> {
    let session_reference = with(slot, |handler| handler.get_call_identifier(request)).map_err(refused)?;
    Ok(CallIdentifierAnswer { session_id: None, session_reference, extra: Vec::new() })
}

pub fn new_remote_call<H: RemoteCall + 'static>(slot: &'static LocalKey<Slot<H>>, call: &RemoteCallRequest) -> Answer<RemoteCallAnswer> {
    let session_reference = with(slot, |handler| handler.new_remote_call(call)).map_err(refused)?;
    Ok(RemoteCallAnswer { session_reference, extra: Vec::new() })
}

/// Makes a [`Handler`] what the component exports: `export!(MyHandler);`, once in a crate.
///
/// A handler that is also a [`CallIdentifier`] or a [`RemoteCall`] says so: `export!(MyHandler, call_identifier, remote_call);`, in this
/// order. On other targets than WebAssembly this only checks the traits.
#[macro_export]
macro_rules! export {
    ($handler:ty $(, $more:ident)* $(,)?) => {
        const _: () = {
            const fn is_a_handler<H: $crate::Handler + 'static>() {}
            is_a_handler::<$handler>();
            $($crate::__export_check!($more, $handler);)*
        };
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::{adapter, types};

            ::std::thread_local!(static SESSION: adapter::Slot<$handler> = const { ::core::cell::RefCell::new(::core::option::Option::None) });

            struct Component;

            impl $crate::wit::exports::hookswitch::call::handler::Guest for Component {
                fn new_call(call: types::NewCallRequest) -> adapter::Answer<types::Routing> {
                    adapter::new_call(&SESSION, &call)
                }
                fn get_ivr_command(request: types::IvrRequest) -> adapter::Answer<types::IvrCommand> {
                    adapter::get_ivr_command(&SESSION, &request)
                }
                fn call_event(event: types::CallEventRequest) -> adapter::Answer<types::Routing> {
                    adapter::call_event(&SESSION, &event)
                }
            }

            impl $crate::wit::exports::hookswitch::call::notifications::Guest for Component {
                fn notify(news: types::Notification) {
                    adapter::notify(&SESSION, &news);
                }
            }

            $crate::wit::export!(Component with_types_in $crate::abi);
            $($crate::__export_more!($more, Component, SESSION);)*
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export_check {
    (call_identifier, $handler:ty) => {
        const fn is_a_call_identifier<H: $crate::CallIdentifier + 'static>() {}
        is_a_call_identifier::<$handler>();
    };
    (remote_call, $handler:ty) => {
        const fn is_a_remote_call<H: $crate::RemoteCall + 'static>() {}
        is_a_remote_call::<$handler>();
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export_more {
    (call_identifier, $component:ident, $session:ident) => {
        impl $crate::wit::call_identifier::exports::hookswitch::call::call_identifier::Guest for $component {
            fn get_call_identifier(request: types::CallIdentifierRequest) -> adapter::Answer<types::CallIdentifierAnswer> {
                adapter::get_call_identifier(&$session, &request)
            }
        }
        $crate::wit::call_identifier::export!($component with_types_in $crate::wit::call_identifier);
    };
    (remote_call, $component:ident, $session:ident) => {
        impl $crate::wit::remote_call::exports::hookswitch::call::remote_call::Guest for $component {
            fn new_remote_call(call: types::RemoteCallRequest) -> adapter::Answer<types::RemoteCallAnswer> {
                adapter::new_remote_call(&$session, &call)
            }
        }
        $crate::wit::remote_call::export!($component with_types_in $crate::wit::remote_call);
    };
}

#[cfg(test)]
mod tests {
    use crate::types::{CallIdentifierRequest, RemoteCallRequest};
    use crate::{CallIdentifier, Handler, RemoteCall, Result};

    /// Everything that a component may export.
    #[derive(Default)]
    struct Full;

    impl Handler for Full {}
    impl CallIdentifier for Full {
        fn get_call_identifier(&mut self, request: &CallIdentifierRequest) -> Result<Option<String>> {
            Ok(Some(format!("\"{}\"", request.called_party)))
        }
    }
    impl RemoteCall for Full {
        fn new_remote_call(&mut self, _call: &RemoteCallRequest) -> Result<Option<String>> {
            Ok(None)
        }
    }

    crate::export!(Full, call_identifier, remote_call);

    #[test]
    fn the_optional_decisions_answer_with_the_session_reference() {
        std::thread_local!(static SESSION: super::Slot<Full> = const { std::cell::RefCell::new(None) });
        let request = CallIdentifierRequest {
            info: crate::types::SessionInfo::default(),
            participant_id: String::new(),
            called_party: "4711".into(),
            extra: Vec::new(),
        };
        let answer = super::get_call_identifier(&SESSION, &request);
        assert_eq!(answer.map(|answer| answer.session_reference), Ok(Some("\"4711\"".into())));
    }
}
