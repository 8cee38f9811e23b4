//! A tenant's handler as a closure: any answer, at any time. It is an [`Adapter`] like a guest or the built-in rules.

use hookswitch_call::{Adapter, Ask, Hook, HookFailure, Identified, IvrCommand, Phrase, Routing, Verdict};

pub struct Scripted<F>(F);

impl<F: FnMut(&Ask) -> Result<Verdict, HookFailure>> Scripted<F> {
    pub fn new(answer: F) -> Scripted<F> {
        Scripted(answer)
    }
}

impl<F: FnMut(&Ask) -> Result<Verdict, HookFailure>> Adapter for Scripted<F> {
    fn answer(&mut self, ask: &Ask) -> Result<Verdict, HookFailure> {
        (self.0)(ask)
    }
}

/// newCall: ivr. Each getIvrCommand gets the next of these, then a command that hangs up; each callEvent drops.
pub fn ivr(commands: Vec<IvrCommand>) -> Scripted<impl FnMut(&Ask) -> Result<Verdict, HookFailure>> {
    let mut commands = commands.into_iter();
    Scripted::new(move |ask| {
        Ok(match ask.hook {
            Hook::NewCall(_) => Verdict::Routing(Routing::Ivr { session_reference: None }),
            Hook::GetCallIdentifier(_) => Verdict::Identified(Identified::default()),
            Hook::GetIvrCommand(_) => Verdict::Ivr(Box::new(commands.next().unwrap_or_else(hang_up))),
            Hook::CallEvent(_) => Verdict::Routing(drop_with(None)),
            Hook::NewRemoteCall(_) => Verdict::Noted { session_reference: None },
        })
    })
}

pub fn drop_with(code: Option<&str>) -> Routing {
    Routing::Drop { drop_code: code.map(str::to_owned), session_reference: None }
}

pub fn hang_up() -> IvrCommand {
    IvrCommand { hangup: true, ..IvrCommand::default() }
}

/// Plays these one after the other.
pub fn play(phrases: Vec<Phrase>) -> IvrCommand {
    IvrCommand { phrases, ..IvrCommand::default() }
}

pub fn file(name: &str) -> Phrase {
    Phrase::File { file_name: name.into() }
}
