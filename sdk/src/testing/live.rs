//! A dialled call: what the node would ask the handler next, given what the caller does. Start with [`Live`].

use super::check;
use super::fake::{World, serial, world};
use crate::types::{
    BargeIn, CallEventKind, CallEventRequest, CompletionReason, DropCode, DtmfParams, DtmfReason, IvrCommand, IvrRequest, NewCallRequest,
    Notification, Phrase, RecordingReady, RecordingResult, Routing, SessionCompleted, SessionInfo, StopReason, Timer,
};
use crate::{Failure, Handler, Ivr, Result, Route};

/// A call in progress, seen from the caller. Methods that need another state of the call fail the test and say which it is in.
#[derive(Debug)]
pub struct Live<H> {
    handler: H,
    call: NewCallRequest,
    stage: Stage,
    /// Digits since the last flush, as `dtmf-buffer` tells them.
    buffer: String,
    /// Digits that no collection has used.
    ahead: String,
    ladder: Vec<String>,
    /// Commands in a row that gave the caller nothing to do or hear.
    idle: u32,
}

/// Where the call stands.
#[derive(Debug)]
enum Stage {
    Ivr(Box<Running>),
    /// Routed away from the IVR; the answer says where to.
    Routed(Box<Routing>),
    /// Refused before it was answered.
    Refused(u16),
    Ended(String),
    /// A hook gave no answer; the tenant's fallback has the call.
    Failed(Failure),
}

#[derive(Debug)]
struct Running {
    command: IvrCommand,
    asked: IvrRequest,
    /// The command's record phrase is still to end.
    recording: bool,
    spoken_ms: u64,
    collected: String,
    /// Phrases that digits have ended so far.
    skipped: usize,
    recorded: Option<RecordingResult>,
}

/// How a command came to its end.
enum End {
    Phrases,
    Digits(DtmfReason, Option<char>),
}

impl<H: Handler> Live<H> {
    #[track_caller]
    pub(super) fn start(call: NewCallRequest, mut handler: H) -> Live<H> {
        let answer = handler.new_call(&call);
        let (buffer, ahead, ladder) = (String::new(), String::new(), Vec::new());
        let mut live = Live { handler, call, stage: Stage::Ended("not begun".into()), buffer, ahead, ladder, idle: 0 };
        live.decided("new-call", answer, None);
        live
    }

    // ------------------------------------------------------------------------------------------------------ what the caller does

    /// Presses keys, one after the other.
    #[track_caller]
    pub fn press(&mut self, digits: &str) {
        for digit in digits.chars() {
            self.press_one(digit);
        }
    }

    /// Speaks into the recording that runs, for so many seconds.
    #[track_caller]
    pub fn speak_s(&mut self, seconds: u32) {
        let running = self.running();
        assert!(running.recording, "nothing is recorded now: {}", running.command);
        let spoken = running.spoken_ms + u64::from(seconds) * 1000;
        let most = record_phrase(&running.command).and_then(|options| options.max_duration_ms).map(u64::from);
        match most {
            Some(most) if spoken >= most => {
                running.spoken_ms = most;
                self.recording_ended(StopReason::MaxDuration, None);
            }
            _ => running.spoken_ms = spoken,
        }
    }

    /// Does nothing until the command ends by itself: its phrases, its recording's silence or longest duration, its digits' timeout.
    #[track_caller]
    pub fn wait(&mut self) {
        let running = self.running();
        let collected = running.collected.is_empty();
        if running.recording {
            let spoken = running.spoken_ms > 0;
            let options = record_phrase(&running.command).expect("a command that records has a record phrase");
            let reason = match (
                options.initial_silence_ms.unwrap_or(0),
                options.max_silence_ms.unwrap_or(0),
                options.max_duration_ms.unwrap_or(0),
            ) {
                (1.., _, _) if !spoken => StopReason::InitialSilence,
                (_, 1.., _) if spoken => StopReason::MaxSilence,
                (_, _, 1..) => StopReason::MaxDuration,
                _ => panic!("only the session's own limit ends this recording: {} (give it max_s, or press or hang up)", running.command),
            };
            self.recording_ended(reason, None);
        } else if running.command.dtmf.is_some() && !running.command.hangup {
            let reason = if collected { DtmfReason::FirstTimeout } else { DtmfReason::BetweenTimeout };
            self.finish(End::Digits(reason, None));
        } else {
            self.finish(End::Phrases);
        }
    }

