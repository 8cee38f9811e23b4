//! A receiver of the node's posts: a real HTTP server that takes everything, and says what came.

use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// One request.
#[derive(Clone, Debug)]
pub struct Posted {
    pub path: String,
    /// Header lines, lower case.
    pub headers: String,
    pub body: Value,
}

impl Posted {
    pub fn is_get(&self) -> bool {
        self.headers.starts_with("get ")
    }
}

/// Ends with the process; each test has its own.
pub struct Receiver {
    address: SocketAddr,
    posted: Arc<Mutex<Vec<Posted>>>,
}

impl Receiver {
    /// On an address that nobody else has. GET requests get `file`.
    pub fn start(ip: Ipv4Addr, file: Vec<u8>) -> Receiver {
        Receiver::serving(ip, move |request| if request.is_get() { Some(file.clone()) } else { None })
    }

    /// An application: what each of its pages answers, by path. Others have nothing to say.
    pub fn application(ip: Ipv4Addr, pages: &[(&str, &str)]) -> Receiver {
        let pages: BTreeMap<String, String> = pages.iter().map(|(path, body)| (format!("/{path}"), (*body).to_owned())).collect();
        Receiver::serving(ip, move |request| pages.get(&request.path).map(|body| body.clone().into_bytes()))
    }

    fn serving(ip: Ipv4Addr, answers: impl Fn(&Posted) -> Option<Vec<u8>> + Send + 'static) -> Receiver {
        let listener = TcpListener::bind((ip, 0)).expect("an address of its own");
        let address = listener.local_addr().expect("it is bound");
        let posted = Arc::<Mutex<Vec<Posted>>>::default();
        let list = posted.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(stream, &answers, &list);
            }
        });
        Receiver { address, posted }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// What came so far to this path.
    pub fn posted(&self, path: &str) -> Vec<Posted> {
        let all = self.posted.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter(|posted| posted.path == format!("/{path}")).cloned().collect()
    }
}

/// One request of a connection, as the node sends them.
fn answer(mut stream: TcpStream, answers: &impl Fn(&Posted) -> Option<Vec<u8>>, list: &Mutex<Vec<Posted>>) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let head = head.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    if stream.read_exact(&mut body).is_err() {
        return;
    }
    // What a page that is asked by GET is told stands in the query.
    let told = target.split_once("instance_info=").map(|(_, argument)| decoded(argument)).unwrap_or(body);
    let path = target.split('?').next().unwrap_or_default().to_owned();
    let request = Posted { path, headers: head, body: serde_json::from_slice(&told).unwrap_or(Value::Null) };
    let answer = match answers(&request) {
        Some(body) => {
            [format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes(), body].concat()
        }
        None => b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n".to_vec(),
    };
    list.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    // Whoever does not read it has what he wanted.
    let _ = stream.write_all(&answer);
}

/// An argument of a query (RFC 3986 2.1).
fn decoded(text: &str) -> Vec<u8> {
    let (mut bytes, mut left) = (Vec::new(), text.as_bytes());
    while let [first, rest @ ..] = left {
        let hex = rest.get(..2).filter(|_| *first == b'%').and_then(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
        bytes.push(hex.unwrap_or(*first));
        left = if hex.is_some() { &rest[2..] } else { rest };
    }
    bytes
}
