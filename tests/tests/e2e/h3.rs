//! A deploy over a poor link: loss, delay, a slow line, and a client whose address changes while it uploads.

use hookswitch_tests::link::{Link, Quality};
use hookswitch_tests::node::{TOKEN, binary, component, root, wait_for};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const NODE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 99, 1, 1);
const MOVED: Ipv4Addr = Ipv4Addr::new(10, 99, 1, 2);
const DOMAIN: &str = "demo.localhost";

/// A node at the far end of a link, with a certificate that the test's authority signed.
struct Edge {
    link: Link,
    node: Child,
    folder: tempfile::TempDir,
}

impl Drop for Edge {
    fn drop(&mut self) {
        let _ = self.node.kill();
        let _ = self.node.wait();
        if std::thread::panicking() {
            eprintln!("the node's log:\n{}", std::fs::read_to_string(self.folder.path().join("node.log")).unwrap_or_default());
        }
    }
}

fn tls(name: &str) -> PathBuf {
    root().join("node/src/api/testdata/tls").join(name)
}

fn run(link: &Link, folder: &Path) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(folder.join("node.log")).expect("a log file");
    let mut run = Command::new(binary());
    run.args(["run", "--demo"])
        .current_dir(folder)
        .env("HOOKSWITCH_API_LISTEN", format!("{NODE}:8080"))
        .env("HOOKSWITCH_API_TLS_CERT", tls("node.pem"))
        .env("HOOKSWITCH_API_TLS_KEY", tls("node.key"))
        .env("HOOKSWITCH_ADMIN_TOKEN", TOKEN)
        .env("HOOKSWITCH_DEMO_GUEST", component("menu"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a second handle"))
        .stderr(log);
    link.far.run(move || run.spawn()).expect("the node starts")
}

impl Edge {
    fn new(quality: Quality) -> Edge {
        let link = Link::new(CLIENT, NODE, quality, 7);
        let folder = tempfile::Builder::new().prefix("hookswitch-e2e-").tempdir().expect("a folder");
        let node = run(&link, folder.path());
        let edge = Edge { link, node, folder };
        wait_for("the node to answer", || edge.start(&["tenant", "list"]).wait_with_output().is_ok_and(|output| output.status.success()));
        edge
    }

    /// After it was killed.
    fn restart(&mut self) {
        self.node = run(&self.link, self.folder.path());
    }

    /// The command line at the near end.
    fn start(&self, arguments: &[&str]) -> Child {
        let mut command = Command::new(binary());
        command
            .args(arguments)
            .args(["--api", &format!("https://{NODE}:8080"), "--ca"])
            .arg(tls("ca.pem"))
            .env("HOOKSWITCH_ADMIN_TOKEN", TOKEN)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        self.link.near.run(move || command.spawn()).expect("the binary runs")
    }

    /// A real component that is larger than they are, other bytes for each number. Its last section is nobody's.
    fn large(&self, bytes: usize, number: u8) -> PathBuf {
        let mut component = std::fs::read(component("hello")).expect("built");
        let mut section = vec![3, b'p', b'a', b'd'];
        let mut seed = u32::from(number);
        section.extend((0..bytes).map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        }));
        component.push(0);
        let mut length = section.len();
        while length >= 0x80 {
            component.push(length as u8 | 0x80);
            length >>= 7;
        }
        component.push(length as u8);
        component.extend(section);
        let path = self.folder.path().join(format!("large-{number}.wasm"));
        std::fs::write(&path, component).expect("written");
        path
    }

    fn push(&self, component: &Path, more: &[&str]) -> Child {
        let path = component.to_str().expect("our paths are UTF-8");
        self.start(&[&["guest", "push", path, "--domain", DOMAIN], more].concat())
    }
}

/// What a command that succeeded has said.
#[track_caller]
fn says(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, complained) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}{complained}");
    (said, complained)
}

fn poor(lost_percent: u64) -> Quality {
    Quality { lost_percent, delay: Duration::from_millis(40), bits_per_second: 4_000_000 }
}

#[test]
fn a_component_arrives_over_a_link_that_loses_packets() {
    const BYTES: usize = 1 << 20;
    for lost in [10, 20] {
        let edge = Edge::new(poor(lost));
        for (number, over, more) in [(1, "HTTP/3", &["--h3"][..]), (2, "HTTP/1.1", &[])] {
            let component = edge.large(BYTES, number);
            let begun = Instant::now();
            let output = edge.push(&component, more).wait_with_output().expect("it ends");
            let took = begun.elapsed();
            println!("{lost} % lost, 2 x 40 ms, 4 Mbit/s: 1 MiB over {over} in {:.1} s", took.as_secs_f64());
            // What becomes of it over HTTP/1.1 is a matter of TCP, and only measured.
            if over == "HTTP/3" {
                assert!(says(&output).0.contains("active: new calls get it"), "{output:?}");
            }
        }
    }
}

#[test]
fn an_upload_lives_on_when_the_clients_address_changes() {
    let mut edge = Edge::new(poor(10));
    let component = edge.large(2 << 20, 3);
    let before = edge.link.passed();
    let mut push = edge.push(&component, &["--h3"]);
    wait_for("a part of the upload", || edge.link.passed() - before > 600_000);
    assert!(push.try_wait().expect("it can be asked").is_none(), "it is under way");
    let begun = Instant::now();
    edge.link.near.move_to(MOVED, Duration::from_secs(2));
    let (said, complained) = says(&push.wait_with_output().expect("it ends"));
    assert!(said.contains("active: new calls get it"), "{said}");
    assert_eq!(complained, "", "the connection did not have to be made again");
    println!("the rest after another address: {:.1} s", begun.elapsed().as_secs_f64());
}

#[test]
fn a_push_whose_connection_broke_is_made_again() {
    let mut edge = Edge::new(poor(0));
    let component = edge.large(1 << 20, 4);
    let before = edge.link.passed();
    let push = edge.push(&component, &["--h3"]);
    wait_for("a part of the upload", || edge.link.passed() - before > 200_000);
    // A node that restarts knows nothing of connections of before: the client hears nothing for a while, and begins again.
    edge.node.kill().expect("it runs");
    edge.node.wait().expect("it ended");
    edge.restart();
    let (said, complained) = says(&push.wait_with_output().expect("it ends"));
    assert!(said.contains("active: new calls get it"), "{said}");
    assert!(complained.contains("again"), "{complained}");
}
