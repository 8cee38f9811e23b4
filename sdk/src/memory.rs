//! Where a handler's memory comes from: first what lies behind its data in the memory that it has anyway, 4 KiB at a time, and only then
//! more. One instance serves one call, so each page that is touched costs every call. Rust's own allocator for WebAssembly grows the memory by 64 KiB at the first allocation and writes at both ends of that.

use core::alloc::Layout;
use core::arch::wasm32::{memory_grow, memory_size};
use core::ptr::NonNull;
use talc::base::{Talc, binning::Binning};
use talc::cell::TalcSyncCell;
use talc::source::Source;
use talc::wasm::WasmBinning;

/// A page of the machine that the node runs on, and one of WebAssembly.
const STEP: usize = 4096;
const PAGE: usize = 65536;
/// What the allocator keeps beside an allocation, and at the start of its first heap.
const OWN: usize = 512;

#[global_allocator]
static MEMORY: TalcSyncCell<Behind, WasmBinning> = TalcSyncCell::new_wasm(Behind { heap: None });

unsafe extern "C" {
    /// The first byte behind data and stack; the linker says where that is.
    static __heap_base: u8;
}

/// Where the last heap ends, and the first byte behind the memory when that was decided.
#[derive(Clone, Copy, Debug)]
struct Heap {
    end: NonNull<u8>,
    behind: usize,
}

#[derive(Debug)]
struct Behind {
    heap: Option<Heap>,
}

// SAFETY: `acquire` allocates nothing itself and gives away each byte once: from `__heap_base`, below which data and stack lie, and from where
// the heap ended last, up to the end of the memory; or pages that `memory_grow` has just made. Nobody moves the heap but this.
unsafe impl Source for Behind {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        let last = talc.source.heap;
        let (mut from, mut behind) = match last {
            None => ((&raw const __heap_base) as usize, memory_size::<0>() * PAGE),
            Some(heap) => (heap.end.as_ptr() as usize, heap.behind),
        };
        let need = layout.size().checked_add(layout.align() + OWN).ok_or(())?;
        let mut to = from.checked_add(need).and_then(|to| to.checked_next_multiple_of(STEP)).ok_or(())?;
        let mut goes_on = last;
        if to > behind {
            let pages = (to - behind).div_ceil(PAGE);
            let at = match memory_grow::<0>(pages) {
                usize::MAX => return Err(()),
                at => at * PAGE,
            };
            if at != behind {
                // Somebody else has grown the memory: what he got lies between.
                (from, to, goes_on) = (at, at.saturating_add(need), None);
            }
            behind = at + pages * PAGE;
            to = to.min(behind);
        }
        let end = match goes_on {
            // SAFETY: as above: nobody has these bytes.
            Some(heap) => unsafe { talc.extend(heap.end, to as *mut u8) },
            // SAFETY: as above.
            None => unsafe { talc.claim(from as *mut u8, to - from) }.ok_or(())?,
        };
        talc.source.heap = Some(Heap { end, behind });
        Ok(())
    }
}
