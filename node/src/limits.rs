//! Every maximum of the shell, with its reason. What happens at the limit is said at each, and counted.

use std::time::Duration;

/// Media, guest or writer threads. More than any edge machine has cores. More: the configuration is refused.
pub const THREADS: usize = 64;
/// Datagrams read from one SIP socket before inputs of other kinds have their turn.
pub const SIP_BATCH: usize = 32;
/// Inputs of other threads handled before the SIP sockets are read again.
pub const INBOX_BATCH: usize = 256;
/// Receive buffer asked for on a SIP socket: a burst of some thousand requests while the thread does something else.
pub const SIP_SOCKET_BUFFER: usize = 4 << 20;
/// Receive buffer asked for on a leg's sockets: 2 s of G.711 with the kernel's bookkeeping; the default would allow one sender to
/// hold 200 KB for each of some thousand legs.
pub const RTP_SOCKET_BUFFER: usize = 64 << 10;
/// Largest RTP or RTCP packet read: an Ethernet frame and some. Longer ones are cut, dropped and counted.
pub const RTP_PACKET: usize = 2048;
/// Commands that wait for one media thread. At 5,000 calls a second and 5 commands each this is a third of a second. More: refused.
pub const MEDIA_COMMANDS: usize = 8192;
/// Events that wait for the signalling thread, from one media thread.
pub const MEDIA_EVENTS: usize = 16_384;
/// Of these, kept free for digits and lifecycle: the others are dropped and counted when fewer are left.
pub const MEDIA_EVENTS_RESERVED: usize = 4096;
/// Digits and lifecycle events kept aside while even the reserved room is full. More: dropped and counted.
pub const MEDIA_EVENTS_ASIDE: usize = 65_536;
/// Legs of one media thread. More: `OpenFailed`.
pub const LEGS: usize = 16_384;
/// Legs that hear one and the same leg: the other party, and monitors. Each packet goes out so many times, so a sender must not choose
/// the number. More: they hear silence.
pub const LISTENERS: usize = 4;
/// Blocks of recorded audio (4.2 KB each) that one media thread may have under way: 138 MB, which is 16,000 recorded sides, or 3,000 whose
/// writers stand still for about 2 s. None left: the recording ends with `Overload`.
pub const BLOCKS: usize = 32_768;
/// Blocks on the way to one writer from one media thread; what does not fit waits at the media thread.
pub const BLOCK_RING: usize = 8192;
/// Ticks of a late media thread are made up for so far; beyond that (a suspended machine) they are left out and counted.
pub const CATCH_UP: Duration = Duration::from_millis(500);
/// A leg whose peer sends one packet a frame looks for more once in so many ticks: how long one that came early can be held up.
pub const LOOK_EVERY: u32 = 8;
/// RTCP sockets are read once in so many ticks (500 ms): reports come every 5 s.
pub const RTCP_EVERY_TICKS: u32 = 25;
/// Port pairs tried before an `Open` fails: others on this machine may hold ports of our range.
pub const PORT_TRIES: usize = 64;
/// Headers of a growing recording are rewritten this often: what a crash may cost beyond the half second in a block.
pub const HEADER_EVERY: Duration = Duration::from_secs(1);
/// One side of a two-sided recording waits so many frames (2 s) for the other before silence is written in its place.
pub const SIDE_WAIT_FRAMES: u64 = 100;
/// Files set aside in `spool/failed`: what an operator looks at after trouble, a screenful of it. More at start: the oldest go.
pub const FAILED_FILES: usize = 1000;
/// And so long: they hold what people said, which nobody may keep just because it was not looked at. Older at start: they go.
pub const FAILED_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Finished recordings that share a look at the disk (fsync of folders, commit of rows).
pub const FINISH_BATCH: usize = 64;
/// Between tries to store what the disk had no room for.
pub const FINISH_RETRY: Duration = Duration::from_secs(5);
/// Recordings that wait for room on the disk; each keeps a file open. More: they fail, and their files are set aside.
pub const FINISH_WAITING: usize = 4096;
/// Threads that encode (MP3, Opus, other rates, AES): at the lowest priority, so that they may use what the calls leave of each core of a
/// small machine.
pub const ENCODERS: usize = 2;
/// Closed recordings that wait for an encoder; each keeps a file open. 2,000 of half a minute are about 20 s of work for two cores as MP3,
/// and 75 s as Opus at 8 kHz. More: they are kept as WAV, counted.
pub const ENCODES_WAITING: u64 = 2000;
/// Keys of one tenant that wrap its recordings, erased ones included: one a month for five years. Each is in memory. More: refused.
pub const TENANT_KEYS: usize = 64;
/// What a start after a crash may spend on encoding before calls are answered. What is left then is kept as WAV, counted.
pub const REPAIR_ENCODING: Duration = Duration::from_secs(10);
/// Bytes of a stored file's name (IC-038).
pub const FILE_NAME: usize = 255;
/// Names tried (`name-2.wav`, …) when a file of that name exists, before the recording's own id is put into it.
pub const NAME_TRIES: usize = 8;
/// Longest prompt. Longer: refused by name.
pub const PROMPT_DURATION: Duration = Duration::from_secs(600);
/// Largest prompt file read: ten minutes of stereo 48 kHz in 32 bits would be 230 MB; nobody needs that for a telephone.
pub const PROMPT_FILE: u64 = 128 << 20;
/// Encoded prompts kept in memory (each second of audio takes 16 KB). More: those used longest ago go first.
pub const PROMPT_CACHE_BYTES: usize = 256 << 20;
/// A cached prompt's file is looked at again after so long.
pub const PROMPT_RECHECK: Duration = Duration::from_secs(1);
/// Prompts that wait to be read. More: `Err` for that phrase.
pub const PROMPT_QUEUE: usize = 1024;
/// One prompt that lies elsewhere, from the look-up of the name to its last byte: a caller hears nothing meanwhile. Longer: it failed.
pub const PROMPT_FETCH: Duration = Duration::from_secs(5);
/// Bytes of one: four minutes of what Graph's prompts are (16 kHz, 16 bit, mono). More: it failed.
pub const PROMPT_FETCH_BYTES: usize = 8 << 20;
/// Prompts under way at once, each with its bytes in memory; and of these of one tenant, whose server may be slow. More: they fail.
pub const PROMPT_FETCHES: usize = 32;
pub const PROMPT_FETCHES_OF_TENANT: usize = 8;
/// One that has a name to be kept under is fetched again after so long: whoever takes a prompt back need not wait for a restart.
pub const PROMPT_FETCHED_AGE: Duration = Duration::from_secs(3600);
/// Bytes of that name.
pub const PROMPT_KEY: usize = 256;
/// Phrases that are being fetched or synthesised, or looked for on the disk; and of these of one tenant: a burst of calls with a text of their
/// own each. More: they fail.
pub const PHRASES_MADE: usize = 1024;
pub const PHRASES_MADE_OF_TENANT: usize = 256;
/// Threads that look for phrases on the disk at a time: names are looked up by the same pool, and must not wait for a burst of calls.
pub const PHRASE_DISK: usize = 8;
/// Bytes of fetched and synthesised phrases on the disk, of all tenants and of one: some thousand texts of ten seconds. More: those that were
/// used longest ago go.
pub const PHRASE_CACHE: u64 = 1 << 30;
pub const PHRASE_CACHE_OF_TENANT: u64 = 128 << 20;
/// Between looks for those that have been kept long enough.
pub const PHRASE_SWEEP: Duration = Duration::from_secs(600);
/// A phrase that is kept as a prompt is the tenant's like one that was uploaded: so many at most, as there.
pub const PROMPTS: usize = 5000;
/// Bytes of a text that is to be spoken: Polly takes 3,000 characters, which are some three minutes. More: the phrase fails.
pub const SPEECH_TEXT: usize = 3000;
/// Bytes of a language's and a voice's name.
pub const SPEECH_NAME: usize = 35;
/// Engines of this machine that run at a time: each takes some ten milliseconds of a core for a sentence. More wait.
pub const SPEECH_PROCESSES: usize = 2;
/// Texts of one tenant that are spoken at a time, here or elsewhere, so that a tenant's thousand texts do not go before another's one. More wait.
pub const SPEECH_OF_TENANT: usize = 4;
/// CPU seconds and bytes of memory of one of them. More: the kernel ends it.
pub const SPEECH_CPU: u64 = 3;
pub const SPEECH_MEMORY: u64 = 512 << 20;
/// Bytes of what it complains about that are read.
pub const SPEECH_COMPLAINT: u64 = 4096;
/// Bytes of a cloud's answer: a prompt in base64, and what is around it. More: it failed.
pub const SPEECH_ANSWER: usize = 12 << 20;
/// Tones kept. A handler may ask for any; more than this are made anew each time.
pub const TONES: usize = 256;
/// How long a stopping node lets calls end by themselves before it releases them, and how long recordings may take to close.
pub const DRAIN: Duration = Duration::from_secs(2);
pub const CLOSE: Duration = Duration::from_secs(5);
/// Characters of the line that says why an upload was refused: a compiler's complaint may be pages. More: cut.
pub const REFUSAL_TEXT: usize = 500;
/// Keys of replyIds that may still have valid tokens: a rotation every half hour. More: the rotation is refused, since the oldest key's
/// tokens would be void.
pub const REPLY_KEYS: usize = 12;
/// Devices of a tenant: as many as it may have numbers, and a megabyte of names. More: 409.
pub const DEVICES: usize = 10_000;
/// Commands of one tenant a second, and at once after a pause: thousands of calls with one command in ten seconds each. More: 429, counted.
pub const COMMANDS_PER_SECOND: u32 = 500;
pub const COMMANDS_AT_ONCE: u32 = 1000;
/// What a client is told to wait where the node drains or is full.
pub const RETRY_AFTER: Duration = Duration::from_secs(5);
/// API calls that wait for the switch. More: 503.
pub const PENDING_COMMANDS: usize = 10_000;
/// API connections over TCP at a time: operators, back offices and their proxies. More wait in the kernel's queue.
pub const API_CONNECTIONS: usize = 512;
/// And over QUIC: each may keep `API_CONNECTION_WINDOW` here that nobody reads, 128 MB of all. More: refused.
pub const API_QUIC_CONNECTIONS: usize = 128;
/// Of these of one address (one /64 of IPv6): the machines behind one NAT that deploy at once. More: refused.
pub const API_QUIC_OF_SOURCE: usize = 32;
/// QUIC handshakes of one source under way; each costs a signature. More: a Retry, and refused once its address is proven.
pub const API_HANDSHAKES_OF_SOURCE: usize = 8;
/// Handshakes under way of all before a newcomer must prove its address by a Retry, which costs us no memory: a round trip more for an
/// operator, but senders of forged addresses get nowhere.
pub const API_HANDSHAKES_TRUSTED: usize = 16;
/// First datagrams of connections that wait to be accepted, and their bytes. More: dropped, and clients send them again.
pub const API_QUIC_WAITING: usize = 64;
pub const API_QUIC_WAITING_BYTES: u64 = 1 << 20;
/// A TLS or QUIC handshake: some lost packets on a slow line.
pub const API_HANDSHAKE: Duration = Duration::from_secs(10);
/// From a request's first byte to the end of its head; over HTTP/1.1 also the time between two requests. Longer: somebody holds it open.
pub const API_HEAD_TIME: Duration = Duration::from_secs(30);
/// Bytes of a request's head: a JWT of 4 KB and what proxies add.
pub const API_HEAD: usize = 32 << 10;
/// Requests at a time on one HTTP/2 or HTTP/3 connection: a back office's burst. More wait at the client.
pub const API_STREAMS: u32 = 32;
/// Streams of one direction that an HTTP/3 peer may have open: three are HTTP's own, the rest are ignored.
pub const API_UNI_STREAMS: u32 = 8;
/// HTTP/2 streams that a peer reset before they were looked at, and that we reset for its errors. More: the connection is closed (rapid reset).
pub const API_RESETS: usize = 20;
pub const API_RESETS_OF_ERRORS: usize = 64;
/// Bytes of one stream, and of a connection, that a peer may send before somebody reads them: 20 Mbit/s at a round trip of 200 ms.
pub const API_STREAM_WINDOW: u32 = 512 << 10;
pub const API_CONNECTION_WINDOW: u32 = 1 << 20;
/// An API connection on which nothing moved for so long, or on which no request was made over QUIC, is closed; in the middle of a request too, but
/// not while the node works on its answer.
pub const API_IDLE: Duration = Duration::from_secs(60);
/// How often the node shows that it is there to who waits for an answer over QUIC: thrice within the idle time.
pub const API_KEEP_ALIVE: Duration = Duration::from_secs(20);
/// What a request's body may take, and that it comes at so many bytes a second beyond: a component of 1 MB in five minutes. Slower: broken off.
pub const API_BODY_GRACE: Duration = Duration::from_secs(30);
pub const API_BODY_RATE: u64 = 4 << 10;
/// Between looks at the files of certificate and key.
pub const TLS_LOOK: Duration = Duration::from_secs(5);
/// Bytes of each of them: a chain has some KB.
pub const TLS_FILE: u64 = 1 << 20;
/// Open files a node wants: two sockets a leg, one file a recording, and some.
pub const OPEN_FILES: u64 = 65_536;

