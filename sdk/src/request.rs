//! What the hooks are given, made handy: short ways to what most handlers look at, and empty records to fill in.

use crate::types::{
    CallEventKind, CallEventRequest, Collect, DtmfReason, IvrCommand, IvrRequest, NewCallRequest, OutboundCall, Privacy, QueuePolicy,
    RecordingChannels, RecordingDirection, RecordingMode, RecordingOptions, SessionInfo,
};

impl NewCallRequest {
    /// The first `X-` or `P-` header of this name, in whatever case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.x_headers.iter().chain(&self.p_headers);
        headers.find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The caller asked for anonymity.
    pub fn is_private(&self) -> bool {
        self.calling_party_privacy == Privacy::Secret
    }
}

impl IvrRequest {
    /// The digits that the last command collected; empty when none came or none were asked for.
    pub fn digits(&self) -> &str {
        self.dtmf_params.as_ref().map_or("", |params| &params.dtmf_match)
    }

    /// The digit that the last command collected, if it was exactly one.
    pub fn digit(&self) -> Option<char> {
        let mut digits = self.digits().chars();
        digits.next().filter(|_| digits.next().is_none())
    }

    /// The last command collected digits, and the caller pressed nothing, or not enough.
    pub fn timed_out(&self) -> bool {
        matches!(&self.dtmf_params, Some(params) if matches!(params.reason, DtmfReason::FirstTimeout | DtmfReason::BetweenTimeout))
    }
}

impl CallEventRequest {
    /// One party hung up: the answer is for the other.
    pub fn is_hangup(&self) -> bool {
        matches!(self.event, CallEventKind::CallingPartyDrop | CallEventKind::CalledPartyDrop)
    }

    /// The answer is for the caller: the callee hung up or could not be reached, or the two were separated.
    pub fn is_about_the_caller(&self) -> bool {
        use CallEventKind as Kind;
        matches!(self.event, Kind::CalledPartyDrop | Kind::CalledPartyFailure | Kind::CallerConnectionSplit)
    }

    /// A party could not be reached, or was lost: the SIP status behind it, 480 where there is none.
    pub fn failure(&self) -> Option<u16> {
        match self.event {
            CallEventKind::CallingPartyFailure | CallEventKind::CalledPartyFailure => {
                // What is no refusal cannot be passed on as one.
                Some(self.sip_code.filter(|code| (400..=699).contains(code)).unwrap_or(480))
            }
            _ => None,
        }
    }

    /// The parties were separated by `calls::split_connection`: each is asked about by an event of its own.
    pub fn is_split(&self) -> bool {
        matches!(self.event, CallEventKind::CallerConnectionSplit | CallEventKind::CalleeConnectionSplit)
    }
}

impl Default for NewCallRequest {
    fn default() -> NewCallRequest {
        NewCallRequest {
            info: SessionInfo::default(),
            participant_id: String::new(),
            sip_call_id: String::new(),
            calling_party_privacy: Privacy::Public,
            calling_party: String::new(),
            display_name: None,
            from_user: String::new(),
            x_headers: Vec::new(),
            p_headers: Vec::new(),
            called_party: String::new(),
            diversion_headers: None,
            referred_by: None,
            pai_number: None,
            subject: None,
            src_addr: String::new(),
            extra: Vec::new(),
        }
    }
}

#[expect(clippy::derivable_impls, reason = "wit-bindgen makes the type: nothing can be derived on it here")]
impl Default for SessionInfo {
    fn default() -> SessionInfo {
        SessionInfo {
            session_id: String::new(),
            session_reference: None,
            domain: String::new(),
            ivr_server: String::new(),
            trace_id: String::new(),
            site_id: None,
            transaction_id: String::new(),
            restarted: false,
            extra: Vec::new(),
        }
    }
}

/// As the first one of a call.
impl Default for IvrRequest {
    fn default() -> IvrRequest {
        IvrRequest {
            info: SessionInfo::default(),
            participant_id: String::new(),
            reply_id: String::new(),
            dtmf_buffer: None,
            dtmf_params: None,
            recording: None,
            interrupted: false,
            extra: Vec::new(),
        }
    }
}

