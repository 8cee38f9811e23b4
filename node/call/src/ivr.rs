//! One party's IVR (SM-008): asks for a command, prepares and plays its phrases, records, collects digits, waits, asks again.
//!
//! Pure and without ids of others: it takes what happened and gives [`Effect`]s, which `session.rs` carries out. Digits are
//! `collect.rs`'s; start with [`Ivr::on_command`] and follow the states down.

use crate::admission::Quota;
use crate::alarm;
use crate::collect::{Collector, DigitBuffer, Match};
use crate::door::{Clips, CommandError, Counter, NoClip, PromptSource};
use crate::exchange::Mint;
use crate::hook::{BackgroundPrompt, DtmfParams, DtmfReason, HookFailure, IvrCommand, Keep, Phrase, RecordingResult, Routing};
use crate::limits;
use crate::recording::{Mode, Place, Policy, RecordingOptions, Unwritable};
use crate::say;
use hookswitch_proto::Time;
use hookswitch_proto::limits::PLAY_SEGMENTS;
use hookswitch_proto::media::{
    BargeIn, Clip, DigitSet, Ended, FRAME, FRAME_TIME, PlayId, RecordingId, RecordingTotals, Segment, StopReason,
};
use std::collections::VecDeque;
use std::time::Duration;

/// What the IVR wants done.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Ask the handler for the next command.
    Ask {
        dtmf_buffer: Option<String>,
        dtmf: Option<DtmfParams>,
        recording: Option<RecordingResult>,
    },
    /// Answered by [`Ivr::on_prepared`] with the same number.
    Prepare {
        number: u32,
        sources: Vec<PromptSource>,
    },
    /// Before the play that holds it.
    StartRecording {
        recording: RecordingId,
        recording_id: String,
        file_name: String,
        /// With nothing left open.
        options: Box<RecordingOptions>,
        callback: bool,
    },
    /// It was announced and did not begin.
    DropRecording(RecordingId),
    Play {
        play: PlayId,
        segments: Vec<Segment>,
        barge_in: BargeIn,
    },
    StopPlay,
    /// In a loop with this pause, under whatever plays; `None`: no more.
    Background(Option<(Clip, Duration)>),
    StopRecording(RecordingId, StopReason),
    /// An ivrCommandError.
    Alarm {
        error: &'static str,
        details: String,
    },
    Count(Counter),
    /// The IVR is over: release the party. The reason is one of IC-204.
    Hangup {
        reason: &'static str,
    },
    /// The IVR is over: the party goes elsewhere (IC-260).
    Route(Box<Routing>),
}

#[derive(Debug)]
enum State {
    /// Before the first request, and for good when the party leaves.
    Off,
    /// The handler is asked.
    Requested,
    /// The next request comes then: the last one failed, or commands take no time.
    Pausing(Time),
    /// Audio is fetched.
    Preparing(Box<Run>, u32),
    /// Phrases play, or one of them records.
    Playing(Box<Run>, PlayId),
    Collecting(Box<Run>),
    /// getIVRCommandAfter.
    Waiting(Box<Run>, Time),
}

/// What plays under all commands (IC-251). It holds up none of them: it begins when it is there.
#[derive(Debug)]
enum Background {
    Off,
    /// Fetched; with this pause between two rounds. `over`: another one plays until then.
    Fetched {
        number: u32,
        pause: Duration,
        over: bool,
    },
    On,
}

/// The command that runs.
#[derive(Debug)]
struct Run {
    plan: Vec<Plan>,
    collector: Option<Collector>,
    barge_in: BargeIn,
    end: RunEnd,
    next_after: Duration,
    recorded_callback: bool,
    /// What was sent to the leg.
    segments: Vec<Segment>,
    /// Index in `segments` of what plays now.
    current: usize,
    records: Vec<Record>,
    recording: Option<RecordingResult>,
    /// Why the recording that was the last segment ended.
    last_record: Option<StopReason>,
    interrupted: bool,
    /// The queue is being stopped to go on with its next segment.
    skipping: bool,
    /// The command took time or digits; if not, it counts as idle (IC-296).
    took_time: bool,
}

impl Run {
    fn new(end: RunEnd) -> Run {
        Run {
            plan: Vec::new(),
            collector: None,
            barge_in: BargeIn::None,
            end,
            next_after: Duration::ZERO,
            recorded_callback: false,
            segments: Vec::new(),
            current: 0,
            records: Vec::new(),
            recording: None,
            last_record: None,
            interrupted: false,
            skipping: false,
            took_time: false,
        }
    }
}