/// Posts of one tenant that wait for their delivery, and bytes of them: a receiver that is down for a day must not fill the disk. More:
/// the post is refused (`limit`) and counted.
pub const OUTBOX_POSTS: usize = 10_000;
pub const OUTBOX_BYTES: usize = 64 << 20;
/// Bytes of one post's body, and of its URL.
pub const OUTBOX_BODY: usize = 64 << 10;
pub const OUTBOX_URL: usize = 2048;
/// Headers of one post, and bytes of each value.
pub const OUTBOX_HEADERS: usize = 32;
pub const OUTBOX_HEADER_VALUE: usize = 512;
/// A post that the node has run with for longer is given up: whoever was away for a day asks for what he missed.
pub const OUTBOX_AGE: Duration = Duration::from_secs(24 * 3600);
/// Between tries: the first wait, doubled each time up to the last.
pub const OUTBOX_FIRST_RETRY: Duration = Duration::from_secs(1);
pub const OUTBOX_LAST_RETRY: Duration = Duration::from_secs(300);
/// One try, from the look-up of the name to the status line.
pub const OUTBOX_TRY: Duration = Duration::from_secs(10);
/// Tries under way at once for one tenant and one receiver: a slow one delays only those that post to it.
pub const OUTBOX_TRIES: usize = 16;
/// Bytes of a receiver's status line and headers. More: the try failed. Its body is not read at all.
pub const OUTBOX_ANSWER: usize = 16 << 10;
/// A post returns when it is on disk, but no later than this: a slow disk must not cost a hook its deadline. From then on only a crash in
/// that moment can lose it.
pub const OUTBOX_COMMIT: Duration = Duration::from_millis(100);

