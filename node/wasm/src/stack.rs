//! The native stack of a guest, given back while it waits.
//!
//! A store keeps the stack that its last hook ran on (wasmtime's `AsyncState::last_fiber_stack`) for as long as it lives, with every page
//! that was ever touched: 16 KB a call, where a hook runs for microseconds in minutes. Wasmtime has no call that gives it up, so its pages
//! are returned to the kernel here. A test in `instance.rs` holds wasmtime to what this
//! rests on.

use crate::host::State;
use crate::limits;
use wasmtime::{CallHook, Store};

/// Of a stack, so much is given back: as deep as a guest may go ([`limits::WASM_STACK`]). Where it is entered is less than half of the
/// whole stack deep, so that all of it lies within the stack.
const DEPTH: usize = limits::WASM_STACK;
const _: () = assert!(DEPTH <= limits::ASYNC_STACK / 2);

/// From now on the store's state knows where its stack is.
pub fn watch(store: &mut Store<State>) {
    store.call_hook(|mut context, hook| {
        if matches!(hook, CallHook::CallingWasm) {
            let here = 0u8;
            let here = std::hint::black_box(&raw const here).addr();
            // The entry is the shallowest; what a host function asks of the guest in between (room for a string) is deeper.
            let state = context.data_mut();
            state.stack = Some(state.stack.map_or(here, |entry| entry.max(here)));
        }
        Ok(())
    });
}

/// No hook of this store may be running, and its last one must have come to its end.
pub fn give_back(store: &mut Store<State>) {
    let Some(entry) = store.data_mut().stack.take() else { return };
    let page = page_size();
    // One page more would be the top, or, were the guest entered in the top page, the next stack's guard: which of them is not known here.
    let end = (entry & !(page - 1)) + page;
    let Some(start) = end.checked_sub(DEPTH) else { return };
    // SAFETY: the range ends with the page in which the last hook was entered and is shorter than what the stack has below that, so it is
    // part of one stack. That stack belongs to this store, which we hold alone, until the store is dropped; nothing runs on it, and what
    // ran came to its end, so no frame is on it: a new hook begins at its top and reads nothing that it has not written. Pages that were
    // given back are zero when they are touched again.
    unsafe {
        libc::madvise(std::ptr::with_exposed_provenance_mut(start), end - start, libc::MADV_DONTNEED);
    }
}

fn page_size() -> usize {
    // SAFETY: no memory is involved.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}
