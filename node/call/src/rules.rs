//! Built-in rules: what a call does when its handler cannot say (IC-293). An adapter like any other, but it cannot fail.

use crate::adapter::Adapter;
use crate::door::Ask;
use crate::hook::{Hook, HookFailure, IvrCommand, Phrase, Routing, Verdict};

/// Answer, play, release.
#[derive(Clone, Debug)]
pub struct Announce {
    phrases: Vec<Phrase>,
}

impl Announce {
    pub fn new(phrases: Vec<Phrase>) -> Announce {
        Announce { phrases }
    }
}

impl Adapter for Announce {
    fn answer(&mut self, ask: &Ask) -> Result<Verdict, HookFailure> {
        Ok(match ask.hook {
            Hook::NewCall(_) => Verdict::Routing(Routing::Ivr { session_reference: None }),
            // Once: whatever the first command leads to, the next one only releases.
            Hook::GetIvrCommand(_) => {
                Verdict::Ivr(Box::new(IvrCommand { phrases: std::mem::take(&mut self.phrases), hangup: true, ..IvrCommand::default() }))
            }
            Hook::CallEvent(_) => Verdict::Routing(Routing::Drop { drop_code: None, session_reference: None }),
        })
    }
}
