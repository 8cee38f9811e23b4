//! Our conversions against `wit-bindgen`'s: what one wrote the other must read, for random values of every type that hooks use.
//! They run natively, where pointers have 8 bytes; the layouts are computed from the same rule for both widths.

use super::*;
use crate::types::{CallEventRequest, Failure, IvrCommand, IvrRequest, NewCallRequest, Notification, Routing};
use crate::wit::exports::hookswitch::call as generated;
use std::fmt::Debug;

/// Random numbers, the same in each run.
pub struct Next(u64);

impl Next {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
    pub fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.next()).expect("31 bits") % count
    }
}

/// Random values of a type, all its cases among them.
pub trait Sample {
    fn sample(next: &mut Next) -> Self;
}

macro_rules! numbers {
    ($($type:ty)*) => {$(
        impl Sample for $type {
            fn sample(next: &mut Next) -> $type {
                next.next() as $type
            }
        }
    )*};
}
numbers!(u8 u16 u32 u64 i64 f32);

impl Sample for bool {
    fn sample(next: &mut Next) -> bool {
        next.below(2) == 1
    }
}
impl Sample for char {
    fn sample(next: &mut Next) -> char {
        ['0', '#', 'å', '☎'][next.below(4)]
    }
}
impl Sample for String {
    fn sample(next: &mut Next) -> String {
        // Exactly as large as it is long: `wit-bindgen` frees it by its length.
        String::from(["", "x", "menu.wav", "{\"å\":1}"][next.below(4)])
    }
}
impl<T: Sample> Sample for Option<T> {
    fn sample(next: &mut Next) -> Option<T> {
        bool::sample(next).then(|| T::sample(next))
    }
}
impl<T: Sample> Sample for Vec<T> {
    fn sample(next: &mut Next) -> Vec<T> {
        (0..next.below(3)).map(|_| T::sample(next)).collect()
    }
}
impl<A: Sample, B: Sample> Sample for (A, B) {
    fn sample(next: &mut Next) -> (A, B) {
        (A::sample(next), B::sample(next))
    }
}

/// Lowers a value for somebody who takes all its memory.
fn given_away<T: Abi>(value: T) -> *mut u8 {
    let at = block(T::SIZE, T::ALIGN);
    // SAFETY: the block is as the type wants it. Nothing of it is freed here: it belongs to who reads it.
    unsafe { value.lower(at) };
    std::mem::forget(value);
    std::mem::forget(HELD.take());
    at
}

const ROUNDS: u64 = 500;

/// What `hook` of `wit-bindgen` understands of our request.
fn read_by_generated<T: Abi + Sample + Clone + PartialEq + Debug + 'static>(hook: impl Fn(*mut u8) -> T) {
    for seed in 0..ROUNDS {
        let value = T::sample(&mut Next(seed));
        assert_eq!(hook(given_away(value.clone())), value, "seed {seed}");
        // And our own reading of our own writing.
        // SAFETY: `given_away` allocated it as the node would.
        assert_eq!(unsafe { request::<T>(given_away(value.clone())) }, value, "seed {seed}");
    }
}

thread_local! {
    /// What the probe below was given, and what it is to answer.
    static GIVEN: RefCell<Option<Box<dyn Any>>> = const { RefCell::new(None) };
    static ANSWER: RefCell<Option<Box<dyn Any>>> = const { RefCell::new(None) };
}

/// A component that remembers what it is asked, and answers what the test says.
struct Probe;

fn given<T: 'static>(value: T) {
    GIVEN.set(Some(Box::new(value)));
}
fn taken<T: 'static>() -> T {
    *GIVEN.take().and_then(|value| value.downcast().ok()).expect("the probe was asked with this type")
}
fn to_answer<T: 'static>() -> Result<T, Failure> {
    ANSWER.take().and_then(|value| value.downcast().ok()).map_or(Err(Failure { message: "none".into() }), |value| *value)
}

impl generated::handler::Guest for Probe {
    fn new_call(call: NewCallRequest) -> Result<Routing, Failure> {
        given(call);
        to_answer()
    }
    fn get_ivr_command(request: IvrRequest) -> Result<IvrCommand, Failure> {
        given(request);
        to_answer()
    }
    fn call_event(event: CallEventRequest) -> Result<Routing, Failure> {
        given(event);
        to_answer()
    }
}

