//! A simulated call: the world of `hookswitch-sim` with the node's own switch and legs, the handler under test, and a caller who does what the
//! scenario's steps say, one after the other, from the answer on.

use super::Loaded;
use super::handler::{Handler, Measured, length};
use super::host::{Pretend, lock};
use super::limits;
use super::scenario::{Others, Scenario};
use super::step::{Order, Step};
use crate::prompt;
use hookswitch_call::{Command, Fallback, Notification, Phrase, Tenant};
use hookswitch_proto::Time;
use hookswitch_proto::media::tone::ToneSpec;
use hookswitch_proto::media::{Clip, Direction};
use hookswitch_proto::sip::Header;
use hookswitch_sim::phone::Role;
use hookswitch_sim::world::{NODE, NODE_SIP, configuration, switch_config, tenant};
use hookswitch_sim::{Act, Call, Callee, Ending, ForGuest, Line, PhoneId, Plane, Script, World, handler};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::path::Path;
use std::time::Duration;

/// Between two keys of one `press`: a person's pace.
const BETWEEN_KEYS: Duration = Duration::from_millis(250);
/// By then all that a call leaves behind has happened: recordings are stored, transactions forgotten.
const AFTERMATH: Duration = Duration::from_secs(120);

pub struct Run {
    pub world: World,
    pub handler: Handler,
    pub seed: u64,
    caller: PhoneId,
    caller_name: String,
    callees: BTreeMap<String, PhoneId>,
    longest: Time,
    /// The speech that callers have.
    session: Option<(String, String)>,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The final status of the caller's INVITE; after a CANCEL 487.
    pub status: Option<u16>,
    /// Of session-completed.
    pub reason: Option<&'static str>,
    /// The call's length, as the node counts it.
    pub duration: Duration,
    /// What must not be: each a defect of the node, not of the handler.
    pub defects: Vec<String>,
}

impl Run {
    /// The call comes in.
    pub fn begin(scenario: &Scenario, loaded: Loaded, seed: u64) -> Result<Run, String> {
        let mut world = World::with(seed, configuration(tenant_of(scenario)), switch_config(seed), Box::new(handler::ivr(Vec::new())));
        world.outside = Some(VecDeque::new());
        world.files = prompts(scenario)?;
        world.other_file = match scenario.other_prompts {
            Others::Play(time) => Some(quiet(time)),
            Others::Missing => None,
        };
        let pretend = Pretend {
            start_ms: scenario.start_ms(),
            config: scenario.config.clone(),
            secrets: scenario.secrets.clone(),
            http: scenario.http.iter().cloned().collect(),
            ..Pretend::default()
        };
        let handler = Handler::new(loaded, pretend, seed).map_err(|error| format!("no runtime: {error}"))?;
        let mut callees = BTreeMap::new();
        for callee in &scenario.callees {
            let ring = callee.rings.0;
            let does = match (callee.answers, callee.refuses) {
                (true, _) => Callee::Answer { ring },
                (false, Some(status)) => Callee::Reject { ring, status },
                (false, None) => Callee::Ring,
            };
            let id = world.phone(&callee.name, does, Script::default());
            let address = world.address(&callee.name);
            let at = address.rsplit_once('@').and_then(|(_, at)| at.parse().ok());
            world.hosts.insert(format!("{}.sim", callee.name), at.into_iter().collect());
            callees.insert(callee.name.clone(), id);
        }
        let headers = scenario.headers.iter().map(|(name, value)| Header { name: name.clone(), value: value.clone() });
        let call = Call {
            target: format!("sip:{}@{NODE}", scenario.number),
            from: format!("<sip:{}@example.com>", scenario.caller),
            peer: NODE_SIP,
            headers: headers.collect(),
            give_up_after: scenario.give_up.0,
        };
        let caller = world.add(Line::new(&scenario.caller, Script::default()), Role::Caller(call));
        let longest = Time::ZERO + scenario.longest.0;
        let mut run = Run { world, handler, seed, caller, caller_name: scenario.caller.clone(), callees, longest, session: None };
        run.advance(longest, |run| run.world.talks(run.caller) || run.over());
        Ok(run)
    }

