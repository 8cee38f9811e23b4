//! The way into the switch: any thread sends an [`Input`], the signalling thread receives them in order.
//!
//! A thread that sleeps in `poll` is woken through its [`Wake`]; one that is awake costs the sender no system call.

use crate::net::Wake;
use hookswitch_call::Input;
use std::sync::{Arc, mpsc};

#[derive(Clone)]
pub struct SwitchInbox {
    sender: mpsc::Sender<Input>,
    wake: Option<Arc<Wake>>,
}

impl SwitchInbox {
    /// An inbox whose reader blocks on the receiver itself: for tests and tools.
    pub fn channel() -> (SwitchInbox, mpsc::Receiver<Input>) {
        let (sender, receiver) = mpsc::channel();
        (SwitchInbox { sender, wake: None }, receiver)
    }

    /// An inbox whose reader sleeps in `poll` on `wake`.
    pub fn waking(wake: Arc<Wake>) -> (SwitchInbox, mpsc::Receiver<Input>) {
        let (sender, receiver) = mpsc::channel();
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
