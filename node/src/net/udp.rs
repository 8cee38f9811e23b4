//! Datagrams in batches: `recvmmsg` and `sendmmsg` with addresses as std knows them.

use bytes::Bytes;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The stamp of the datagram that was received last, as a timespec (socket(7), asm-generic/sockios.h); libc has no name for it.
const SIOCGSTAMPNS: libc::Ioctl = 0x8907;
/// What has waited for longer (1 s) is as likely stamped before the machine's clock was set.
const WAITED_MOST: Duration = Duration::from_secs(1);

/// A non-blocking socket bound to `address`, with the receive buffer asked for as far as the kernel allows.
pub fn bind(address: SocketAddr, receive_buffer: usize) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // A v6 wildcard that takes v4 too would hide who listens where.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    // Refused or cut to rmem_max: then the kernel's default has to do.
    let _ = socket.set_recv_buffer_size(receive_buffer);
    Ok(socket.into())
}

/// Asks routers to treat what this socket sends as voice (DSCP EF).
pub fn mark_voice(socket: &UdpSocket) {
    let socket = socket2::SockRef::from(socket);
    let tos = 0xb8;
    // One of the two fails, by the socket's family; refused, packets travel like others.
    let _ = socket.set_tos_v4(tos).or_else(|_| socket.set_tclass_v6(tos));
}

/// Undoes `connect`: the socket takes datagrams of everyone again. Only for sockets bound to a port by number: the kernel takes a port
/// that it chose itself away again.
pub fn disconnect(socket: &UdpSocket) -> io::Result<()> {
    // SAFETY: sockaddr is plain bytes, for which zero is a value; the pointer and length are of that struct.
    let rc = unsafe {
        let mut none: libc::sockaddr = MaybeUninit::zeroed().assume_init();
        none.sa_family = libc::AF_UNSPEC as libc::sa_family_t;
        libc::connect(socket.as_raw_fd(), &raw const none, size_of::<libc::sockaddr>() as libc::socklen_t)
    };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How long the datagram that was received last of this socket had waited in it. `None`: the kernel does not say. It stamps datagrams only
/// from the first call on.
pub fn waited(socket: &UdpSocket) -> Option<Duration> {
    let mut stamp = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: the kernel writes one timespec to the pointer, which is of one; zero is a value of it.
    let stamp = unsafe {
        if libc::ioctl(socket.as_raw_fd(), SIOCGSTAMPNS, stamp.as_mut_ptr()) != 0 {
            return None;
        }
        stamp.assume_init()
    };
    let came = Duration::new(u64::try_from(stamp.tv_sec).ok()?, u32::try_from(stamp.tv_nsec).ok()?);
    let waited = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.checked_sub(came)?;
    (waited < WAITED_MOST).then_some(waited)
}

/// Room for `n` datagrams of up to `size` bytes, filled by one system call. Made by the thread that uses it.
pub struct Receiver {
    size: usize,
    bytes: Box<[u8]>,
    names: Box<[libc::sockaddr_storage]>,
    /// Pointed to by `headers`; never looked at again by us.
    _vectors: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
    filled: usize,
    /// Whom the one datagram of `receive_one` is from.
    peer: Option<SocketAddr>,
}

pub struct Datagram<'a> {
    pub from: SocketAddr,
    pub bytes: &'a [u8],
    /// It was longer than the room for it.
    pub cut: bool,
}

impl Receiver {
    pub fn new(n: usize, size: usize) -> Receiver {
        let mut bytes = vec![0u8; n * size].into_boxed_slice();
        // SAFETY: these are plain C structs, for which zero is a value.
        let mut names: Box<[libc::sockaddr_storage]> = (0..n).map(|_| unsafe { MaybeUninit::zeroed().assume_init() }).collect();
        let mut vectors: Box<[libc::iovec]> =
            bytes.chunks_mut(size).map(|c| libc::iovec { iov_base: c.as_mut_ptr().cast(), iov_len: c.len() }).collect();
        let headers = names
            .iter_mut()
            .zip(vectors.iter_mut())
            .map(|(name, vector)| {
                // SAFETY: as above.
                let mut header: libc::mmsghdr = unsafe { MaybeUninit::zeroed().assume_init() };
                header.msg_hdr.msg_name = std::ptr::from_mut(name).cast();
                header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
                header.msg_hdr.msg_iov = std::ptr::from_mut(vector);
                header.msg_hdr.msg_iovlen = 1;
                header
            })
            .collect();
        Receiver { size, bytes, names, _vectors: vectors, headers, filled: 0, peer: None }
    }