/// A command that does nothing.
impl Default for IvrCommand {
    fn default() -> IvrCommand {
        IvrCommand {
            session_id: None,
            session_reference: None,
            phrases: Vec::new(),
            dtmf: None,
            barge_in: crate::types::BargeIn::None,
            background: None,
            hangup: false,
            recorded_callback: false,
            next_after_ms: 0,
            routing: None,
            ext: Vec::new(),
        }
    }
}

/// The node's defaults: up to 64 digits, 30 s for the first and 3 s for each further one.
impl Default for Collect {
    fn default() -> Collect {
        Collect {
            flush: false,
            max_digits: None,
            first_timeout_ms: None,
            between_timeout_ms: None,
            termination_keys: String::new(),
            encryption: None,
        }
    }
}

/// A call to nobody yet: fill in `dest_addr`.
impl Default for OutboundCall {
    fn default() -> OutboundCall {
        OutboundCall {
            dest_addr: String::new(),
            max_ring_time_ms: None,
            call_recording: false,
            recording_file_name: None,
            recording: None,
            ringback_tone: None,
            greeting: None,
            sip_from: None,
            sip_to: None,
            sip_pai: None,
            sip_rpid: None,
            sip_diversion: None,
            sip_diversion_parameters: Vec::new(),
            display_name: None,
            caller_privacy: false,
            contact_parameters: Vec::new(),
            contact_user_parameters: Vec::new(),
            x_headers: Vec::new(),
            p_headers: Vec::new(),
            copy_headers: Vec::new(),
            participant_id: None,
            monitor: None,
            session_reference: None,
            extra: Vec::new(),
        }
    }
}

/// The node's defaults: what the caller says, as a mono WAV without any limit but the session's.
impl Default for RecordingOptions {
    fn default() -> RecordingOptions {
        RecordingOptions {
            control_id: None,
            client_context: None,
            dialect: None,
            mode: None,
            queue_policy: None,
            direction: None,
            channels: None,
            container: None,
            encoding: None,
            sample_rate: None,
            bitrate_kbps: None,
            file_name: None,
            storage_class: None,
            beep: false,
            stop_digits: None,
            stop_digit_consume: None,
            stop_digit_trim: None,
            initial_silence_ms: None,
            max_silence_ms: None,
            max_duration_ms: None,
            max_file_bytes: None,
            start_on_voice: false,
            sensitivity: None,
            pause_behavior: None,
            encryption: None,
            announce: false,
            retention_ms: None,
            status_url: None,
            on_complete_url: None,
            on_available_url: None,
            extra: Vec::new(),
        }
    }
}

