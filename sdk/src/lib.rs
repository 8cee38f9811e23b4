//! Write a call handler: a program that decides what the calls of one Hookswitch tenant do.
//!
//! ```
//! use hookswitch_sdk::{Handler, Ivr, IvrRequest, NewCall, Result, Route};
//!
//! #[derive(Default)]
//! struct Hello;
//!
//! impl Handler for Hello {
//!     fn new_call(&mut self, _call: &NewCall) -> Result<Route> {
//!         Ok(Route::ivr())
//!     }
//!     fn get_ivr_command(&mut self, _request: &IvrRequest) -> Result<Ivr> {
//!         Ok(Ivr::play("greeting.wav").then_hangup())
//!     }
//! }
//! hookswitch_sdk::export!(Hello);
//! ```
//!
//! `hookswitch guest build` makes a WebAssembly component of it, `hookswitch guest push` gives it to the node, and the next call is
//! served by it. One value of the handler lives as long as one call: what it keeps in itself is the call's state.
//!
//! - [`Handler`] is what a handler may decide; every hook has a default.
//! - [`Route`] and [`Ivr`] are its answers, built in the order in which the call happens.
//! - [`log`], [`config`], [`store`], [`calls`] and their neighbours are what the node offers a handler. There is no file system, no socket
//!   and no thread.
//! - [`testing`] drives a handler by plain `cargo test`: no WebAssembly, no node, no phone.
//! - [`types`] is the contract word for word: what the hooks are given, and what the builders fill in.

mod failure;
mod handler;
mod host;
mod ivr;
#[cfg(all(target_arch = "wasm32", feature = "allocator"))]
mod memory;
mod request;
mod route;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use failure::{Failure, Result};
pub use handler::{CallIdentifier, Handler, RemoteCall};
pub use host::{calls, clock, config, http, log, outbox, prompts, random, recordings, secrets, store, timers};
pub use ivr::Ivr;
pub use route::Route;
pub use types::{
    CallEventKind, CallEventRequest as CallEvent, HostError, IvrRequest, NewCallRequest as NewCall, Notification, TonePhrase as Tone,
};

/// The records and variants of the contract (`wit/types.wit`), as Rust has them.
pub mod types {
    pub use crate::wit::hookswitch::call::types::*;
}

/// What `wit-bindgen` makes of the contract. Use the rest of this crate instead; only [`export!`] needs it.
///
/// `call_identifier` and `remote_call` are worlds of their own, since a component exports only what its handler decides.
#[doc(hidden)]
pub mod wit {
    wit_bindgen::generate!({
        path: "../wit",
        inline: r"
            package hookswitch:sdk;
            world guest {
                include hookswitch:call/node-imports@0.1.0;
                export hookswitch:call/handler@0.1.0;
                export hookswitch:call/notifications@0.1.0;
            }
        ",
        world: "hookswitch:sdk/guest",
        additional_derives: [PartialEq],
        generate_all,
        generate_unused_types: true,
        pub_export_macro: true,
        default_bindings_module: "hookswitch_sdk::wit",
    });

    pub mod call_identifier {
        wit_bindgen::generate!({
            path: "../wit",
            inline: "package hookswitch:sdk; world call-identifier { export hookswitch:call/call-identifier@0.1.0; }",
            world: "hookswitch:sdk/call-identifier",
            with: { "hookswitch:call/types@0.1.0": crate::wit::hookswitch::call::types, "hookswitch:call/call-identifier@0.1.0": generate },
            pub_export_macro: true,
            default_bindings_module: "hookswitch_sdk::wit::call_identifier",
        });
    }

    pub mod remote_call {
        wit_bindgen::generate!({
            path: "../wit",
            inline: "package hookswitch:sdk; world remote-call { export hookswitch:call/remote-call@0.1.0; }",
            world: "hookswitch:sdk/remote-call",
            with: { "hookswitch:call/types@0.1.0": crate::wit::hookswitch::call::types, "hookswitch:call/remote-call@0.1.0": generate },
            pub_export_macro: true,
            default_bindings_module: "hookswitch_sdk::wit::remote_call",
        });
    }
}

#[doc(hidden)]
pub mod abi;
#[doc(hidden)]
pub mod adapter;