    /// The caller hangs up. In a call that the handler connected, `call_event` then decides about the other party.
    #[track_caller]
    pub fn hang_up(&mut self) {
        match &mut self.stage {
            Stage::Ivr(running) if running.recording => {
                running.recording = false;
                let result = recorded(running, StopReason::RemoteHangup, None);
                self.stored(result);
                self.end(CompletionReason::CallingPartyHangup);
            }
            Stage::Ivr(_) => self.end(CompletionReason::CallingPartyHangup),
            Stage::Routed(_) => self.happened(CallEventKind::CallingPartyDrop, None),
            other => panic!("there is no call: {other:?}"),
        }
    }

    // ------------------------------------------------------------------------------------------------------ what others do

    /// The party that the handler called hangs up.
    #[track_caller]
    pub fn callee_hangs_up(&mut self) {
        self.happened(CallEventKind::CalledPartyDrop, None);
    }

    /// The party that the handler called answers with this status: 486 is busy, 408 is no answer.
    #[track_caller]
    pub fn callee_fails(&mut self, sip_code: u16) {
        self.happened(CallEventKind::CalledPartyFailure, Some(sip_code));
    }

    /// Somebody outside (the handler's own `calls::interrupt_ivr_command`, or the API) interrupts the command.
    #[track_caller]
    pub fn interrupt(&mut self) {
        let running = self.running();
        let how = if running.command.dtmf.is_some() { End::Digits(DtmfReason::Interrupted, None) } else { End::Phrases };
        self.ask(how, true);
    }

    /// The timer that the handler set under this name is due.
    #[track_caller]
    pub fn timer(&mut self, name: &str) {
        assert!(world(|world| world.timers.remove(name)).is_some(), "no timer `{name}` is set");
        self.notify(&Notification::Timer(Timer { info: self.call.info.clone(), name: name.into() }));
    }

    /// Any other news.
    pub fn notify(&mut self, news: &Notification) {
        self.handler.notify(news);
    }

    /// Time goes by, for [`clock`](crate::clock).
    pub fn later_s(&mut self, seconds: u32) {
        world(|world| world.now_ms += u64::from(seconds) * 1000);
    }

    /// The handler trapped: a fresh one serves the call, and in the IVR it gets the last request again.
    #[track_caller]
    pub fn restart(&mut self) {
        self.handler = H::default();
        self.call.info.restarted = true;
        self.ladder.push("restarted".into());
        if let Stage::Ivr(running) = &self.stage {
            let request = IvrRequest { info: self.info(), ..running.asked.clone() };
            self.commanded(request);
        }
    }

    // ------------------------------------------------------------------------------------------------------ what it looks like now

    /// The command that runs.
    #[track_caller]
    pub fn command(&self) -> &IvrCommand {
        match &self.stage {
            Stage::Ivr(running) => &running.command,
            other => panic!("the call is not in the IVR: {other:?}"),
        }
    }

    /// Everything so far, a line each.
    pub fn ladder(&self) -> String {
        self.ladder.join("\n")
    }

    pub fn handler(&self) -> &H {
        &self.handler
    }

    /// The lines that handlers of this test logged, as `info: text`.
    pub fn log(&self) -> Vec<String> {
        world(|world| world.log.clone())
    }

    /// What handlers of this test ordered: `calls`, `recordings` and `http`, as `hangup-participant caller-1`.
    pub fn orders(&self) -> Vec<String> {
        world(|world| world.orders.clone())
    }

