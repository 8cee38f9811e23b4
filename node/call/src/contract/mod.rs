//! The contract of adapters: the same calls, the same answers, whoever answers. Built-in rules, a script and a WebAssembly guest must
//! give the same ladder for each [`Scenario`].
//!
//! An adapter is made for one scenario's `program`: a handler with the behaviour that [`Program`] describes. [`Program::script`] is the
//! reference. Run [`Scenario::run`] for each of [`scenarios`]. For the world around it see `world.rs`.

pub mod callee;
pub mod world;

use crate::adapter::Adapter;
use crate::door::Ask;
use crate::hook::{Collect, Hook, HookFailure, Identified, IvrCommand, Phrase, RecordPhrase, Routing, Verdict};
use crate::rules::Announce;
use hookswitch_proto::media::BargeIn;
use std::time::Duration;
use world::World;

/// What a handler does. A guest that implements all of them chooses by the called number, which is [`Program::number`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// new-call: ivr. First command: file `hello.wav`, hang up. This is also what the built-in rules do.
    Announce,
    /// new-call: drop with code `busy`.
    Busy,
    /// new-call: redirect 302 to `sip:bob@192.0.2.50`.
    Redirect,
    /// new-call: the action `mixer` of a newer interface (`ext`).
    UnknownAction,
    /// new-call: `ext` with an empty name.
    NoAction,
    /// new-call: the handler returns its own failure.
    Refuses,
    /// new-call: traps, always.
    Traps,
    /// new-call: traps unless `restarted`; then ivr with session reference `"again"` (the JSON string), first command as Announce.
    TrapsOnce,
    /// new-call: ivr with session reference `{"step":1}`. Commands: without a DTMF result: file `menu.wav`, barge-in all, collect 1
    /// digit with first timeout 5 s and session reference `{"step":2}`. With match `1`: file `hello.wav` and hang up. With anything
    /// else: the first command again.
    Menu,
    /// new-call: ivr. First command: `hello.wav`, record (beep, at most 10 s, `#` stops) with recorded-callback. Then: hang up.
    Voicemail,
    /// new-call: ivr. Every command: traps.
    IvrTraps,
    /// new-call: ivr. Every command is empty.
    Idles,
}

pub const PROGRAMS: [Program; 12] = [
    Program::Announce,
    Program::Busy,
    Program::Redirect,
    Program::UnknownAction,
    Program::NoAction,
    Program::Refuses,
    Program::Traps,
    Program::TrapsOnce,
    Program::Menu,
    Program::Voicemail,
    Program::IvrTraps,
    Program::Idles,
];