    /// Takes what is there, without waiting. How many; `get` has them until the next call.
    pub fn receive(&mut self, socket: &UdpSocket) -> usize {
        for header in self.headers.iter_mut().take(self.filled) {
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        }
        (self.filled, self.peer) = (0, None);
        // The second try: an ICMP error of an earlier send is reported once in place of data (ECONNREFUSED).
        for _ in 0..2 {
            // SAFETY: each header points to one name and one vector, each vector to its own part of `bytes`; all are heap memory of
            // ours that outlives the call and has no other reader meanwhile (`&mut self`).
            let n = unsafe {
                libc::recvmmsg(
                    socket.as_raw_fd(),
                    self.headers.as_mut_ptr(),
                    self.headers.len() as libc::c_uint,
                    libc::MSG_DONTWAIT as _,
                    std::ptr::null_mut(),
                )
            };
            if n >= 0 {
                self.filled = n.unsigned_abs() as usize;
                return self.filled;
            }
            if io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock {
                return 0;
            }
        }
        0
    }

    /// Takes up to `most` datagrams of a socket that is connected to `peer`. For one or two this is cheaper than [`Receiver::receive`],
    /// which fetches names and always looks whether there is more.
    pub fn receive_from(&mut self, socket: &UdpSocket, peer: SocketAddr, most: usize) -> usize {
        (self.filled, self.peer) = (0, Some(peer));
        // One more try: as above.
        let mut tries = most.min(self.headers.len()) + 1;
        while tries > 0 && self.filled < most {
            tries -= 1;
            let Some(room) = self.bytes.get_mut(self.filled * self.size..).and_then(|rest| rest.get_mut(..self.size)) else { break };
            // SAFETY: the pointer and length are of `room`, which outlives the call and has no other user meanwhile.
            let n = unsafe { libc::recv(socket.as_raw_fd(), room.as_mut_ptr().cast(), room.len(), libc::MSG_DONTWAIT | libc::MSG_TRUNC) };
            if let Ok(length) = usize::try_from(n) {
                let header = &mut self.headers[self.filled];
                header.msg_len = libc::c_uint::try_from(length).unwrap_or(libc::c_uint::MAX);
                header.msg_hdr.msg_flags = if length > self.size { libc::MSG_TRUNC } else { 0 };
                self.filled += 1;
            } else if io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock {
                break;
            }
        }
        self.filled
    }

    /// Datagram `i` of the last `receive`; `None` for an address that is neither IPv4 nor IPv6.
    pub fn get(&self, i: usize) -> Option<Datagram<'_>> {
        if i >= self.filled {
            return None;
        }
        let header = &self.headers[i];
        let length = (header.msg_len as usize).min(self.size);
        Some(Datagram {
            from: self.peer.or_else(|| address(&self.names[i]))?,
            bytes: &self.bytes[i * self.size..][..length],
            cut: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
        })
    }
}

fn address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the kernel wrote a sockaddr_in, which is smaller than and no more aligned than the storage.
            let v4 = unsafe { &*std::ptr::from_ref(name).cast::<libc::sockaddr_in>() };
            Some(SocketAddrV4::new(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)), u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above, for sockaddr_in6.
            let v6 = unsafe { &*std::ptr::from_ref(name).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), v6.sin6_flowinfo, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// Sends all of `list` in as few system calls as it takes, and empties it. How many could not be sent: a peer's refusal or a full