    /// The caller's call is over.
    pub fn over(&self) -> bool {
        self.world.report(self.caller).is_some()
    }

    /// Lets happen what happens up to and at `end`, or until `done`.
    fn advance(&mut self, end: Time, done: impl Fn(&Run) -> bool) {
        loop {
            self.note_session();
            self.handler.serve(&mut self.world);
            if done(self) {
                return;
            }
            if !self.world.step_to(end) && self.world.outside.as_ref().is_none_or(VecDeque::is_empty) {
                return;
            }
        }
    }

    /// The first session, and its caller's leg: what `command` is about.
    fn note_session(&mut self) {
        if self.session.is_none()
            && let Some(ForGuest::Ask(_)) = self.world.outside.as_ref().and_then(VecDeque::front)
        {
            self.session = Some((self.world.session_id(), self.world.participant_id()));
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = (self.world.now + time).min(self.longest);
        self.advance(end, |_| false);
    }

    fn phone(&self, who: Option<&str>) -> Result<PhoneId, String> {
        match who {
            None => Ok(self.caller),
            Some(who) if who == self.caller_name => Ok(self.caller),
            Some(who) => self.callees.get(who).copied().ok_or_else(|| format!("there is no `{who}`")),
        }
    }

    /// Does it, and lets its time pass. Nothing of what needs a call that is up happens without one.
    pub fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Wait(time) => self.pass(*time),
            Step::WaitHook => {
                let asked = self.world.asks.len();
                self.advance(self.longest, |run| run.world.asks.len() > asked || run.over());
            }
            Step::WaitEnd => self.advance(self.longest, Run::over),
            Step::Press { who, digits } => {
                let phone = self.phone(who.as_deref())?;
                for digit in digits.chars() {
                    self.world.act(phone, Act::Digit(digit));
                    self.pass(BETWEEN_KEYS);
                }
            }
            Step::Say { who, time } => {
                let phone = self.phone(who.as_deref())?;
                self.world.remark(&self.name(who.as_deref()), "node", &format!("says something for {} s", time.as_secs_f64()));
                self.world.act(phone, Act::Play(speech(*time)));
                self.pass(*time);
            }
            Step::HangUp { who } => {
                let phone = self.phone(who.as_deref())?;
                self.world.hang_up(phone);
                self.pass(Duration::ZERO);
            }
            Step::Hold { who } => {
                let phone = self.phone(who.as_deref())?;
                self.world.act(phone, Act::Offer(Direction::SendOnly));
            }
            Step::Resume { who } => {
                let phone = self.phone(who.as_deref())?;
                self.world.act(phone, Act::Offer(Direction::SendRecv));
            }
            Step::Fail(failure) => self.handler.fail = Some(failure.clone()),
            Step::Command(order) => self.command(order)?,
        }
        Ok(())
    }

    fn name(&self, who: Option<&str>) -> String {
        who.unwrap_or(&self.caller_name).to_owned()
    }

    fn command(&mut self, order: &Order) -> Result<(), String> {
        let Some((session_id, participant_id)) = self.session.clone() else { return Err("there is no session to command".into()) };
        let connection = self.world.notifications.iter().rev().find_map(|news| match news {
            Notification::CallAnswered { connection_id, .. } => Some(connection_id.clone()),
            _ => None,
        });
        let command = match order {
            Order::Interrupt => Command::InterruptIvrCommand { session_id, command: None },
            Order::HangUp => Command::HangupParticipant { session_id, participant_id },
            Order::Split => Command::SplitConnection { session_id, connection_id: connection.unwrap_or_default() },
            Order::Send(digits) => Command::SendDtmf { session_id, participant_id, digits: digits.clone(), length: None },
        };
        if let Some(Err(error)) = self.world.command(command) {
            self.world.remark("node", "api", &format!("refused: {error}"));
        }
        self.pass(Duration::ZERO);
        Ok(())
    }

    /// The call goes on until it is over, and is hung up when it has lasted for as long as it may.
    pub fn finish(&mut self) -> Outcome {
        self.advance(self.longest, Run::over);
        if !self.over() {
            self.world.remark(&self.caller_name.clone(), "node", "hangs up: the longest time is over");
            self.world.hang_up(self.caller);
        }
        let end = self.world.now + AFTERMATH;
        self.advance(end, |_| false);
        let status = self.world.report(self.caller).and_then(|report| match report.ending {
            Ending::Failed { status } => Some(status),
            Ending::Released { .. } => Some(200),
            Ending::NotTaken | Ending::Broken { .. } => None,
        });
        let reason = self.world.notifications.iter().find_map(|news| match news {
            Notification::SessionCompleted { reason, .. } => Some(*reason),
            _ => None,
        });
        let duration = self.world.records.first().map(|record| record.duration).unwrap_or_default();
        let mut defects = self.world.leaks();
        // What it still told afterwards is nobody's any more.
        self.handler.serve(&mut self.world);
        defects.retain(|defect| !defect.is_empty());
        Outcome { status, reason, duration, defects }
    }

    /// What happened so far, one line a step.
    pub fn ladder(&self) -> String {
        self.world.ladder_of(&[Plane::Sip, Plane::Guest, Plane::Media, Plane::World])
    }

    pub fn measured(&self) -> &Measured {
        &self.handler.measured
    }

    /// Bytes that an instance may have.
    pub fn memory_limit(&self) -> usize {
        self.handler.loaded.class.memory_bytes()
    }

    /// Bytes that it wrote to its log, and lines that found no room.
    pub fn logged(&self) -> (usize, u64) {
        let pretend = lock(&self.handler.pretend);
        (pretend.log_bytes, pretend.log_dropped)
    }

    /// How long a prompt plays here.
    pub fn length(&self, name: &str) -> Option<Duration> {
        length(&self.world, name)
    }
}

