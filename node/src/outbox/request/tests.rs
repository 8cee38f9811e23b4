//! What a handler may ask elsewhere and what comes back, over real sockets; and the ways in which one may try to get elsewhere.

use super::super::client::Client;
use super::super::origin::Policy;
use super::*;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tokio::runtime::Runtime;
use tokio_rustls::rustls::RootCertStore;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime"));

const LONG: Duration = Duration::from_secs(60);

/// Answers so many requests with these bytes, and says what was asked.
pub(in crate::outbox) fn server(answers: Vec<Vec<u8>>) -> (SocketAddr, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let thread = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().expect("a connection");
            let (mut request, mut byte) = (Vec::new(), [0]);
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                request.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&request).into_owned();
            let length = head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
            let mut body = vec![0; length];
            stream.read_exact(&mut body).expect("the body");
            asked.push(head + &String::from_utf8_lossy(&body));
            // Whoever has heard enough hangs up.
            let _ = stream.write_all(&answer);
        }
        asked
    });
    (address, thread)
}

fn requests(listed: &[String]) -> Requests {
    with(listed, |client| client)
}

fn with(listed: &[String], change: impl FnOnce(Client) -> Client) -> Requests {
    let listed = listed.to_vec();
    let origins = Arc::new(move |domain: &str| if domain == "a.example" { listed.clone() } else { Vec::new() });
    let client = change(Client::new(RootCertStore::empty()));
    Requests::new(Fetcher::with(Policy { origins, http: true, loopback: None }, client), RUNTIME.handle().clone())
}

fn get(url: impl Into<String>) -> Request {
    Request { method: "GET".into(), url: url.into(), ..Request::default() }
}

fn send(requests: &Requests, domain: &str, request: Request, left: Duration) -> Result<Response, RequestError> {
    // As a guest's thread: without sockets of its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(requests.send(&domain.into(), request, left))
}

#[test]
fn a_request_goes_out_as_it_was_asked_and_every_status_is_an_answer() {
    let (address, thread) = server(vec![
        b"HTTP/1.1 201 Created\r\nX-Id: 7\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".to_vec(),
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone".to_vec(),
        b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n".to_vec(),
    ]);
    let requests = requests(&[format!("http://{address}")]);
    let headers = vec![("content-type".to_owned(), "text/plain".to_owned()), ("X-Token".to_owned(), "t".to_owned())];
    let post = Request { method: "POST".into(), url: format!("http://{address}/a?b=c"), headers, body: b"hello".into(), timeout: None };
    let answer = send(&requests, "a.example", post, LONG).expect("an answer");
    assert_eq!((answer.status, answer.body.as_slice()), (201, b"ok".as_slice()));
    let headers: Vec<(&str, &str)> = answer.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(headers, [("x-id", "7"), ("set-cookie", "a"), ("set-cookie", "b")]);
    let answer = send(&requests, "a.example", get(format!("http://{address}/x")), LONG).expect("an answer");
    assert_eq!((answer.status, answer.body.as_slice()), (404, b"none".as_slice()));
    // Nobody goes where it says.
    let answer = send(&requests, "a.example", get(format!("http://{address}/x")), LONG).expect("an answer");
    assert_eq!(answer.status, 302);
    assert!(answer.headers.contains(&("location".into(), "http://169.254.169.254/".into())));
    let head = Request { method: "HEAD".into(), ..get(format!("http://{address}/x")) };
    assert_eq!(send(&requests, "a.example", head, LONG).expect("an answer").body, b"");
    let asked = thread.join().expect("it answered");
    let first = asked[0].to_lowercase();
    assert!(first.starts_with("post /a?b=c http/1.1\r\n") && first.ends_with("\r\n\r\nhello"), "{first}");
    for line in [&format!("host: {address}"), "x-token: t", "content-type: text/plain", "user-agent: hookswitch/"] {
        assert!(first.contains(line), "{line}: {first}");
    }
}

