//! As much of HTTP/1.1 as the bench's own clients and servers need, and no more: what is measured is the node's part. Connections are kept.

use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

/// A request or an answer: the first line, and the body.
pub struct Message {
    pub line: String,
    pub body: Vec<u8>,
}

impl Message {
    /// The next one; `None`: the other side is done.
    pub fn read(reader: &mut impl BufRead) -> Result<Option<Message>> {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(None);
        }
        let (mut length, mut line) = (0, String::new());
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            if line == "\r\n" {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        first.truncate(first.trim_end().len());
        Ok(Some(Message { line: first, body }))
    }

    /// The path of a request.
    pub fn path(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }
}

/// A kept connection to a server.
pub struct Client {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
}

impl Client {
    pub fn to(address: SocketAddr) -> Result<Client> {
        let writer = TcpStream::connect(address)?;
        writer.set_nodelay(true)?;
        Ok(Client { reader: BufReader::new(writer.try_clone()?), writer })
    }

    /// Posts JSON and waits for the answer.
    pub fn post(&mut self, path: &str, bearer: &str, body: &str) -> Result<Message> {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {bearer}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.writer.write_all((head + body).as_bytes())?;
        Message::read(&mut self.reader)?.context("the server closed")
    }
}

/// What a server says to a request: the type of the body, and the body.
pub type Answer = (&'static str, Vec<u8>);

/// A server on loopback: each connection has a thread, all on this core. They end when their clients are gone, the server with the process.
pub fn serve(core: usize, answer: impl Fn(&Message) -> Answer + Send + Clone + 'static) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        // Threads started from here inherit the core.
        crate::machine::pin(core)?;
        for stream in listener.incoming() {
            let (stream, answer) = (stream?, answer.clone());
            // A client that is gone has nothing to be told.
            thread::spawn(move || drop(converse(stream, answer)));
        }
        anyhow::Ok(())
    });
    Ok(address)
}

fn converse(stream: TcpStream, answer: impl Fn(&Message) -> Answer) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    while let Some(request) = Message::read(&mut reader)? {
        let (kind, body) = answer(&request);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len());
        writer.write_all(&[head.into_bytes(), body].concat())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_and_a_server_talk_over_one_connection() {
        let address = serve(0, |request| ("text/plain", [request.path().as_bytes(), &request.body].concat())).unwrap();
        let mut client = Client::to(address).unwrap();
        for path in ["/a", "/b"] {
            let answer = client.post(path, "t", "!").unwrap();
            assert_eq!((answer.line.as_str(), answer.body), ("HTTP/1.1 200 OK", format!("{path}!").into_bytes()));
        }
    }
}
