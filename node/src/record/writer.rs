//! A writer thread: takes blocks from media threads, puts them in order, decodes and appends them, and keeps the headers true.
//!
//! It never waits for the disk on purpose (no fsync here) and runs at the lowest priority; when it cannot keep up, blocks stay with it,
//! pools run dry, and recordings end with `Overload`. Start with [`Writer::run`].

use super::encode::is_cbc_key;
use super::facts::Facts;
use super::finish::{Finish, Outlet};
use super::format::Format;
use super::spool::{LOG, Spool};
use super::wav::{Counters, Header};
use super::{Folders, safe_name};
use crate::limits;
use crate::metrics::{Metrics, add};
use crate::net::{Clock, Priority, set_priority};
use hookswitch_call::RecordingStart;
use hookswitch_proto::media::{Block, Codec, FRAME, FrameKind, RecordingId, RecordingTotals, SideTotals, StopReason, g711};
use hookswitch_proto::{Time, Wall};
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Blocks taken from one link before the others have their turn.
const BATCH: usize = 128;
/// So many blocks left over after a round, half of what finds room: other work on this machine keeps the writer from its own, and guests that
/// take what they get must wait. They are before it again when fewer than the second number are left.
const BEHIND: usize = limits::BLOCK_RING / 2;
const CAUGHT_UP: usize = 128;
/// A writer with open recordings looks for blocks so often; each brings half a second.
const NAP: Duration = Duration::from_millis(25);
/// One without is woken by its next order; this is only a safety net.
const SLEEP: Duration = Duration::from_secs(1);

/// A hole longer than a minute cannot come from a lost block: it is left out rather than filled.
const MAX_HOLE: usize = 3000;

/// A media thread's ends of its rings with one writer.
pub struct BlockLink {
    pub full: rtrb::Producer<Box<Block>>,
    pub empty: rtrb::Consumer<Box<Block>>,
}

/// The writer's ends.
pub(super) struct WriterLink {
    full: rtrb::Consumer<Box<Block>>,
    empty: rtrb::Producer<Box<Block>>,
}

impl BlockLink {
    pub(super) fn pair() -> (BlockLink, WriterLink) {
        let (full, full_end) = rtrb::RingBuffer::new(limits::BLOCK_RING);
        // All blocks of a pool fit, so giving one back cannot fail.
        let (empty_end, empty) = rtrb::RingBuffer::new(limits::BLOCKS);
        (BlockLink { full, empty }, WriterLink { full: full_end, empty: empty_end })
    }
}

pub(super) enum Order {
    Begin {
        start: Box<RecordingStart>,
        now: Time,
        wall: Wall,
    },
    Drop(RecordingId),
    /// Close everything and end.
    Stop,
}

pub(super) struct Writer {
    links: Vec<WriterLink>,
    orders: mpsc::Receiver<Order>,
    outlet: Outlet,
    folders: Folders,
    metrics: Arc<Metrics>,
    clock: Clock,
    open: HashMap<RecordingId, Open>,
    /// Recordings whose last block came; finished one round later, when the other side's last block has come too.
    closing: Vec<RecordingId>,
    scratch: Vec<u8>,
    stopping: bool,
    /// It runs at the usual priority, since it was behind.
    priority: Priority,
}

