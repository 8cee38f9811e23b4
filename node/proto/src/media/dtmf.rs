//! Digits as RTP events (RFC 4733), both ways. One press is one digit, whatever is lost, repeated or reordered on its way.

use super::DIGITS;
use crate::time::Time;
use std::time::Duration;

/// An event whose end never came is over so long after its last packet: that is three updates missed at the usual 20 to 50 ms, and
/// updates that come again within it bridge the hole.
const LOST_END: Duration = Duration::from_millis(100);
/// Digits that wait to be sent. More: dropped.
const QUEUE: usize = 64;

/// RFC 4733 3.2: the character of an event code; only the sixteen of DTMF.
pub fn digit_of(event: u8) -> Option<char> {
    (event < 16).then(|| DIGITS[event as usize])
}

pub fn event_of(digit: char) -> Option<u8> {
    DIGITS.iter().position(|d| *d == digit.to_ascii_uppercase()).map(|i| i as u8)
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Press {
    /// `sounded`: for how long the key was down already, as far as the packet says (RTP ticks).
    Down {
        digit: char,
        sounded: u16,
    },
    Up {
        digit: char,
        held: Duration,
    },
}

/// The receiving side.
#[derive(Default)]
pub struct Presses {
    current: Option<Pressed>,
    /// Timestamps of presses that are over, with their SSRC and event: their repeats say nothing new.
    over: [Option<(u32, u32, u8)>; 8],
    next_over: usize,
}

#[derive(Clone, Copy)]
struct Pressed {
    ssrc: u32,
    timestamp: u32,
    event: u8,
    /// Of this segment, and of those before it: 16 bits of duration are only 8 s.
    duration: u16,
    before: u64,
    last: Time,
}

impl Pressed {
    fn held(&self) -> Duration {
        Duration::from_micros((self.before + u64::from(self.duration)) * 125)
    }
}

impl Presses {
    /// An event packet. Neither the marker bit nor the volume counts: both are wrong too often.
    pub fn packet(&mut self, at: Time, ssrc: u32, timestamp: u32, payload: &[u8], mut out: impl FnMut(Press)) {
        let &[event, flags, high, low, ..] = payload else { return };
        let Some(digit) = digit_of(event) else { return };
        let (end, duration) = (flags & 0x80 != 0, u16::from_be_bytes([high, low]));
        if let Some(p) = &mut self.current
            && p.ssrc == ssrc
            && p.event == event
        {
            let ahead = timestamp.wrapping_sub(p.timestamp);
            let same = if ahead == 0 {
                p.duration = p.duration.max(duration);
                true
            } else if ahead.abs_diff(0xffff) <= 160 && p.duration > 0xf000 {
                // RFC 4733 2.5.1.3: a long press goes on as a new segment, which begins where the duration was full.
                p.before += u64::from(ahead);
                (p.timestamp, p.duration) = (timestamp, duration);
                true
            } else if ahead <= 960 && duration > p.duration {
                // Some senders wrongly move the timestamp with every update: the duration gives them away.
                (p.timestamp, p.duration) = (timestamp, duration);
                true
            } else {
                false
            };
            if same {
                p.last = at;
                if end {
                    self.finish(&mut out);
                }
                return;
            }
        }
        if self.over.contains(&Some((ssrc, timestamp, event))) {
            return;
        }
        if let Some(p) = &self.current {
            // Older than what is pressed now: the rest of a press that came too late.
            if p.ssrc == ssrc && (timestamp.wrapping_sub(p.timestamp).cast_signed()) < 0 {
                return;
            }
            self.finish(&mut out);
        }
        self.current = Some(Pressed { ssrc, timestamp, event, duration, before: 0, last: at });
        out(Press::Down { digit, sounded: duration });
        if end {
            self.finish(&mut out);
        }
    }

    pub fn tick(&mut self, now: Time, mut out: impl FnMut(Press)) {
        if self.current.is_some_and(|p| now.since(p.last) >= LOST_END) {
            self.finish(&mut out);
        }
    }

    fn finish(&mut self, out: &mut impl FnMut(Press)) {
        if let Some(p) = self.current.take() {
            self.over[self.next_over] = Some((p.ssrc, p.timestamp, p.event));
            self.next_over = (self.next_over + 1) % self.over.len();
            out(Press::Up { digit: DIGITS[p.event as usize & 15], held: p.held() });
        }
    }
}

/// The sending side: what goes out this frame instead of audio.
pub struct Keypad {
    queue: [(u8, u16); QUEUE],
    waiting: usize,
    state: Sending,
}

#[derive(Clone, Copy)]
enum Sending {
    Idle,
    On {
        event: u8,
        total: u16,
        done: u16,
        timestamp: u32,
    },
    /// RFC 4733 2.5.1.4: the last packet is sent three times.
    Ends {
        event: u8,
        total: u16,
        timestamp: u32,
        left: u8,
    },
    Pause,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EventPacket {
    pub event: u8,
    pub end: bool,
    pub first: bool,
    pub duration: u16,
    /// Of the whole event, also in its repeats.
    pub timestamp: u32,
}

impl EventPacket {
    pub fn payload(&self) -> [u8; 4] {
        let [high, low] = self.duration.to_be_bytes();
        // Volume -10 dBm0.
        [self.event, if self.end { 0x8a } else { 0x0a }, high, low]
    }
}

impl Keypad {
    pub fn new() -> Keypad {
        Keypad { queue: [(0, 0); QUEUE], waiting: 0, state: Sending::Idle }
    }

    /// Queue a digit; false when it is none or the queue is full. 40 ms to 8 s: shorter is missed, longer needs segments.
    pub fn press(&mut self, digit: char, duration: Duration) -> bool {
        let Some(event) = event_of(digit) else { return false };
        let Some(place) = self.queue.get_mut(self.waiting) else { return false };
        let ms = duration.as_millis().clamp(40, 8000) as u16;
        *place = (event, ms * 8);
        self.waiting += 1;
        true
    }

    pub fn is_idle(&self) -> bool {
        self.waiting == 0 && matches!(self.state, Sending::Idle)
    }

    /// The packet of this frame; `None`: audio. `timestamp` is the frame's.
    ///
    /// An event ends at least 60 ms before the next begins: two repeats and one frame of audio lie between them.
    pub fn frame(&mut self, timestamp: u32) -> Option<EventPacket> {
        if let Sending::Idle = self.state
            && self.waiting > 0
        {
            let (event, total) = self.queue[0];
            self.queue.copy_within(1..self.waiting, 0);
            self.waiting -= 1;
            self.state = Sending::On { event, total, done: 0, timestamp };
        }
        match self.state {
            Sending::Idle => None,
            Sending::On { event, total, done, timestamp } => {
                let duration = done.saturating_add(160).min(total);
                let end = duration == total;
                self.state = if end {
                    Sending::Ends { event, total, timestamp, left: 2 }
                } else {
                    Sending::On { event, total, done: duration, timestamp }
                };
                Some(EventPacket { event, end, first: done == 0, duration, timestamp })
            }
            Sending::Ends { event, total, timestamp, left } => {
                self.state = if left > 1 { Sending::Ends { event, total, timestamp, left: left - 1 } } else { Sending::Pause };
                Some(EventPacket { event, end: true, first: false, duration: total, timestamp })
            }
            Sending::Pause => {
                self.state = Sending::Idle;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Milliseconds, timestamp, event, end, duration.
    type Sent = (u64, u32, u8, bool, u16);

    /// What is heard of these packets, with a tick every 20 ms.
    fn presses(packets: &[Sent]) -> String {
        let mut presses = Presses::default();
        let mut out = Vec::new();
        let mut packets = packets.iter().peekable();
        for ms in 0..20_000 {
            let now = Time::from_millis(ms);
            let mut see = |p: Press| {
                out.push(match p {
                    Press::Down { digit, .. } => format!("{ms}:{digit}"),
                    Press::Up { digit, held } => format!("{ms}:/{digit}={}", held.as_millis()),
                });
            };
            while let Some((_, timestamp, event, end, duration)) = packets.next_if(|p| p.0 == ms) {
                let [high, low] = duration.to_be_bytes();
                presses.packet(now, 1, *timestamp, &[*event, if *end { 0x80 } else { 0 }, high, low], &mut see);
            }
            if ms.is_multiple_of(20) {
                presses.tick(now, &mut see);
            }
        }
        out.join(" ")
    }

    #[test]
    fn ic_237_one_press_counts_once() {
        let table: &[(&str, &[Sent], &str)] = &[
            (
                "as it should be",
                &[
                    (0, 900, 5, false, 0),
                    (20, 900, 5, false, 160),
                    (40, 900, 5, false, 320),
                    (60, 900, 5, true, 480),
                    (60, 900, 5, true, 480),
                    (60, 900, 5, true, 480),
                ],
                "0:5 60:/5=60",
            ),
            ("start lost", &[(40, 900, 5, false, 320), (60, 900, 5, true, 480)], "40:5 60:/5=60"),
            ("only one end came", &[(60, 900, 5, true, 480)], "60:5 60:/5=60"),
            ("all ends lost", &[(0, 900, 5, false, 160), (20, 900, 5, false, 320)], "0:5 120:/5=40"),
            ("hole in the middle", &[(0, 900, 5, false, 160), (90, 900, 5, false, 880), (110, 900, 5, true, 1040)], "0:5 110:/5=130"),
            (
                "longer hole: over, and not again",
                &[(0, 900, 5, false, 160), (200, 900, 5, false, 1760), (220, 900, 5, true, 1920)],
                "0:5 100:/5=20",
            ),
            (
                "same key twice, ends lost",
                &[(0, 900, 5, false, 640), (80, 2500, 5, false, 160), (100, 2500, 5, true, 320)],
                "0:5 80:/5=80 80:5 100:/5=40",
            ),
            ("another key, ends lost", &[(0, 900, 5, false, 640), (80, 2500, 6, true, 160)], "0:5 80:/5=80 80:6 80:/6=20"),
            (
                "reordered end of the first after the second",
                &[(0, 900, 5, true, 640), (80, 2500, 6, false, 160), (81, 900, 5, true, 640), (82, 2500, 6, true, 320)],
                "0:5 0:/5=80 80:6 82:/6=40",
            ),
            (
                "an older press that came too late",
                &[(80, 2500, 6, false, 160), (81, 900, 5, true, 640), (82, 2500, 6, true, 320)],
                "80:6 82:/6=40",
            ),
            (
                "timestamp moves with each update",
                &[(0, 900, 5, false, 160), (20, 1060, 5, false, 320), (40, 1220, 5, true, 480), (40, 1220, 5, true, 480)],
                "0:5 40:/5=60",
            ),
            ("same timestamp, other event", &[(0, 900, 5, true, 480), (100, 900, 6, true, 480)], "0:5 0:/5=60 100:6 100:/6=60"),
            ("events that are no digits", &[(0, 900, 16, false, 160), (20, 900, 64, false, 160)], ""),
            (
                "timestamp wraps",
                &[(0, u32::MAX - 100, 1, false, 160), (20, u32::MAX - 100, 1, true, 320), (200, 1500, 1, true, 320)],
                "0:1 20:/1=40 200:1 200:/1=40",
            ),
        ];
        for (name, packets, want) in table {
            assert_eq!(presses(packets), *want, "{name}");
        }
    }

    #[test]
    fn ic_237_a_long_press_in_segments_counts_once() {
        let mut packets = Vec::new();
        for n in 1..=600u32 {
            let total = n * 160;
            let (timestamp, duration) = if total <= 0xffff { (900, total) } else { (900 + 0xffff, total - 0xffff) };
            packets.push((u64::from(n) * 20, timestamp, 9, n == 600, duration as u16));
        }
        // The update that says 0xffff itself.
        packets.insert(409, (8180, 900, 9, false, 0xffff));
        packets.sort_by_key(|p| p.0);
        assert_eq!(presses(&packets), "20:9 12000:/9=12000");
    }

    #[test]
    fn ic_237_short_or_foreign_payloads_are_ignored() {
        let mut p = Presses::default();
        for payload in [&[][..], &[5], &[5, 0], &[5, 0, 0]] {
            p.packet(Time::ZERO, 1, 1, payload, |_| panic!("{payload:?}"));
        }
    }

    #[test]
    fn ic_238_all_sixteen_digits_both_ways() {
        let mut keypad = Keypad::new();
        let mut presses = Presses::default();
        for digit in DIGITS {
            assert!(keypad.press(digit, Duration::from_millis(100)));
        }
        let mut heard = String::new();
        let mut timestamp = u32::MAX - 10_000;
        for n in 0..400 {
            if let Some(p) = keypad.frame(timestamp) {
                presses.packet(Time::from_millis(n * 20), 1, p.timestamp, &p.payload(), |p| match p {
                    Press::Down { digit, .. } => heard.push(digit),
                    Press::Up { held, .. } => assert_eq!(held, Duration::from_millis(100)),
                });
            }
            timestamp = timestamp.wrapping_add(160);
        }
        assert_eq!(heard, "0123456789*#ABCD");
        assert!(keypad.is_idle());
        assert_eq!(event_of('a'), Some(12));
    }

    #[test]
    fn a_sent_digit_grows_ends_three_times_and_leaves_a_gap() {
        let mut keypad = Keypad::new();
        assert!(keypad.press('#', Duration::from_millis(50)) && keypad.press('1', Duration::ZERO));
        let frames: Vec<_> = (0..10).map(|n| keypad.frame(n * 160).map(|p| (p.event, p.first, p.end, p.duration, p.timestamp))).collect();
        assert_eq!(
            frames,
            [
                Some((11, true, false, 160, 0)),
                Some((11, false, false, 320, 0)),
                Some((11, false, true, 400, 0)),
                Some((11, false, true, 400, 0)),
                Some((11, false, true, 400, 0)),
                None,
                Some((1, true, false, 160, 960)),
                Some((1, false, true, 320, 960)),
                Some((1, false, true, 320, 960)),
                Some((1, false, true, 320, 960)),
            ]
        );
        let mut full = Keypad::new();
        assert_eq!((0..100).filter(|_| full.press('1', Duration::from_secs(60))).count(), QUEUE);
        assert!(!Keypad::new().press('x', Duration::ZERO));
    }
}