impl generated::notifications::Guest for Probe {
    fn notify(news: Notification) {
        given(news);
    }
}

/// `wit-bindgen`'s exports answer in one static place, so that only one test at a time may call them.
static GENERATED: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[test]
fn wit_bindgen_reads_what_we_write() {
    let _alone = GENERATED.lock();
    // SAFETY: the exports get what they expect, memory that is theirs.
    unsafe {
        read_by_generated::<NewCallRequest>(|at| {
            generated::handler::_export_new_call_cabi::<Probe>(at);
            taken()
        });
        read_by_generated::<IvrRequest>(|at| {
            generated::handler::_export_get_ivr_command_cabi::<Probe>(at);
            taken()
        });
        read_by_generated::<CallEventRequest>(|at| {
            generated::handler::_export_call_event_cabi::<Probe>(at);
            taken()
        });
        read_by_generated::<Notification>(|at| {
            generated::notifications::_export_notify_cabi::<Probe>(at);
            taken()
        });
    }
}

#[test]
fn we_read_what_wit_bindgen_writes() {
    let _alone = GENERATED.lock();
    fn check<T: Abi + Sample + Clone + PartialEq + Debug + 'static>(hook: impl Fn() -> *mut u8) {
        for seed in 0..ROUNDS {
            let mut next = Next(seed);
            let value: Result<T, Failure> =
                if next.below(10) == 0 { Err(Failure { message: String::sample(&mut next) }) } else { Ok(T::sample(&mut next)) };
            ANSWER.set(Some(Box::new(value.clone())));
            // SAFETY: its answer lies there, and its `post-return` is not called: we take the memory.
            assert_eq!(unsafe { Result::<T, Failure>::lift(hook()) }, value, "seed {seed}");
        }
    }
    // SAFETY: the exports get what they expect, memory that is theirs.
    unsafe {
        check::<Routing>(|| generated::handler::_export_new_call_cabi::<Probe>(given_away(NewCallRequest::default())));
        check::<Routing>(|| generated::handler::_export_call_event_cabi::<Probe>(given_away(CallEventRequest::sample(&mut Next(1)))));
        check::<IvrCommand>(|| generated::handler::_export_get_ivr_command_cabi::<Probe>(given_away(IvrRequest::default())));
    }
}

#[test]
fn our_exports_answer_what_the_handler_answers_and_release_it() {
    for seed in 0..ROUNDS {
        let value: Result<Routing, Failure> = Ok(Routing::sample(&mut Next(seed)));
        ANSWER.set(Some(Box::new(value.clone())));
        // SAFETY: as the node does it: call, read, post-return.
        unsafe {
            use super::exports::hookswitch::call::handler;
            let at = handler::_export_new_call_cabi::<Probe>(given_away(NewCallRequest::default()));
            // What is lifted points into the answer that is still held, so it must not be dropped.
            let read = std::mem::ManuallyDrop::new(copied::<Result<Routing, Failure>>(at));
            assert_eq!(*read, value, "seed {seed}");
            handler::__post_return_new_call::<Probe>(at);
        }
        assert!(HELD.with_borrow(|held| held.blocks.is_empty() && held.answer.is_none()));
    }
}

/// Lifts without taking: list blocks are kept for whoever owns them.
///
/// # Safety
///
/// As of [`Abi::lift`], except that the memory stays another's; the value must not be dropped.
unsafe fn copied<T: Abi>(at: *mut u8) -> T {
    // `lift` frees the blocks of lists, so they are taken from what is held.
    let answer = HELD.with_borrow_mut(|held| {
        let blocks = std::mem::take(&mut held.blocks);
        let (own, lists): (Vec<_>, Vec<_>) = blocks.into_iter().partition(|block| block.start == at);
        std::mem::forget(lists);
        held.blocks = own;
        held.answer.take()
    });
    // SAFETY: as promised by the caller.
    let value = unsafe { T::lift(at) };
    HELD.with_borrow_mut(|held| held.answer = answer);
    value
}
