//! `hookswitch call`: the scripted phone of `hookswitch-sim` on real UDP sockets, one call long.
//!
//! It is not a softphone (no microphone, no registration): what it says, keys and how long it stays is given on the command line, what
//! it hears goes to a WAV file. Start reading at [`run`].

use bytes::Bytes;
use clap::Args;
use hookswitch_proto::Time;
use hookswitch_proto::media::{Clip, Codec, DIGITS, LegStats, tone};
use hookswitch_proto::sip::{Header, Uri};
use hookswitch_sim::{Act, Call, Ending, Entry, Phone, PhoneConfig, PhoneOutput, Report, Role, Script};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;

/// How long a callee may ring before we cancel: longer than any ring time a trunk allows.
const RING_TIME: Duration = Duration::from_secs(180);
/// Longest prompt read from a file; a phone keeps it in memory.
const PLAY_TIME_MAX: Duration = Duration::from_secs(3600);
/// Digits of one call.
const DIGITS_MAX: usize = 256;
/// Largest datagram read.
const DATAGRAM: usize = 65_535;
/// Tries for an even RTP port with a free one above it.
const PORT_TRIES: usize = 64;

/// A test phone: calls, plays, sends digits, records what it hears.
#[derive(Args, Clone, Debug)]
pub struct PhoneArgs {
    /// Whom to call, e.g. sip:voicemail@127.0.0.1:5060
    #[arg(value_name = "SIP-URI")]
    pub target: String,
    /// WAV file to play once the call is answered
    #[arg(long, value_name = "WAV")]
    pub play: Option<PathBuf>,
    /// Digits and when to send them after the answer, e.g. 1@2s,#@6s
    #[arg(long, value_name = "DIGIT@TIME,…", value_parser = parse_digits)]
    pub dtmf: Option<DigitPlan>,
    /// WAV file that gets what is heard
    #[arg(long, value_name = "WAV")]
    pub record: Option<PathBuf>,
    /// End the call so many seconds after the answer
    #[arg(long = "for", value_name = "SECONDS", value_parser = parse_seconds)]
    pub length: Option<Duration>,
    /// Who calls: a SIP URI, or "Name" <sip:user@host>
    #[arg(long, value_name = "URI")]
    pub from: Option<String>,
    /// A header line to add to the INVITE, e.g. 'X-Dest: sip:me@127.0.0.1'; may be repeated
    #[arg(long, value_name = "NAME: VALUE", value_parser = parse_header)]
    pub header: Vec<HeaderLine>,
}

/// Digits at times after the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigitPlan(Vec<(Duration, char)>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderLine {
    name: String,
    value: String,
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.strip_suffix('s').unwrap_or(text).parse().map_err(|_| format!("`{text}` is no number of seconds"))?;
    // A day is longer than any session may last.
    if !(0.0..=86_400.0).contains(&seconds) {
        return Err(format!("`{text}` is not between 0 and 86400 seconds"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

fn parse_time(text: &str) -> Result<Duration, String> {
    match text.strip_suffix("ms") {
        Some(ms) => {
            ms.parse::<u32>().map(|ms| Duration::from_millis(u64::from(ms))).map_err(|_| format!("`{text}` is no number of milliseconds"))
        }
        None => parse_seconds(text),
    }
}

fn parse_digits(text: &str) -> Result<DigitPlan, String> {
    let plan: Result<Vec<_>, String> = text
        .split(',')
        .map(|item| {
            let (digit, time) = item.trim().split_once('@').ok_or_else(|| format!("`{item}` is not DIGIT@TIME, e.g. 1@2s"))?;
            let mut characters = digit.chars();
            match (characters.next().map(|c| c.to_ascii_uppercase()), characters.next()) {
                (Some(digit), None) if DIGITS.contains(&digit) => Ok((parse_time(time)?, digit)),
                _ => Err(format!("`{digit}` is none of the digits 0-9, *, #, A-D")),
            }
        })
        .collect();
    match plan? {
        plan if plan.len() > DIGITS_MAX => Err(format!("more than {DIGITS_MAX} digits")),
        plan => Ok(DigitPlan(plan)),
    }
}

fn parse_header(text: &str) -> Result<HeaderLine, String> {
    let (name, value) = text.split_once(':').ok_or_else(|| format!("`{text}` is not NAME: VALUE"))?;
    Ok(HeaderLine { name: name.trim().into(), value: value.trim().into() })
}

/// Why there was no call at all. What went wrong with one that was made is in its [`Report`].
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Failed(String),
}

/// Makes the call and prints its timeline. 0: answered and released; 1: failed, one line on stderr says why; 2: usage.
pub fn run(args: PhoneArgs) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("hookswitch call: {error}");
            return ExitCode::from(1);
        }
    };
    match runtime.block_on(call(args)) {
        Ok(report) => match &report.ending {
            ending if ending.is_normal() => ExitCode::SUCCESS,
            ending => {
                eprintln!("hookswitch call: {}", explain(ending));
                ExitCode::from(1)
            }
        },
        Err(Problem::Usage(why)) => {
            eprintln!("hookswitch call: {why}");
            ExitCode::from(2)
        }
        Err(Problem::Failed(why)) => {
            eprintln!("hookswitch call: {why}");
            ExitCode::from(1)
        }
    }
}