impl Writer {
    pub fn new(
        links: Vec<WriterLink>,
        orders: mpsc::Receiver<Order>,
        outlet: Outlet,
        folders: Folders,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Writer {
        Writer {
            links,
            orders,
            outlet,
            folders,
            metrics,
            clock,
            open: HashMap::new(),
            closing: Vec::new(),
            scratch: Vec::new(),
            stopping: false,
            priority: Priority::Low,
        }
    }

    pub fn run(mut self) {
        if let Err(error) = set_priority(Priority::Low) {
            tracing::info!(%error, "writers keep their usual priority");
        }
        loop {
            let busy = self.round();
            self.hurry();
            if self.stopping && !busy && self.closing.is_empty() {
                break;
            }
            if !busy {
                std::thread::park_timeout(if self.open.is_empty() { SLEEP } else { NAP });
            }
        }
        // Media threads have ended by now: what is still open got no last block.
        let left: Vec<RecordingId> = self.open.keys().copied().collect();
        for recording in left {
            self.close(recording);
        }
    }

    /// Blocks that pile up cost memory, and in the end recordings.
    fn hurry(&mut self) {
        let left: usize = self.links.iter().map(|link| link.full.slots()).sum();
        let priority = match left {
            BEHIND.. => Priority::Usual,
            // Once it hurries it goes on until it has caught up.
            CAUGHT_UP.. if self.priority == Priority::Usual => Priority::Usual,
            _ => Priority::Low,
        };
        if priority != self.priority {
            self.priority = priority;
            tracing::info!(
                left,
                "{}",
                match priority {
                    Priority::Low => "a writer of recordings has caught up",
                    _ => "a writer of recordings is behind and hurries",
                }
            );
            // Refused: it goes on as it was.
            let _ = set_priority(priority);
        }
    }

    /// One look at everything. Whether there was a block.
    fn round(&mut self) -> bool {
        let now = self.clock.now();
        let due = std::mem::take(&mut self.closing);
        let mut blocks: Vec<(usize, Box<Block>)> = Vec::new();
        for (index, link) in self.links.iter_mut().enumerate() {
            while blocks.len() < BATCH * (index + 1)
                && let Ok(block) = link.full.pop()
            {
                blocks.push((index, block));
            }
        }
        // After the blocks: the order that announced a recording was sent before its first block, so it is seen now.
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Begin { start, now, wall } => {
                    self.open.insert(start.recording, Open::new(start, now, wall));
                    self.metrics.recordings_open.up();
                }
                Order::Drop(recording) => {
                    if self.open.get(&recording).is_some_and(|open| open.file.is_none()) {
                        self.open.remove(&recording);
                        self.metrics.recordings_open.down();
                    }
                }
                Order::Stop => self.stopping = true,
            }
        }
        let busy = !blocks.is_empty();
        for (index, block) in blocks {
            match self.open.get_mut(&block.recording) {
                Some(open) => {
                    open.take(now, &block, &self.folders, &mut self.scratch, &self.metrics);
                    if open.last.is_some() && !self.closing.contains(&block.recording) && !due.contains(&block.recording) {
                        self.closing.push(block.recording);
                    }
                }
                // Our own mistake, if ever: without an announcement nobody knows whose it is.
                None => add(&self.metrics.recording_blocks_lost, 1),
            }
            let _ = self.links[index].empty.push(block);
        }
        for recording in due {
            self.close(recording);
        }
        busy
    }

    fn close(&mut self, recording: RecordingId) {
        let Some(mut open) = self.open.remove(&recording) else { return };
        self.metrics.recordings_open.down();
        // Never begun: there is nothing to report.
        if open.file.is_none() && open.failed.is_none() && open.last.is_none() {
            return;
        }
        open.end(&self.folders, self.clock.now(), &mut self.scratch);
        if open.cut.is_some() && open.failed.is_none() {
            add(&self.metrics.recordings_cut, 1);
        }
        self.outlet.send(open.into_finish());
    }
}

/// One recording being written.
struct Open {
    start: Box<RecordingStart>,
    /// When it was announced, by our clock and by the machine's, which may be set while it runs.
    begun: Time,
    wall: Wall,
    /// Made with the first block.
    file: Option<Spool>,
    header_at: Time,
    /// Both sides are to be put together: into two channels, or into one, which only its blocks tell.
    two_sided: bool,
    /// Law bytes go into the file as they came, from the other law by a table. `None`: samples are put together first.
    exact: Option<Codec>,
    /// What has come and is not written: `[speak, listen]`. Empty most of the time for a one-sided recording.
    sides: [Side; 2],
    /// Frames of the timeline that came from no block.
    filled: u64,
    last: Option<(StopReason, RecordingTotals)>,
    /// Why the disk took no more: what is there is the recording.
    cut: Option<&'static str>,
    /// Why there is nothing at all.
    failed: Option<String>,
}

/// Frames of one side ahead of the file.
#[derive(Default)]
struct Side {
    kinds: Vec<FrameKind>,
    /// One of these two is used.
    samples: Vec<i16>,
    law: Vec<u8>,
}

impl Side {
    fn frames(&self) -> usize {
        self.kinds.len()
    }
}

/// The first `n` of both, silence behind what one of them lacks.
fn alike<'a, T: Copy>(left: &'a mut Vec<T>, right: &'a mut Vec<T>, n: usize, silence: T) -> (&'a [T], &'a [T]) {
    for side in [&mut *left, &mut *right] {
        if side.len() < n {
            side.resize(n, silence);
        }
    }
    (&left[..n], &right[..n])
}

