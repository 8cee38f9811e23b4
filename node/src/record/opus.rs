//! libopus, opened at run time: packets of 20 ms (RFC 6716), for Ogg and for MP4.

use hookswitch_proto::media::FRAME_TIME;
use std::ffi::{c_int, c_uchar, c_void};
use std::io;
use std::sync::OnceLock;

type Handle = *mut c_void;

/// The functions of libopus that are used, and the library that keeps them in memory.
pub struct Library {
    create: unsafe extern "C" fn(i32, c_int, c_int, *mut c_int) -> Handle,
    destroy: unsafe extern "C" fn(Handle),
    encode: unsafe extern "C" fn(Handle, *const i16, c_int, *mut c_uchar, i32) -> i32,
    ctl: unsafe extern "C" fn(Handle, c_int, ...) -> c_int,
    _library: libloading::Library,
}

/// opus_defines.h
const APPLICATION_VOIP: c_int = 2048;
const APPLICATION_AUDIO: c_int = 2049;
const SET_BITRATE: c_int = 4002;
const SET_COMPLEXITY: c_int = 4010;
const GET_LOOKAHEAD: c_int = 4027;
/// Of 0 to 10. Little is gained by more at these rates, and thousands of recordings may end at once. With two channels less than 5 lets one
/// be heard in the other.
const COMPLEXITY: [c_int; 2] = [1, 5];
/// Largest packet of 20 ms (RFC 6716 3.2.1).
const PACKET: usize = 1276;

/// The library, or why there is none. Looked for once: an operator who installs it restarts the node.
pub fn library() -> Result<&'static Library, String> {
    static LIBRARY: OnceLock<Result<Library, String>> = OnceLock::new();
    let open = || open().map_err(|error| format!("Opus needs libopus.so.0 (Debian: apt-get install libopus0): {error}"));
    LIBRARY.get_or_init(open).as_ref().map_err(Clone::clone)
}

fn open() -> Result<Library, libloading::Error> {
    // SAFETY: libopus runs no code of its own when it is loaded; names and signatures are those of opus.h, whose ABI is that of `.so.0`.
    unsafe {
        let library = libloading::Library::new("libopus.so.0")?;
        Ok(Library {
            create: *library.get(b"opus_encoder_create\0")?,
            destroy: *library.get(b"opus_encoder_destroy\0")?,
            encode: *library.get(b"opus_encode\0")?,
            ctl: *library.get(b"opus_encoder_ctl\0")?,
            _library: library,
        })
    }
}

/// One stream.
pub struct Opus {
    library: &'static Library,
    handle: Handle,
    /// Samples of one packet, all channels.
    packet: usize,
    channels: usize,
    /// Not yet a packet.
    rest: Vec<i16>,
    /// Samples (of one channel) that the decoder gives before the first one that was put in.
    pub lookahead: u32,
    pub rate: u32,
}

impl Opus {
    pub fn new(rate: u32, channels: usize, kbps: u32) -> io::Result<Opus> {
        let library = library().map_err(io::Error::other)?;
        let failed = |what: &str, code: c_int| io::Error::other(format!("libopus: {what} failed with {code}"));
        let mut code = 0;
        // The speech mode ties channels together; two parties have nothing in common.
        let application = if channels == 2 { APPLICATION_AUDIO } else { APPLICATION_VOIP };
        let (hz, count) = (i32::try_from(rate).unwrap_or(0), c_int::try_from(channels).unwrap_or(0));
        // SAFETY: `code` outlives the call; null is checked.
        let handle = unsafe { (library.create)(hz, count, application, &raw mut code) };
        if handle.is_null() {
            return Err(failed("a new encoder", code));
        }
        let packet = usize::try_from(rate / 50).unwrap_or(0) * channels;
        let mut opus = Opus { library, handle, packet, channels, rest: Vec::new(), lookahead: 0, rate };
        for (what, value) in
            [(SET_BITRATE, i32::try_from(kbps * 1000).unwrap_or(32_000)), (SET_COMPLEXITY, COMPLEXITY[usize::from(channels == 2)])]
        {
            // SAFETY: both requests take one 32-bit integer.
            let code = unsafe { (library.ctl)(handle, what, value) };
            if code != 0 {
                return Err(failed("a setting", code));
            }
        }
        let mut lookahead: i32 = 0;
        // SAFETY: the request takes a pointer to a 32-bit integer.
        let code = unsafe { (library.ctl)(handle, GET_LOOKAHEAD, &raw mut lookahead) };
        opus.lookahead = u32::try_from(lookahead).map_err(|_| failed("lookahead", code))?;
        Ok(opus)
    }

    /// The same in units of 48 kHz, which is what containers count in.
    pub fn pre_skip(&self) -> u16 {
        u16::try_from(self.lookahead * (48_000 / self.rate)).unwrap_or(u16::MAX)
    }

    /// Interleaved samples; each whole packet is given to `each`.
    pub fn encode(&mut self, samples: &[i16], each: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        debug_assert_eq!(FRAME_TIME.as_millis(), 20);
        self.rest.extend_from_slice(samples);
        let whole = self.rest.len() / self.packet * self.packet;
        let mut room = [0u8; PACKET];
        for packet in self.rest[..whole].chunks_exact(self.packet) {
            let (count, size) = (c_int::try_from(self.packet / self.channels).unwrap_or(0), i32::try_from(PACKET).unwrap_or(0));
            // SAFETY: `packet` holds `count` samples of each channel, `room` has `size` bytes.
            let n = unsafe { (self.library.encode)(self.handle, packet.as_ptr(), count, room.as_mut_ptr(), size) };
            let n = usize::try_from(n).map_err(|_| io::Error::other(format!("libopus failed with {n}")))?;
            each(&room[..n])?;
        }
        self.rest.drain(..whole);
        Ok(())
    }

    /// Silence behind the end, as much as the decoder is behind: without it the last milliseconds would stay in the encoder.
    pub fn end(&mut self, each: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let behind = usize::try_from(self.lookahead).unwrap_or(0) * self.channels;
        let fill = (self.rest.len() + behind).next_multiple_of(self.packet) - self.rest.len();
        self.encode(&vec![0; fill], each)
    }
}

impl Drop for Opus {
    fn drop(&mut self) {
        // SAFETY: made by `create`, destroyed once.
        unsafe { (self.library.destroy)(self.handle) };
    }
}