fn explain(ending: &Ending) -> String {
    match ending {
        Ending::Failed { status: 408 } => "call failed: 408, nobody answered the INVITE".into(),
        Ending::Failed { status } => format!("call failed: {status}"),
        Ending::NotTaken => "call not taken".into(),
        Ending::Broken { why } => format!("call broken: {why}"),
        Ending::Released { .. } => "call released".into(),
    }
}

async fn call(args: PhoneArgs) -> Result<Report, Problem> {
    let uri = Uri::parse(&args.target)
        .filter(|uri| uri.scheme == "sip")
        .ok_or_else(|| Problem::Usage(format!("`{}` is not a SIP URI", args.target)))?;
    let clip = args.play.as_deref().map(read_wav).transpose()?;
    if let Some(path) = &args.record {
        // Now, and not when the call is over and its sound lost.
        std::fs::File::create(path).map_err(|error| Problem::Failed(format!("{}: {error}", path.display())))?;
    }
    let peer = resolve(&uri.host, uri.port.unwrap_or(5060))?;
    let sockets = Sockets::open(peer).await.map_err(|error| Problem::Failed(format!("no UDP socket: {error}")))?;

    let config = PhoneConfig {
        sip: sockets.sip_address,
        rtp: sockets.rtp_address,
        codecs: vec![Codec::Pcmu, Codec::Pcma],
        agent: concat!("hookswitch-call/", env!("CARGO_PKG_VERSION")).into(),
    };
    let from = match args.from {
        None => format!("<sip:phone@{}>", bracketed(sockets.sip_address.ip())),
        Some(from) if from.contains('<') => from,
        Some(from) => format!("<{from}>"),
    };
    let headers = args.header.into_iter().map(|h| Header { name: h.name, value: h.value }).collect();
    let script = Script {
        play: clip,
        play_again: false,
        acts: args.dtmf.map_or_else(Vec::new, |plan| plan.0.into_iter().map(|(after, digit)| (after, Act::Digit(digit))).collect()),
        record: args.record.is_some(),
        end_after: args.length,
    };
    let role = Role::Caller(Call { target: args.target, from, peer, headers, give_up_after: RING_TIME });
    let clock = Clock::start();
    let mut phone = Phone::new(clock.now(), config, role, script, seed()).map_err(|error| Problem::Usage(error.to_string()))?;
    let report = drive(&mut phone, &sockets, &clock).await.map_err(|error| Problem::Failed(format!("socket: {error}")))?;
    print_report(&report);
    if let Some(path) = &args.record {
        write_wav(path, phone.heard()).map_err(|error| Problem::Failed(format!("{}: {error}", path.display())))?;
    }
    Ok(report)
}

