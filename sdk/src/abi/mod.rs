//! How hooks' requests and answers lie in memory (the component model's canonical ABI), with one small function a type.
//!
//! `wit-bindgen` writes the same conversions out in each export, again and again: 150 KB of code in every handler, and most of the pages
//! that a fresh instance touches. Here they are shared, which makes a handler a quarter as large. Everything else of `wit-bindgen` is
//! used as it is: types, imports, the names of the exports and the section that describes them. [`exports`] takes the place of its
//! functions of the same names in [`export!`](crate::export).
//!
//! Start with [`Abi`]; the contract's types are listed in `contract.rs`, and the tests hold both against `wit-bindgen`'s own conversions.

mod contract;
#[cfg(test)]
mod tests;

use std::alloc::Layout;
use std::any::Any;
use std::cell::RefCell;
use std::mem::size_of;

/// A value of the contract, as it lies in the handler's memory between handler and node.
///
/// # Safety
///
/// `SIZE` and `ALIGN` must be what the canonical ABI says, and `lift` must read and `lower` write nothing beyond them.
pub unsafe trait Abi: Sized {
    const SIZE: usize;
    const ALIGN: usize;

    /// Takes a value out of memory, with all that it points to: the node allocated that for us.
    ///
    /// # Safety
    ///
    /// At `at` lies a value of this type that nobody else takes.
    unsafe fn lift(at: *const u8) -> Self;

    /// Writes a value that may point into `self`, and into blocks that live until the node has read it.
    ///
    /// # Safety
    ///
    /// At `at` is room for it, aligned; `self` stays where it is until the node has read it.
    unsafe fn lower(&self, at: *mut u8);
}

const fn align_up(offset: usize, align: usize) -> usize {
    offset.div_ceil(align) * align
}

const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

/// What an answer consists of, kept from the hook's return until the node has read it. Hooks of an instance never overlap.
#[derive(Default)]
struct Held {
    blocks: Vec<Block>,
    answer: Option<Box<dyn Any>>,
}

thread_local!(static HELD: RefCell<Held> = const { RefCell::new(Held { blocks: Vec::new(), answer: None }) });

struct Block {
    start: *mut u8,
    layout: Layout,
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: `block` allocated it with this layout, and only here is it freed.
        unsafe { std::alloc::dealloc(self.start, self.layout) }
    }
}

/// Memory that lives until [`release`].
fn block(size: usize, align: usize) -> *mut u8 {
    if size == 0 {
        return std::ptr::without_provenance_mut(align);
    }
    let layout = Layout::from_size_align(size, align).expect("no answer is half the address space");
    // SAFETY: the size is not zero.
    let start = unsafe { std::alloc::alloc(layout) };
    if start.is_null() {
        std::alloc::handle_alloc_error(layout);
    }
    HELD.with_borrow_mut(|held| held.blocks.push(Block { start, layout }));
    start
}

/// Lowers an answer that is kept until [`release`].
fn answer<T: Abi + 'static>(value: T) -> *mut u8 {
    let value = Box::new(value);
    let at = block(T::SIZE, T::ALIGN);
    // SAFETY: the block is as large and aligned as the type wants, and the box does not move what it holds.
    unsafe { value.lower(at) };
    HELD.with_borrow_mut(|held| held.answer = Some(value));
    at
}

/// Lifts a request and frees the memory that held it.
///
/// # Safety
///
/// The node allocated `at` for this type through `cabi_realloc`, and gave it away.
unsafe fn request<T: Abi>(at: *mut u8) -> T {
    // SAFETY: as promised by the caller; `lift` takes everything out, so that only the outermost block is left.
    unsafe {
        let value = T::lift(at);
        free(at, T::SIZE, T::ALIGN);
        value
    }
}

/// # Safety
///
/// The node allocated `at` with this size and alignment.
unsafe fn free(at: *mut u8, size: usize, align: usize) {
    if size != 0 {
        let layout = Layout::from_size_align(size, align).expect("the node allocated it so");
        // SAFETY: as promised by the caller.
        unsafe { std::alloc::dealloc(at, layout) }
    }
}

/// The node has read the answer.
fn release() {
    drop(HELD.take());
}