#[test]
fn nothing_leaves_for_what_is_not_on_the_tenants_list_however_it_is_written() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("set");
    let port = listener.local_addr().expect("bound").port();
    let requests = requests(&[format!("http://127.0.0.1:{port}"), "https://hooks.example.com".to_owned()]);
    let mut urls: Vec<String> = [
        "https://hooks.example.com@evil.example/",
        "https://hooks.example.com:443@169.254.169.254/",
        "https://u:p@hooks.example.com/",
        "https://evil.example/#@hooks.example.com",
        "https://evil.example/?https://hooks.example.com",
        "https://evil.example\\@hooks.example.com/",
        "https://hooks.example.com.evil.example/",
        "https://hooks.example.com:444/",
        "https://hooks.example.com:0/",
        "https://hooks.example.com:+443/",
        "https://hooks.example.com:443443/",
        "https://hooks.example.com:/",
        "https://hooks.example.com\r\nHost: evil.example/",
        "https://hooks.example.com%2eevil.example/",
        "http://hooks.example.com/",
        "http://hooks.example.com:443/",
        "ftp://hooks.example.com/",
        "file:///etc/passwd",
        "//hooks.example.com/",
        "hooks.example.com",
        "http://169.254.169.254/latest/meta-data",
        "http://[fd00:ec2::254]/",
        "",
    ]
    .map(str::to_owned)
    .into();
    // Other ways to write a loopback address: none of them is the origin that is listed.
    for host in [
        "localhost",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.0.0.2",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[2002:7f00:1::]",
        "[fe80::1%25lo]",
    ] {
        urls.push(format!("http://{host}:{port}/"));
    }
    for url in urls {
        let refused = send(&requests, "a.example", get(&url), LONG).expect_err(&url);
        assert!(
            matches!(&refused, RequestError::Denied(why) | RequestError::BadValue(why) if why.starts_with("url: ")),
            "{url}: {refused:?}"
        );
    }
    // What one tenant may, another may not.
    let refused = send(&requests, "b.example", get(format!("http://127.0.0.1:{port}/?key=SECRET")), LONG).expect_err("refused");
    assert!(matches!(&refused, RequestError::Denied(why) if !why.contains("SECRET")), "{refused:?}");
    assert!(listener.accept().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "somebody was connected to");
}

#[test]
fn a_listed_name_may_lead_nowhere_but_to_the_internet_and_is_looked_up_once() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("set");
    let port = listener.local_addr().expect("bound").port();
    let looks = Arc::new(AtomicUsize::new(0));
    let leads = Arc::new(Mutex::new(Vec::<IpAddr>::new()));
    let requests = with(&[format!("http://hooks.example.com:{port}")], |client| {
        let (looks, leads) = (looks.clone(), leads.clone());
        client.looking_up(Box::new(move |host, port| {
            assert_eq!(host, "hooks.example.com");
            // The second time it would lead to what is not to be reached: a name in the hands of somebody else.
            let first = looks.fetch_add(1, Ordering::Relaxed) == 0;
            let ips = if first { leads.lock().expect("whole").clone() } else { vec!["127.0.0.1".parse().expect("an address")] };
            Box::pin(async move { Ok(ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()) })
        }))
    });
    let url = format!("http://hooks.example.com:{port}/?key=SECRET");
    for ips in [
        &["127.0.0.1"][..],
        &["10.0.0.1", "172.16.3.4", "192.168.1.1", "100.64.0.1"],
        &["169.254.169.254", "224.0.0.1", "255.255.255.255", "0.0.0.0"],
        &["::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1"],
        &["::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1"],
        &["64:ff9b::7f00:1", "64:ff9b:1::7f00:1", "2002:7f00:1::", "2001:0:7f00:1::"],
        &[],
    ] {
        *leads.lock().expect("whole") = ips.iter().map(|ip| ip.parse().expect("an address")).collect();
        looks.store(0, Ordering::Relaxed);
        let refused = send(&requests, "a.example", get(&url), LONG).expect_err("refused");
        let RequestError::NotAvailable(why) = &refused else { panic!("{ips:?}: {refused:?}") };
        assert!(why.contains("private address") || ips.is_empty() && why.contains("no address"), "{why}");
        assert!(!why.contains("SECRET") && !ips.iter().any(|ip| why.contains(ip)), "it tells of this network: {why}");
        assert_eq!(looks.load(Ordering::Relaxed), 1, "{ips:?}");
    }
    assert!(listener.accept().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "somebody was connected to");
}

