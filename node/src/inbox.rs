//! The way into the switch: any thread sends an [`Input`], the signalling thread receives them in order.
//!
//! A thread that sleeps in `poll` is woken through its [`Wake`]; one that is awake costs the sender no system call.
//!
//! Its channel is one behind a lock. Channels without locks, as `std::sync::mpsc` is one, make a reader spin until a writer that was preempted has
//! finished; the signalling thread runs in real time, and would spin for a second where both share a core.

use crate::net::Wake;
use hookswitch_call::Input;
use std::sync::Arc;

/// What comes out of it.
pub type Inputs = flume::Receiver<Input>;

#[derive(Clone)]
pub struct SwitchInbox {
    sender: flume::Sender<Input>,
    wake: Option<Arc<Wake>>,
}

impl SwitchInbox {
    /// An inbox whose reader blocks on the receiver itself: for tests and tools.
    pub fn channel() -> (SwitchInbox, Inputs) {
        let (sender, receiver) = flume::unbounded();
        (SwitchInbox { sender, wake: None }, receiver)
    }

    /// An inbox whose reader sleeps in `poll` on `wake`.
    pub fn waking(wake: Arc<Wake>) -> (SwitchInbox, Inputs) {
        let (sender, receiver) = flume::unbounded();
        (SwitchInbox { sender, wake: Some(wake) }, receiver)
    }

    /// Never blocks. After the switch has stopped the input is dropped.
    pub fn send(&self, input: Input) {
        let _ = self.sender.send(input);
        if let Some(wake) = &self.wake {
            wake.wake();
        }
    }
}