    /// What handlers of this test gave to [`outbox`](crate::outbox).
    pub fn posts(&self) -> Vec<crate::outbox::PostRequest> {
        world(|world| world.posts.clone())
    }

    /// Where the handler sent a call that it routed away.
    pub fn routing(&self) -> Option<&Routing> {
        match &self.stage {
            Stage::Routed(routing) => Some(routing),
            _ => None,
        }
    }

    /// What the session remembers.
    pub fn session_reference(&self) -> Option<&str> {
        self.call.info.session_reference.as_deref()
    }

    /// The command that runs plays these files, in this order, whatever else it does.
    #[track_caller]
    pub fn assert_plays(&self, file_names: &[&str]) {
        let files = self.command().phrases.iter().filter_map(|phrase| match phrase {
            Phrase::File(file) => Some(file.file_name.as_str()),
            _ => None,
        });
        assert_eq!(files.collect::<Vec<_>>(), file_names);
    }

    /// The command that runs records the caller.
    #[track_caller]
    pub fn assert_records(&self) {
        assert!(record_phrase(self.command()).is_some(), "{}", self.command());
    }

    /// The call was refused with this status, unanswered.
    #[track_caller]
    pub fn assert_refused(&self, status: u16) {
        assert!(matches!(self.stage, Stage::Refused(own) if own == status), "{:?}", self.stage);
    }

    /// The call was routed so, as `call sip:bob@example`.
    #[track_caller]
    pub fn assert_routed(&self, route: &str) {
        match &self.stage {
            Stage::Routed(routing) => assert_eq!(routing.to_string(), route),
            other => panic!("the call is not routed: {other:?}"),
        }
    }

    /// The call is over, for this reason: `ivrHangup`, `callingPartyHangup`, `calledPartyHangup`.
    #[track_caller]
    pub fn assert_ended(&self, reason: &str) {
        assert!(matches!(&self.stage, Stage::Ended(own) if own == reason), "{:?}", self.stage);
    }

    /// The last hook gave a failure whose text contains this.
    #[track_caller]
    pub fn assert_failed(&self, text: &str) {
        assert!(matches!(&self.stage, Stage::Failed(failure) if failure.message.contains(text)), "{:?}", self.stage);
    }

    // ------------------------------------------------------------------------------------------------------ how it goes on

    #[track_caller]
    fn running(&mut self) -> &mut Running {
        match &mut self.stage {
            Stage::Ivr(running) => running,
            other => panic!("the call is not in the IVR: {other:?}"),
        }
    }

    /// What the next request says about the session.
    fn info(&self) -> SessionInfo {
        SessionInfo { transaction_id: format!("transaction-{}", serial()), ..self.call.info.clone() }
    }

    #[track_caller]
    fn press_one(&mut self, digit: char) {
        let running = self.running();
        if running.recording {
            let options = record_phrase(&running.command).expect("a command that records has a record phrase");
            let keys = options.stop_digits.as_deref().or(running.command.dtmf.as_ref().map(|dtmf| dtmf.termination_keys.as_str()));
            let stops = keys.is_some_and(|keys| keys.contains(digit));
            if !stops || options.stop_digit_consume == Some(false) {
                self.typed(digit);
            }
            if stops {
                self.recording_ended(StopReason::StopDigit, Some(digit));
            }
            return;
        }
        let (collects, hangs_up) = (running.command.dtmf.is_some(), running.command.hangup);
        self.typed(digit);
        if collects && !hangs_up {
            self.collect();
            return;
        }
        let running = self.running();
        running.skipped += 1;
        let phrases_over = match running.command.barge_in {
            BargeIn::None => false,
            BargeIn::Current => running.skipped >= running.command.phrases.len(),
            BargeIn::All => true,
        };
        if phrases_over {
            self.finish(End::Phrases);
        }
    }

    fn typed(&mut self, digit: char) {
        self.buffer.push(digit);
        self.ahead.push(digit);
    }