/// Feeds the phone until it is done.
async fn drive(phone: &mut Phone, sockets: &Sockets, clock: &Clock) -> io::Result<Report> {
    let (mut sip, mut rtp, mut rtcp) = (vec![0; DATAGRAM], vec![0; DATAGRAM], vec![0; DATAGRAM]);
    let mut hung_up = false;
    loop {
        while let Some(output) = phone.poll() {
            match output {
                PhoneOutput::Sip { to, bytes } => send(&sockets.sip, &bytes, to).await,
                PhoneOutput::Rtp { to, rtcp: false, packet } => send(&sockets.rtp, &packet, to).await,
                PhoneOutput::Rtp { to, rtcp: true, packet } => send(&sockets.rtcp, &packet, to).await,
                PhoneOutput::Timeline(entry) => print_entry(&entry),
                PhoneOutput::Done(report) => return Ok(*report),
            }
        }
        // Without a timeout nothing is left to happen but a datagram; an hour is as good as never.
        let wait = phone.next_timeout().map_or(Duration::from_secs(3600), |at| at.since(clock.now()));
        tokio::select! {
            // Time first: a flood must not keep the phone from speaking.
            biased;
            () = tokio::time::sleep(wait) => {}
            read = sockets.sip.recv_from(&mut sip) => {
                if let Some((length, from)) = received(read)? {
                    phone.receive_sip(clock.now(), from, Bytes::copy_from_slice(&sip[..length]));
                }
            }
            read = sockets.rtp.recv_from(&mut rtp) => {
                if let Some((length, from)) = received(read)? {
                    phone.receive_rtp(clock.now(), from, false, &rtp[..length]);
                }
            }
            read = sockets.rtcp.recv_from(&mut rtcp) => {
                if let Some((length, from)) = received(read)? {
                    phone.receive_rtp(clock.now(), from, true, &rtcp[..length]);
                }
            }
            _ = tokio::signal::ctrl_c(), if !hung_up => {
                hung_up = true;
                phone.hang_up(clock.now());
            }
        }
        phone.handle_timeout(clock.now());
    }
}

/// A peer that closed its port makes the next read fail (ICMP); that ends no call, a timer does.
fn received(read: io::Result<(usize, SocketAddr)>) -> io::Result<Option<(usize, SocketAddr)>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Datagrams may be lost, so one that cannot be sent is: SIP repeats it or times out.
async fn send(socket: &UdpSocket, bytes: &[u8], to: SocketAddr) {
    let _ = socket.send_to(bytes, to).await;
}

struct Sockets {
    sip: UdpSocket,
    rtp: UdpSocket,
    rtcp: UdpSocket,
    sip_address: SocketAddr,
    rtp_address: SocketAddr,
}

