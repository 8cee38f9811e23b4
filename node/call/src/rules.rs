//! Built-in rules: what a call does when its handler cannot say, or is not to be asked (IC-292, IC-293). An adapter like any other, but it
//! cannot fail.

use crate::adapter::Adapter;
use crate::door::Ask;
use crate::hook::{Hook, HookFailure, Identified, IvrCommand, OutboundCall, Phrase, Routing, Verdict};

/// Answer, play, then call somebody or release.
#[derive(Clone, Debug)]
pub struct Announce {
    phrases: Vec<Phrase>,
    call: Option<Box<OutboundCall>>,
}

impl Announce {
    pub fn new(phrases: Vec<Phrase>, call: Option<Box<OutboundCall>>) -> Announce {
        Announce { phrases, call }
    }
}

impl Adapter for Announce {
    fn answer(&mut self, ask: &Ask) -> Result<Verdict, HookFailure> {
        Ok(match &ask.hook {
            Hook::NewCall(_) => Verdict::Routing(Routing::Ivr { session_reference: None }),
            Hook::GetCallIdentifier(_) => Verdict::Identified(Identified::default()),
            // Once: whatever the first command leads to, the next one only releases.
            Hook::GetIvrCommand(_) => {
                let (phrases, call) = (std::mem::take(&mut self.phrases), self.call.take());
                let routing = call.map(|call| Box::new(Routing::Call(call)));
                Verdict::Ivr(Box::new(IvrCommand { phrases, hangup: routing.is_none(), routing, ..IvrCommand::default() }))
            }
            // Who was not reached is the caller's to know: a number that is busy is busy.
            Hook::CallEvent(event) => {
                let drop_code = event.sip_code.filter(|status| (400..=699).contains(status)).map(|status| status.to_string());
                Verdict::Routing(Routing::Drop { drop_code, session_reference: None })
            }
            Hook::NewRemoteCall(_) => Verdict::Noted { session_reference: None },
        })
    }
}
