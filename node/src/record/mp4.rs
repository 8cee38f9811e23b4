//! Fragmented MP4 (ISO/IEC 14496-12) with one track of Opus ("Encapsulation of Opus in ISO Base Media File Format"): written front to
//! back, every fragment readable as soon as it is there.

use super::opus::Opus;
use mp4_atom::{
    Audio, Codec, Dinf, Dops, Dref, Edts, Elst, ElstEntry, Encode, FourCC, Ftyp, Hdlr, Mdhd, Mdia, Mehd, Mfhd, Minf, Moof, Moov, Mvex,
    Mvhd, Smhd, Stbl, Stsd, Tfdt, Tfhd, Tkhd, Traf, Trak, Trex, Trun, TrunEntry, Url,
};
use std::io;

/// What Opus is counted in, whatever its input was.
const SCALE: u32 = 48_000;
/// Samples of a packet.
const PACKET: u32 = 960;
/// Packets of a fragment: two seconds.
const FRAGMENT: usize = 100;
const TRACK: u32 = 1;
/// Every packet stands for itself (14496-12 8.8.3.1: depends on no other, is no difference).
const FLAGS: u32 = 0x0200_0000;

pub struct Mp4 {
    opus: Opus,
    channels: u16,
    /// Samples of audio in all, at `SCALE`.
    total: u64,
    fragments: u32,
    packets: u64,
    sizes: Vec<u32>,
    data: Vec<u8>,
}

fn bad(error: mp4_atom::Error) -> io::Error {
    io::Error::other(format!("MP4: {error}"))
}

impl Mp4 {
    pub fn new(opus: Opus, channels: usize, total: u64) -> Mp4 {
        let channels = u16::try_from(channels).unwrap_or(1);
        Mp4 { opus, channels, total, fragments: 0, packets: 0, sizes: Vec::new(), data: Vec::new() }
    }

    pub fn begin(&self, out: &mut Vec<u8>) -> io::Result<()> {
        let brands = [*b"iso5", *b"iso6", *b"mp41"].map(|brand| FourCC::new(&brand)).to_vec();
        Ftyp { major_brand: FourCC::new(b"iso5"), minor_version: 0, compatible_brands: brands }.encode(out).map_err(bad)?;
        let pre_skip = self.opus.pre_skip();
        let opus = mp4_atom::Opus {
            audio: Audio { data_reference_index: 1, channel_count: self.channels, sample_size: 16, sample_rate: 48_000.into() },
            dops: Dops {
                output_channel_count: u8::try_from(self.channels).unwrap_or(1),
                pre_skip,
                input_sample_rate: self.opus.rate,
                output_gain: 0,
                channel_mapping: None,
            },
            btrt: None,
        };
        // The encoder's lead-in is cut off by the edit, the silence behind the end as well.
        let edit = ElstEntry { segment_duration: self.total, media_time: Some(pre_skip.into()), media_rate: 1.into() };
        let track = Trak {
            tkhd: Tkhd { track_id: TRACK, enabled: true, in_movie: true, volume: 1.into(), duration: self.total, ..Tkhd::default() },
            edts: Some(Edts { elst: Some(Elst { entries: vec![edit] }) }),
            mdia: Mdia {
                mdhd: Mdhd { timescale: SCALE, language: "und".into(), ..Mdhd::default() },
                hdlr: Hdlr { handler: FourCC::new(b"soun"), name: "Recording".into() },
                minf: Minf {
                    smhd: Some(Smhd::default()),
                    // No location: the data is in this file.
                    dinf: Dinf { dref: Dref { entries: vec![Url::default().into()] } },
                    stbl: Stbl { stsd: Stsd { codecs: vec![Codec::Opus(opus)] }, ..Stbl::default() },
                    ..Minf::default()
                },
            },
            ..Trak::default()
        };
        let defaults = Trex {
            track_id: TRACK,
            default_sample_description_index: 1,
            default_sample_duration: PACKET,
            default_sample_size: 0,
            default_sample_flags: FLAGS,
        };
        Moov {
            mvhd: Mvhd { timescale: SCALE, next_track_id: TRACK + 1, rate: 1.into(), volume: 1.into(), ..Mvhd::default() },
            mvex: Some(Mvex { mehd: Some(Mehd { fragment_duration: self.total }), trex: vec![defaults] }),
            trak: vec![track],
            ..Moov::default()
        }
        .encode(out)
        .map_err(bad)
    }

    pub fn push(&mut self, samples: &[i16], out: &mut Vec<u8>) -> io::Result<()> {
        let Mp4 { opus, sizes, data, .. } = self;
        opus.encode(samples, &mut |packet| {
            sizes.push(u32::try_from(packet.len()).unwrap_or(0));
            data.extend_from_slice(packet);
            Ok(())
        })?;
        while self.sizes.len() >= FRAGMENT {
            self.fragment(FRAGMENT, out)?;
        }
        Ok(())
    }

    pub fn end(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let Mp4 { opus, sizes, data, .. } = self;
        opus.end(&mut |packet| {
            sizes.push(u32::try_from(packet.len()).unwrap_or(0));
            data.extend_from_slice(packet);
            Ok(())
        })?;
        while !self.sizes.is_empty() {
            self.fragment(self.sizes.len().min(FRAGMENT), out)?;
        }
        Ok(())
    }

    fn fragment(&mut self, packets: usize, out: &mut Vec<u8>) -> io::Result<()> {
        self.fragments += 1;
        let sizes: Vec<u32> = self.sizes.drain(..packets).collect();
        let bytes: usize = sizes.iter().map(|size| usize::try_from(*size).unwrap_or(0)).sum();
        let moof = |data_offset: i32| Moof {
            mfhd: Mfhd { sequence_number: self.fragments },
            traf: vec![Traf {
                tfhd: Tfhd { track_id: TRACK, default_base_is_moof: true, ..Tfhd::default() },
                tfdt: Some(Tfdt { base_media_decode_time: self.packets * u64::from(PACKET) }),
                trun: vec![Trun {
                    data_offset: Some(data_offset),
                    samples: sizes.iter().map(|size| TrunEntry { size: Some(*size), ..TrunEntry::default() }).collect::<Vec<_>>().into(),
                }],
                ..Traf::default()
            }],
        };
        let mut head = Vec::new();
        moof(0).encode(&mut head).map_err(bad)?;
        // Behind it and the head of the mdat box. Its own length does not depend on the number in it.
        let offset = i32::try_from(head.len() + 8).unwrap_or(0);
        moof(offset).encode(out).map_err(bad)?;
        out.extend_from_slice(&u32::try_from(bytes + 8).unwrap_or(0).to_be_bytes());
        out.extend_from_slice(b"mdat");
        out.extend(self.data.drain(..bytes));
        self.packets += packets as u64;
        Ok(())
    }
}