impl Sockets {
    /// On the address from which `peer` is reached.
    async fn open(peer: SocketAddr) -> io::Result<Sockets> {
        let any: IpAddr = if peer.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
        let probe = UdpSocket::bind((any, 0)).await?;
        probe.connect(peer).await?;
        let ip = probe.local_addr()?.ip();
        let sip = UdpSocket::bind((ip, 0)).await?;
        let sip_address = sip.local_addr()?;
        let mut last = io::Error::other("no pair of ports is free");
        for _ in 0..PORT_TRIES {
            let rtp = UdpSocket::bind((ip, 0)).await?;
            let rtp_address = rtp.local_addr()?;
            // RFC 3550 11: RTP on an even port, RTCP on the next.
            let Some(next) = rtp_address.port().checked_add(1).filter(|next| next % 2 == 1) else { continue };
            match UdpSocket::bind((ip, next)).await {
                Ok(rtcp) => return Ok(Sockets { sip, rtp, rtcp, sip_address, rtp_address }),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

fn resolve(host: &str, port: u16) -> Result<SocketAddr, Problem> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    if host.eq_ignore_ascii_case("localhost") {
        // Whatever the hosts file says: the node listens on IPv4 by default.
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    let mut found = (host, port).to_socket_addrs().map_err(|error| Problem::Failed(format!("{host}: {error}")))?;
    found.next().ok_or_else(|| Problem::Failed(format!("{host}: no address")))
}

fn bracketed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// The process's clock: the phone counts from here.
struct Clock(Instant);

impl Clock {
    fn start() -> Clock {
        Clock(Instant::now())
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

/// Two version 4 UUIDs are 244 bits of the system's randomness.
fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    seed[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    seed[16..].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    seed
}

/// A WAV file of any rate and channel count as what the phone says: the channels' mean, at 8 kHz.
fn read_wav(path: &Path) -> Result<Clip, Problem> {
    let bad = |why: String| Problem::Failed(format!("{}: {why}", path.display()));
    let mut reader = hound::WavReader::open(path).map_err(|error| bad(error.to_string()))?;
    let spec = reader.spec();
    let channels = usize::from(spec.channels.max(1));
    if u64::from(reader.duration()) > PLAY_TIME_MAX.as_secs() * u64::from(spec.sample_rate) {
        return Err(bad(format!("longer than {} s", PLAY_TIME_MAX.as_secs())));
    }
    let samples: Result<Vec<i16>, hound::Error> = match (spec.sample_format, spec.bits_per_sample) {
        (hound::SampleFormat::Int, 16) => reader.samples::<i16>().collect(),
        (hound::SampleFormat::Int, 8) => reader.samples::<i8>().map(|s| s.map(|s| i16::from(s) << 8)).collect(),
        // As `i32`, left-aligned to 32 bits: the upper 16 are what we keep.
        (hound::SampleFormat::Int, bits @ 17..=32) => {
            reader.samples::<i32>().map(|s| s.map(|s| ((s << (32 - bits)) >> 16) as i16)).collect()
        }
        (hound::SampleFormat::Float, _) => reader.samples::<f32>().map(|s| s.map(|s| (s.clamp(-1.0, 1.0) * 32_767.0) as i16)).collect(),
        (hound::SampleFormat::Int, bits) => return Err(bad(format!("{bits} bits a sample"))),
    };
    let samples = samples.map_err(|error| bad(error.to_string()))?;
    let count = i32::from(spec.channels.max(1));
    let mono: Vec<i16> =
        samples.chunks_exact(channels).map(|frame| (frame.iter().map(|s| i32::from(*s)).sum::<i32>() / count) as i16).collect();
    Ok(tone::clip_from_pcm(&mono, spec.sample_rate))
}

fn write_wav(path: &Path, samples: &[i16]) -> Result<(), hound::Error> {
    let spec = hound::WavSpec { channels: 1, sample_rate: 8000, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut writer = hound::WavWriter::create(path, spec)?;
    for sample in samples {
        writer.write_sample(*sample)?;
    }
    writer.finalize()
}

fn print_entry(entry: &Entry) {
    println!("{:8.3} {}", Duration::from_nanos(entry.at.0).as_secs_f64(), entry.what);
}

fn print_report(report: &Report) {
    if report.answered_after.is_some() {
        println!("talked {:.2} s", report.talked.as_secs_f64());
    }
    if let Some(LegStats { received, sent, lost, late, jitter, .. }) = report.media {
        // RFC 3550 counts jitter in timestamp units: 8 to the millisecond.
        println!("RTP: received {received}, sent {sent}, lost {lost}, late {late}, jitter {:.2} ms", f64::from(jitter) / 8.0);
    }
    if let Some(heard) = &report.heard {
        println!("heard: {} frames, {} received, {} concealed, {} silent", heard.expected, heard.received, heard.concealed, heard.silence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digit_plans() {
        let ok = |text: &str| parse_digits(text).map(|plan| plan.0);
        let s = Duration::from_secs;
        assert_eq!(ok("1@2s,#@6s"), Ok(vec![(s(2), '1'), (s(6), '#')]));
        assert_eq!(ok("a@1500ms, *@0.5"), Ok(vec![(Duration::from_millis(1500), 'A'), (Duration::from_millis(500), '*')]));
        for bad in ["", "1", "12@2s", "x@1s", "1@", "1@-1s", "1@nans", "1@1e99", "é@1s", "@1s"] {
            assert!(ok(bad).is_err(), "{bad}");
        }
        let many = vec!["1@1s"; DIGITS_MAX + 1].join(",");
        assert!(ok(&many).is_err());
    }

    #[test]
    fn header_lines() {
        assert_eq!(parse_header("X-Dest: sip:me@127.0.0.1"), Ok(HeaderLine { name: "X-Dest".into(), value: "sip:me@127.0.0.1".into() }));
        assert!(parse_header("X-Dest").is_err());
    }

    #[test]
    fn hosts_that_need_no_resolver() {
        let ok = |host: &str| resolve(host, 5060).ok();
        assert_eq!(ok("127.0.0.7"), Some(SocketAddr::from(([127, 0, 0, 7], 5060))));
        assert_eq!(ok("localhost"), Some(SocketAddr::from(([127, 0, 0, 1], 5060))));
        assert_eq!(ok("::1"), Some(SocketAddr::from(([0u16, 0, 0, 0, 0, 0, 0, 1], 5060))));
    }

    #[test]
    fn wav_files_of_all_kinds() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.wav");
        write_wav(&path, &[0, 1000, -1000]).expect("written");
        let mut reader = hound::WavReader::open(&path).expect("opened");
        assert_eq!(reader.samples::<i16>().collect::<Result<Vec<_>, _>>().expect("read"), [0, 1000, -1000]);

        std::fs::write(&path, b"RIFF not a wave").expect("written");
        assert!(matches!(read_wav(&path), Err(Problem::Failed(_))));
        assert!(matches!(read_wav(&folder.path().join("none.wav")), Err(Problem::Failed(_))));
    }
}