/// A request that a handler waits for takes so long where it says nothing else; a caller waits with it.
pub const FETCH: Duration = Duration::from_secs(1);
/// Of what is left for its hook, so much is kept: a handler that got no answer still has to give one.
pub const FETCH_SPARE: Duration = Duration::from_millis(20);
/// Bytes of such a request's body, and of its answer's. More: a bad value; `limit`.
pub const FETCH_BODY: usize = 64 << 10;
/// Such requests under way at once, each with its bodies in memory: `not-available`. And of these of one tenant, whose server may be slow:
/// `limit`, in its log.
pub const FETCHES: usize = 512;
pub const FETCHES_OF_TENANT: usize = 64;
/// A connection of a handler's requests stays open for the next one: shorter than the shortest time after which common servers close one
/// (2 s), so that a request does not meet its end.
pub const FETCH_IDLE: Duration = Duration::from_millis(1_500);
/// Open connections of a tenant to one origin: as many as its requests at a time.
pub const FETCH_IDLE_CONNECTIONS: usize = FETCHES_OF_TENANT;
/// Where nobody could be connected to, it is tried once more after this: a server that is started anew is away for about as long, and a
/// caller who waits does not notice (IC-019).
pub const CONNECT_AGAIN: Duration = Duration::from_millis(200);
/// A signature of a tenant is made anew after this, or every request would cost a millisecond of RSA; and so a new key holds that much later.
pub const SIGNATURE_FRESH: Duration = Duration::from_secs(60);
/// How long a receiver may take it for valid: its clock may be minutes off, and a post may wait.
pub const SIGNATURE_VALID: Duration = Duration::from_secs(300);
/// Signatures kept at a time; beyond, they are made each time.
pub const SIGNATURES: usize = 10_000;