macro_rules! plain {
    ($($type:ty)*) => {$(
        // SAFETY: numbers lie in memory as they are; the alignment is the node's, so that unaligned reads are not needed.
        unsafe impl Abi for $type {
            const SIZE: usize = size_of::<$type>();
            const ALIGN: usize = size_of::<$type>();
            #[inline]
            unsafe fn lift(at: *const u8) -> $type {
                // SAFETY: as `Abi` demands of the caller.
                unsafe { at.cast::<$type>().read() }
            }
            #[inline]
            unsafe fn lower(&self, at: *mut u8) {
                // SAFETY: as `Abi` demands of the caller.
                unsafe { at.cast::<$type>().write(*self) }
            }
        }
    )*};
}
plain!(u8 u16 u32 u64 i64 f32 usize);

// SAFETY: a byte, 0 or 1.
unsafe impl Abi for bool {
    const SIZE: usize = 1;
    const ALIGN: usize = 1;
    unsafe fn lift(at: *const u8) -> bool {
        // SAFETY: as `Abi` demands of the caller.
        unsafe { u8::lift(at) != 0 }
    }
    unsafe fn lower(&self, at: *mut u8) {
        // SAFETY: as `Abi` demands of the caller.
        unsafe { u8::from(*self).lower(at) }
    }
}

// SAFETY: a scalar value in 32 bits.
unsafe impl Abi for char {
    const SIZE: usize = 4;
    const ALIGN: usize = 4;
    unsafe fn lift(at: *const u8) -> char {
        // SAFETY: as `Abi` demands of the caller. The node checks that it is one.
        unsafe { char::from_u32(u32::lift(at)).unwrap_or(char::REPLACEMENT_CHARACTER) }
    }
    unsafe fn lower(&self, at: *mut u8) {
        // SAFETY: as `Abi` demands of the caller.
        unsafe { u32::from(*self).lower(at) }
    }
}

/// Start and length, as of strings and lists.
const SPAN: usize = 2 * size_of::<usize>();

/// # Safety
///
/// As of [`Abi::lift`].
unsafe fn span(at: *const u8) -> (*mut u8, usize) {
    // SAFETY: as promised by the caller.
    unsafe { (at.cast::<*mut u8>().read(), usize::lift(at.add(size_of::<usize>()))) }
}

/// # Safety
///
/// As of [`Abi::lower`].
unsafe fn lower_span(start: *const u8, length: usize, at: *mut u8) {
    // SAFETY: as promised by the caller.
    unsafe {
        at.cast::<*const u8>().write(start);
        length.lower(at.add(size_of::<usize>()));
    }
}

// SAFETY: start and length of the bytes.
unsafe impl Abi for String {
    const SIZE: usize = SPAN;
    const ALIGN: usize = size_of::<usize>();
    #[inline(never)]
    unsafe fn lift(at: *const u8) -> String {
        // SAFETY: the node allocated the bytes for us, exactly so many, and sees to it that strings are UTF-8.
        unsafe {
            match span(at) {
                (_, 0) => String::new(),
                (start, length) => String::from_raw_parts(start, length, length),
            }
        }
    }
    #[inline(never)]
    unsafe fn lower(&self, at: *mut u8) {
        // SAFETY: as `Abi` demands of the caller.
        unsafe { lower_span(self.as_ptr(), self.len(), at) }
    }
}

// SAFETY: start and length of the elements, one after the other.
unsafe impl<T: Abi> Abi for Vec<T> {
    const SIZE: usize = SPAN;
    const ALIGN: usize = size_of::<usize>();
    #[inline(never)]
    unsafe fn lift(at: *const u8) -> Vec<T> {
        // SAFETY: the node allocated the elements for us, exactly so many; each is taken out once, then their memory is freed.
        unsafe {
            let (start, length) = span(at);
            let list = (0..length).map(|i| T::lift(start.add(i * T::SIZE))).collect();
            free(start, length * T::SIZE, T::ALIGN);
            list
        }
    }
    #[inline(never)]
    unsafe fn lower(&self, at: *mut u8) {
        let start = block(self.len() * T::SIZE, T::ALIGN);
        // SAFETY: the block has room for all; the rest as `Abi` demands of the caller.
        unsafe {
            for (i, item) in self.iter().enumerate() {
                item.lower(start.add(i * T::SIZE));
            }
            lower_span(start, self.len(), at);
        }
    }
}