#[derive(Debug)]
enum RunEnd {
    Next,
    Hangup(&'static str),
    Route(Box<Routing>),
}

/// What a command may record.
#[derive(Clone, Copy)]
pub(crate) struct May<'a> {
    /// So many more recordings.
    pub recordings: usize,
    /// The tenant's storage is used up.
    pub full: bool,
    pub unwritable: &'a Unwritable,
    pub policy: Policy,
}

/// A phrase, checked. Numbers are indices of prepared sources.
#[derive(Debug)]
enum Plan {
    Source(usize, String),
    Silence(Duration),
    Echo(Duration),
    Record { beep: Option<usize>, options: Box<RecordingOptions> },
    Failed(String),
}

#[derive(Debug)]
struct Record {
    segment: usize,
    recording: RecordingId,
    recording_id: String,
    control_id: String,
    client_context: Option<String>,
    file_name: String,
    closed: bool,
}

#[derive(Debug)]
pub(crate) struct Ivr {
    session_id: String,
    state: State,
    buffer: DigitBuffer,
    effects: VecDeque<Effect>,
    /// What the next request says of the command before.
    dtmf: Option<DtmfParams>,
    recording: Option<RecordingResult>,
    first: bool,
    retried: bool,
    idle: u32,
    background: Background,
    /// Counts on from IVR to IVR of the same party, so that news of an earlier play are never taken for this one's.
    plays: u64,
}

impl Ivr {
    pub fn new(session_id: String) -> Ivr {
        Ivr {
            session_id,
            state: State::Off,
            buffer: DigitBuffer::default(),
            effects: VecDeque::new(),
            dtmf: None,
            recording: None,
            first: true,
            retried: false,
            idle: 0,
            background: Background::Off,
            plays: 0,
        }
    }

