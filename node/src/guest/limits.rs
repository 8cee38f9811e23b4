//! Every maximum of the guest room, with its reason. What a single guest may use stands in `hookswitch-wasm`.

use std::time::Duration;

pub use hookswitch_call::limits::MAILBOX;

/// Decisions of one session that may wait beside its notifications: there is at most one for each participant.
pub const MAILBOX_DECISIONS: usize = 4;
/// Asks, notifications and ends that wait for one guest thread: those of some thousand sessions at once. More: the ask fails, the
/// notification is dropped and counted, the end waits apart.
pub const THREAD_QUEUE: usize = 16_384;
/// Sessions of one thread that have ended and may still get late notifications (recordings take a while to store). The oldest is
/// forgotten; its late notifications go to the active version instead.
pub const LATE_SESSIONS: usize = 16_384;
/// Versions of one tenant that a thread keeps for them: what was active before, what was tried, and one more. Compiled code is some hundred KB, a
/// Python handler's 37 MB. More: the first is forgotten, as above.
pub const LATE_VERSIONS: usize = 3;
/// A notification that takes longer is a handler that waits for something: its instance is dropped.
pub const NOTIFY_DEADLINE: Duration = Duration::from_millis(250);
/// How long a closing node waits for handlers that still have news or questions before them.
pub const CLOSING: Duration = Duration::from_secs(2);
/// Lines of a tenant's log that the node keeps in memory, to be asked for: about 0.5 MB at most.
pub const LOG_KEPT: usize = 512;
/// Lines a second that one tenant's guests may write. More is dropped and counted.
pub const LOG_RATE: u32 = 200;
/// Lines a second about one tenant's failing guests. More is counted: a handler that traps on every call must not fill the disk.
pub const FAILURE_RATE: u32 = 10;

/// Orders and posts a second of one session. A handler decides a few times a call; one that loops over orders would fill the switch's
/// inbox. More: `limit`, counted.
pub const ORDERS_PER_SECOND: u32 = 20;
/// How long a guest waits for the switch to take an order. It answers in microseconds; a second is a node that stands still. Then: `timeout`.
pub const ORDER_WAIT: Duration = Duration::from_secs(1);
/// Digits of one send-dtmf. More is a bad value.
pub const SEND_DIGITS: usize = 64;

/// So much CPU time a tenant may be ahead of the least served one on its guest thread before it waits: about what a handler that loops runs at a
/// time. Shorter, and rounds would cost more than they share out; longer, and others would wait longer.
pub const QUANTUM: Duration = Duration::from_millis(1);
/// So much CPU time a tenant that has paused may have before others that compute on: the hooks of some tens of calls. Longer, and one that comes in
/// waves would hold up the others.
pub const CREDIT: Duration = Duration::from_millis(5);
/// Questions that have not begun, of those that were served least, among which one of another tenant is looked for: a tenant that floods its own
/// handlers must not make each look long.
pub const KNOCKS_LOOKED_AT: usize = 16;
/// Tenants that a guest thread keeps an account of. More: those that owe nothing are forgotten, and begin anew.
pub const TENANTS_REMEMBERED: usize = 4096;

/// Headers that a routing may add. More is nonsense; an INVITE must stay below what proxies take.
pub const HEADERS: usize = 32;
/// Bytes of a header's value.
pub const HEADER_VALUE: usize = 512;
/// Bytes of a user, number, name or id.
pub const SHORT_TEXT: usize = 128;
/// Bytes of a URI.
pub const URI: usize = 2048;
/// Contacts of a redirect.
pub const CONTACTS: usize = 16;
/// Bytes of synthesis parameters and of an extension's JSON.
pub const JSON: usize = 8192;
/// Frequencies of a tone: two for dial tones, four for special information.
pub const TONE_FREQUENCIES: usize = 4;
/// Extensions of one IVR command. More is nonsense.
pub const EXTENSIONS: usize = 16;

/// CPU time of a compilation. A QuickJS handler takes 2 s, CPython with its libraries 12 s.
pub const COMPILE_CPU: Duration = Duration::from_secs(60);
/// Wall time of a compilation: it runs at idle priority, so a busy node gives it little.
pub const COMPILE_WALL: Duration = Duration::from_secs(600);
/// Address space of a compilation: cranelift takes about 100 bytes for each of the component.
pub const COMPILE_MEMORY: u64 = 2 << 30;
/// Largest native code. The largest known handler has 37 MB.
pub const COMPILED_BYTES: u64 = 256 << 20;
/// Bytes of a compiler's complaint that are passed on.
pub const COMPILE_MESSAGE: usize = 2048;

/// Compilations under way: they are idle work, and each may take `COMPILE_MEMORY`. More wait, in a fair queue of tenants.
pub const COMPILES: usize = 2;
/// Compilations of all tenants, and of one, that wait or run; each holds a component in memory. More: refused, try again.
pub const COMPILES_WAITING: usize = 32;
pub const COMPILES_OF_TENANT: usize = 4;

/// Instances of one version that break within `BREAKER_WINDOW` before no more are made, if they are so many of a hundred: a handler whose
/// second instance answers serves its callers, and each call makes two instances at most.
pub const BREAKER_FAILURES: u32 = 10;
pub const BREAKER_PERCENT: u32 = 60;
pub const BREAKER_WINDOW: Duration = Duration::from_secs(10);
/// How long then none are made: at first, doubled each time that the one made after it breaks, up to the last.
pub const BREAKER_FIRST: Duration = Duration::from_secs(1);
pub const BREAKER_LAST: Duration = Duration::from_secs(300);
/// That one has so long to answer: the longest hook's deadline, and some.
pub const BREAKER_PROBE: Duration = Duration::from_secs(10);

/// A guest without work for so long gives back the memory that only a running one needs.
pub const REST_AFTER: Duration = Duration::from_secs(1);

/// Bytes of one hook in the explanation of a session. A request has one or two kilobytes, an answer of 64 phrases some. More: kept without
/// request and answer, and said so.
pub const EXPLAIN_ENTRY: usize = 16 << 10;
/// Hooks, lines and orders of one session that are kept; the first ones, since calls are decided early. More is counted.
pub const EXPLAIN_ENTRIES: usize = 256;
/// Bytes of one session: some thirty hooks. More is counted.
pub const EXPLAIN_SESSION: usize = 64 << 10;
/// What a session costs beside its entries, as it is counted: names and places in tables.
pub const EXPLAIN_SESSION_OVERHEAD: usize = 512;
/// Bytes of one tenant: some four hundred usual calls. More: the session that began first goes.
pub const EXPLAIN_TENANT: usize = 4 << 20;
/// Bytes of all tenants. More: the tenant that has most loses its oldest session.
pub const EXPLAIN_NODE: usize = 64 << 20;
/// How long a tenant may ask for digits to be kept: a day's search for a fault. A forgotten switch must not collect PINs.
pub const EXPLAIN_DIGITS: Duration = Duration::from_secs(24 * 3600);