// SAFETY: a byte that says whether there is one, then the value.
unsafe impl<T: Abi> Abi for Option<T> {
    const SIZE: usize = align_up(align_up(1, T::ALIGN) + T::SIZE, T::ALIGN);
    const ALIGN: usize = T::ALIGN;
    #[inline(never)]
    unsafe fn lift(at: *const u8) -> Option<T> {
        // SAFETY: as `Abi` demands of the caller.
        unsafe { bool::lift(at).then(|| T::lift(at.add(align_up(1, T::ALIGN)))) }
    }
    #[inline(never)]
    unsafe fn lower(&self, at: *mut u8) {
        // SAFETY: as `Abi` demands of the caller.
        unsafe {
            self.is_some().lower(at);
            if let Some(value) = self {
                value.lower(at.add(align_up(1, T::ALIGN)));
            }
        }
    }
}

// SAFETY: a byte that says which, 0 for `Ok`, then the value.
unsafe impl<T: Abi, E: Abi> Abi for Result<T, E> {
    const SIZE: usize = align_up(align_up(1, Self::ALIGN) + max(T::SIZE, E::SIZE), Self::ALIGN);
    const ALIGN: usize = max(T::ALIGN, E::ALIGN);
    unsafe fn lift(at: *const u8) -> Result<T, E> {
        // SAFETY: as `Abi` demands of the caller.
        unsafe {
            let value = at.add(align_up(1, Self::ALIGN));
            if bool::lift(at) { Err(E::lift(value)) } else { Ok(T::lift(value)) }
        }
    }
    unsafe fn lower(&self, at: *mut u8) {
        // SAFETY: as `Abi` demands of the caller.
        unsafe {
            self.is_err().lower(at);
            let value = at.add(align_up(1, Self::ALIGN));
            match self {
                Ok(own) => own.lower(value),
                Err(own) => own.lower(value),
            }
        }
    }
}

// SAFETY: as a record of two fields.
unsafe impl<A: Abi, B: Abi> Abi for (A, B) {
    const SIZE: usize = align_up(align_up(A::SIZE, B::ALIGN) + B::SIZE, Self::ALIGN);
    const ALIGN: usize = max(A::ALIGN, B::ALIGN);
    unsafe fn lift(at: *const u8) -> (A, B) {
        // SAFETY: as `Abi` demands of the caller.
        unsafe { (A::lift(at), B::lift(at.add(align_up(A::SIZE, B::ALIGN)))) }
    }
    unsafe fn lower(&self, at: *mut u8) {
        // SAFETY: as `Abi` demands of the caller.
        unsafe {
            self.0.lower(at);
            self.1.lower(at.add(align_up(A::SIZE, B::ALIGN)));
        }
    }
}

/// A record: its fields in order, each aligned.
macro_rules! record {
    ($name:ident { $($field:ident: $type:ty),* $(,)? }) => {
        // SAFETY: fields follow each other as the canonical ABI says; the order is checked by the tests.
        unsafe impl $crate::abi::Abi for $name {
            const SIZE: usize = {
                let end = 0;
                $(let end = $crate::abi::align_up(end, <$type as $crate::abi::Abi>::ALIGN) + <$type as $crate::abi::Abi>::SIZE;)*
                $crate::abi::align_up(end, Self::ALIGN)
            };
            const ALIGN: usize = {
                let align = 1;
                $(let align = $crate::abi::max(align, <$type as $crate::abi::Abi>::ALIGN);)*
                align
            };
            #[inline(never)]
            unsafe fn lift(at: *const u8) -> $name {
                let end = 0;
                // SAFETY: as `Abi` demands of the caller.
                unsafe {
                    $(
                        let start = $crate::abi::align_up(end, <$type as $crate::abi::Abi>::ALIGN);
                        let $field = <$type as $crate::abi::Abi>::lift(at.add(start));
                        let end = start + <$type as $crate::abi::Abi>::SIZE;
                    )*
                    let _ = end;
                    $name { $($field),* }
                }
            }
            #[inline(never)]
            unsafe fn lower(&self, at: *mut u8) {
                let $name { $($field),* } = self;
                let end = 0;
                // SAFETY: as `Abi` demands of the caller.
                unsafe {
                    $(
                        let start = $crate::abi::align_up(end, <$type as $crate::abi::Abi>::ALIGN);
                        <$type as $crate::abi::Abi>::lower($field, at.add(start));
                        let end = start + <$type as $crate::abi::Abi>::SIZE;
                    )*
                    let _ = end;
                }
            }
        }

        #[cfg(test)]
        impl $crate::abi::tests::Sample for $name {
            fn sample(next: &mut $crate::abi::tests::Next) -> $name {
                $name { $($field: <$type as $crate::abi::tests::Sample>::sample(next)),* }
            }
        }
    };
}
use record;

