//! The way into the switch: any thread sends an [`Input`], the signalling thread receives them in order.

use hookswitch_call::Input;
use std::sync::mpsc;

#[derive(Clone)]
pub struct SwitchInbox {
    sender: mpsc::Sender<Input>,
}

impl SwitchInbox {
    pub fn channel() -> (SwitchInbox, mpsc::Receiver<Input>) {
        let (sender, receiver) = mpsc::channel();
        (SwitchInbox { sender }, receiver)
    }

    /// Never blocks. After the switch has stopped the input is dropped.
    pub fn send(&self, input: Input) {
        let _ = self.sender.send(input);
    }
}