    /// Gives the collection what was typed, until it has enough.
    #[track_caller]
    fn collect(&mut self) {
        let typed = std::mem::take(&mut self.ahead);
        let mut typed = typed.chars();
        while let Some(digit) = typed.next() {
            let running = self.running();
            let dtmf = running.command.dtmf.as_ref().expect("only called while the command collects");
            let ends = dtmf.termination_keys.contains(digit);
            let most = dtmf.max_digits.unwrap_or(64) as usize;
            if !ends {
                running.collected.push(digit);
            }
            let full = running.collected.len() >= most;
            if ends || full {
                self.ahead = typed.collect();
                let how =
                    if ends { End::Digits(DtmfReason::TerminationKey, Some(digit)) } else { End::Digits(DtmfReason::MaxDigits, None) };
                return self.finish(how);
            }
        }
    }

    #[track_caller]
    fn recording_ended(&mut self, reason: StopReason, digit: Option<char>) {
        let running = self.running();
        running.recording = false;
        let result = recorded(running, reason.clone(), digit);
        running.recorded = Some(result.clone());
        let collects = running.command.dtmf.is_some() && !running.command.hangup;
        self.stored(result);
        if reason == StopReason::StopDigit && collects {
            self.finish(End::Digits(DtmfReason::RecordingEnd, None));
        } else if collects {
            self.collect();
        } else {
            self.finish(End::Phrases);
        }
    }

    /// News of a recording, when the command asked for it.
    fn stored(&mut self, details: RecordingResult) {
        self.ladder.push(format!("recorded {} s: {}", details.duration_ms / 1000, stop_name(&details.stop_reason)));
        if matches!(&self.stage, Stage::Ivr(running) if running.command.recorded_callback) {
            let news = RecordingReady {
                info: self.info(),
                successful: true,
                reason: None,
                connection_id: None,
                recording_id: details.recording_id.clone(),
                file_name: details.file_name.clone(),
                file_size: 44 + details.duration_ms * 16,
                details: Some(details),
                extra: Vec::new(),
            };
            self.handler.notify(&Notification::RecordingReady(news));
        }
    }

    /// The command is over: out of the IVR, to the end, or to the next command.
    #[track_caller]
    fn finish(&mut self, how: End) {
        let running = self.running();
        if let Some(routing) = running.command.routing.clone() {
            return self.decided("leaves the IVR", Ok(routing.into()), Some(CompletionReason::IvrHangup));
        }
        if running.command.hangup {
            return self.end(CompletionReason::IvrHangup);
        }
        self.ask(how, false);
    }

    #[track_caller]
    fn ask(&mut self, how: End, interrupted: bool) {
        let info = self.info();
        let running = self.running();
        let protection = running.command.dtmf.as_ref().and_then(|dtmf| dtmf.encryption.clone());
        let dtmf_params = match how {
            End::Phrases => None,
            End::Digits(reason, matched_termination_key) => Some(DtmfParams {
                // A stand-in for the hash: enough to see in a test that it is one, and of what.
                dtmf_match: if protection.is_some() { format!("hash of {}", running.collected) } else { running.collected.clone() },
                reason,
                matched_termination_key,
                encryption: protection.clone(),
            }),
        };
        let recording = running.recorded.take();
        if let Some(params) = &dtmf_params {
            self.ladder.push(format!("collected \"{}\": {}", params.dtmf_match, reason_name(&params.reason)));
        }
        let request = IvrRequest {
            info,
            participant_id: self.call.participant_id.clone(),
            reply_id: format!("reply-{}", serial()),
            dtmf_buffer: Some(self.buffer.clone()).filter(|buffer| !buffer.is_empty() && protection.is_none()),
            dtmf_params,
            recording,
            interrupted,
            extra: Vec::new(),
        };
        self.commanded(request);
    }