/// Bytes of one tenant's keys and values, with 64 for each of them: what a call looks up, not a database. More: `limit`, in its log.
pub const STORE_BYTES: usize = 16 << 20;
/// Bytes of a key, and of its value. More: a bad value.
pub const STORE_KEY: usize = 256;
pub const STORE_VALUE: usize = 64 << 10;
/// Keys that one listing gives.
pub const STORE_KEYS: usize = 100;
/// Looks at keys, values and secrets that one tenant's handlers may take in a second: some for each of a few hundred hooks. More: `limit`,
/// in its log.
pub const STORE_RATE: u32 = 1000;
/// Bytes of a prompt that a handler reads at once, and writes: what one answer of it may hold has room for it beside its other parts.
pub const GUEST_PROMPT_READ: u32 = 64 << 10;
pub const GUEST_PROMPT_WRITE: usize = 192 << 10;
/// Bytes up to which a handler is told how long a prompt plays: a longer one takes too long to be decoded.
pub const GUEST_PROMPT_LENGTH: u64 = 2 << 20;
/// How long a handler waits for the store; its writes take 10 ms on a disk that works. Then: `timeout`.
pub const STORE_WAIT: Duration = Duration::from_secs(1);
/// Expired values removed at once, so that the store's thread is free again soon.
pub const STORE_SWEEP: u32 = 1000;
/// Settings and secrets of one tenant. Settings of all tenants are in memory. More: refused.
pub const SETTINGS: usize = 128;
pub const SECRETS: usize = 128;
/// Bytes of a setting's or a secret's name, and of its value: a certificate with its chain fits. More: refused.
pub const SETTING_NAME: usize = 128;
pub const SETTING_VALUE: usize = 8 << 10;

