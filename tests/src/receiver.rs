//! A receiver of the node's posts: a real HTTP server that takes everything, and says what came.

use serde_json::Value;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// One post.
#[derive(Clone, Debug)]
pub struct Posted {
    pub path: String,
    /// Header lines, lower case.
    pub headers: String,
    pub body: Value,
}

/// Ends with the process; each test has its own.
pub struct Receiver {
    address: SocketAddr,
    posted: Arc<Mutex<Vec<Posted>>>,
}

impl Receiver {
    /// On an address that nobody else has. GET requests get `file`.
    pub fn start(ip: Ipv4Addr, file: Vec<u8>) -> Receiver {
        let listener = TcpListener::bind((ip, 0)).expect("an address of its own");
        let address = listener.local_addr().expect("it is bound");
        let posted = Arc::<Mutex<Vec<Posted>>>::default();
        let list = posted.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(stream, &file, &list);
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

/// One request of a connection, as the outbox sends them.
fn answer(mut stream: TcpStream, file: &[u8], list: &Mutex<Vec<Posted>>) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let answer = if head.starts_with("get ") {
        [format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", file.len()).as_bytes(), file].concat()
    } else {
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).is_err() {
            return;
        }
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        list.lock().unwrap_or_else(PoisonError::into_inner).push(Posted { path, headers: head, body });
        b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n".to_vec()
    };
    // Whoever does not read it has what he wanted.
    let _ = stream.write_all(&answer);
}