impl Program {
    pub fn number(self) -> &'static str {
        match self {
            Program::Announce => "announce",
            Program::Busy => "busy",
            Program::Redirect => "redirect",
            Program::UnknownAction => "unknown-action",
            Program::NoAction => "no-action",
            Program::Refuses => "refuses",
            Program::Traps => "traps",
            Program::TrapsOnce => "traps-once",
            Program::Menu => "menu",
            Program::Voicemail => "voicemail",
            Program::IvrTraps => "ivr-traps",
            Program::Idles => "idles",
        }
    }

    /// The reference: the same behaviour as a script.
    pub fn script(self) -> Script {
        Script::new(move |ask| self.answer(ask))
    }

    /// The same behaviour by built-in rules, where they can.
    pub fn rules(self) -> Option<Announce> {
        (self == Program::Announce).then(|| Announce::new(vec![file("hello.wav")], None))
    }

    fn answer(self, ask: &Ask) -> Result<Verdict, HookFailure> {
        let ext = |name: &str| Ok(Verdict::Routing(Routing::Ext { name: name.into(), json: "{}".into() }));
        let ivr = |reference: Option<&str>| Ok(Verdict::Routing(Routing::Ivr { session_reference: reference.map(str::to_owned) }));
        let trap = || Err(HookFailure::Trap { message: "unreachable".into() });
        let hello = || command(IvrCommand { phrases: vec![file("hello.wav")], hangup: true, ..IvrCommand::default() });
        match (self, &ask.hook) {
            (Program::Busy, Hook::NewCall(_)) => {
                Ok(Verdict::Routing(Routing::Drop { drop_code: Some("busy".into()), session_reference: None }))
            }
            (Program::Redirect, Hook::NewCall(_)) => {
                let contacts = vec!["sip:bob@192.0.2.50".to_owned()];
                Ok(Verdict::Routing(Routing::Redirect { status: 302, contacts, session_reference: None }))
            }
            (Program::UnknownAction, Hook::NewCall(_)) => ext("mixer"),
            (Program::NoAction, Hook::NewCall(_)) => ext(""),
            (Program::Refuses, Hook::NewCall(_)) => Err(HookFailure::Refused { message: "not today".into() }),
            (Program::Traps, Hook::NewCall(_)) => trap(),
            (Program::TrapsOnce, Hook::NewCall(call)) if !call.info.restarted => trap(),
            (Program::TrapsOnce, Hook::NewCall(_)) => ivr(Some("\"again\"")),
            (Program::Menu, Hook::NewCall(_)) => ivr(Some("{\"step\":1}")),
            (_, Hook::NewCall(_)) => ivr(None),
            (Program::Menu, Hook::GetIvrCommand(request)) => match &request.dtmf {
                Some(dtmf) if dtmf.dtmf_match == "1" => hello(),
                _ => command(IvrCommand {
                    phrases: vec![file("menu.wav")],
                    barge_in: BargeIn::All,
                    dtmf: Some(Collect { max_digits: Some(1), first_timeout: Duration::from_secs(5), ..Collect::default() }),
                    session_reference: Some("{\"step\":2}".into()),
                    ..IvrCommand::default()
                }),
            },
            (Program::Voicemail, Hook::GetIvrCommand(request)) => match &request.recording {
                Some(_) => command(IvrCommand { hangup: true, ..IvrCommand::default() }),
                None => {
                    let record = RecordPhrase {
                        beep: Some(true),
                        max_duration: Some(Duration::from_secs(10)),
                        stop_digits: Some("#".into()),
                        ..RecordPhrase::default()
                    };
                    command(IvrCommand {
                        phrases: vec![file("hello.wav"), Phrase::Record(Box::new(record))],
                        recorded_callback: true,
                        ..IvrCommand::default()
                    })
                }
            },
            (Program::IvrTraps, Hook::GetIvrCommand(_)) => trap(),
            (Program::Idles, Hook::GetIvrCommand(_)) => command(IvrCommand::default()),
            (_, Hook::GetIvrCommand(_)) => hello(),
            (_, Hook::GetCallIdentifier(_)) => Ok(Verdict::Identified(Identified::default())),
            (_, Hook::CallEvent(_)) => Ok(Verdict::Routing(Routing::Drop { drop_code: None, session_reference: None })),
            (_, Hook::NewRemoteCall(_)) => Ok(Verdict::Noted { session_reference: None }),
        }
    }
}

/// What the caller does after the call began, at milliseconds from the start.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    Press(u64, char),
    Hangup(u64),
    Cancel(u64),
}

/// One call and what must come of it.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub program: Program,
    pub acts: &'static [Act],
    /// All steps without ACKs and 100s, one a line.
    pub ladder: &'static str,
}

impl Scenario {
    /// `Err`: how the ladder differs, or what leaked.
    pub fn run(&self, adapter: Box<dyn Adapter>) -> Result<(), String> {
        let mut world = World::with(world::configuration(world::tenant()), world::switch_config(3), adapter);
        let call = world.call(self.program.number());
        for act in self.acts {
            match *act {
                Act::Press(at, digit) => {
                    world.run_to(at);
                    world.press(digit);
                }
                Act::Hangup(at) => {
                    world.run_to(at);
                    world.hangup(call);
                }
                Act::Cancel(at) => {
                    world.run_to(at);
                    world.cancel(call);
                }
            }
        }
        world.run_to(60_000);
        let got = world.ladder(&[" ACK", " -> alice 100"]);
        let expected: Vec<&str> = self.ladder.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        if got != expected.join("\n") {
            return Err(format!("{}: expected\n{}\ngot\n{got}", self.name, expected.join("\n")));
        }
        world.leaks().map_or(Ok(()), |leaks| Err(format!("{}: {leaks}", self.name)))
    }
}

