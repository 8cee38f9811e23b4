//! RTP by the batch: many packets a system call, and the kernel's own stamp of when each one came, so that a generator that is busy
//! with something else does not count as delay of the node.

use anyhow::Result;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{SystemTime, UNIX_EPOCH};

/// Packets a call. Small, because all packets of a call that sends are stamped before the first one leaves.
const BATCH: usize = 16;
/// More than any RTP packet we ask for; what is longer is cut, and then says nothing.
const PACKET: usize = 512;
/// Room for one time stamp of the kernel and its heading.
const CONTROL: usize = 64;
/// Kernel buffer of a socket that many phones share.
static SOCKET_BUFFER: i32 = 32 << 20;
static ON: i32 = 1;

/// The clock of the kernel's receive stamps.
pub fn stamp() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// A socket on loopback with room for what many phones get in a moment, whose packets come with a stamp.
pub fn socket() -> Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_nonblocking(true)?;
    let options = [
        (libc::SO_RCVBUFFORCE, &raw const SOCKET_BUFFER),
        (libc::SO_SNDBUFFORCE, &raw const SOCKET_BUFFER),
        (libc::SO_TIMESTAMPNS, &raw const ON),
    ];
    for (option, value) in options {
        // SAFETY: the descriptor is open as long as `socket` lives, and the value is a whole `c_int` that is never freed.
        // Without CAP_NET_ADMIN the buffers' sizes fail, and the default has to do.
        unsafe {
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, value.cast(), size_of::<i32>() as libc::socklen_t);
        }
    }
    Ok(socket)
}

/// `0` is a valid value of all of these.
fn zeroed<T: Copy>() -> T {
    // SAFETY: only used for the C structures below, made of integers and pointers, for which all bits zero is a value.
    unsafe { std::mem::zeroed() }
}

/// What a control buffer must be aligned to, as `cmsghdr` is.
#[derive(Clone, Copy)]
#[repr(align(8))]
struct Control([u8; CONTROL]);

pub struct Inbox {
    bytes: Box<[[u8; PACKET]; BATCH]>,
    names: [libc::sockaddr_in; BATCH],
    controls: [Control; BATCH],
}

impl Inbox {
    pub fn new() -> Inbox {
        Inbox { bytes: Box::new([[0; PACKET]; BATCH]), names: [zeroed(); BATCH], controls: [Control([0; CONTROL]); BATCH] }
    }

    /// Everything that is there: payload with header, the port it came from, when it came.
    pub fn drain(&mut self, socket: &UdpSocket, mut each: impl FnMut(&[u8], u16, u64)) {
        loop {
            let mut pieces: [libc::iovec; BATCH] = [zeroed(); BATCH];
            let mut headers: [libc::mmsghdr; BATCH] = [zeroed(); BATCH];
            for i in 0..BATCH {
                pieces[i] = libc::iovec { iov_base: self.bytes[i].as_mut_ptr().cast(), iov_len: PACKET };
                let header = &mut headers[i].msg_hdr;
                header.msg_name = (&raw mut self.names[i]).cast();
                header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
                header.msg_iov = &raw mut pieces[i];
                header.msg_iovlen = 1;
                header.msg_control = self.controls[i].0.as_mut_ptr().cast();
                header.msg_controllen = CONTROL as _;
            }
            // SAFETY: every header points to a name, one piece and a control buffer of the sizes it says, all of which outlive the call.
            let count = unsafe {
                libc::recvmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), BATCH as libc::c_uint, libc::MSG_DONTWAIT, std::ptr::null_mut())
            };
            let count = usize::try_from(count).unwrap_or(0);
            for (i, header) in headers.iter().enumerate().take(count) {
                let length = (header.msg_len as usize).min(PACKET);
                each(&self.bytes[i][..length], u16::from_be(self.names[i].sin_port), came(&header.msg_hdr));
            }
            if count < BATCH {
                return;
            }
        }
    }
}

/// The kernel's stamp, or now where it gave none.
fn came(header: &libc::msghdr) -> u64 {
    // SAFETY: the kernel filled the control buffer that `header` points to and said how much of it; the macros stay within that. The
    // data of a stamp may be unaligned.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(header);
        while !control.is_null() {
            if (*control).cmsg_level == libc::SOL_SOCKET && (*control).cmsg_type == libc::SCM_TIMESTAMPNS {
                let time: libc::timespec = std::ptr::read_unaligned(libc::CMSG_DATA(control).cast());
                return time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned();
            }
            control = libc::CMSG_NXTHDR(header, control);
        }
    }
    stamp()
}

/// Packets on their way out of one socket.
pub struct Outbox<const N: usize> {
    bytes: Box<[[u8; N]; BATCH]>,
    names: [libc::sockaddr_in; BATCH],
    count: usize,
}

impl<const N: usize> Outbox<N> {
    pub fn new() -> Outbox<N> {
        Outbox { bytes: Box::new([[0; N]; BATCH]), names: [zeroed(); BATCH], count: 0 }
    }

    /// The place of the next packet; it leaves with the batch, at the latest by [`Outbox::flush`].
    pub fn push(&mut self, socket: &UdpSocket, to: SocketAddrV4) -> &mut [u8; N] {
        if self.count == BATCH {
            self.flush(socket);
        }
        let place = self.count;
        self.count += 1;
        self.names[place] = libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: to.port().to_be(),
            sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(to.ip().octets()) },
            sin_zero: [0; 8],
        };
        &mut self.bytes[place]
    }

    /// What the kernel refuses is lost, as on a network, and missing where it should arrive.
    pub fn flush(&mut self, socket: &UdpSocket) {
        let count = std::mem::take(&mut self.count);
        let mut pieces: [libc::iovec; BATCH] = [zeroed(); BATCH];
        let mut headers: [libc::mmsghdr; BATCH] = [zeroed(); BATCH];
        for i in 0..count {
            pieces[i] = libc::iovec { iov_base: self.bytes[i].as_mut_ptr().cast(), iov_len: N };
            let header = &mut headers[i].msg_hdr;
            header.msg_name = (&raw mut self.names[i]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            header.msg_iov = &raw mut pieces[i];
            header.msg_iovlen = 1;
        }
        let mut sent = 0;
        while sent < count {
            // SAFETY: the headers from `sent` to `count` point to a name and one piece of the sizes they say, which outlive the call.
            let more = unsafe {
                libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr().add(sent), (count - sent) as libc::c_uint, libc::MSG_DONTWAIT)
            };
            // One that is refused (its receiver is gone: ECONNREFUSED comes back on the socket) must not hold up the others.
            sent += usize::try_from(more).unwrap_or(1).max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    #[test]
    fn what_goes_out_comes_in_with_port_and_stamp() {
        let (from, to) = (socket().expect("a socket"), socket().expect("a socket"));
        let SocketAddr::V4(address) = to.local_addr().expect("bound") else { panic!("bound to IPv4") };
        let mut out = Outbox::<20>::new();
        let before = stamp();
        for n in 0..50 {
            out.push(&from, address)[0] = n;
        }
        out.flush(&from);
        let (mut heard, mut inbox) = (Vec::new(), Inbox::new());
        let port = from.local_addr().expect("bound").port();
        inbox.drain(&to, |bytes, source, came| {
            assert_eq!((bytes.len(), source), (20, port));
            assert!(came >= before && came <= stamp());
            heard.push(bytes[0]);
        });
        assert_eq!(heard, (0..50).collect::<Vec<u8>>());
    }
}