fn interleave<T: Copy>(left: &[T], right: &[T], out: &mut Vec<T>) {
    let at = out.len();
    let Some(first) = left.first() else { return };
    out.resize(at + 2 * left.len(), *first);
    for (pair, (left, right)) in out[at..].as_chunks_mut::<2>().0.iter_mut().zip(left.iter().zip(right)) {
        *pair = [*left, *right];
    }
}

impl Open {
    fn new(start: Box<RecordingStart>, begun: Time, wall: Wall) -> Open {
        Open {
            begun,
            wall,
            file: None,
            header_at: Time::ZERO,
            two_sided: start.stereo,
            exact: None,
            start,
            sides: [Side::default(), Side::default()],
            filled: 0,
            last: None,
            cut: None,
            failed: None,
        }
    }

    fn take(&mut self, now: Time, block: &Block, folders: &Folders, scratch: &mut Vec<u8>, metrics: &Metrics) {
        if self.last.is_none() || block.last.is_some() {
            self.last = block.last.or(self.last);
        }
        let frames = block.frames.min(block.kinds.len());
        let (mut received, mut concealed) = (0, 0);
        for kind in &block.kinds[..frames] {
            received += u64::from(*kind == FrameKind::Voice);
            concealed += u64::from(*kind == FrameKind::Concealed);
        }
        add(&metrics.recording_frames_received, received);
        add(&metrics.recording_frames_concealed, concealed);
        add(&metrics.recording_frames_silence, frames as u64 - received - concealed);
        if self.failed.is_some() || self.cut.is_some() {
            return;
        }
        self.two_sided |= block.two_sided;
        let result = self.open_file(now, folders, block.codec).and_then(|()| {
            self.know_codec(block, frames);
            if !self.write_through(block, frames, scratch)? {
                self.queue(block, frames);
                self.write_ready(scratch)?;
            }
            self.flush_sometimes(now)
        });
        if let Err(error) = result {
            self.fail(&error);
        }
    }

    /// The call goes on, and what is written is kept: of a message of which the disk took the half, half is more than nothing.
    fn fail(&mut self, error: &io::Error) {
        tracing::error!(recording = %self.start.recording_id, domain = %self.start.domain, %error, "recording failed, the call goes on");
        self.sides = [Side::default(), Side::default()];
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        self.cut = Some(match error.kind() {
            StorageFull | QuotaExceeded => "disk_full",
            _ if error.raw_os_error().is_some() => "disk_error",
            // What was asked for cannot be made here.
            _ => "encode_error",
        });
        if self.written() == 0 {
            self.failed = Some(error.to_string());
        }
    }