    /// Asks the handler and starts what it says.
    #[track_caller]
    fn commanded(&mut self, asked: IvrRequest) {
        let Ivr { command, mistakes } = match self.handler.get_ivr_command(&asked) {
            Ok(ivr) => ivr,
            Err(failure) => return self.failed("get-ivr-command", failure),
        };
        let command = *command;
        assert!(mistakes.is_empty(), "get_ivr_command: {}", mistakes.join("; "));
        if let Err(why) = check::command(&command) {
            panic!("get_ivr_command: the node refuses this answer: {why}");
        }
        self.ladder.push(format!("get-ivr-command: {command}"));
        if command.session_reference.is_some() {
            self.call.info.session_reference.clone_from(&command.session_reference);
        }
        let idle = command.phrases.is_empty()
            && command.dtmf.is_none()
            && command.next_after_ms == 0
            && !command.hangup
            && command.routing.is_none();
        self.idle = if idle { self.idle + 1 } else { 0 };
        assert!(self.idle < 10, "get_ivr_command: ten commands in a row that take no time");
        if command.dtmf.as_ref().is_some_and(|dtmf| dtmf.flush) {
            self.buffer.clear();
            self.ahead.clear();
        }
        let recording = record_phrase(&command).is_some();
        let collects = command.dtmf.is_some() && !recording && !command.hangup;
        let collected = String::new();
        self.stage = Stage::Ivr(Box::new(Running { command, asked, recording, spoken_ms: 0, collected, skipped: 0, recorded: None }));
        if collects {
            self.collect();
        }
    }

    /// An answer to `new_call`, to `call_event`, or out of the IVR. `over`: the reason for the end if it drops a call that was answered.
    #[track_caller]
    fn decided(&mut self, hook: &str, answer: Result<Route>, over: Option<CompletionReason>) {
        let Route { routing, mistakes } = match answer {
            Ok(route) => route,
            Err(failure) => return self.failed(hook, failure),
        };
        assert!(mistakes.is_empty(), "{hook}: {}", mistakes.join("; "));
        if let Err(why) = check::routing(&routing) {
            panic!("{hook}: the node refuses this answer: {why}");
        }
        self.ladder.push(format!("{hook}: {routing}"));
        let reference = match &*routing {
            Routing::Drop(action) => &action.session_reference,
            Routing::Ivr(action) => &action.session_reference,
            Routing::Call(action) => &action.session_reference,
            Routing::Join(action) => &action.session_reference,
            Routing::Httpcall(action) => &action.session_reference,
            Routing::Redirect(action) => &action.session_reference,
            Routing::Ext(_) => &None,
        };
        if reference.is_some() {
            self.call.info.session_reference.clone_from(reference);
        }
        match *routing {
            Routing::Drop(action) => match over {
                Some(reason) => self.end(reason),
                None => {
                    self.completed(CompletionReason::Rejected);
                    self.stage = Stage::Refused(action.drop_code.unwrap_or(DropCode::Decline).status());
                }
            },
            Routing::Redirect(action) => {
                self.completed(CompletionReason::Rejected);
                self.stage = Stage::Routed(Box::new(Routing::Redirect(action)));
            }
            Routing::Ivr(_) => {
                let first = IvrRequest {
                    info: self.info(),
                    participant_id: self.call.participant_id.clone(),
                    reply_id: format!("reply-{}", serial()),
                    ..IvrRequest::default()
                };
                self.commanded(first);
            }
            other => self.stage = Stage::Routed(Box::new(other)),
        }
    }