/// Who follows one tenant's log at a time. More: 429.
pub const LOG_FOLLOWERS: usize = 8;
/// Lines that wait for a slow one. More: the oldest are left out, and it is told how many.
pub const LOG_FOLLOW_LINES: usize = 1024;
/// One that hears nothing for so long hears that we are here: shorter than what proxies wait, and than our own patience with a connection.
pub const LOG_FOLLOW_QUIET: Duration = Duration::from_secs(15);
/// How long one is followed; whoever wants more asks again, with a token that is still good.
pub const LOG_FOLLOW: Duration = Duration::from_secs(3600);

/// Numbers of a tenant that have a fallback of their own: each is read into memory, with its phrases.
pub const NUMBER_FALLBACKS: usize = 1_000;

/// A recording of at most so many bytes (17 minutes of G.711) is delivered by one request; a larger one in parts of this size. S3 takes no
/// parts below 5 MiB; a part is in memory while it is sent.
pub const DELIVERY_PART: u64 = 8 << 20;
/// Parts of an upload: S3 takes no more. Recordings beyond 80 GB get larger parts.
pub const DELIVERY_PARTS: u64 = 10_000;
/// Deliveries under way, each with a part in memory; and of these of one tenant, whose storage may be slow. More wait.
pub const DELIVERIES: usize = 8;
pub const DELIVERIES_OF_TENANT: usize = 3;
/// What opening a connection to a storage may take, and one request with its part: 8 MiB at half a megabit a second.
pub const DELIVERY_CONNECT: Duration = Duration::from_secs(5);
pub const DELIVERY_TRY: Duration = Duration::from_secs(130);
/// Between tries: the first wait, doubled each time up to the last.
pub const DELIVERY_FIRST_RETRY: Duration = Duration::from_secs(2);
pub const DELIVERY_LAST_RETRY: Duration = Duration::from_secs(300);
/// A delivery that the node has run with for longer is given up: a storage that was away for three days is not coming back by itself. The audio stays here.
pub const DELIVERY_AGE: Duration = Duration::from_secs(3 * 24 * 3600);
/// Bytes of one tenant's recordings that may wait for its storage: 380 hours of G.711 a side. More: the oldest are given up and stay here,
/// since the newest are those that somebody waits for.
pub const DELIVERY_SPOOL: u64 = 20 << 30;
/// What waits is added up at every so many looks: some ten thousand rows after days of absence.
pub const DELIVERY_SPOOL_LOOKS: u64 = 10;
/// Between looks at what is due for delivery, and at what has been kept long enough.
pub const DELIVERY_POLL: Duration = Duration::from_secs(1);
pub const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// Bytes of a sidecar: ours have some KB.
pub const SIDECAR: u64 = 1 << 20;
/// An ephemeral recording is kept so long after its call (MG-036).
pub const EPHEMERAL: Duration = Duration::from_secs(600);
/// How long a link to a recording opens it: usually, and at most.
pub const LINK_USUAL: Duration = Duration::from_secs(900);
/// And one that news of a recording carry (UR-033, MG-030): what its receiver may take to get to it, tries of the outbox among that.
pub const LINK_NEWS: Duration = Duration::from_secs(3600);
pub const LINK_LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Connections that the kernel holds until we accept them: a burst while the thread does something else.
pub const TCP_BACKLOG: i32 = 1024;
/// SIP connections that others opened. A trunk has one to some dozen, a phone one; each costs a file and some KB. More: closed at once.
pub const TCP_ACCEPTED: usize = 8192;
/// Of these from one address (one /64 of IPv6): an office behind one NAT, or a trunk that opens one for each call. More: closed at once.
pub const TCP_ACCEPTED_PEER: usize = 1024;
/// SIP connections that we opened, counted apart so that no crowd of callers keeps us from calling. More: the request fails.
pub const TCP_CONNECTED: usize = 4096;
/// Of these to one address: one is enough where its port is the same, and ports of one host are few. More: the request fails.
pub const TCP_CONNECTED_PEER: usize = 256;
/// Accepted connections on their way to the hub; listeners wait beyond.
pub const TCP_ACCEPTING: usize = 128;
/// Messages on their way from the signalling thread to the hub, which only hands them on. More: dropped, counted, the flow failed.
pub const TCP_OUTGOING: usize = 16_384;
/// Messages of all connections that wait for the signalling thread (32 MB of the largest). More: connections stop reading.
pub const TCP_UNREAD: usize = 1024;
/// Bytes read from a connection at once: some messages.
pub const TCP_READ: usize = 16 << 10;
/// Bytes that wait for a peer to read: some hundred messages beyond what the kernel buffers. More: closed.
pub const TCP_QUEUE_BYTES: usize = 256 << 10;
/// A peer that takes none of what waits for so long is not there: 64*T1, after which no transaction waits (RFC 3261 17.1.1.2). Closed.
pub const TCP_STUCK: Duration = Duration::from_secs(32);
/// What opening a connection may take: longer than a lost SYN and its repetition, shorter than a caller's patience.
pub const TCP_CONNECT: Duration = Duration::from_secs(5);
/// A connection on which nothing moves. Phones behind NAT ping every two minutes at most (RFC 5626 4.4.1), trunks open a new one.
pub const TCP_IDLE: Duration = Duration::from_secs(600);
/// From a message's first byte to its last: more than the slowest line takes for 32 KB. Longer: somebody holds it open. Closed.
pub const TCP_INCOMPLETE: Duration = Duration::from_secs(30);
/// After the peer's last byte: it may still hear the answers to what it asked, of which a hook's may take 5 s.
pub const TCP_HALF_CLOSED: Duration = Duration::from_secs(8);
/// After what is no message: long enough for the refusal to reach the peer.
pub const TCP_FAREWELL: Duration = Duration::from_secs(1);
/// Between failed accepts: when files have run out, trying at once would take a core and free none.
pub const TCP_ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What writing the last answers may take when the node stops.
pub const TCP_STOP: Duration = Duration::from_secs(2);
/// What looking up a SIP host name may take, SRV and addresses together: a caller hears nothing meanwhile. Longer: an error.
pub const RESOLVE: Duration = Duration::from_secs(2);
/// Lookups under way. At 2 s each for names that nobody answers for this is 256 a second. More: an error.
pub const RESOLVING: usize = 512;
/// SRV targets and addresses tried of one name (RFC 2782 sets no end). More: left out.
pub const RESOLVED: usize = 16;

