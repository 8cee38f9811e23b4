//! The native stack of a guest, given back while it waits.
//!
//! A store keeps the stack that its last hook ran on (wasmtime's `AsyncState::last_fiber_stack`) for as long as it lives, with every page
//! that was ever touched: 16 KB a call, where a hook runs for microseconds in minutes. Wasmtime has no call that gives it up, so its pages
//! are returned to the kernel here. A test in `instance.rs` holds wasmtime to what this
//! rests on.

use crate::host::State;
use crate::limits;
use std::fs::File;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::LazyLock;
use wasmtime::{CallHook, Store};

/// Where the kernel does not say where a stack ends, so much of it is given back: as deep as a guest may go ([`limits::WASM_STACK`]). Where
/// it is entered is less than half of the whole stack deep, so that all of it lies within the stack.
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
    let Range { start, end } = whole(entry).unwrap_or_else(|| {
        let page = page_size();
        // The next page is the top, or, were the guest entered in the top page, the guard of another stack: it is left alone.
        let end = (entry & !(page - 1)) + page;
        end.saturating_sub(DEPTH)..end
    });
    // SAFETY: the range is a stack, or ends with the page in which the last hook was entered and is shorter than what the stack has below
    // that. That stack belongs to this store, which we hold alone, until the store is dropped; nothing runs on it, and what ran came to
    // its end, so no frame is on it: a new hook begins at its top and reads nothing that it has not written. Pages that were given back
    // are zero when they are touched again.
    unsafe {
        libc::madvise(std::ptr::with_exposed_provenance_mut(start), end - start, libc::MADV_DONTNEED);
    }
}

/// The whole stack with this address, where the kernel tells (PROCMAP_QUERY, Linux 6.11): between its guards it is a mapping of its own.
fn whole(address: usize) -> Option<Range<usize>> {
    /// `struct procmap_query` of linux/fs.h, with what is not asked for left zero.
    #[repr(C)]
    struct Query {
        size: u64,
        flags: u64,
        address: u64,
        start: u64,
        end: u64,
        rest: [u64; 8],
    }
    const SIZE: usize = size_of::<Query>();
    const _: () = assert!(SIZE == 104);
    /// `_IOWR('f', 17, struct procmap_query)`.
    const PROCMAP_QUERY: libc::Ioctl = (3 << 30 | SIZE << 16 | (b'f' as usize) << 8 | 17) as libc::Ioctl;
    static MAPS: LazyLock<Option<File>> = LazyLock::new(|| File::open("/proc/self/maps").ok());

    let maps = MAPS.as_ref()?;
    let mut query = Query { size: SIZE as u64, flags: 0, address: address as u64, start: 0, end: 0, rest: [0; 8] };
    // SAFETY: the descriptor is open and the pointer is to a whole query of ours whose size it says; the kernel writes into nothing else,
    // since no name and no build id is asked for.
    let rc = unsafe { libc::ioctl(maps.as_raw_fd(), PROCMAP_QUERY, &raw mut query) };
    let found = usize::try_from(query.start).ok()?..usize::try_from(query.end).ok()?;
    (rc == 0 && found.contains(&address) && found.len() == limits::ASYNC_STACK).then_some(found)
}

fn page_size() -> usize {
    // SAFETY: no memory is involved.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}