    /// Something happened to a call that the handler connected.
    #[track_caller]
    fn happened(&mut self, event: CallEventKind, sip_code: Option<u16>) {
        let call = match &self.stage {
            Stage::Routed(routing) => match &**routing {
                Routing::Call(call) => call,
                other => panic!("the handler has called nobody: {other}"),
            },
            other => panic!("the handler has called nobody: {other:?}"),
        };
        let caller_left = event == CallEventKind::CallingPartyDrop;
        // A failure comes while the caller is still unanswered: `drop` is then a refusal.
        let over = match event {
            CallEventKind::CalledPartyFailure => None,
            CallEventKind::CallingPartyDrop => Some(CompletionReason::CallingPartyHangup),
            _ => Some(CompletionReason::CalledPartyHangup),
        };
        let user = |uri: &str| uri.trim_start_matches("sip:").split('@').next().unwrap_or_default().to_string();
        let caller = (self.call.participant_id.clone(), self.call.from_user.clone());
        let callee = ("callee".to_string(), user(&call.dest_addr));
        let (left, stays) = if caller_left { (caller, callee) } else { (callee, caller) };
        let request = CallEventRequest {
            info: self.info(),
            event,
            connection_id: "connection".into(),
            participant_id: left.0,
            user: left.1,
            remote_participant_id: stays.0,
            remote_user: stays.1,
            reply_id: format!("reply-{}", serial()),
            sip_code,
            reason_text: None,
            q850: None,
            extra: Vec::new(),
        };
        let answer = self.handler.call_event(&request);
        self.decided("call-event", answer, over);
    }

    fn failed(&mut self, hook: &str, failure: Failure) {
        self.ladder.push(format!("{hook} failed: {failure}"));
        self.stage = Stage::Failed(failure);
    }

    fn end(&mut self, reason: CompletionReason) {
        let name = self.completed(reason);
        self.ladder.push(format!("ended: {name}"));
        self.stage = Stage::Ended(name.into());
    }

    fn completed(&mut self, reason: CompletionReason) -> &'static str {
        let name = match reason {
            CompletionReason::CallingPartyHangup => "callingPartyHangup",
            CompletionReason::CalledPartyHangup => "calledPartyHangup",
            CompletionReason::IvrHangup => "ivrHangup",
            _ => "rejected",
        };
        let duration_ms = world(|world| world.now_ms);
        self.handler.notify(&Notification::SessionCompleted(SessionCompleted {
            info: self.info(),
            duration_ms,
            reason,
            extra: Vec::new(),
        }));
        name
    }
}

fn record_phrase(command: &IvrCommand) -> Option<&crate::types::RecordingOptions> {
    command.phrases.iter().find_map(|phrase| match phrase {
        Phrase::Record(options) => Some(options),
        _ => None,
    })
}

fn recorded(running: &Running, stop_reason: StopReason, stop_digit: Option<char>) -> RecordingResult {
    let options = record_phrase(&running.command).expect("a command that records has a record phrase");
    let recording_id = format!("recording-{}", serial());
    // Silence counts as well: a recording that only its longest duration ends is as long as that.
    let whole = matches!(stop_reason, StopReason::MaxDuration).then(|| options.max_duration_ms.map(u64::from)).flatten();
    RecordingResult {
        control_id: options.control_id.clone().unwrap_or_else(|| recording_id.clone()),
        client_context: options.client_context.clone(),
        file_name: options.file_name.clone().unwrap_or_else(|| format!("{recording_id}.wav")),
        recording_id,
        stop_reason,
        stop_digit,
        duration_ms: whole.unwrap_or(running.spoken_ms),
        contains_sound: running.spoken_ms > 0,
        size_bytes: None,
        started_at_ms: Some(World::START_MS),
        ended_at_ms: Some(World::START_MS + running.spoken_ms),
        url: None,
        access_token: None,
        checksum: None,
        extra: Vec::new(),
    }
}

fn stop_name(reason: &StopReason) -> &'static str {
    match reason {
        StopReason::StopDigit => "stop-digit",
        StopReason::MaxDuration => "max-duration",
        StopReason::MaxSilence => "max-silence",
        StopReason::InitialSilence => "initial-silence",
        _ => "remote-hangup",
    }
}