    pub fn poll(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    pub fn next_timeout(&self) -> Option<Time> {
        match &self.state {
            State::Pausing(until) | State::Waiting(_, until) => Some(*until),
            State::Collecting(run) => run.collector.as_ref()?.deadline(&self.buffer),
            State::Off | State::Requested | State::Preparing(..) | State::Playing(..) => None,
        }
    }

    /// The party is connected, perhaps not for the first time: ask for the first command.
    pub fn start(&mut self) {
        // Keys that were pressed early count (IC-219).
        let (buffer, session_id) = (std::mem::take(&mut self.buffer), std::mem::take(&mut self.session_id));
        *self = Ivr { plays: self.plays, buffer, ..Ivr::new(session_id) };
        self.request();
    }

    pub fn is_on(&self) -> bool {
        !matches!(self.state, State::Off)
    }

    /// Phrases are fetched or play: nothing else has the leg's ear.
    pub fn is_busy(&self) -> bool {
        matches!(self.state, State::Preparing(..) | State::Playing(..))
    }

    /// Whether these clips are for it.
    pub fn awaits(&self, prepare: u32) -> bool {
        matches!(self.state, State::Preparing(_, number) if number == prepare)
            || matches!(self.background, Background::Fetched { number, .. } if number == prepare)
    }

    /// The party is gone or leaves: nothing runs, nothing is asked any more (IC-264). Whether something plays in the background that its
    /// leg must be told to end.
    pub fn stop(&mut self) -> bool {
        self.state = State::Off;
        self.effects.clear();
        self.end_background()
    }

    pub fn on_timeout(&mut self, now: Time) {
        if self.next_timeout().is_none_or(|due| due > now) {
            return;
        }
        match std::mem::replace(&mut self.state, State::Off) {
            State::Pausing(_) => self.request(),
            State::Waiting(run, _) => self.next(now, *run),
            State::Collecting(mut run) => {
                let over = run.collector.as_ref().and_then(|c| c.timed_out(now, &self.buffer));
                run.took_time |= run.collector.as_ref().is_some_and(Collector::waits);
                self.finish(now, run, over);
            }
            other => self.state = other,
        }
    }

    // ------------------------------------------------------------------------------------------------ Requested

    fn request(&mut self) {
        self.state = State::Requested;
        // IC-226: the first request has neither, even if keys were pressed early.
        let dtmf_buffer = if std::mem::take(&mut self.first) { None } else { self.buffer.text() };
        let (dtmf, recording) = (self.dtmf.clone(), self.recording.clone());
        self.effects.push_back(Effect::Ask { dtmf_buffer, dtmf, recording });
    }

    /// The answer to [`Effect::Ask`]. `Err`: it cannot be carried out and counts as failed.
    pub fn on_command(&mut self, now: Time, command: IvrCommand, mint: &mut Mint, may: May<'_>) -> Result<(), HookFailure> {
        if !matches!(self.state, State::Requested) {
            return Ok(());
        }
        // IC-227: an answer meant for another session.
        if command.session_id.as_ref().is_some_and(|id| *id != self.session_id) {
            return Err(HookFailure::Nonsense { field: "sessionId".into(), why: "not this session's".into() });
        }
        check(&command).map_err(|(field, why)| HookFailure::Nonsense { field: field.into(), why })?;
        self.retried = false;
        self.dtmf = None;
        self.recording = None;
        if let Some(background) = command.background {
            self.background(background, mint);
        }
        for _ in command.ext.iter().take(limits::EXTENSIONS) {
            self.effects.push_back(Effect::Count(Counter::ExtensionIgnored));
        }
        let end = match (command.hangup, command.routing) {
            (true, _) => RunEnd::Hangup("ivrHangup"),
            (false, Some(routing)) => RunEnd::Route(routing),
            (false, None) => RunEnd::Next,
        };
        let termination_keys = command.dtmf.as_ref().map(|d| d.termination_keys.clone()).unwrap_or_default();
        let collector = command.dtmf.map(|spec| Collector::new(spec, &mut self.buffer));
        let run = Run {
            collector,
            barge_in: command.barge_in,
            next_after: command.next_after,
            recorded_callback: command.recorded_callback,
            ..Run::new(end)
        };
        self.prepare(now, run, command.phrases, &termination_keys, mint, may);
        Ok(())
    }

    /// There is no command. Retried once after a pause where that may help (`may_restart`: no new instance was used up yet), then the
    /// tenant's error prompt, then release (IC-262, IC-263, IC-298). True: it will be asked again.
    pub fn on_failure(&mut self, now: Time, failure: &HookFailure, may_restart: bool, error_prompt: Option<&str>, mint: &mut Mint) -> bool {
        self.alarm(alarm::ivr_failed(failure), alarm::failure_details(failure));
        if !self.retried && (may_restart || !failure.lost_instance()) {
            self.retried = true;
            self.state = State::Pausing(now + limits::IVR_RETRY);
            return true;
        }
        match error_prompt {
            Some(file) if *failure != HookFailure::Empty => {
                let run = Run::new(RunEnd::Hangup("serverError"));
                self.prepare(
                    now,
                    run,
                    vec![Phrase::File { file_name: file.to_owned() }],
                    "",
                    mint,
                    May { recordings: 0, full: false, unwritable: &Unwritable::default(), policy: Policy::default() },
                );
            }
            _ => self.leave(Effect::Hangup { reason: "serverError" }),
        }
        false
    }

    // ------------------------------------------------------------------------------------------------ Preparing

    fn prepare(&mut self, now: Time, mut run: Run, phrases: Vec<Phrase>, keys: &str, mint: &mut Mint, may: May<'_>) {
        let mut sources = Vec::new();
        let mut add = |source| {
            sources.push(source);
            sources.len() - 1
        };
        let (mut recordings, mut unkept) = (0, Vec::new());
        for (i, mut phrase) in phrases.into_iter().enumerate() {
            if may.full && unname(&mut phrase) {
                unkept.push(i);
            }
            run.plan.push(match phrase {
                Phrase::Silence { duration } => Plan::Silence(duration),
                Phrase::Echo { duration } => Plan::Echo(duration),
                Phrase::Record(phrase) => {
                    recordings += 1;
                    let phrase = phrase.under(may.policy);
                    let name =
                        phrase.file_name.as_deref().and_then(file_name_error).or_else(|| phrase.check().is_err().then_some("fileName"));
                    let kind = || may.unwritable.check(&phrase).err().map(|(field, why)| format!("{field}: {why}"));
                    match name.map(str::to_owned).or_else(kind) {
                        Some(why) => Plan::Failed(format!("record: {why}")),
                        None if may.full => Plan::Failed(format!("record: {}: the tenant's quota is used up", Quota::Storage.name())),
                        None if recordings > may.recordings => Plan::Failed("record: too many recordings are being stored".into()),
                        None => {
                            let mut options = Box::new(phrase.filled(Place::Phrase));
                            options.stop_digits.get_or_insert_with(|| keys.to_owned());
                            Plan::Record { beep: (options.beep == Some(true)).then(|| add(beep())), options }
                        }
                    }
                }
                Phrase::Ext { name, .. } => Plan::Failed(format!("{}: not played by this node", alarm::printable(&name, 32))),
                phrase => match source_of(&phrase) {
                    Some(Ok((source, name))) => Plan::Source(add(source), name),
                    Some(Err(why)) => Plan::Failed(why),
                    None => Plan::Failed("not played by this node".into()),
                },
            });
        }
        for i in unkept {
            self.phrase_failed(i, alarm::PHRASE_ERROR, &unkept_why());
        }
        if sources.is_empty() {
            return self.play(now, run, Vec::new(), mint);
        }
        let number = mint.prepare();
        self.effects.push_back(Effect::Prepare { number, sources });
        self.state = State::Preparing(Box::new(run), number);
    }

    pub fn on_prepared(&mut self, now: Time, number: u32, clips: Clips, mint: &mut Mint) {
        if let Background::Fetched { number: expected, pause, over } = self.background
            && expected == number
        {
            match clips.into_iter().next() {
                Some(Ok(clip)) => {
                    self.background = Background::On;
                    self.effects.push_back(Effect::Background(Some((clip, pause))));
                }
                missing => {
                    self.background = if over { Background::On } else { Background::Off };
                    let failed = missing.and_then(Result::err).unwrap_or_else(|| "not prepared".into());
                    self.alarm(alarm_of(&failed), format!("backgroundPrompt: {}", alarm::printable(&failed.why, 512)));
                }
            }
            return;
        }
        match std::mem::replace(&mut self.state, State::Off) {
            State::Preparing(run, expected) if expected == number => self.play(now, *run, clips, mint),
            other => self.state = other,
        }
    }

    /// IC-251 to IC-253. Its values were checked.
    fn background(&mut self, prompt: BackgroundPrompt, mint: &mut Mint) {
        if prompt.stop {
            if self.end_background() {
                self.effects.push_back(Effect::Background(None));
            }
            return;
        }
        let source = match (prompt.file_name, prompt.url) {
            (Some(file_name), _) => match file_name_error(&file_name) {
                None => PromptSource::File(file_name),
                Some(why) => return self.alarm(alarm::PHRASE_ERROR, format!("backgroundPrompt: {why}")),
            },
            (None, Some(url)) => PromptSource::Url { url, key: None, keep: Some(Keep::default()) },
            (None, None) => return,
        };
        let over = matches!(self.background, Background::On | Background::Fetched { over: true, .. });
        let number = mint.prepare();
        self.background = Background::Fetched { number, pause: prompt.repeat_pause, over };
        self.effects.push_back(Effect::Prepare { number, sources: vec![source] });
    }

    /// Whether it plays already.
    fn end_background(&mut self) -> bool {
        matches!(std::mem::replace(&mut self.background, Background::Off), Background::On | Background::Fetched { over: true, .. })
    }

    // ------------------------------------------------------------------------------------------------ Playing, Recording

    fn play(&mut self, now: Time, mut run: Run, clips: Clips, mint: &mut Mint) {
        let clip = |i: usize| clips.get(i).cloned().unwrap_or_else(|| Err("not prepared".into()));
        let had_phrases = !run.plan.is_empty();
        for (i, plan) in std::mem::take(&mut run.plan).into_iter().enumerate() {
            match plan {
                Plan::Source(source, name) => match clip(source) {
                    Ok(clip) => {
                        run.took_time |= clip.pcmu.len() >= FRAME;
                        run.segments.push(Segment::Clip(clip));
                    }
                    Err(failed) => self.phrase_failed(i, alarm_of(&failed), &format!("{name}: {failed}")),
                },
                Plan::Silence(duration) => {
                    run.took_time |= duration >= FRAME_TIME;
                    run.segments.push(Segment::Silence(duration));
                }
                Plan::Echo(duration) => {
                    run.took_time |= duration >= FRAME_TIME;
                    run.segments.push(Segment::Echo(duration));
                }
                Plan::Record { beep, options } => {
                    match beep.map(clip) {
                        Some(Ok(beep)) => run.segments.push(Segment::Clip(beep)),
                        // A message without its beep is better than none.
                        Some(Err(why)) => self.phrase_failed(i, alarm::PHRASE_ERROR, &format!("beep: {why}")),
                        None => {}
                    }
                    self.record(&mut run, options, mint);
                }
                Plan::Failed(why) => self.phrase_failed(i, alarm::PHRASE_ERROR, &why),
            }
        }
        if run.segments.is_empty() {
            if had_phrases {
                // IC-250: all of them failed. The caller heard no question, so there is nothing to wait for.
                let over = run.collector.as_ref().map(|c| c.cut(DtmfReason::Interrupted, &self.buffer));
                return self.finish(now, Box::new(run), over);
            }
            return self.after_phrases(now, Box::new(run));
        }
        self.start_play(run);
    }

    fn start_play(&mut self, run: Run) {
        self.plays += 1;
        let play = PlayId(self.plays);
        self.effects.push_back(Effect::Play { play, segments: run.segments.clone(), barge_in: run.barge_in });
        self.state = State::Playing(Box::new(run), play);
    }

    fn record(&mut self, run: &mut Run, options: Box<RecordingOptions>, mint: &mut Mint) {
        let (recording, recording_id) = (mint.recording(), mint.uuid());
        let generated = || format!("{}-{recording_id}.{}", self.session_id, options.container().name());
        let file_name = options.file_name.clone().unwrap_or_else(generated);
        let spec = options.spec();
        run.records.push(Record {
            segment: run.segments.len(),
            recording,
            recording_id: recording_id.clone(),
            control_id: options.control_id.clone().unwrap_or_else(|| recording_id.clone()),
            client_context: options.client_context.clone(),
            file_name: file_name.clone(),
            closed: false,
        });
        run.segments.push(Segment::Record(recording, spec));
        self.effects.push_back(Effect::StartRecording { recording, recording_id, file_name, options, callback: run.recorded_callback });
    }

    pub fn on_segment_ended(&mut self, play: PlayId, index: usize) {
        if let State::Playing(run, playing) = &mut self.state
            && *playing == play
        {
            run.current = run.current.max(index.saturating_add(1));
        }
    }

    pub fn on_recording_closed(&mut self, recording: RecordingId, reason: StopReason, totals: RecordingTotals) {
        let State::Playing(run, _) = &mut self.state else { return };
        let last = run.segments.len().wrapping_sub(1);
        let Some(record) = run.records.iter_mut().find(|r| r.recording == recording) else { return };
        record.closed = true;
        run.took_time |= totals.expected > 0 || matches!(reason, StopReason::StopDigit(_));
        if record.segment == last {
            run.last_record = Some(reason);
        }
        run.recording = Some(RecordingResult {
            recording_id: record.recording_id.clone(),
            control_id: record.control_id.clone(),
            client_context: record.client_context.clone(),
            file_name: record.file_name.clone(),
            stop_reason: reason.name().to_owned(),
            stop_digit: if let StopReason::StopDigit(digit) = reason { Some(digit) } else { None },
            duration: FRAME_TIME.saturating_mul(u32::try_from(totals.expected).unwrap_or(u32::MAX)),
            contains_sound: totals.contains_voice,
        });
    }

    pub fn on_queue_ended(&mut self, play: PlayId, at: Time, _how: Ended) {
        match std::mem::replace(&mut self.state, State::Off) {
            State::Playing(run, playing) if playing == play => {
                if run.skipping && !run.interrupted && run.current < run.segments.len() {
                    return self.play_rest(*run);
                }
                for record in run.records.iter().filter(|r| !r.closed) {
                    self.effects.push_back(Effect::DropRecording(record.recording));
                }
                self.after_phrases(at, run);
            }
            other => self.state = other,
        }
    }

    /// The recording that runs now, for a command that stops it.
    pub fn active_recording(&self) -> Option<(RecordingId, &str)> {
        let State::Playing(run, _) = &self.state else { return None };
        let record = run.records.iter().find(|r| r.segment == run.current && !r.closed)?;
        Some((record.recording, &record.recording_id))
    }

    pub fn stop_recording(&mut self, recording: RecordingId) {
        self.effects.push_back(Effect::StopRecording(recording, StopReason::ApiStop));
    }

    // ------------------------------------------------------------------------------------------------ Collecting

    fn after_phrases(&mut self, at: Time, mut run: Box<Run>) {
        let Some(collector) = &mut run.collector else { return self.finish(at, run, None) };
        collector.phrases_ended(at);
        let over = match run.last_record {
            _ if run.interrupted => Some(collector.cut(DtmfReason::Interrupted, &self.buffer)),
            // UR 6.4: a record phrase at the end of the command is its collection too.
            Some(StopReason::StopDigit(key)) if collector.is_termination_key(key) => Some(collector.stopped_by(key, &self.buffer)),
            Some(_) => Some(collector.cut(DtmfReason::RecordingEnd, &self.buffer)),
            None => collector.matched(&self.buffer),
        };
        match over {
            Some(over) => self.finish(at, run, Some(over)),
            None => {
                self.state = State::Collecting(run);
                // A digit typed ahead may have been the last one long ago, or a timeout zero.
                self.on_timeout(at);
            }
        }
    }

    /// A key was pressed. `consumed`: it ended a recording and is no input. `by_info`: it came by SIP, so the leg does not know of it
    /// and what a key does to phrases is done here.
    pub fn on_digit(&mut self, at: Time, digit: char, consumed: bool, by_info: bool) {
        if consumed || (by_info && self.stops_recording(digit)) {
            return;
        }
        if !self.buffer.push(digit) {
            self.effects.push_back(Effect::Count(Counter::DigitsDropped));
            return;
        }
        match std::mem::replace(&mut self.state, State::Off) {
            State::Collecting(mut run) => {
                let over = run.collector.as_mut().and_then(|c| {
                    c.on_digit(at);
                    c.matched(&self.buffer)
                });
                run.took_time = true;
                match over {
                    Some(over) => self.finish(at, run, Some(over)),
                    None => self.state = State::Collecting(run),
                }
            }
            State::Waiting(mut run, until) => {
                run.took_time = true;
                match run.collector.as_ref().and_then(|c| c.matched(&self.buffer)) {
                    // IC-261: a digit that completes the collection ends the wait.
                    Some(over) => {
                        self.dtmf = Some(over.take(&mut self.buffer, run.collector.as_ref()));
                        self.next(at, *run);
                    }
                    None => self.state = State::Waiting(run, until),
                }
            }
            State::Playing(mut run, play) => {
                if let Some(collector) = &mut run.collector {
                    collector.on_digit(at);
                }
                self.state = State::Playing(run, play);
                if by_info {
                    self.barge_in();
                }
            }
            State::Preparing(mut run, number) => {
                if let Some(collector) = &mut run.collector {
                    collector.on_digit(at);
                }
                self.state = State::Preparing(run, number);
            }
            other => self.state = other,
        }
    }

    fn stops_recording(&mut self, digit: char) -> bool {
        let State::Playing(run, _) = &self.state else { return false };
        let Some(record) = run.records.iter().find(|r| r.segment == run.current && !r.closed) else { return false };
        let stops = matches!(run.segments.get(run.current), Some(Segment::Record(_, spec)) if spec.stop_digits.contains(digit));
        let recording = record.recording;
        if stops {
            self.effects.push_back(Effect::StopRecording(recording, StopReason::StopDigit(digit)));
        }
        stops
    }

    /// What a digit that the leg does not know of does to phrases. The queue is stopped first and its rest sent again when it has
    /// stopped: by then it is known how far it came, and no recording can begin twice.
    fn barge_in(&mut self) {
        let State::Playing(run, _) = &mut self.state else { return };
        if matches!(run.segments.get(run.current), None | Some(Segment::Record(..))) || run.barge_in == BargeIn::None {
            return;
        }
        run.skipping |= run.barge_in == BargeIn::Current;
        self.effects.push_back(Effect::StopPlay);
    }

    /// The rest of a queue as a new one; its indices begin at zero again.
    fn play_rest(&mut self, mut run: Run) {
        let skipped = run.current;
        run.skipping = false;
        run.segments.drain(..skipped);
        for record in run.records.iter().filter(|r| r.segment < skipped && !r.closed) {
            self.effects.push_back(Effect::DropRecording(record.recording));
        }
        run.records.retain(|r| r.segment >= skipped);
        run.records.iter_mut().for_each(|r| r.segment -= skipped);
        run.current = 0;
        self.start_play(run);
    }

    // ------------------------------------------------------------------------------------------------ Waiting, Done, Interrupted

    fn finish(&mut self, at: Time, mut run: Box<Run>, over: Option<Match>) {
        run.took_time |= run.interrupted || over.is_some_and(Match::took_digits);
        let completed = over.is_some_and(|m| matches!(m.reason, DtmfReason::TerminationKey | DtmfReason::MaxDigits));
        self.dtmf = over.map(|m| m.take(&mut self.buffer, run.collector.as_ref()));
        self.recording = run.recording.take();
        if run.interrupted {
            // IC-082: the next request says so even where no digits were wanted.
            self.dtmf.get_or_insert(DtmfParams {
                dtmf_match: String::new(),
                reason: DtmfReason::Interrupted,
                matched_termination_key: None,
                encryption: None,
            });
            return self.next(at, *run);
        }
        match run.end {
            RunEnd::Hangup(reason) => return self.leave(Effect::Hangup { reason }),
            RunEnd::Route(routing) => return self.leave(Effect::Route(routing)),
            RunEnd::Next => {}
        }
        if run.next_after.is_zero() || completed {
            return self.next(at, *run);
        }
        run.took_time |= run.next_after >= FRAME_TIME;
        let until = at + run.next_after;
        self.state = State::Waiting(run, until);
    }

    fn next(&mut self, at: Time, run: Run) {
        self.idle = if run.took_time { 0 } else { self.idle + 1 };
        if self.idle == limits::IDLE_COMMANDS {
            self.alarm(alarm::IVR_COMMAND_FAILED, format!("{} commands in a row took no time", limits::IDLE_COMMANDS));
        }
        if self.idle >= limits::IDLE_COMMANDS_MAX {
            self.leave(Effect::Hangup { reason: "serverError" });
        } else if self.idle >= limits::IDLE_COMMANDS {
            self.state = State::Pausing(at + limits::IDLE_PAUSE);
        } else {
            self.request();
        }
    }

    /// interruptIvrCommand (IC-079).
    pub fn interrupt(&mut self, now: Time) -> Result<(), CommandError> {
        match std::mem::replace(&mut self.state, State::Off) {
            State::Preparing(mut run, _) => {
                run.interrupted = true;
                let over = run.collector.as_ref().map(|c| c.cut(DtmfReason::Interrupted, &self.buffer));
                self.finish(now, run, over);
            }
            State::Playing(mut run, play) => {
                run.interrupted = true;
                self.state = State::Playing(run, play);
                // The recording is kept (IC-082); the next request waits until it is closed.
                if let Some((recording, _)) = self.active_recording() {
                    self.stop_recording(recording);
                }
                self.effects.push_back(Effect::StopPlay);
            }
            State::Collecting(mut run) => {
                run.interrupted = true;
                let over = run.collector.as_ref().map(|c| c.cut(DtmfReason::Interrupted, &self.buffer));
                self.finish(now, run, over);
            }
            // What was collected before the wait stands (IC-261).
            State::Waiting(run, _) => self.next(now, *run),
            other => {
                self.state = other;
                return Err(CommandError::WrongState("no IVR command is running"));
            }
        }
        Ok(())
    }

    fn leave(&mut self, how: Effect) {
        self.state = State::Off;
        if self.end_background() {
            self.effects.push_back(Effect::Background(None));
        }
        self.effects.push_back(how);
    }

    fn phrase_failed(&mut self, index: usize, error: &'static str, why: &str) {
        self.alarm(error, format!("phrase {}: {}", index + 1, alarm::printable(why, 512)));
    }

    fn alarm(&mut self, error: &'static str, details: String) {
        self.effects.push_back(Effect::Alarm { error, details });
    }
}

/// Where the sound of a phrase comes from, and what alarms call it: never by its address or text, which may hold what is nobody's
/// business. `None`: it is no sound from somewhere.
pub(crate) fn source_of(phrase: &Phrase) -> Option<Result<(PromptSource, String), String>> {
    let named = |file_name: &str| file_name_error(file_name).map_or(Ok(()), |why| Err(why.to_owned()));
    let kept = |keep: &Keep| keep.file_name.as_deref().map_or(Ok(()), named);
    Some(match phrase.clone() {
        Phrase::File { file_name } => named(&file_name)
            .map_err(|why| format!("file: {why}"))
            .map(|()| (PromptSource::File(file_name.clone()), format!("file {file_name}"))),
        Phrase::Sealed { file_name, cipher } => named(&file_name)
            .map_err(|why| format!("file: {why}"))
            .map(|()| (PromptSource::Sealed { file_name: file_name.clone(), cipher }, format!("file {file_name}"))),
        Phrase::Tone { hz, level_dbm0, on, off, total } => Ok((PromptSource::Tone { hz, level_dbm0, on, off, total }, "tone".into())),
        Phrase::Url { url, key, keep } => match keep.as_ref().map_or(Ok(()), kept) {
            Ok(()) => Ok((PromptSource::Url { url, key, keep }, "url".into())),
            Err(why) => Err(format!("url: {why}")),
        },
        Phrase::Tts { engine, parameters, keep } => {
            let name = format!("tts {}", alarm::printable(&engine, 32));
            match kept(&keep) {
                Ok(()) => Ok((PromptSource::Tts { engine, parameters, keep }, name)),
                Err(why) => Err(format!("{name}: {why}")),
            }
        }
        Phrase::Say { kind, value, language } => {
            let name = format!("say {}", alarm::printable(&kind, 32));
            match say::words(&kind, &value, &language) {
                Ok((language, words)) => Ok((PromptSource::Say { language, words }, name)),
                Err(why) => Err(format!("{name}: {why}")),
            }
        }
        Phrase::Silence { .. } | Phrase::Echo { .. } | Phrase::Record(_) | Phrase::Ext { .. } => return None,
    })
}

/// What is fetched or spoken is not to be kept under a name. True: it was.
pub(crate) fn unname(phrase: &mut Phrase) -> bool {
    if let Phrase::Url { keep: Some(keep), .. } | Phrase::Tts { keep, .. } = phrase { keep.file_name.take().is_some() } else { false }
}

/// Why that is so.
pub(crate) fn unkept_why() -> String {
    format!("fileName: {}: the tenant's quota is used up", Quota::Storage.name())
}

/// IC-241: what came too late from elsewhere has an alarm of its own.
pub(crate) fn alarm_of(failed: &NoClip) -> &'static str {
    if failed.late { alarm::PHRASE_LATE } else { alarm::PHRASE_ERROR }
}