/// A handler that is a closure.
pub struct Script(Box<Answer>);

type Answer = dyn FnMut(&Ask) -> Result<Verdict, HookFailure>;

impl Script {
    pub fn new(answer: impl FnMut(&Ask) -> Result<Verdict, HookFailure> + 'static) -> Script {
        Script(Box::new(answer))
    }

    /// new-call: ivr. The commands one after the other, then hang-up.
    pub fn commands(commands: impl IntoIterator<Item = IvrCommand>) -> Script {
        let mut commands: std::collections::VecDeque<IvrCommand> = commands.into_iter().collect();
        Script::new(move |ask| match ask.hook {
            Hook::GetIvrCommand(_) => command(commands.pop_front().unwrap_or(IvrCommand { hangup: true, ..IvrCommand::default() })),
            _ => Ok(Verdict::Routing(Routing::Ivr { session_reference: None })),
        })
    }
}

impl Adapter for Script {
    fn answer(&mut self, ask: &Ask) -> Result<Verdict, HookFailure> {
        (self.0)(ask)
    }
}

pub fn file(name: &str) -> Phrase {
    Phrase::File { file_name: name.into() }
}

fn command(command: IvrCommand) -> Result<Verdict, HookFailure> {
    Ok(Verdict::Ivr(Box::new(command)))
}

