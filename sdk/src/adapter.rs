//! Between the contract's exports and a [`Handler`]: what [`export!`] expands to. Not for handlers.
//!
//! One component instance serves one session, so one handler in a thread-local is the session's handler.

use crate::types::{self, CallEventRequest, IvrCommand, IvrRequest, NewCallRequest, Notification, Routing};
use crate::{Failure, Handler, Ivr, Result, Route, log};
use std::cell::RefCell;
use std::thread::LocalKey;

/// The session's handler, made when the first hook comes.
pub type Slot<H> = RefCell<Option<H>>;

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

fn routing(answer: Result<Route>) -> std::result::Result<Routing, types::Failure> {
    let Route { routing, mistakes } = answer.map_err(refused)?;
    complain(&mistakes);
    Ok(routing)
}

fn command(answer: Result<Ivr>) -> std::result::Result<IvrCommand, types::Failure> {
    let Ivr { command, mistakes } = answer.map_err(refused)?;
    complain(&mistakes);
    Ok(command)
}

pub fn new_call<H: Handler + 'static>(slot: &'static LocalKey<Slot<H>>, call: &NewCallRequest) -> std::result::Result<Routing, types::Failure> {
    routing(with(slot, |handler| handler.new_call(call)))
}

pub fn get_ivr_command<H: Handler + 'static>(
    slot: &'static LocalKey<Slot<H>>,
    request: &IvrRequest,
) -> std::result::Result<IvrCommand, types::Failure> {
    command(with(slot, |handler| handler.get_ivr_command(request)))
}

pub fn call_event<H: Handler + 'static>(
    slot: &'static LocalKey<Slot<H>>,
    event: &CallEventRequest,
) -> std::result::Result<Routing, types::Failure> {
    routing(with(slot, |handler| handler.call_event(event)))
}

pub fn notify<H: Handler + 'static>(slot: &'static LocalKey<Slot<H>>, news: &Notification) {
    with(slot, |handler| handler.notify(news));
}

/// Makes a [`Handler`] what the component exports: `export!(MyHandler);`, once in a crate.
///
/// On other targets than WebAssembly it only checks that `MyHandler` is one.
#[macro_export]
macro_rules! export {
    ($handler:ty) => {
        const _: () = {
            const fn is_a_handler<H: $crate::Handler + 'static>() {}
            is_a_handler::<$handler>();
        };
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::{adapter, types};

            ::std::thread_local!(static SESSION: adapter::Slot<$handler> = const { ::core::cell::RefCell::new(None) });

            struct Component;

            impl $crate::wit::exports::hookswitch::call::handler::Guest for Component {
                fn new_call(call: types::NewCallRequest) -> Result<types::Routing, types::Failure> {
                    adapter::new_call(&SESSION, &call)
                }
                fn get_ivr_command(request: types::IvrRequest) -> Result<types::IvrCommand, types::Failure> {
                    adapter::get_ivr_command(&SESSION, &request)
                }
                fn call_event(event: types::CallEventRequest) -> Result<types::Routing, types::Failure> {
                    adapter::call_event(&SESSION, &event)
                }
            }

            impl $crate::wit::exports::hookswitch::call::notifications::Guest for Component {
                fn notify(news: types::Notification) {
                    adapter::notify(&SESSION, &news);
                }
            }

            $crate::wit::export!(Component with_types_in $crate::wit);
        };
    };
}
