//! The recordings of a simulated world: a writer that keeps the blocks in memory, checks each, and reports what it stored as the
//! node's writers do.
//!
//! It counts frames for itself, so that the tap's own counters are judged and not believed.

use crate::law;
use crate::numbered::Tally;
use hookswitch_call::{RecordingDetails, RecordingReport, RecordingResult, RecordingStart};
use hookswitch_proto::Time;
use hookswitch_proto::media::{Block, FRAME, FRAME_TIME, FrameKind, RecordingId, RecordingTotals, StopReason};
use std::collections::BTreeMap;
use std::time::Duration;

/// One side of a recording, as its blocks said.
#[derive(Clone, Debug, Default)]
pub struct Side {
    pub kinds: Vec<FrameKind>,
    pcm: Vec<i16>,
}

impl Side {
    /// Mono, 8 kHz.
    pub fn pcm(&self) -> &[i16] {
        &self.pcm
    }

    /// Which numbered frames it holds.
    pub fn tally(&self) -> Tally {
        Tally::of(&self.pcm)
    }

    pub fn count(&self, kind: FrameKind) -> u64 {
        self.kinds.iter().filter(|k| **k == kind).count() as u64
    }

    pub fn frames(&self) -> u64 {
        self.kinds.len() as u64
    }
}

/// A recording, running or over.
#[derive(Clone, Debug)]
pub struct Recording {
    pub start: RecordingStart,
    pub began: Time,
    /// What the party said.
    pub said: Side,
    /// What it heard.
    pub heard: Side,
    /// By its last block.
    pub end: Option<(StopReason, RecordingTotals)>,
}

/// All writers and their disk.
pub struct Tape {
    free: Vec<Box<Block>>,
    made: usize,
    /// Blocks there are; fewer make `Overload`.
    pub blocks: usize,
    /// What storing a finished recording takes.
    pub storing: Duration,
    /// The disk is full.
    pub fails: bool,
    /// From now on the sides of a recording may end apart: a tap was refused a block, and making them equal takes one. The node's writer
    /// cuts the longer side or fills up the shorter one.
    uneven: bool,
    running: BTreeMap<RecordingId, Recording>,
    pub finished: Vec<Recording>,
    /// Announced, and taken back before they began.
    pub dropped: Vec<RecordingId>,
    /// What must not be: each one a defect of the node.
    pub trouble: Vec<String>,
    reports: Vec<RecordingReport>,
}

impl Tape {
    pub(crate) fn new() -> Tape {
        Tape {
            free: Vec::new(),
            made: 0,
            blocks: 32_768,
            storing: Duration::from_millis(100),
            fails: false,
            uneven: false,
            running: BTreeMap::new(),
            finished: Vec::new(),
            dropped: Vec::new(),
            trouble: Vec::new(),
            reports: Vec::new(),
        }
    }

    /// Recordings that were announced and are not over.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Blocks that neither a tap nor the pool has given back.
    pub fn blocks_out(&self) -> usize {
        self.made - self.free.len()
    }

    pub(crate) fn begin(&mut self, now: Time, start: RecordingStart) {
        let id = start.recording;
        let recording = Recording { start, began: now, said: Side::default(), heard: Side::default(), end: None };
        if self.running.insert(id, recording).is_some() {
            self.trouble.push(format!("{id:?} is announced twice"));
        }
    }

    pub(crate) fn forget(&mut self, id: RecordingId) {
        match self.running.remove(&id) {
            Some(recording) if recording.said.kinds.is_empty() && recording.heard.kinds.is_empty() => self.dropped.push(id),
            Some(_) => self.trouble.push(format!("{id:?} is dropped and has frames")),
            None => self.trouble.push(format!("{id:?} is dropped and was not open")),
        }
    }

    pub(crate) fn take_block(&mut self) -> Option<Box<Block>> {
        if let Some(block) = self.free.pop() {
            return Some(block);
        }
        if self.made >= self.blocks {
            self.uneven = true;
            return None;
        }
        self.made += 1;
        Some(Block::empty())
    }

    pub(crate) fn give_block(&mut self, mut block: Box<Block>) {
        if block.frames > 0 || block.last.is_some() {
            self.write(&block);
        }
        (block.frames, block.last) = (0, None);
        self.free.push(block);
    }

    /// What was stored since the last call, for the switch.
    pub(crate) fn reports(&mut self) -> Vec<RecordingReport> {
        std::mem::take(&mut self.reports)
    }

    fn write(&mut self, block: &Block) {
        let id = block.recording;
        let Some(recording) = self.running.get_mut(&id) else {
            return self.trouble.push(format!("a block of {id:?}, which is not open"));
        };
        let side = if block.heard { &mut recording.heard } else { &mut recording.said };
        if block.first_frame != side.frames() {
            self.trouble.push(format!("{id:?}: a block begins at frame {}, after {}", block.first_frame, side.frames()));
        }
        side.kinds.extend(&block.kinds[..block.frames]);
        side.pcm.extend(block.law[..block.frames * FRAME].iter().map(|byte| law::to_pcm(block.codec, *byte)));
        if block.last.is_some() {
            recording.end = block.last;
            self.finish(id);
        }
    }

    fn finish(&mut self, id: RecordingId) {
        let Some(recording) = self.running.remove(&id) else { return };
        let Some((reason, totals)) = recording.end else { return };
        // A recording of one side has frames there alone.
        let counted = if recording.said.kinds.is_empty() { &recording.heard } else { &recording.said };
        let (frames, voice) = (counted.frames(), counted.count(FrameKind::Voice));
        if frames != totals.expected || voice != totals.received || totals.expected != totals.received + totals.concealed + totals.silence {
            self.trouble.push(format!("{id:?}: {frames} frames, {voice} of them received, but {totals:?}"));
        }
        let (said, heard, side) = (recording.said.frames(), recording.heard.frames(), totals.heard);
        let voice = recording.heard.count(FrameKind::Voice);
        if said > 0 && !self.uneven && (heard, voice) != (side.received + side.concealed + side.silence, side.received) {
            self.trouble.push(format!("{id:?}: {heard} frames heard, {voice} of them received, but {side:?}"));
        }
        if said > 0 && heard > 0 && said != heard && !self.uneven {
            self.trouble.push(format!("{id:?}: sides of {said} and {heard} frames"));
        }
        let start = &recording.start;
        let details = || {
            let result = RecordingResult {
                recording_id: start.recording_id.clone(),
                file_name: start.file_name.clone(),
                stop_reason: reason.name().into(),
                stop_digit: if let StopReason::StopDigit(digit) = reason { Some(digit) } else { None },
                duration: FRAME_TIME.saturating_mul(u32::try_from(frames).unwrap_or(u32::MAX)),
                contains_sound: totals.contains_voice,
                ..RecordingResult::default()
            };
            Box::new(RecordingDetails { result, size: 44 + frames * 320, sha256: "00".repeat(32), started_at: 0 })
        };
        self.reports.push(RecordingReport {
            recording: id,
            recording_id: start.recording_id.clone(),
            session: start.session,
            file_name: start.file_name.clone(),
            outcome: if self.fails { Err("storage full".into()) } else { Ok(44 + frames * 320) },
            details: (!self.fails).then(details),
        });
        self.finished.push(recording);
    }
}