/// buffer loses a datagram, as the network may.
pub fn send_all(socket: &UdpSocket, list: &mut Vec<(SocketAddr, Bytes)>) -> usize {
    if let [(to, bytes)] = list.as_slice() {
        let failed = usize::from(socket.send_to(bytes, *to).is_err());
        list.clear();
        return failed;
    }
    let names: Vec<socket2::SockAddr> = list.iter().map(|(to, _)| socket2::SockAddr::from(*to)).collect();
    let mut vectors: Vec<libc::iovec> =
        list.iter().map(|(_, b)| libc::iovec { iov_base: b.as_ptr().cast_mut().cast(), iov_len: b.len() }).collect();
    let mut headers: Vec<libc::mmsghdr> = names
        .iter()
        .zip(vectors.iter_mut())
        .map(|(name, vector)| {
            // SAFETY: mmsghdr is a plain C struct, for which zero is a value.
            let mut header: libc::mmsghdr = unsafe { MaybeUninit::zeroed().assume_init() };
            header.msg_hdr.msg_name = name.as_ptr().cast_mut().cast();
            header.msg_hdr.msg_namelen = name.len();
            header.msg_hdr.msg_iov = std::ptr::from_mut(vector);
            header.msg_hdr.msg_iovlen = 1;
            header
        })
        .collect();
    let (mut sent, mut failed) = (0, 0);
    while sent < headers.len() {
        let rest = &mut headers[sent..];
        // SAFETY: each header points to one name and one vector of the lists above, which outlive the call; sending only reads them.
        let n = unsafe { libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as libc::c_uint, libc::MSG_DONTWAIT as _) };
        if n > 0 {
            sent += n.unsigned_abs() as usize;
        } else {
            // The first of the rest cannot go; the others may.
            sent += 1;
            failed += 1;
        }
    }
    list.clear();
    failed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local() -> UdpSocket {
        bind("127.0.0.1:0".parse().unwrap(), 1 << 16).unwrap()
    }

    #[test]
    fn batches_keep_order_addresses_and_say_what_was_cut() {
        let (a, b) = (local(), local());
        let to = b.local_addr().unwrap();
        let mut list: Vec<(SocketAddr, Bytes)> = (0..5u8).map(|i| (to, Bytes::from(vec![i; 10 + usize::from(i) * 30]))).collect();
        assert_eq!(send_all(&a, &mut list), 0);
        assert!(list.is_empty());
        let mut receiver = Receiver::new(4, 100);
        assert_eq!(receiver.receive(&b), 4);
        for i in 0..4usize {
            let d = receiver.get(i).unwrap();
            assert_eq!((d.from, d.bytes.len(), d.cut), (a.local_addr().unwrap(), 10 + i * 30, false));
            assert!(d.bytes.iter().all(|x| usize::from(*x) == i));
        }
        assert_eq!(receiver.receive(&b), 1);
        let last = receiver.get(0).unwrap();
        assert_eq!((last.bytes.len(), last.cut), (100, true));
        assert!(receiver.get(1).is_none());
        assert_eq!(receiver.receive(&b), 0);
    }

    #[test]
    fn the_kernel_says_how_long_a_datagram_has_waited() {
        let (a, b) = (local(), local());
        let mut receiver = Receiver::new(4, 100);
        // The first call makes it stamp, soon: until then it says that nothing has waited.
        assert_eq!(waited(&b), None);
        let says = |ms| {
            let before = std::time::Instant::now();
            a.send_to(b"x", b.local_addr().unwrap()).unwrap();
            std::thread::sleep(Duration::from_millis(ms));
            assert_eq!(receiver.receive(&b), 1);
            let waited = waited(&b).unwrap();
            assert!(waited <= before.elapsed(), "{waited:?}");
            waited >= Duration::from_millis(ms)
        };
        assert!(std::iter::repeat_n(30, 50).any(says));
    }

    #[test]
    fn one_that_cannot_be_sent_does_not_hold_the_others() {
        let (a, b) = (local(), local());
        let to = b.local_addr().unwrap();
        let v6: SocketAddr = "[::1]:9".parse().unwrap();
        let mut list = vec![(to, Bytes::from_static(b"one")), (v6, Bytes::from_static(b"no")), (to, Bytes::from_static(b"two"))];
        assert_eq!(send_all(&a, &mut list), 1);
        let mut receiver = Receiver::new(8, 100);
        assert_eq!(receiver.receive(&b), 2);
        assert_eq!(receiver.get(1).unwrap().bytes, b"two");
    }

    #[test]
    fn a_connected_socket_hears_only_its_peer_until_it_is_disconnected() {
        let (a, b) = (local(), local());
        // By number, as legs do; the port of a socket just closed is free.
        let to = local().local_addr().unwrap();
        let c = bind(to, 1 << 16).unwrap();
        c.connect(a.local_addr().unwrap()).unwrap();
        b.send_to(b"foreign", to).unwrap();
        a.send_to(b"known", to).unwrap();
        let mut receiver = Receiver::new(8, 100);
        assert_eq!(receiver.receive(&c), 1);
        assert_eq!(receiver.get(0).unwrap().bytes, b"known");
        disconnect(&c).unwrap();
        b.send_to(b"foreign", to).unwrap();
        assert_eq!(receiver.receive(&c), 1);
    }
}
