//! A storage that tenants' recordings go to: a real S3 server (`s3s-fs`) over a folder, which can be away, answer errors or not answer at all.

use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tempfile::TempDir;
use tokio::sync::oneshot;

pub const BUCKET: &str = "calls";
pub const KEY_ID: &str = "AKIAENDTOEND";
pub const SECRET: &str = "end-to-end-storage-secret";

/// What stands before the server.
#[derive(Default)]
struct Door {
    /// Answered in place of an answer; zero: nothing is.
    status: AtomicU16,
    /// Requests whose URL holds this text are never answered, and do not reach the server.
    silent: Mutex<Option<String>>,
    /// What was asked, whatever became of it.
    asked: Mutex<Vec<String>>,
}

impl Door {
    fn silent(&self, url: &str) -> bool {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(|text| url.contains(text))
    }
}

pub struct S3 {
    folder: Arc<TempDir>,
    address: SocketAddr,
    door: Arc<Door>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl S3 {
    /// On an address that nobody else has.
    pub fn start(ip: Ipv4Addr) -> S3 {
        let folder = tempfile::Builder::new().prefix("hookswitch-s3-").tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join(BUCKET)).expect("a bucket");
        let mut s3 = S3 { folder: Arc::new(folder), address: (ip, 9000).into(), door: Arc::default(), running: None };
        s3.come_back();
        s3
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn go_away(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            let _ = stop.send(());
            thread.join().expect("the storage does not panic");
        }
    }

    pub fn come_back(&mut self) {
        let socket = TcpListener::bind(self.address).expect("an address of its own");
        socket.set_nonblocking(true).expect("a socket");
        let (stop, stopped) = oneshot::channel();
        let (folder, door) = (self.folder.clone(), self.door.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder.path()).expect("a folder"));
            builder.set_auth(SimpleAuth::from_single(KEY_ID, SECRET));
            let service = builder.build();
            runtime.block_on(async {
                tokio::select! { () = serve(socket, service, door) => {}, _ = stopped => {} }
            });
        });
        self.running = Some((stop, thread));
    }

    /// From now on every request gets this status.
    pub fn answers(&self, status: u16) {
        self.door.status.store(status, Ordering::SeqCst);
    }

    /// From now on whoever asks for a URL with this text waits for ever.
    pub fn keeps_silent_about(&self, text: &str) {
        *self.door.silent.lock().unwrap_or_else(PoisonError::into_inner) = Some(text.to_owned());
    }

    /// From now on requests get what they ask for.
    pub fn works(&self) {
        self.answers(0);
        *self.door.silent.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// How often somebody asked by this method for a URL with all of these texts.
    pub fn asked(&self, method: &str, texts: &[&str]) -> usize {
        let asked = self.door.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().filter(|line| line.starts_with(method) && texts.iter().all(|text| line.contains(text))).count()
    }

    /// What lies below this key, by name.
    pub fn objects(&self, key: &str) -> Vec<(String, Vec<u8>)> {
        let Ok(entries) = std::fs::read_dir(self.folder.path().join(BUCKET).join(key)) else { return Vec::new() };
        let object = |entry: std::fs::DirEntry| Some((entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).ok()?));
        let mut objects: Vec<_> = entries.flatten().filter_map(object).collect();
        objects.sort();
        objects
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.go_away();
    }
}

async fn serve(socket: TcpListener, service: S3Service, door: Arc<Door>) {
    let socket = tokio::net::TcpListener::from_std(socket).expect("a socket");
    loop {
        let Ok((stream, _)) = socket.accept().await else { continue };
        let (service, door) = (service.clone(), door.clone());
        let answer = service_fn(move |request: Request<Incoming>| {
            let (service, door) = (service.clone(), door.clone());
            async move {
                let asked = format!("{} {}", request.method(), request.uri());
                let silent = door.silent(&asked);
                door.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
                if silent {
                    std::future::pending::<()>().await;
                }
                match door.status.load(Ordering::SeqCst) {
                    0 => Service::call(&service, request).await,
                    // As Amazon's server says that it is asked too often.
                    503 => {
                        let body = s3s::Body::from(
                            "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>".to_owned(),
                        );
                        Ok(Response::builder().status(503).body(body).expect("a response"))
                    }
                    status => Ok(Response::builder().status(status).body(s3s::Body::empty()).expect("a response")),
                }
            }
        });
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    }
}