fn tenant_of(scenario: &Scenario) -> Tenant {
    let destinations = match &scenario.destinations {
        Some(allowed) => allowed.iter().map(|address| address.0.clone()).collect(),
        None => tenant().destinations,
    };
    let file = |name: &String| Phrase::File { file_name: name.clone() };
    let fallback = if scenario.fallback_files.is_empty() {
        Fallback::Refuse { status: scenario.fallback_status }
    } else {
        Fallback::Announce { phrases: scenario.fallback_files.iter().map(file).collect() }
    };
    Tenant { destinations, fallback, error_prompt: scenario.error_prompt.clone(), ..tenant() }
}

/// Those of the folder, and those whose length the scenario says.
fn prompts(scenario: &Scenario) -> Result<BTreeMap<String, Clip>, String> {
    let mut clips = BTreeMap::new();
    if let Some(folder) = &scenario.prompt_folder {
        let folder = scenario.folder.join(folder);
        let at = |error: std::io::Error| format!("prompt_folder: {}: {error}", folder.display());
        for entry in std::fs::read_dir(&folder).map_err(at)? {
            let path = entry.map_err(at)?.path();
            if let Some(name) = path.file_name().and_then(|name| name.to_str())
                && path.extension().is_some_and(|kind| kind == "wav")
            {
                clips.insert(name.to_owned(), read_prompt(&path)?);
            }
        }
    }
    clips.extend(scenario.prompts.iter().map(|(name, time)| (name.clone(), quiet(time.0))));
    Ok(clips)
}

fn read_prompt(path: &Path) -> Result<Clip, String> {
    let file = File::open(path).map_err(|error| format!("prompt_folder: {}: {error}", path.display()))?;
    prompt::decode(file).map_err(|why| format!("prompt_folder: {}: {why}", path.display()))
}

fn quiet(time: Duration) -> Clip {
    let samples = usize::try_from(time.as_millis()).unwrap_or(0) * 8;
    Clip { pcmu: vec![0xff; samples].into(), pcma: vec![0xd5; samples].into() }
}

/// Syllables: on and off, as detectors of voice want it.
fn speech(time: Duration) -> Clip {
    let ms = u32::try_from(time.as_millis().min(limits::LONGEST.as_millis())).unwrap_or(0);
    ToneSpec { hz: vec![220.0, 660.0], level_dbm0: -12.0, on_ms: 320, off_ms: 80, total_ms: ms.max(20) }.clip()
}