/// A variant or enum: a byte that says which case, then what the case holds, aligned for the largest.
macro_rules! variant {
    ($name:ident { $($case:ident $(($it:ident: $type:ty))?),* $(,)? }) => {
        const _: () = {
            /// The cases' numbers.
            #[repr(u8)]
            enum Case { $($case),* }

            const VALUE_ALIGN: usize = {
                let align = 1;
                $($(let align = $crate::abi::max(align, <$type as $crate::abi::Abi>::ALIGN);)?)*
                align
            };
            const VALUE_SIZE: usize = {
                let size = 0;
                $($(let size = $crate::abi::max(size, <$type as $crate::abi::Abi>::SIZE);)?)*
                size
            };
            /// The first multiple of the alignment after the byte.
            const VALUE: usize = VALUE_ALIGN;

            // SAFETY: no variant has more than 256 cases; the order is checked by the tests.
            unsafe impl $crate::abi::Abi for $name {
                const SIZE: usize = $crate::abi::align_up(VALUE + VALUE_SIZE, VALUE_ALIGN);
                const ALIGN: usize = VALUE_ALIGN;
                #[inline(never)]
                unsafe fn lift(at: *const u8) -> $name {
                    // SAFETY: as `Abi` demands of the caller.
                    unsafe {
                        match at.read() {
                            $(case if case == Case::$case as u8 => $name::$case $((<$type as $crate::abi::Abi>::lift(at.add(VALUE))))?,)*
                            _ => unreachable!("the node checks cases"),
                        }
                    }
                }
                #[inline(never)]
                unsafe fn lower(&self, at: *mut u8) {
                    // SAFETY: as `Abi` demands of the caller.
                    unsafe {
                        match self {
                            $($name::$case $(($it))? => {
                                at.write(Case::$case as u8);
                                $(<$type as $crate::abi::Abi>::lower($it, at.add(VALUE));)?
                            })*
                        }
                    }
                }
            }

            #[cfg(test)]
            impl $crate::abi::tests::Sample for $name {
                fn sample(next: &mut $crate::abi::tests::Next) -> $name {
                    let cases = [$(Case::$case as u8),*];
                    match next.below(cases.len()) {
                        $(case if case == Case::$case as usize => $name::$case $((<$type as $crate::abi::tests::Sample>::sample(next)))?,)*
                        _ => unreachable!("below the number of cases"),
                    }
                }
            }
        };
    };
}
use variant;

/// In place of `wit-bindgen`'s modules of the same names: the same exports with our conversions.
pub mod exports {
    pub mod hookswitch {
        pub mod call {
            pub mod handler {
                use crate::abi::{answer, release, request};
                pub use crate::wit::exports::hookswitch::call::handler::{__export_hookswitch_call_handler_0_1_0_cabi, Guest};

                pub unsafe fn _export_new_call_cabi<T: Guest>(at: *mut u8) -> *mut u8 {
                    // SAFETY: the node gives what it allocated for this request.
                    answer(T::new_call(unsafe { request(at) }))
                }
                pub unsafe fn _export_get_ivr_command_cabi<T: Guest>(at: *mut u8) -> *mut u8 {
                    // SAFETY: the node gives what it allocated for this request.
                    answer(T::get_ivr_command(unsafe { request(at) }))
                }
                pub unsafe fn _export_call_event_cabi<T: Guest>(at: *mut u8) -> *mut u8 {
                    // SAFETY: the node gives what it allocated for this request.
                    answer(T::call_event(unsafe { request(at) }))
                }
                pub unsafe fn __post_return_new_call<T: Guest>(_at: *mut u8) {
                    release();
                }
                pub unsafe fn __post_return_get_ivr_command<T: Guest>(_at: *mut u8) {
                    release();
                }
                pub unsafe fn __post_return_call_event<T: Guest>(_at: *mut u8) {
                    release();
                }
            }
            pub mod notifications {
                pub use crate::wit::exports::hookswitch::call::notifications::{__export_hookswitch_call_notifications_0_1_0_cabi, Guest};

                pub unsafe fn _export_notify_cabi<T: Guest>(at: *mut u8) {
                    // SAFETY: the node gives what it allocated for these news.
                    T::notify(unsafe { crate::abi::request(at) });
                }
            }
        }
    }
}
