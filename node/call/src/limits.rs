//! Every maximum for what a session may ask of us, with its reason.

use std::time::Duration;

/// Decision hooks block a caller who hears nothing: 5 s is as long as people wait.
pub const DECISION_DEADLINE: Duration = Duration::from_secs(5);
/// A caller in an IVR waits longer, and the handler may have to look something up.
pub const IVR_DEADLINE: Duration = Duration::from_secs(8);
/// Hook events and notifications of one session that wait for the running hook. More: notifications are dropped and counted.
pub const MAILBOX: usize = 16;
/// IVR commands in a row that take no time before the alarm (IC-296): an empty command is an SDK's natural mistake.
pub const IDLE_COMMANDS: u32 = 10;
/// Pause between such commands from then on.
pub const IDLE_PAUSE: Duration = Duration::from_millis(200);
/// Such commands in a row after which the call is released.
pub const IDLE_COMMANDS_MAX: u32 = 50;
/// Pause before the one retry of a failed getIvrCommand (IC-262, IC-263).
pub const IVR_RETRY: Duration = Duration::from_secs(1);
/// Phrases in one IVR command; more: the command is refused with an alarm that says so.
pub const PHRASES: usize = 64;
/// Bytes of a session reference (IC-012).
pub const SESSION_REFERENCE: usize = 4096;
/// Bytes of a file name (IC-038).
pub const FILE_NAME: usize = 255;
/// Live sessions in a switch. More: 503.
pub const SESSIONS: usize = 20_000;
/// Sessions beyond that for calls to emergency numbers.
pub const EMERGENCY_SESSIONS: usize = 100;
/// Longest session (IC-281).
pub const SESSION_DURATION: Duration = Duration::from_secs(4 * 3600);
/// No RTP and no RTCP (IC-282).
pub const RTP_TIMEOUT: Duration = Duration::from_secs(60);
/// Bounds of firstTimeout, betweenTimeout and getIVRCommandAfter that a handler may set.
pub const COLLECT_TIMEOUT: Duration = Duration::from_secs(600);
/// Longest recording phrase without a limit of its own: the session's.
pub const RECORD_DURATION: Duration = SESSION_DURATION;
/// A verdict that is not here so long after its deadline will not come: the adapter's own waiting (a full mailbox of notifications of
/// 250 ms each) is over by then. The hook counts as failed by deadline.
pub const ASK_GRACE: Duration = Duration::from_secs(5);
/// How long a released call waits for the peer's answer to BYE (RFC 3261: 32 s) and for its leg to close. Then it is dropped.
pub const RELEASE: Duration = Duration::from_secs(40);
/// Pause before a refused close of a leg is tried again.
pub const CLOSE_RETRY: Duration = Duration::from_millis(100);
/// Equal alarms of a tenant: one in so long, the others counted (IC-274).
pub const ALARM_EVERY: Duration = Duration::from_secs(10);
/// Different alarms remembered for that; more: the oldest is forgotten, and may come again early.
pub const ALARM_KINDS: usize = 1024;
/// Recordings whose report is still due after their session ended. More: the oldest gets no notification.
pub const LATE_RECORDINGS: usize = 20_000;
/// Parties of a session that live at a time: two that talk, one that is being called, and a few that wait.
pub const PARTICIPANTS: usize = 8;
/// Calls out that one session may place. A handler that answers every failure with another call would never end.
pub const ATTEMPTS: u32 = 64;
/// Wait so long for an answer, if the handler says nothing (IC-170); and the bounds of what it may say.
pub const RING: Duration = Duration::from_secs(60);
pub const RING_MIN: Duration = Duration::from_secs(1);
pub const RING_MAX: Duration = Duration::from_secs(300);
/// A call for a device waits so long for its answer (IC-215): as long as people let a telephone ring.
pub const REMOTE_ANSWER: Duration = RING;
/// Ports that a device may take RTP on (IC-048): none below, where a machine's own services are.
pub const DEVICE_PORTS: std::ops::RangeInclusive<u16> = 1024..=65535;
/// Payload types for telephone-event (IC-050): the dynamic ones of RFC 3551.
pub const DEVICE_EVENTS: std::ops::RangeInclusive<u8> = 96..=127;
/// SDES lines that a device gives: an answer takes up one; a few more are a client's way to answer any offer.
pub const DEVICE_CRYPTO: usize = 4;
/// 3xx that one call out follows (IC-299).
pub const REDIRECTS: u8 = 3;
/// Addresses of one name that are tried in turn.
pub const ADDRESSES: usize = 8;
/// A name that is not looked up by then leads nowhere.
pub const RESOLVE: Duration = Duration::from_secs(5);
/// Ids of parties that are gone, remembered so that a second hang-up is no error (IC-015).
pub const DEPARTED: usize = 32;
/// X-, P-, URI and header parameters of one call out, together.
pub const SIP_EXTRAS: usize = 128;
/// How long one digit is sent (RFC 4733 asks for 40 ms at least; carriers like more).
pub const DIGIT_DURATION: Duration = Duration::from_millis(100);
/// And what may be asked for: 64 digits of the longest take two minutes.
pub const DIGIT_MIN: Duration = Duration::from_millis(40);
pub const DIGIT_MAX: Duration = Duration::from_secs(2);
/// Bytes of a trace id that comes from another node: ours are UUIDs.
pub const TRACE: usize = 64;
/// Contacts in a redirect.
pub const CONTACTS: usize = 16;
/// Bytes of one contact, and of other texts that a handler puts into SIP.
pub const SIP_TEXT: usize = 1024;
/// Frequencies in a tone, and the highest one.
pub const TONE_PARTS: usize = 8;
pub const TONE_HZ: f32 = 4000.0;
/// Recordings of one session whose report is still due. More: the record phrase fails.
pub const RECORDINGS: usize = 64;
/// Extensions of one command that are counted.
pub const EXTENSIONS: usize = 64;
/// Tones of one command, together: each second is 16 KB of encoded audio that lives as long as it plays.
pub const TONE_DURATION: Duration = Duration::from_secs(120);
/// Bytes of a recording's control id (UR-002), and characters of its client context (UR-003).
pub const CONTROL_ID: usize = 128;
pub const CLIENT_CONTEXT: usize = 256;
/// Sample rates of files (UR-012): the call's own, wide band, and what Opus has inside.
pub const SAMPLE_RATES: [u32; 3] = [8_000, 16_000, 48_000];
/// kbit/s that MP3, AAC and Opus know.
pub const BITRATES: std::ops::RangeInclusive<u32> = 8..=320;
/// Smallest "largest file": a header and a few frames.
pub const FILE_BYTES_MIN: u64 = 4096;
/// What a file has beside its audio, at most: RIFF, `fmt `, room for RF64's `ds64`, `data`.
pub const FILE_HEADER: u64 = 128;
/// Longest that a file can be asked to stay. Beyond that it is no retention.
pub const RETENTION: Duration = Duration::from_secs(10 * 366 * 86_400);
/// Words of one value that is said: sixteen digits of a card with what stands between them, and more than any number has. More: the phrase fails.
pub const SAY_WORDS: usize = 64;
/// How long a fetched or synthesised phrase may be kept (IC-247), and how long where nothing is said.
pub const KEEP_LONGEST: Duration = Duration::from_secs(182 * 86_400);
pub const KEEP_USUAL: Duration = Duration::from_secs(7 * 86_400);
/// Bytes of a URL.
pub const URL: usize = 2048;
/// Timers that a session has at a time. More: `limit`.
pub const TIMERS: usize = 16;
/// Bytes of a timer's name.
pub const TIMER_NAME: usize = 64;
/// How soon a timer may be due: handlers that want to be called all the time are no handlers. And how late: the longest session.
pub const TIMER_MIN: Duration = Duration::from_millis(10);
pub const TIMER_MAX: Duration = SESSION_DURATION;
/// Ids of recordings that are over, remembered so that a second stop is no error (IC-015).
pub const RECORDINGS_OVER: usize = 32;
