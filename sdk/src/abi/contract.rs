//! The records and variants of `wit/types.wit` that hooks take and give, field by field and case by case in the order of the contract:
//! the order is the layout. The tests in `abi/tests.rs` compare it with what `wit-bindgen` makes of the same file.

use super::{record, variant};
use crate::types::*;

record!(Extension { name: String, json: String });
record!(Failure { message: String });
record!(SessionInfo {
    session_id: String, session_reference: Option<String>, domain: String, ivr_server: String, trace_id: String,
    site_id: Option<String>, transaction_id: String, restarted: bool, extra: Vec<(String, String)>,
});
variant!(Privacy { Public, Secret });
record!(NewCallRequest {
    info: SessionInfo, participant_id: String, sip_call_id: String, calling_party_privacy: Privacy, calling_party: String,
    display_name: Option<String>, from_user: String, x_headers: Vec<(String, String)>, p_headers: Vec<(String, String)>,
    called_party: String, diversion_headers: Option<String>, referred_by: Option<String>, pai_number: Option<String>,
    subject: Option<String>, src_addr: String, extra: Vec<(String, String)>,
});
record!(IvrRequest {
    info: SessionInfo, participant_id: String, reply_id: String, dtmf_buffer: Option<String>, dtmf_params: Option<DtmfParams>,
    recording: Option<RecordingResult>, interrupted: bool, extra: Vec<(String, String)>,
});
record!(DtmfParams {
    dtmf_match: String, reason: DtmfReason, matched_termination_key: Option<char>, encryption: Option<DigitProtection>,
});
variant!(DtmfReason { TerminationKey, MaxDigits, FirstTimeout, BetweenTimeout, Interrupted, RecordingEnd, Ext(it: Extension) });
variant!(DigitProtection { Md5(it: String), HmacSha256(it: String), Ext(it: Extension) });
record!(CallEventRequest {
    info: SessionInfo, event: CallEventKind, connection_id: String, participant_id: String, user: String, remote_participant_id: String,
    remote_user: String, reply_id: String, sip_code: Option<u16>, reason_text: Option<String>, q850: Option<u16>,
    extra: Vec<(String, String)>,
});
variant!(CallEventKind {
    CallingPartyDrop, CalledPartyDrop, CallingPartyFailure, CalledPartyFailure, CallerConnectionSplit, CalleeConnectionSplit,
    Ext(it: Extension),
});
variant!(Routing {
    Drop(it: DropAction), Ivr(it: IvrAction), Call(it: OutboundCall), Join(it: JoinAction), Httpcall(it: HttpCall),
    Redirect(it: RedirectAction), Ext(it: Extension),
});
record!(DropAction { drop_code: Option<DropCode>, session_reference: Option<String>, extra: Vec<(String, String)> });
variant!(DropCode {
    Busy, Decline, Reject, NoAnswer, Unavailable, NotFound, Forbidden, Gone, Timeout, Congestion, NotAcceptable, SipCode(it: u16),
    Ext(it: Extension),
});
record!(IvrAction { session_reference: Option<String>, participant_id: Option<String>, extra: Vec<(String, String)> });
record!(JoinAction {
    participant_id: String, session_reference: Option<String>, call_recording: bool, recording_file_name: Option<String>,
    recording: Option<RecordingOptions>, extra: Vec<(String, String)>,
});
record!(RedirectAction { status: u16, contacts: Vec<String>, session_reference: Option<String>, extra: Vec<(String, String)> });
record!(HttpCall { endpoint: RtpEndpoint, session_reference: Option<String>, extra: Vec<(String, String)> });
record!(RtpEndpoint {
    receive_ip: String, receive_port: u16, codec: String, telephone_event_payload_type: Option<u8>, crypto: Vec<SdesCrypto>,
});
record!(SdesCrypto { suite: String, id: u32, config: String });
record!(OutboundCall {
    dest_addr: String, max_ring_time_ms: Option<u32>, call_recording: bool, recording_file_name: Option<String>,
    recording: Option<RecordingOptions>, ringback_tone: Option<Ringback>, greeting: Option<Greeting>, sip_from: Option<String>,
    sip_to: Option<String>, sip_pai: Option<String>, sip_rpid: Option<String>, sip_diversion: Option<String>,
    sip_diversion_parameters: Vec<(String, String)>, display_name: Option<String>, caller_privacy: bool,
    contact_parameters: Vec<(String, String)>, contact_user_parameters: Vec<(String, String)>, x_headers: Vec<(String, String)>,
    p_headers: Vec<(String, String)>, copy_headers: Vec<String>, participant_id: Option<String>, monitor: Option<MonitorLeg>,
    session_reference: Option<String>, extra: Vec<(String, String)>,
});
variant!(Ringback { Standard, None, Early, File(it: String), Url(it: String), Ext(it: Extension) });
record!(Greeting { play_mode: Option<PlayMode>, caller: Vec<Phrase>, callee: Vec<Phrase> });
variant!(PlayMode { CalleeFirst, CallerFirst, Both });
record!(MonitorLeg {
    dest_addr: String, sip_from: Option<String>, p_headers: Vec<(String, String)>, x_headers: Vec<(String, String)>,
    extra: Vec<(String, String)>,
});
record!(IvrCommand {
    session_id: Option<String>, session_reference: Option<String>, phrases: Vec<Phrase>, dtmf: Option<Collect>, barge_in: BargeIn,
    background: Option<Background>, hangup: bool, recorded_callback: bool, next_after_ms: u32, routing: Option<Routing>,
    ext: Vec<Extension>,
});
variant!(BargeIn { None, Current, All });
record!(Collect {
    flush: bool, max_digits: Option<u32>, first_timeout_ms: Option<u32>, between_timeout_ms: Option<u32>, termination_keys: String,
    encryption: Option<DigitProtection>,
});
variant!(Phrase {
    File(it: FilePhrase), Url(it: UrlPhrase), Tts(it: TtsPhrase), Tone(it: TonePhrase), Silence(it: u32), Record(it: RecordingOptions),
    Echo(it: u32), Say(it: SayPhrase), Ext(it: Extension),
});
record!(FilePhrase { file_name: String, extra: Vec<(String, String)> });
record!(UrlPhrase {
    url: String, cache_time_to_live: Option<CacheTime>, refresh_cache: bool, file_name: Option<String>, extra: Vec<(String, String)>,
});
record!(TtsPhrase {
    engine: String, parameters: String, cache_time_to_live: Option<CacheTime>, refresh_cache: bool, file_name: Option<String>,
    extra: Vec<(String, String)>,
});
variant!(CacheTime { Day, Week, Month, Quarter, HalfYear });
record!(TonePhrase { hz: Vec<f32>, level_dbm0: f32, on_ms: u32, off_ms: u32, total_ms: u32 });
record!(SayPhrase { kind: String, value: String, language: String, extra: Vec<(String, String)> });
variant!(Background { Play(it: BackgroundPrompt), Stop, Ext(it: Extension) });
record!(BackgroundPrompt { source: AudioSource, repeat_pause_ms: u32, extra: Vec<(String, String)> });
variant!(AudioSource { File(it: String), Url(it: String), Ext(it: Extension) });
record!(RecordingOptions {
    control_id: Option<String>, client_context: Option<String>, dialect: Option<RecordingDialect>, mode: Option<RecordingMode>,
    queue_policy: Option<QueuePolicy>, direction: Option<RecordingDirection>, channels: Option<RecordingChannels>,
    container: Option<RecordingContainer>, encoding: Option<RecordingEncoding>, sample_rate: Option<u32>, bitrate_kbps: Option<u32>,
    file_name: Option<String>, storage_class: Option<StorageClass>, beep: bool, stop_digits: Option<String>,
    stop_digit_consume: Option<bool>, stop_digit_trim: Option<bool>, initial_silence_ms: Option<u32>, max_silence_ms: Option<u32>,
    max_duration_ms: Option<u32>, max_file_bytes: Option<u64>, start_on_voice: bool, sensitivity: Option<u8>,
    pause_behavior: Option<PauseBehavior>, encryption: Option<RecordingEncryption>, announce: bool, retention_ms: Option<u64>,
    status_url: Option<String>, on_complete_url: Option<String>, on_available_url: Option<String>, extra: Vec<(String, String)>,
});
variant!(RecordingDialect { Native, Graph, Aculab, Iotcomms, Swml, Ozeki, Ext(it: Extension) });
variant!(RecordingMode { Foreground, Background, Queued });
variant!(QueuePolicy { Append, Barge });
variant!(RecordingDirection { Speak, Listen, Both });
variant!(RecordingChannels { Mono, Stereo });
variant!(RecordingContainer { Wav, Mp3, Mp4, Ogg, Ext(it: Extension) });
variant!(RecordingEncoding { Auto, Pcm16, Alaw, Ulaw, Mp3, Aac, Opus, Ext(it: Extension) });
variant!(StorageClass { PromptStore, Ephemeral, TenantBucket, Ext(it: Extension) });
variant!(PauseBehavior { Skip, Silence });
variant!(RecordingEncryption { AesCbc(it: AesCbcKey), Ext(it: Extension) });
record!(AesCbcKey { key: Vec<u8>, iv: Vec<u8> });
record!(RecordingResult {
    recording_id: String, control_id: String, client_context: Option<String>, file_name: String, stop_reason: StopReason,
    stop_digit: Option<char>, duration_ms: u64, contains_sound: bool, size_bytes: Option<u64>, started_at_ms: Option<u64>,
    ended_at_ms: Option<u64>, url: Option<String>, access_token: Option<String>, checksum: Option<String>, extra: Vec<(String, String)>,
});
variant!(StopReason {
    StopDigit, MaxDuration, MaxSilence, InitialSilence, ApiStop, Superseded, RemoteHangup, ConnectionSplit, Transfer, MediaTimeout,
    PromptFailed, BeepFailed, FileSize, StorageError, NodeShutdown, Ext(it: Extension),
});
variant!(RecordingPhase {
    Queued, Prompting, Beeping, Armed, Recording, Paused, Stopping, Finalizing, LocalAvailable, Uploading, Available, Failed, NoInput,
    Canceled, Discarded, Ext(it: Extension),
});
variant!(Notification {
    CallNotify(it: CallNotify), CallAnswered(it: CallAnswered), RecordingReady(it: RecordingReady), RecordingState(it: RecordingState),
    SessionCompleted(it: SessionCompleted), Alarm(it: Alarm), NewRemoteCall(it: RemoteCallRequest), CallEvent(it: CallEventRequest),
    TransferState(it: TransferState), Timer(it: Timer), Delivery(it: Delivery), Ext(it: Extension),
});
record!(CallNotify {
    info: SessionInfo, event: CallNotifyKind, monitoring_participant: bool, participant_id: String, user: String,
    remote_participant_id: Option<String>, remote_user: Option<String>, sip_call_id: String, reply_id: String,
    extra: Vec<(String, String)>,
});
variant!(CallNotifyKind { Ringing, ReInvite, Update, Ext(it: Extension) });
record!(CallAnswered {
    info: SessionInfo, connection_id: String, caller_participant_id: String, callee_participant_id: String,
    calling_party_number: String, remote_party_number: String, calling_party_expires_ms: Option<u64>,
    called_party_expires_ms: Option<u64>, codec: Option<String>, remote_rtp_ip: Option<String>, remote_rtp_port: Option<u16>,
    monitoring_participant: bool, reply_id: String, extra: Vec<(String, String)>,
});
record!(RecordingReady {
    info: SessionInfo, successful: bool, reason: Option<String>, connection_id: Option<String>, recording_id: String, file_name: String,
    file_size: u64, details: Option<RecordingResult>, extra: Vec<(String, String)>,
});
record!(RecordingState {
    info: SessionInfo, recording_id: String, control_id: String, client_context: Option<String>, state: RecordingPhase,
    connection_id: Option<String>, participant_id: Option<String>, pause_behavior: Option<PauseBehavior>, reason: Option<String>,
    details: Option<RecordingResult>, occurred_at_ms: u64, extra: Vec<(String, String)>,
});
record!(SessionCompleted { info: SessionInfo, duration_ms: u64, reason: CompletionReason, extra: Vec<(String, String)> });
variant!(CompletionReason {
    CallingPartyHangup, CalledPartyHangup, IvrHangup, ApiHangup, Rejected, Busy, NoAnswer, Canceled, MaxDuration, RtpTimeout,
    SessionExpired, ServerError, Fallback, Ext(it: Extension),
});
record!(Alarm {
    info: SessionInfo, kind: AlarmKind, error: String, details: Option<String>, status: Option<u16>, participant_id: Option<String>,
    user: Option<String>, call_id: Option<String>, count: u32, extra: Vec<(String, String)>,
});
variant!(AlarmKind {
    SessionError, CallEventError, NewCallEventError, EmergencyFallback, IvrCommandError, CallError, Ext(it: Extension),
});
record!(TransferState { info: SessionInfo, participant_id: String, sip_code: u16, last: bool, extra: Vec<(String, String)> });
record!(Timer { info: SessionInfo, name: String });
record!(Delivery { info: SessionInfo, event_id: String, delivered: bool, status: Option<u16>, attempts: u32 });
record!(CallIdentifierRequest { info: SessionInfo, participant_id: String, called_party: String, extra: Vec<(String, String)> });
record!(CallIdentifierAnswer { session_id: Option<String>, session_reference: Option<String>, extra: Vec<(String, String)> });
record!(RemoteCallRequest {
    info: SessionInfo, reply_id: String, call_id: String, codec: String, destination_uri: String, source_user: String,
    remote_rtp_ip: String, remote_rtp_port: u16, extra: Vec<(String, String)>,
});
record!(RemoteCallAnswer { session_reference: Option<String>, extra: Vec<(String, String)> });