/// Largest quotas that can be asked for. Beyond them a number is as good as none: a switch answers no more calls, no guest thread has more time,
/// and no such disk is at an edge.
pub const QUOTA_CALLS_PER_SECOND: u64 = 100_000;
pub const QUOTA_INSTANCES: u64 = 100_000;
pub const QUOTA_CPU_MS: u64 = 256_000;
pub const QUOTA_STORAGE: u64 = 1 << 60;
pub const QUOTA_MINUTES: u64 = u32::MAX as u64;
/// The largest share: one tenant before a hundred others. More would be a thread of its own.
pub const QUOTA_CPU_WEIGHT: u64 = 100;
/// Uploads and activations of a tenant in a minute where its quota says nothing: more than anybody who tries things by hand, and far less
/// than keeps a core busy with compilations. More: 429.
pub const DEPLOYS_PER_MINUTE: u32 = 12;
/// The largest of these quotas: what one compiler does when it does nothing else.
pub const QUOTA_DEPLOYS: u64 = 600;
/// A token or key that is to expire does so within ten years; later is never.
pub const TOKEN_LONGEST: Duration = Duration::from_secs(10 * 366 * 86_400);
/// After a rotation the last token stays valid: usually for a day, so that a back office is changed at leisure, and at most for a month.
pub const TOKEN_OVERLAP: Duration = Duration::from_secs(86_400);
pub const TOKEN_OVERLAP_LONGEST: Duration = Duration::from_secs(31 * 86_400);
/// Between measurements of what tenants use. What a measurement adds is lost by a crash before it, and a storage or a month is found used up so
/// much later.
pub const USAGE_EVERY: Duration = Duration::from_secs(10);
/// Bytes of the site's name, which every hook says.
pub const SITE: usize = 64;
/// Parts of a hundred of a quota from which on the tenant is warned.
pub const QUOTA_WARNING: u64 = 80;
