//! LAME, opened at run time: MP3 frames of 16-bit samples. Its licence (LGPL) stays with the library that the machine has.

#[cfg(feature = "mp3")]
mod ffi {
    use std::ffi::{c_int, c_uchar, c_void};

    pub type Handle = *mut c_void;
    pub type Get = unsafe extern "C" fn(Handle) -> c_int;
    pub type Set = unsafe extern "C" fn(Handle, c_int) -> c_int;

    /// The functions of libmp3lame that are used, and the library that keeps them in memory.
    pub struct Lame {
        pub init: unsafe extern "C" fn() -> Handle,
        pub close: unsafe extern "C" fn(Handle) -> c_int,
        pub in_rate: Set,
        pub out_rate: Set,
        pub channels: Set,
        pub mode: Set,
        pub bit_rate: Set,
        pub quality: Set,
        pub info_tag: Set,
        pub init_params: unsafe extern "C" fn(Handle) -> c_int,
        pub encode: unsafe extern "C" fn(Handle, *const i16, *const i16, c_int, *mut c_uchar, c_int) -> c_int,
        pub flush: unsafe extern "C" fn(Handle, *mut c_uchar, c_int) -> c_int,
        pub frames: Get,
        pub delay: Get,
        pub padding: Get,
        _library: libloading::Library,
    }

    pub fn open() -> Result<Lame, libloading::Error> {
        // SAFETY: LAME runs no code of its own when it is loaded; names and signatures are those of lame.h, whose ABI is that of `.so.0`.
        unsafe {
            let library = libloading::Library::new("libmp3lame.so.0")?;
            Ok(Lame {
                init: *library.get(b"lame_init\0")?,
                close: *library.get(b"lame_close\0")?,
                in_rate: *library.get(b"lame_set_in_samplerate\0")?,
                out_rate: *library.get(b"lame_set_out_samplerate\0")?,
                channels: *library.get(b"lame_set_num_channels\0")?,
                mode: *library.get(b"lame_set_mode\0")?,
                bit_rate: *library.get(b"lame_set_brate\0")?,
                quality: *library.get(b"lame_set_quality\0")?,
                info_tag: *library.get(b"lame_set_bWriteVbrTag\0")?,
                init_params: *library.get(b"lame_init_params\0")?,
                encode: *library.get(b"lame_encode_buffer\0")?,
                flush: *library.get(b"lame_encode_flush\0")?,
                frames: *library.get(b"lame_get_frameNum\0")?,
                delay: *library.get(b"lame_get_encoder_delay\0")?,
                padding: *library.get(b"lame_get_encoder_padding\0")?,
                _library: library,
            })
        }
    }
}

#[cfg(feature = "mp3")]
pub use encoder::{Mp3, library};

#[cfg(feature = "mp3")]
mod encoder {
    use super::ffi::{Handle, Lame, open};
    use std::ffi::c_int;
    use std::io;
    use std::sync::OnceLock;

