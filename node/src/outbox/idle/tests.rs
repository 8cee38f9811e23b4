//! Which connection serves whose next request, and until when.

use super::*;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

fn key(domain: &str) -> Key {
    (domain.to_owned(), "https://a.example".to_owned())
}

async fn open() -> (Open, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(1024);
    (Open::handshake(TokioIo::new(ours)).await.expect("HTTP"), theirs)
}

async fn ask(open: &mut Open, theirs: &mut DuplexStream) -> u16 {
    let answer = open.sender.send_request(hyper::Request::new(Full::default()));
    let server = async {
        let mut request = [0; 256];
        assert!(theirs.read(&mut request).await.expect("a request") > 0);
        theirs.write_all(ANSWER).await.expect("written");
    };
    let (answer, ()) = tokio::join!(answer, server);
    answer.expect("an answer").status().as_u16()
}

#[tokio::test]
async fn ic_016_a_connection_serves_its_own_tenants_next_request_for_a_while() {
    let idle = Idle::default();
    let (mut first, mut theirs) = open().await;
    assert_eq!(ask(&mut first, &mut theirs).await, 200);
    idle.put(key("a.example"), first);
    assert!(idle.take(&key("b.example")).await.is_none(), "another tenant's");
    let mut again = idle.take(&key("a.example")).await.expect("it is open");
    assert_eq!(ask(&mut again, &mut theirs).await, 200);
    assert!(idle.take(&key("a.example")).await.is_none(), "it is in use");
    idle.put(key("a.example"), again);
    tokio::time::sleep(limits::FETCH_IDLE * 2 + Duration::from_millis(500)).await;
    assert!(idle.take(&key("a.example")).await.is_none());
    assert_eq!(theirs.read(&mut [0; 1]).await.expect("closed"), 0, "nobody closed it");
}

#[tokio::test]
async fn one_that_the_other_side_closed_is_not_given_out() {
    let idle = Idle::default();
    let (mut first, mut theirs) = open().await;
    assert_eq!(ask(&mut first, &mut theirs).await, 200);
    idle.put(key("a.example"), first);
    drop(theirs);
    // Its driver looks when the runtime lets it.
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(idle.take(&key("a.example")).await.is_none());
}

#[tokio::test]
async fn no_more_are_kept_than_are_used_at_a_time() {
    let idle = Idle::default();
    let mut others = Vec::new();
    for _ in 0..limits::FETCH_IDLE_CONNECTIONS + 5 {
        let (mut one, mut theirs) = open().await;
        assert_eq!(ask(&mut one, &mut theirs).await, 200);
        idle.put(key("a.example"), one);
        others.push(theirs);
    }
    assert_eq!(idle.lock().open[&key("a.example")].len(), limits::FETCH_IDLE_CONNECTIONS);
}