/// UR-017: 1000 Hz, 250 ms, -12 dBm0.
pub(crate) fn beep() -> PromptSource {
    let quarter = Duration::from_millis(250);
    PromptSource::Tone { hz: vec![1000.0], level_dbm0: -12.0, on: quarter, off: Duration::ZERO, total: quarter }
}

/// IC-038: names of files in the tenant's storage, never paths.
pub(crate) fn file_name_error(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.len() > limits::FILE_NAME {
        return Some("file name is empty or too long");
    }
    if name.contains(['/', '\\']) || name.contains("..") || name.chars().any(char::is_control) {
        return Some("file name has a path separator, .. or a control character");
    }
    None
}

/// Values that no command may have. What only spoils one phrase is left to `prepare`.
pub(crate) fn check(command: &IvrCommand) -> Result<(), (&'static str, String)> {
    let bad = |field: &'static str, why: &str| Err((field, why.to_owned()));
    if command.phrases.len() > limits::PHRASES {
        return bad("phrases", "too many");
    }
    if command.next_after > limits::COLLECT_TIMEOUT {
        return bad("getIVRCommandAfter", "too long");
    }
    if let Some(background) = command.background.as_ref().filter(|b| !b.stop) {
        if background.file_name.is_some() == background.url.is_some() {
            return bad("backgroundPrompt", "one of fileName and url");
        }
        if background.repeat_pause > limits::COLLECT_TIMEOUT {
            return bad("backgroundPrompt.repeatPause", "too long");
        }
    }
    let mut segments = command.phrases.len();
    let mut tones = Duration::ZERO;
    for phrase in &command.phrases {
        match phrase {
            Phrase::Tone { hz, level_dbm0, on, off, total } => {
                let audible = |f: &f32| *f > 0.0 && *f < limits::TONE_HZ;
                if hz.is_empty() || hz.len() > limits::TONE_PARTS || !hz.iter().all(audible) {
                    return bad("phrases.tone.hz", "one to eight frequencies below 4000");
                }
                if !(-90.0..=3.0).contains(level_dbm0) {
                    return bad("phrases.tone.level", "not between -90 and 3 dBm0");
                }
                if [on, off, total].into_iter().any(|d| *d > limits::COLLECT_TIMEOUT) {
                    return bad("phrases.tone", "too long");
                }
                tones = tones.saturating_add(*total);
                if tones > limits::TONE_DURATION {
                    return bad("phrases.tone.total", "more than two minutes of tones in a command");
                }
            }
            Phrase::Url { keep: Some(keep), .. } | Phrase::Tts { keep, .. } if keep.time > limits::KEEP_LONGEST => {
                return bad("phrases.cacheTimeToLive", "too long");
            }
            Phrase::Silence { duration } if *duration > limits::COLLECT_TIMEOUT => return bad("phrases.silence", "too long"),
            Phrase::Echo { duration } if *duration > limits::SESSION_DURATION => return bad("phrases.echo", "too long"),
            Phrase::Record(record) => {
                segments += usize::from(record.beep == Some(true));
                if !matches!(record.mode, None | Some(Mode::Foreground)) {
                    return bad("phrases.record.mode", "a phrase is in the foreground");
                }
                match record.check() {
                    Err((field, why)) if field != "fileName" => return Err(("phrases.record", format!("{field}: {why}"))),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    if segments > PLAY_SEGMENTS {
        return bad("phrases", "too many with their beeps");
    }
    if let Some(dtmf) = &command.dtmf {
        if dtmf.max_digits == Some(0) {
            return bad("dtmf.maxDigits", "zero");
        }
        if dtmf.first_timeout > limits::COLLECT_TIMEOUT || dtmf.between_timeout > limits::COLLECT_TIMEOUT {
            return bad("dtmf", "a timeout is too long");
        }
        if DigitSet::parse(&dtmf.termination_keys).is_none() {
            return bad("dtmf.terminationKey", "not DTMF digits");
        }
    }
    Ok(())
}