    /// The library, or why there is none. Looked for once: an operator who installs it restarts the node.
    pub fn library() -> Result<&'static Lame, String> {
        static LIBRARY: OnceLock<Result<Lame, String>> = OnceLock::new();
        let open = || open().map_err(|error| format!("MP3 needs libmp3lame.so.0 (Debian: apt-get install libmp3lame0): {error}"));
        LIBRARY.get_or_init(open).as_ref().map_err(Clone::clone)
    }

    /// One stream at a constant bit rate. Its first frame is an Info tag that only the end knows: see [`Mp3::end`]. LAME writes one by
    /// itself only where a frame of the stream's own bit rate has room for it, which 32 kbit/s has not.
    pub struct Mp3 {
        lame: &'static Lame,
        handle: Handle,
        rate: u32,
        channels: usize,
        /// Bytes of all frames but the tag.
        bytes: usize,
        planes: [Vec<i16>; 2],
    }

    impl Mp3 {
        pub fn new(rate: u32, channels: usize, kbps: u32) -> io::Result<Mp3> {
            let lame = library().map_err(io::Error::other)?;
            // SAFETY: no arguments; null is checked.
            let handle = unsafe { (lame.init)() };
            if handle.is_null() {
                return Err(io::Error::other("LAME has no memory"));
            }
            let mp3 = Mp3 { lame, handle, rate, channels, bytes: 0, planes: Default::default() };
            let int = |n: u32| c_int::try_from(n).unwrap_or(c_int::MAX);
            // Joint stereo is for music: two parties have nothing in common. Quality 7 is the fastest that is no worse on speech.
            let mode = if channels == 2 { 0 } else { 3 };
            let settings = [
                (lame.in_rate, int(rate)),
                (lame.out_rate, int(rate)),
                (lame.channels, if channels == 2 { 2 } else { 1 }),
                (lame.mode, mode),
                (lame.bit_rate, int(kbps)),
                (lame.quality, 7),
                (lame.info_tag, 0),
            ];
            for (set, value) in settings {
                // SAFETY: a live handle, before `init_params`.
                if unsafe { set(handle, value) } < 0 {
                    return Err(io::Error::other("LAME refuses the format"));
                }
            }
            // SAFETY: as above.
            if unsafe { (lame.init_params)(handle) } < 0 {
                return Err(io::Error::other("LAME refuses the format"));
            }
            Ok(mp3)
        }

        /// Room for the tag.
        pub fn begin(&self, out: &mut Vec<u8>) {
            out.resize(out.len() + self.tag_head().1, 0);
        }

        /// Interleaved samples.
        pub fn encode(&mut self, samples: &[i16], out: &mut Vec<u8>) -> io::Result<()> {
            let frames = samples.len() / self.channels;
            for (channel, plane) in self.planes.iter_mut().enumerate().take(self.channels) {
                plane.clear();
                plane.extend(samples.iter().skip(channel).step_by(self.channels));
            }
            let right = if self.channels == 2 { &self.planes[1] } else { &self.planes[0] };
            // lame.h: the worst case is 1.25 times the samples and 7200 bytes.
            let room = frames + frames / 4 + 7200;
            let at = out.len();
            out.resize(at + room, 0);
            let (count, size) = (c_int::try_from(frames).unwrap_or(0), c_int::try_from(room).unwrap_or(0));
            // SAFETY: both planes hold `frames` samples, `out` has `room` bytes from `at` on.
            let n =
                unsafe { (self.lame.encode)(self.handle, self.planes[0].as_ptr(), right.as_ptr(), count, out[at..].as_mut_ptr(), size) };
            self.keep(n, at, out)
        }

        /// The last frames into `out`; returned is the first frame of the file, which says how long it is and where the audio begins.
        pub fn end(&mut self, out: &mut Vec<u8>) -> io::Result<Vec<u8>> {
            let at = out.len();
            out.resize(at + 7200, 0);
            // SAFETY: `out` has 7200 bytes from `at` on, which lame.h says is enough.
            let n = unsafe { (self.lame.flush)(self.handle, out[at..].as_mut_ptr(), 7200) };
            self.keep(n, at, out)?;
            // SAFETY: a live handle.
            let [frames, delay, padding] =
                [self.lame.frames, self.lame.delay, self.lame.padding].map(|get| u32::try_from(unsafe { get(self.handle) }).unwrap_or(0));
            let (head, size) = self.tag_head();
            // The tag stands behind the side information, which is nothing: a player that does not know it hears a silent frame.
            let side = match (self.rate, self.channels) {
                (48_000, 2) => 32,
                (48_000, _) | (_, 2) => 17,
                _ => 9,
            };
            let mut tag = head.to_vec();
            tag.resize(4 + side, 0);
            // "Info": a constant bit rate. Frames and bytes are given.
            tag.extend_from_slice(b"Info");
            tag.extend_from_slice(&3u32.to_be_bytes());
            tag.extend_from_slice(&frames.to_be_bytes());
            tag.extend_from_slice(&u32::try_from(self.bytes + size).unwrap_or(u32::MAX).to_be_bytes());
            // LAME's extension: 12 bytes that matter to nobody here, then what to cut at both ends, 12 bits each.
            tag.extend_from_slice(b"LAME3.100");
            tag.resize(tag.len() + 12, 0);
            let cut = (delay.min(0xfff) << 12) | padding.min(0xfff);
            tag.extend_from_slice(&cut.to_be_bytes()[1..]);
            tag.resize(size, 0);
            Ok(tag)
        }

        /// Header and length of a frame that has room for the tag (ISO/IEC 11172-3 2.4.2.3): MPEG-1 at 48 kHz, MPEG-2 at 16, "2.5" at 8.
        fn tag_head(&self) -> ([u8; 4], usize) {
            let mode = if self.channels == 2 { 0 } else { 0xc0 };
            match self.rate {
                48_000 => ([0xff, 0xfb, 5 << 4 | 1 << 2, mode], 192),
                16_000 => ([0xff, 0xf3, 8 << 4 | 2 << 2, mode], 288),
                _ => ([0xff, 0xe3, 4 << 4 | 2 << 2, mode], 288),
            }
        }

        fn keep(&mut self, n: c_int, at: usize, out: &mut Vec<u8>) -> io::Result<()> {
            let n = usize::try_from(n).map_err(|_| io::Error::other(format!("LAME failed with {n}")))?;
            out.truncate(at + n);
            self.bytes += n;
            Ok(())
        }
    }

    impl Drop for Mp3 {
        fn drop(&mut self) {
            // SAFETY: made by `init`, closed once.
            unsafe { (self.lame.close)(self.handle) };
        }
    }
}

#[cfg(not(feature = "mp3"))]
pub use without::{Mp3, library};

#[cfg(not(feature = "mp3"))]
mod without {
    use std::io;

    const WHY: &str = "this node was built without MP3 (feature `mp3`)";

    pub fn library() -> Result<(), String> {
        Err(WHY.into())
    }

    /// Never made.
    pub enum Mp3 {}

    impl Mp3 {
        pub fn new(_: u32, _: usize, _: u32) -> io::Result<Mp3> {
            Err(io::Error::other(WHY))
        }

        pub fn begin(&self, _: &mut Vec<u8>) {
            match *self {}
        }

        pub fn encode(&mut self, _: &[i16], _: &mut Vec<u8>) -> io::Result<()> {
            match *self {}
        }

        pub fn end(&mut self, _: &mut Vec<u8>) -> io::Result<Vec<u8>> {
            match *self {}
        }
    }
}