pub fn scenarios() -> &'static [Scenario] {
    SCENARIOS
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "ivr to its end",
        program: Program::Announce,
        acts: &[],
        ladder: "
            0.000 alice -> node INVITE
            0.000 node -> guest newCall
            0.000 guest -> node ivr
            0.000 node -> alice 200
            0.000 node -> guest callAnswered
            0.000 node -> guest getIvrCommand
            0.000 guest -> node command of 1 phrases
            0.000 node -> media play clip 1000 ms
            1.000 node -> media close
            1.000 node -> alice BYE Q.850;cause=16
            1.000 alice -> node 200
            1.000 node -> guest sessionCompleted ivrHangup",
    },
    Scenario {
        name: "the caller leaves in the middle of a phrase",
        program: Program::Announce,
        acts: &[Act::Hangup(300)],
        ladder: "
            0.000 alice -> node INVITE
            0.000 node -> guest newCall
            0.000 guest -> node ivr
            0.000 node -> alice 200
            0.000 node -> guest callAnswered
            0.000 node -> guest getIvrCommand
            0.000 guest -> node command of 1 phrases
            0.000 node -> media play clip 1000 ms
            0.300 alice -> node BYE
            0.300 node -> alice 200 (2 BYE)
            0.300 node -> media close
            0.300 node -> guest sessionCompleted callingPartyHangup",
    },
    Scenario {
        name: "busy",
        program: Program::Busy,
        acts: &[],
        ladder: "
            0.000 alice -> node INVITE
            0.000 node -> guest newCall
            0.000 guest -> node drop busy
            0.000 node -> alice 486
            0.000 node -> guest sessionCompleted rejected",
    },
    Scenario {
        name: "redirected",
        program: Program::Redirect,
        acts: &[],
        ladder: "
            0.000 alice -> node INVITE
            0.000 node -> guest newCall
            0.000 guest -> node redirect 302
            0.000 node -> alice 302
            0.000 node -> guest sessionCompleted rejected",
    },
    Scenario {
        name: "an action of a newer interface",
        program: Program::UnknownAction,
        acts: &[],
        ladder: "
            0.000 alice -> node INVITE
            0.000 node -> guest newCall
            0.000 guest -> node action \"mixer\"
            0.000 node -> guest alarm newCallEventError newCall response with unknown action
            0.000 node -> alice 503
            0.000 node -> guest sessionCompleted serverError",
    },
    Scenario {
        name: "no action",
        program: Program::NoAction,
        acts: &[],
        ladder: "
            0.000 alice -> node INVITE
            0.000 node -> guest newCall
            0.000 guest -> node action \"\"
            0.000 node -> guest alarm newCallEventError newCall response without action
            0.000 node -> alice 503
            0.000 node -> guest sessionCompleted serverError",
    },
    Scenario {
        name: "the handler fails by its own word",
        program: Program::Refuses,
        acts: &[],
        ladder: "
            0.000 alice -> node INVITE
            0.000 node -> guest newCall
            0.000 guest -> node refused
            0.000 node -> guest alarm newCallEventError newCall request failed
            0.000 node -> alice 503
            0.000 node -> guest sessionCompleted serverError",
    },
    Scenario {
        name: "two traps",
        program: Program::Traps,
        acts: &[],
        ladder: "
            0.000 alice -> node INVITE
            0.000 node -> guest newCall
            0.000 guest -> node trap
            0.000 node -> guest alarm newCallEventError newCall request failed
            0.000 node -> guest newCall restarted
            0.000 guest -> node trap
            0.000 node -> alice 503
            0.000 node -> guest sessionCompleted serverError",
    },
    Scenario {
        name: "one trap",
        program: Program::TrapsOnce,
        acts: &[],
        ladder: "
            0.000 alice -> node INVITE
            0.000 node -> guest newCall
            0.000 guest -> node trap
            0.000 node -> guest alarm newCallEventError newCall request failed
            0.000 node -> guest newCall restarted
            0.000 guest -> node ivr
            0.000 node -> alice 200
            0.000 node -> guest callAnswered
            0.000 node -> guest getIvrCommand restarted reference=\"again\"
            0.000 guest -> node command of 1 phrases
            0.000 node -> media play clip 1000 ms
            1.000 node -> media close
            1.000 node -> alice BYE Q.850;cause=16
            1.000 alice -> node 200
            1.000 node -> guest sessionCompleted ivrHangup",
    },
    Scenario {
        name: "a menu: silence, then a key that cuts the phrase",
        program: Program::Menu,
        acts: &[Act::Press(8_000, '1')],
        ladder: "
            0.000 alice -> node INVITE
            0.000 node -> guest newCall
            0.000 guest -> node ivr
            0.000 node -> alice 200
            0.000 node -> guest callAnswered
            0.000 node -> guest getIvrCommand reference={\"step\":1}
            0.000 guest -> node command of 1 phrases
            0.000 node -> media play clip 2000 ms
            7.000 node -> guest getIvrCommand reference={\"step\":2} dtmf=\"\" FirstTimeout
            7.000 guest -> node command of 1 phrases
            7.000 node -> media play clip 2000 ms
            8.000 caller -> node key 1
            8.000 node -> guest getIvrCommand reference={\"step\":2} buffer=1 dtmf=\"1\" MaxDigits
            8.000 guest -> node command of 1 phrases
            8.000 node -> media play clip 1000 ms
            9.000 node -> media close
            9.000 node -> alice BYE Q.850;cause=16
            9.000 alice -> node 200
            9.000 node -> guest sessionCompleted ivrHangup",
    },
    Scenario {
        name: "a message, ended by its key",
        program: Program::Voicemail,
        acts: &[Act::Press(4_250, '#')],
        ladder: "
            0.000 alice -> node INVITE
            0.000 node -> guest newCall
            0.000 guest -> node ivr
            0.000 node -> alice 200
            0.000 node -> guest callAnswered
            0.000 node -> guest getIvrCommand
            0.000 guest -> node command of 2 phrases
            0.000 node -> media play clip 1000 ms, clip 250 ms, record
            4.250 caller -> node key #
            4.250 node -> guest getIvrCommand recording=stop_digit 3000 ms
            4.250 guest -> node command of 0 phrases
            4.250 node -> media close
            4.250 node -> alice BYE Q.850;cause=16
            4.250 alice -> node 200
            4.250 node -> guest sessionCompleted ivrHangup
            4.350 node -> guest recordingReady true",
    },
    Scenario {
        name: "a message, ended by hanging up",
        program: Program::Voicemail,
        acts: &[Act::Hangup(3_250)],
        ladder: "
            0.000 alice -> node INVITE
            0.000 node -> guest newCall
            0.000 guest -> node ivr
            0.000 node -> alice 200
            0.000 node -> guest callAnswered
            0.000 node -> guest getIvrCommand
            0.000 guest -> node command of 2 phrases
            0.000 node -> media play clip 1000 ms, clip 250 ms, record
            3.250 alice -> node BYE
            3.250 node -> alice 200 (2 BYE)
            3.250 node -> media close
            3.250 node -> guest sessionCompleted callingPartyHangup
            3.350 node -> guest recordingReady true",
    },
    Scenario {
        name: "a handler that traps in the IVR",
        program: Program::IvrTraps,
        acts: &[],
        ladder: "
            0.000 alice -> node INVITE
            0.000 node -> guest newCall
            0.000 guest -> node ivr
            0.000 node -> alice 200
            0.000 node -> guest callAnswered
            0.000 node -> guest getIvrCommand
            0.000 guest -> node trap
            0.000 node -> guest alarm ivrCommandError getIvrCommand request error
            1.000 node -> guest getIvrCommand restarted
            1.000 guest -> node trap
            1.000 node -> media close
            1.000 node -> alice BYE Q.850;cause=16
            1.000 alice -> node 200
            1.000 node -> guest sessionCompleted serverError",
    },
    Scenario {
        name: "empty commands, until the caller has enough",
        program: Program::Idles,
        acts: &[Act::Hangup(500)],
        ladder: "
            0.000 alice -> node INVITE
            0.000 node -> guest newCall
            0.000 guest -> node ivr
            0.000 node -> alice 200
            0.000 node -> guest callAnswered
            0.000 node -> guest getIvrCommand
            0.000 guest -> node command of 0 phrases
            0.000 node -> guest getIvrCommand
            0.000 guest -> node command of 0 phrases
            0.000 node -> guest getIvrCommand
            0.000 guest -> node command of 0 phrases
            0.000 node -> guest getIvrCommand
            0.000 guest -> node command of 0 phrases
            0.000 node -> guest getIvrCommand
            0.000 guest -> node command of 0 phrases
            0.000 node -> guest getIvrCommand
            0.000 guest -> node command of 0 phrases
            0.000 node -> guest getIvrCommand
            0.000 guest -> node command of 0 phrases
            0.000 node -> guest getIvrCommand
            0.000 guest -> node command of 0 phrases
            0.000 node -> guest getIvrCommand
            0.000 guest -> node command of 0 phrases
            0.000 node -> guest getIvrCommand
            0.000 guest -> node command of 0 phrases
            0.000 node -> guest alarm ivrCommandError IVR command failed
            0.200 node -> guest getIvrCommand
            0.200 guest -> node command of 0 phrases
            0.400 node -> guest getIvrCommand
            0.400 guest -> node command of 0 phrases
            0.500 alice -> node BYE
            0.500 node -> alice 200 (2 BYE)
            0.500 node -> media close
            0.500 node -> guest sessionCompleted callingPartyHangup",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_keeps_the_contract() {
        for scenario in scenarios() {
            scenario.run(Box::new(scenario.program.script())).unwrap();
        }
    }

    #[test]
    fn built_in_rules_keep_the_contract() {
        let mut ran = 0;
        for scenario in scenarios() {
            if let Some(rules) = scenario.program.rules() {
                scenario.run(Box::new(rules)).unwrap();
                ran += 1;
            }
        }
        assert!(ran >= 2, "only {ran} scenarios are for rules");
    }

    #[test]
    fn every_program_has_a_scenario() {
        for program in PROGRAMS {
            assert!(scenarios().iter().any(|s| s.program == program), "{program:?}");
        }
    }
}
