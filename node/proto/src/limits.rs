//! Every maximum for what comes from outside, with its reason. What happens at the limit is said at each, and counted.

use std::time::Duration;

/// Largest SIP message served: offers of browsers and signed identities stay below half of it. Larger: 513 (UDP, to those who get answers
/// at all) or closed (TCP).
pub const SIP_MESSAGE_BYTES: usize = 32_768;
/// Largest datagram read at all: what UDP can carry, so that a message that is too large can be told so. Larger: dropped.
pub const SIP_DATAGRAM_BYTES: usize = 65_535;
/// Header lines in one message. RFC 4475's `longreq` has under 40; real trunks stay below 60. More: 400.
pub const SIP_HEADERS: usize = 256;
/// Live transactions. A call leaves two server transactions of up to 1 KB behind for 32 s, so 5,000 calls a second need 320,000
/// (at most 300 MB). More: new calls are answered 503 statelessly; requests within dialogs have a quarter more room.
pub const SIP_TRANSACTIONS: usize = 400_000;
/// Live dialogs on an endpoint. More: 503.
pub const SIP_DIALOGS: usize = 50_000;
/// Bytes of SDP that are looked at. Offers of browsers reach 8 KB. More: 488.
pub const SDP_BYTES: usize = 16_384;
/// Media sections in an SDP body; each wants a line in the answer. More: 488.
pub const SDP_MEDIA: usize = 16;
/// SDES lines of one stream: RFC 4568 and what came after it name fewer suites. Further ones are not looked at.
pub const SDP_CRYPTO: usize = 16;
/// Bytes of a suite's name, and of the keys behind it: a few keys of 46 bytes each in base64. Longer lines are not looked at.
pub const SDP_CRYPTO_SUITE: usize = 64;
pub const SDP_CRYPTO_KEY: usize = 512;
/// Datagrams a leg reads from its socket per tick. One is expected each 20 ms; a burst after a stall drains in a few ticks.
pub const RTP_BURST: usize = 8;
/// Frames the jitter buffer holds (2 s). Only a sender at far more than real time gets beyond it: its newest packets are dropped as late.
pub const JITTER_FRAMES: usize = 100;
/// Clips, gaps and record steps queued on a leg. An IVR command is bounded to the same number.
pub const PLAY_SEGMENTS: usize = 64;
/// Recording taps on one leg at a time.
pub const TAPS: usize = 4;
/// Digits a session buffers between flushes (and the cap of `maxDigits`). More: the oldest stay, new ones are dropped and counted.
pub const DIGITS: usize = 64;
/// How long source learning stays open after an SDP that moves the peer's address.
pub const LEARN_WINDOW: Duration = Duration::from_secs(3);
/// Packets of one SSRC that close the learning window early.
pub const LEARN_PACKETS: u32 = 5;
/// Bytes of a request by UDP where the path's MTU is unknown (RFC 3261 18.1.1). Larger: by TCP, where there is a listener for it.
pub const SIP_UDP_REQUEST: usize = 1300;