#[test]
fn what_is_too_large_odd_or_late_is_refused_by_name() {
    let most = limits::FETCH_BODY;
    let of = |n: usize| [format!("HTTP/1.1 200 OK\r\nContent-Length: {n}\r\n\r\n").into_bytes(), vec![b'x'; n]].concat();
    let endless = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'x'; most + 1]].concat();
    let (address, thread) = server(vec![of(most), of(most + 1), endless, b"nonsense".to_vec()]);
    let origin = format!("http://{address}");
    let requests = requests(std::slice::from_ref(&origin));
    let url = format!("{origin}/?key=SECRET");
    assert_eq!(send(&requests, "a.example", get(&url), LONG).expect("just fits").body.len(), most);
    for _ in 0..2 {
        assert_eq!(send(&requests, "a.example", get(&url), LONG), Err(RequestError::Limit(format!("body of an answer: {most} bytes"))));
    }
    let broken = send(&requests, "a.example", get(&url), LONG).expect_err("no HTTP");
    assert!(matches!(&broken, RequestError::NotAvailable(why) if why.starts_with(&origin) && !why.contains("SECRET")), "{broken:?}");
    thread.join().expect("it answered");

    let line = |name: &str, value: &str| Request { headers: vec![(name.into(), value.into())], ..get(&url) };
    let table = [
        (Request { method: "CONNECT".into(), ..get(&url) }, "method"),
        (Request { method: "TRACE".into(), ..get(&url) }, "method"),
        (Request { method: "get".into(), ..get(&url) }, "method"),
        (Request { method: "GET /x HTTP/1.1\r\n".into(), ..get(&url) }, "method"),
        (Request { timeout: Some(Duration::ZERO), ..get(&url) }, "timeout-ms"),
        (Request { body: vec![0; most + 1], ..get(&url) }, "body"),
        (get(format!("{origin}/{}", "x".repeat(limits::OUTBOX_URL))), "url"),
        (Request { headers: vec![("a".into(), "b".into()); limits::OUTBOX_HEADERS + 1], ..get(&url) }, "headers"),
        (line("Host", "evil.example"), "headers"),
        (line("Content-Length", "1"), "headers"),
        (line("transfer-encoding", "chunked"), "headers"),
        (line("Connection", "x-token"), "headers"),
        (line("Upgrade", "h2c"), "headers"),
        (line("Proxy-Authorization", "x"), "headers"),
        (line("Hookswitch-Session-Id", "x"), "headers"),
        (line("a", "b\r\nHost: evil.example"), "headers"),
        (line("a b", "c"), "headers"),
    ];
    for (request, field) in table {
        let method = request.method.clone();
        let refused = send(&requests, "a.example", request, LONG).expect_err(field);
        assert!(matches!(&refused, RequestError::BadValue(why) if why.starts_with(field)), "{field} {method}: {refused:?}");
    }
}

#[test]
fn nobody_waits_longer_than_he_said_or_than_is_left_and_who_goes_takes_his_request_along() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let requests = requests(&[format!("http://{address}")]);
    let url = format!("http://{address}/");
    let began = Instant::now();
    let brief = Request { timeout: Some(Duration::from_millis(50)), ..get(&url) };
    assert_eq!(send(&requests, "a.example", brief, LONG), Err(RequestError::Timeout));
    let patient = Request { timeout: Some(LONG), ..get(&url) };
    assert_eq!(send(&requests, "a.example", patient.clone(), Duration::from_millis(70)), Err(RequestError::Timeout));
    assert!(began.elapsed() < LONG, "it waited for as long as it said");

    // The hook is over in the middle of it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let domain = Arc::from("a.example");
    runtime.block_on(async {
        let request = requests.send(&domain, patient, LONG);
        assert!(tokio::time::timeout(Duration::from_millis(100), request).await.is_err());
    });
    for _ in 0..3 {
        let (mut stream, _) = listener.accept().expect("it was there");
        stream.set_read_timeout(Some(LONG)).expect("set");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("closed by him");
    }
}

#[test]
fn a_tenant_has_so_many_requests_under_way_and_others_are_not_held_up() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let origin = format!("http://{}", listener.local_addr().expect("bound"));
    let requests = requests(std::slice::from_ref(&origin));
    let (a, b): (Arc<str>, Arc<str>) = ("a.example".into(), "b.example".into());
    let places: Vec<Place> = (0..limits::FETCHES_OF_TENANT).map(|_| requests.place(&a).unwrap_or_else(|e| panic!("{e}"))).collect();
    let refused = send(&requests, "a.example", get(&origin), LONG);
    assert_eq!(refused, Err(RequestError::Limit(format!("fetches: {} of a tenant at a time", limits::FETCHES_OF_TENANT))));
    assert!(requests.place(&b).is_ok());
    drop(places);
    assert!(requests.place(&a).is_ok());
    let under_way = requests.under_way.lock().expect("whole");
    assert!(under_way.all == 0 && under_way.of_tenant.is_empty());
}