    fn open_file(&mut self, now: Time, folders: &Folders, codec: Codec) -> io::Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        let start = &self.start;
        let options = &start.options;
        let format = Format::of(options, codec).map_err(io::Error::other)?;
        let cbc = options.encryption.as_ref();
        if cbc.is_some_and(|key| !is_cbc_key(key)) {
            return Err(io::Error::other("an AES key has 16, 24 or 32 bytes"));
        }
        // Law bytes are kept only where they are what is asked for: encoders and mixers read samples.
        let coding = if format.is_spooled() { format.coding() } else { Default::default() };
        self.exact = coding.law().filter(|_| start.stereo || !self.two_sided);
        let header = Header {
            recording_id: start.recording_id.clone(),
            session_id: start.session_id.clone(),
            domain: start.domain.to_string(),
            participant_id: start.participant_id.clone(),
            caller: start.caller.clone(),
            called: start.called.clone(),
            file_name: start.file_name.clone(),
            started: self.wall.0,
            channels: if start.stereo { 2 } else { 1 },
            coding,
            facts: Facts::of(options, &format, start.connection_id.as_deref()),
            ..Header::default()
        };
        let name = safe_name(&start.recording_id, "unnamed");
        self.file = Some(if cbc.is_some() || folders.encrypt || folders.keys.has_current(&start.domain) {
            Spool::create_sealed(&folders.spool.join(format!("{name}.{LOG}")), header, &folders.keys, cbc)?
        } else {
            Spool::create_wav(&folders.spool.join(format!("{name}.wav")), header)?
        });
        self.header_at = now;
        Ok(())
    }

    /// Frames in the file.
    fn written(&self) -> u64 {
        self.file.as_ref().map_or(0, |f| f.header().frames)
    }

    fn know_codec(&mut self, block: &Block, frames: usize) {
        if let Some(file) = &mut self.file {
            let codecs = &mut file.header_mut().facts.codecs;
            if frames > 0 && !codecs.iter().any(|name| name == block.codec.name()) {
                codecs.push(block.codec.name().into());
            }
        }
    }

    /// A block of one side with nothing before it that waits goes into the file from where it is: nearly all blocks do. False: it has to be
    /// put in its place first.
    fn write_through(&mut self, block: &Block, frames: usize, scratch: &mut Vec<u8>) -> io::Result<bool> {
        let waits = self.sides.iter().any(|side| side.frames() > 0);
        let Some(file) = self.file.as_mut().filter(|file| !self.two_sided && !waits && file.header().frames == block.first_frame) else {
            return Ok(false);
        };
        let law = &block.law[..frames * FRAME];
        if law.is_empty() {
            return Ok(true);
        }
        match self.exact {
            Some(exact) if exact == block.codec => file.append(law)?,
            Some(exact) => {
                scratch.clear();
                scratch.resize(law.len(), 0);
                g711::copy(exact, scratch, block.codec, law);
                file.append(scratch)?;
            }
            None => {
                scratch.clear();
                g711::decode_bytes(block.codec, law, scratch);
                file.append(scratch)?;
            }
        }
        let header = file.header_mut();
        for kind in &block.kinds[..frames] {
            header.counters.count(Some(*kind));
            header.facts.speak.masked += u64::from(*kind == FrameKind::Masked);
        }
        Ok(true)
    }

    /// Decodes a block behind what its side has. A hole before it (never, unless a block was lost in this node) becomes silence, so that
    /// both sides stay on the timeline; what overlaps what is written already is left out.
    fn queue(&mut self, block: &Block, frames: usize) {
        let written = self.written();
        let side = &mut self.sides[usize::from(block.heard)];
        let next = written + side.frames() as u64;
        let hole = usize::try_from(block.first_frame.saturating_sub(next)).unwrap_or(usize::MAX);
        let filled = if hole <= MAX_HOLE { hole } else { 0 };
        side.kinds.extend(std::iter::repeat_n(FrameKind::Silence, filled));
        self.filled += filled as u64;
        let skip = usize::try_from(next.saturating_sub(block.first_frame)).unwrap_or(usize::MAX).min(frames);
        side.kinds.extend_from_slice(&block.kinds[skip..frames]);
        let law = &block.law[skip * FRAME..frames * FRAME];
        match self.exact {
            Some(exact) => {
                side.law.extend(std::iter::repeat_n(g711::silence(exact), filled * FRAME));
                let at = side.law.len();
                side.law.resize(at + law.len(), 0);
                g711::copy(exact, &mut side.law[at..], block.codec, law);
            }
            None => {
                side.samples.extend(std::iter::repeat_n(0, filled * FRAME));
                g711::decode_all(block.codec, law, &mut side.samples);
            }
        }
    }

    fn write_ready(&mut self, scratch: &mut Vec<u8>) -> io::Result<()> {
        let [speak, listen] = &self.sides;
        let (shorter, longer) = (speak.frames().min(listen.frames()), speak.frames().max(listen.frames()));
        let ready = match self.two_sided {
            false => longer,
            true => shorter.max(longer.saturating_sub(usize::try_from(limits::SIDE_WAIT_FRAMES).unwrap_or(usize::MAX))),
        };
        self.write(ready, scratch)
    }

    /// Puts the next `frames` of both sides together and appends them.
    fn write(&mut self, frames: usize, scratch: &mut Vec<u8>) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        if frames == 0 {
            return Ok(());
        }
        let [speak, listen] = &mut self.sides;
        scratch.clear();
        let stereo = file.header().channels == 2;
        match self.exact {
            Some(exact) => {
                let (left, right) = alike(&mut speak.law, &mut listen.law, frames * FRAME, g711::silence(exact));
                match stereo {
                    true => interleave(left, right, scratch),
                    false => scratch.extend_from_slice(if speak.kinds.is_empty() { right } else { left }),
                }
            }
            None => {
                let (left, right) = alike(&mut speak.samples, &mut listen.samples, frames * FRAME, 0);
                let mut both = Vec::new();
                match stereo {
                    true => interleave(left, right, &mut both),
                    false => both.extend(left.iter().zip(right).map(|(left, right)| left.saturating_add(*right))),
                }
                file.header().coding.put(&both, scratch);
            }
        }
        file.append(scratch)?;
        let header = file.header_mut();
        for i in 0..frames {
            let (speak, listen) = (speak.kinds.get(i).copied(), listen.kinds.get(i).copied());
            let masked = |kind: Option<FrameKind>| u64::from(kind == Some(FrameKind::Masked));
            if self.two_sided {
                header.counters.count(speak);
                header.heard.count(listen);
                header.facts.speak.masked += masked(speak);
                header.facts.heard.masked += masked(listen);
            } else {
                header.counters.count(speak.or(listen));
                header.facts.speak.masked += masked(speak.or(listen));
            }
        }
        for side in [speak, listen] {
            side.kinds.drain(..frames.min(side.kinds.len()));
            side.samples.drain(..(frames * FRAME).min(side.samples.len()));
            side.law.drain(..(frames * FRAME).min(side.law.len()));
            if side.kinds.is_empty() {
                // A recording waits half a second for its next block: it needs no memory meanwhile.
                *side = Side::default();
            }
        }
        Ok(())
    }

    /// Blocks of a recording come at its own half seconds, so headers of many recordings are spread by themselves.
    fn flush_sometimes(&mut self, now: Time) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        if now.since(self.header_at) >= limits::HEADER_EVERY {
            file.flush()?;
            self.header_at = now;
        }
        Ok(())
    }

    /// Writes what waited for the other side, cuts or fills the file to its timeline, and settles the counters.
    fn end(&mut self, folders: &Folders, now: Time, scratch: &mut Vec<u8>) {
        if self.failed.is_none()
            && self.cut.is_none()
            && let Err(error) = self.try_end(folders, scratch)
        {
            self.fail(&error);
        }
        let (Some(file), last) = (&mut self.file, self.last) else { return };
        let header = file.header_mut();
        // By the clock that only goes forward: a recording does not end before it began because somebody set the machine's.
        let lasted = u64::try_from(now.since(self.begun).as_millis()).unwrap_or(0);
        header.facts.ended_at = Some(self.wall.0.saturating_add(lasted));
        if let Some((reason, totals)) = last {
            header.facts.contains_sound = Some(totals.contains_voice);
            header.facts.stop_digit = if let StopReason::StopDigit(digit) = reason { Some(digit) } else { None };
            header.facts.speak.know(if self.two_sided || totals.heard_stream == Default::default() {
                &totals.speak_stream
            } else {
                &totals.heard_stream
            });
            if self.two_sided {
                header.facts.heard.know(&totals.heard_stream);
                header.facts.heard.skipped = totals.heard.skipped;
            }
        }
        if let Some(reason) = self.cut {
            // What follows is not in the file, so it is not on its timeline either.
            header.facts.unwritten = last.map_or(0, |(_, totals)| totals.expected.saturating_sub(header.frames));
            header.counters.repair(header.frames);
            if self.two_sided {
                header.heard.repair(header.frames);
            }
            header.stop_reason = reason.into();
        }
    }

    fn try_end(&mut self, folders: &Folders, scratch: &mut Vec<u8>) -> io::Result<()> {
        self.open_file(Time::ZERO, folders, Codec::Pcma)?;
        let rest = self.sides.iter().map(Side::frames).max().unwrap_or(0);
        self.write(rest, scratch)?;
        let (Some(file), Some((reason, totals))) = (&mut self.file, self.last) else { return Ok(()) };
        // A stop digit's sound is cut off by the tap: its timeline then ends before the frames that it had already given.
        file.truncate(totals.expected)?;
        let short = totals.expected.saturating_sub(file.header().frames);
        let coding = file.header().coding;
        scratch.clear();
        coding.put(&vec![0; FRAME * usize::from(file.header().channels)], scratch);
        for _ in 0..short.min(MAX_HOLE as u64) {
            file.append(scratch)?;
        }
        let lost = (self.filled + short).min(totals.received);
        let header = file.header_mut();
        header.counters =
            Counters { expected: totals.expected, received: totals.received - lost, concealed: totals.concealed, silence: totals.silence };
        let heard = totals.heard;
        if heard != SideTotals::default() {
            let (received, concealed, silence) = (heard.received, heard.concealed, heard.silence);
            header.heard = Counters { expected: totals.expected, received, concealed, silence };
        } else if self.two_sided {
            header.heard.repair(totals.expected);
        }
        // A cut took of these what it could: they are among the silence.
        header.facts.speak.masked = header.facts.speak.masked.min(totals.silence);
        header.stop_reason = reason.name().into();
        Ok(())
    }

    fn into_finish(self) -> Finish {
        Finish {
            recording: self.start.recording,
            session: self.start.session,
            start: self.start,
            wall: self.wall,
            reason: self.cut.unwrap_or(self.last.map_or("node_shutdown", |(reason, _)| reason.name())),
            file: self.file,
            made: None,
            failed: self.failed,
        }
    }
}