/// Options one after the other; every other one is a field.
///
/// ```
/// # use hookswitch_sdk::types::RecordingOptions;
/// RecordingOptions::named("greeting").beep().stop_on("#").max_s(60).max_silence_s(3);
/// RecordingOptions::default().file("call.mp3").stereo();
/// ```
impl RecordingOptions {
    /// With a name of the handler's own, by which it can be paused, stopped and asked for. `recording-state` tells about it.
    pub fn named(control_id: impl Into<String>) -> RecordingOptions {
        RecordingOptions { control_id: Some(control_id.into()), ..RecordingOptions::default() }
    }
    /// Stored under this name; its ending says which kind of file it is.
    pub fn file(mut self, file_name: impl Into<String>) -> RecordingOptions {
        self.file_name = Some(file_name.into());
        self
    }
    /// Both sides, each on its own channel.
    pub fn stereo(mut self) -> RecordingOptions {
        (self.direction, self.channels) = (Some(RecordingDirection::Both), Some(RecordingChannels::Stereo));
        self
    }
    /// A short beep before; it is not in the file.
    pub fn beep(mut self) -> RecordingOptions {
        self.beep = true;
        self
    }
    /// Nothing is kept before the first voice, but 200 ms.
    pub fn from_voice(mut self) -> RecordingOptions {
        self.start_on_voice = true;
        self
    }
    /// Any of these keys ends it.
    pub fn stop_on(mut self, keys: impl Into<String>) -> RecordingOptions {
        self.stop_digits = Some(keys.into());
        self
    }
    /// Ends after so many seconds.
    pub fn max_s(mut self, seconds: u32) -> RecordingOptions {
        self.max_duration_ms = Some(seconds.saturating_mul(1000));
        self
    }
    /// Ends when nobody spoke for so many seconds after the first word.
    pub fn max_silence_s(mut self, seconds: u32) -> RecordingOptions {
        self.max_silence_ms = Some(seconds.saturating_mul(1000));
        self
    }
    /// Ends when nobody has spoken at all for so many seconds.
    pub fn initial_silence_s(mut self, seconds: u32) -> RecordingOptions {
        self.initial_silence_ms = Some(seconds.saturating_mul(1000));
        self
    }
    /// It waits for its turn among the session's media.
    pub fn queued(mut self) -> RecordingOptions {
        self.mode = Some(RecordingMode::Queued);
        self
    }
    /// What runs in turn and what waits is cancelled for it.
    pub fn barge(mut self) -> RecordingOptions {
        self.queue_policy = Some(QueuePolicy::Barge);
        self
    }
    /// Deleted so long after its end.
    pub fn keep_for(mut self, time: std::time::Duration) -> RecordingOptions {
        self.retention_ms = Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::DtmfParams;

    #[test]
    fn recordings_are_described_in_one_line() {
        let options = RecordingOptions::named("a").file("x.mp3").stereo().beep().from_voice().stop_on("#").max_s(60).max_silence_s(3);
        let options = options.initial_silence_s(5).queued().barge().keep_for(std::time::Duration::from_secs(1));
        assert_eq!((options.control_id.as_deref(), options.file_name.as_deref(), options.beep), (Some("a"), Some("x.mp3"), true));
        assert_eq!((options.direction, options.channels), (Some(RecordingDirection::Both), Some(RecordingChannels::Stereo)));
        assert_eq!((options.max_duration_ms, options.max_silence_ms, options.initial_silence_ms), (Some(60_000), Some(3000), Some(5000)));
        assert_eq!((options.mode, options.queue_policy), (Some(RecordingMode::Queued), Some(QueuePolicy::Barge)));
        assert_eq!((options.start_on_voice, options.stop_digits.as_deref(), options.retention_ms), (true, Some("#"), Some(1000)));
    }

    fn collected(digits: &str, reason: DtmfReason) -> IvrRequest {
        let dtmf = DtmfParams { dtmf_match: digits.into(), reason, matched_termination_key: None, encryption: None };
        IvrRequest { dtmf_params: Some(dtmf), ..IvrRequest::default() }
    }

    #[test]
    fn a_call_event_says_what_it_is_about() {
        let event = |event, sip_code| CallEventRequest {
            info: SessionInfo::default(),
            event,
            connection_id: "c".into(),
            participant_id: "p".into(),
            user: String::new(),
            remote_participant_id: "q".into(),
            remote_user: String::new(),
            reply_id: String::new(),
            sip_code,
            reason_text: None,
            q850: None,
            extra: Vec::new(),
        };
        let said = |e: &CallEventRequest| (e.is_hangup(), e.is_split(), e.is_about_the_caller(), e.failure());
        use CallEventKind as Kind;
        for (kind, code, expected) in [
            (Kind::CallingPartyDrop, None, (true, false, false, None)),
            (Kind::CalledPartyDrop, Some(200), (true, false, true, None)),
            (Kind::CalledPartyFailure, Some(486), (false, false, true, Some(486))),
            (Kind::CalledPartyFailure, None, (false, false, true, Some(480))),
            (Kind::CallingPartyFailure, Some(200), (false, false, false, Some(480))),
            (Kind::CallerConnectionSplit, None, (false, true, true, None)),
            (Kind::CalleeConnectionSplit, None, (false, true, false, None)),
        ] {
            let event = event(kind, code);
            assert_eq!(said(&event), expected, "{event:?}");
        }
    }

    #[test]
    fn digits_are_at_hand() {
        let cases: [(IvrRequest, &str, Option<char>, bool); 4] = [
            (collected("5", DtmfReason::MaxDigits), "5", Some('5'), false),
            (collected("55", DtmfReason::BetweenTimeout), "55", None, true),
            (collected("", DtmfReason::FirstTimeout), "", None, true),
            (IvrRequest::default(), "", None, false),
        ];
        for (request, digits, digit, timed_out) in cases {
            assert_eq!((request.digits(), request.digit(), request.timed_out()), (digits, digit, timed_out));
        }
    }

    #[test]
    fn headers_in_whatever_case() {
        let mut call = NewCallRequest::default();
        call.x_headers.push(("x-dest".into(), "sip:a@b".into()));
        assert_eq!((call.header("X-Dest"), call.header("X-None")), (Some("sip:a@b"), None));
    }
}