fn reason_name(reason: &DtmfReason) -> &'static str {
    match reason {
        DtmfReason::TerminationKey => "termination-key",
        DtmfReason::MaxDigits => "max-digits",
        DtmfReason::FirstTimeout => "first-timeout",
        DtmfReason::BetweenTimeout => "between-timeout",
        DtmfReason::RecordingEnd => "recording-end",
        _ => "interrupted",
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Call;
    use crate::types::{CallEventKind, DigitProtection};
    use crate::{CallEvent, Failure, Handler, Ivr, IvrRequest, NewCall, Notification, Result, Route, log, store, timers};

    /// Does what the called number says.
    #[derive(Default)]
    struct Obedient {
        asked: u32,
    }

    impl Handler for Obedient {
        fn new_call(&mut self, call: &NewCall) -> Result<Route> {
            Ok(match call.called_party.as_str() {
                "bridge" => Route::call("sip:bob@b.example").max_ring_s(5),
                "elsewhere" => Route::redirect(["sip:bob@b.example"]),
                "broken" => return Err(Failure::new("no data base")),
                number => Route::ivr().remember(format!("\"{number}\"")),
            })
        }
        fn get_ivr_command(&mut self, request: &IvrRequest) -> Result<Ivr> {
            self.asked += 1;
            let digits = request.digits().to_string();
            Ok(match request.info.session_reference.as_deref() {
                Some("\"pin\"") if self.asked == 1 => {
                    Ivr::play("pin").collect(6).terminate_on("#").protect(DigitProtection::Md5("s".into()))
                }
                Some("\"digits\"") if self.asked < 3 => Ivr::play("digits").collect(3).terminate_on("#"),
                Some("\"flush\"") => Ivr::play("digits").collect(2).flush(),
                Some("\"record\"") if self.asked == 1 => {
                    Ivr::record("a.wav").max_s(10).max_silence_s(3).recorded_callback().collect(1).terminate_on("#")
                }
                Some("\"out\"") => Ivr::play("wait").then_route(Route::call("sip:desk@b.example")),
                Some("\"skip\"") if self.asked == 1 => Ivr::play("a").then_play("b").barge_in_current(),
                Some("\"idle\"") => Ivr::new(),
                Some("\"timer\"") => {
                    timers::set("soon", 1000)?;
                    Ivr::silence_ms(60_000)
                }
                _ => Ivr::play(format!("{digits}.")).then_hangup(),
            })
        }
        fn call_event(&mut self, event: &CallEvent) -> Result<Route> {
            Ok(match (&event.event, event.sip_code) {
                (CallEventKind::CalledPartyFailure, Some(486)) => Route::drop("busy"),
                (CallEventKind::CalledPartyFailure, _) => Route::ivr(),
                _ => Route::drop("decline"),
            })
        }
        fn notify(&mut self, news: &Notification) {
            match news {
                Notification::Timer(timer) => log::info!("{} is due", timer.name),
                Notification::RecordingReady(recording) => log::info!("{}", recording.file_name),
                Notification::SessionCompleted(_) => drop(store::increment("calls", 1)),
                _ => {}
            }
        }
    }

    fn dial(number: &str) -> super::Live<Obedient> {
        Call::from("alice").to(number).dial()
    }

    #[test]
    fn digits_end_as_the_command_says_and_type_ahead_counts() {
        let mut call = dial("digits");
        call.press("12#345");
        call.assert_plays(&["345."]);
        assert!(call.ladder().contains("collected \"12\": termination-key"), "{}", call.ladder());
        assert!(call.ladder().contains("collected \"345\": max-digits"), "{}", call.ladder());
        let mut call = dial("digits");
        call.press("1");
        call.wait();
        call.wait();
        assert!(
            call.ladder().contains("\"1\": between-timeout\nget") && call.ladder().contains("\"\": first-timeout"),
            "{}",
            call.ladder()
        );
        let mut call = dial("digits");
        call.interrupt();
        assert!(call.ladder().contains("collected \"\": interrupted"));
    }

    #[test]
    fn flush_forgets_what_was_typed_ahead() {
        let mut call = dial("flush");
        call.press("12");
        call.press("3");
        assert!(call.ladder().ends_with("collected \"12\": max-digits\nget-ivr-command: play digits, collect 2"), "{}", call.ladder());
        call.press("4");
        assert!(call.ladder().contains("collected \"34\""));
    }

    #[test]
    fn protected_digits_are_not_seen() {
        let mut call = dial("pin");
        call.press("1234#");
        call.assert_plays(&["hash of 1234."]);
    }

    #[test]
    fn a_recording_ends_for_each_of_its_reasons() {
        let ends = |what: fn(&mut super::Live<Obedient>)| {
            let mut call = dial("record");
            what(&mut call);
            assert_eq!(call.log(), ["info: a.wav"]);
            call.ladder()
        };
        // The termination key of the command stops the recording too, and the collection with it.
        let ladder = ends(|call| {
            call.speak_s(2);
            call.press("#");
        });
        assert!(ladder.contains("recorded 2 s: stop-digit\ncollected \"\": recording-end"), "{ladder}");
        let ladder = ends(|call| {
            call.speak_s(2);
            call.wait();
        });
        assert!(ladder.ends_with("recorded 2 s: max-silence"), "{ladder}");
        assert!(ends(super::Live::wait).ends_with("recorded 10 s: max-duration"));
        assert!(ends(|call| call.speak_s(11)).ends_with("recorded 10 s: max-duration"));
        assert!(ends(super::Live::hang_up).ends_with("recorded 0 s: remote-hangup\nended: callingPartyHangup"));
    }

    #[test]
    fn a_bridged_call_ends_with_either_party() {
        let mut call = dial("bridge");
        call.assert_routed("call sip:bob@b.example");
        call.callee_hangs_up();
        call.assert_ended("calledPartyHangup");
        let mut call = dial("bridge");
        call.hang_up();
        call.assert_ended("callingPartyHangup");
        let mut call = dial("bridge");
        call.callee_fails(486);
        call.assert_refused(486);
        let mut call = dial("bridge");
        call.callee_fails(408);
        call.assert_plays(&["."]);
    }

    #[test]
    fn ways_out_of_the_ivr_and_around_it() {
        dial("elsewhere").assert_routed("redirect 302 sip:bob@b.example");
        dial("broken").assert_failed("no data base");
        let mut call = dial("out");
        call.wait();
        call.assert_routed("call sip:desk@b.example");
    }

    #[test]
    fn barge_in_current_ends_one_phrase_at_a_time() {
        let mut call = dial("skip");
        call.press("1");
        call.assert_plays(&["a", "b"]);
        call.press("2");
        call.assert_plays(&["."]);
    }

    #[test]
    fn timers_and_the_world_between_calls() {
        let mut call = dial("timer");
        call.timer("soon");
        assert_eq!(call.log(), ["info: soon is due"]);
        call.hang_up();
        let mut call = Call::also_from("bob").to("timer").dial::<Obedient>();
        call.hang_up();
        assert_eq!(store::get_text("calls"), Ok(Some("2".into())));
        drop(Call::from("carol"));
        assert_eq!(store::get_text("calls"), Ok(None));
    }

    #[test]
    #[should_panic(expected = "ten commands in a row that take no time")]
    fn commands_that_take_no_time_fail_the_test() {
        let mut call = dial("idle");
        for _ in 0..20 {
            call.wait();
        }
    }

    #[test]
    #[should_panic(expected = "Ivr::beep needs record before it")]
    fn a_misused_builder_fails_the_test() {
        #[derive(Default)]
        struct Wrong;
        impl Handler for Wrong {
            fn new_call(&mut self, _call: &NewCall) -> Result<Route> {
                Ok(Route::ivr())
            }
            fn get_ivr_command(&mut self, _request: &IvrRequest) -> Result<Ivr> {
                Ok(Ivr::play("a.wav").beep())
            }
        }
        Call::from("alice").dial::<Wrong>();
    }

    #[test]
    fn a_handler_that_decides_nothing_declines() {
        #[derive(Default)]
        struct Nothing;
        impl Handler for Nothing {}
        Call::from("alice").dial::<Nothing>().assert_refused(603);
    }
}
