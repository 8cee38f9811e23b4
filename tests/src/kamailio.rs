//! Kamailio as a proxy that stays in the path: everything of a dialog goes through it, and its log says what did.

use crate::node::{Node, address, wait_for};
use crate::peer::{require, wait_udp};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

const PORT: u16 = 5060;
/// In front of each line that says what passed.
const MARK: &str = "passed:";

/// Record-routes what begins a dialog, follows the routes of what is within one (RFC 3261 16.4, 16.6). Requests for user `bob` go to
/// where `{bob}` lives, all others to where their Request-URI says.
const CONFIG: &str = r##"
debug=2
log_stderror=yes
fork=yes
children=1
disable_tcp=yes
auto_aliases=no
listen=udp:{self}
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "xlog.so"
loadmodule "siputils.so"
modparam("rr", "enable_full_lr", 1)

request_route {
    xlog("L_ERR", "passed: $rm $ru\n");
    if (method == "CANCEL") {
        if (t_check_trans()) t_relay();
        exit;
    }
    if (has_totag()) {
        if (loose_route()) {
            t_relay();
        } else if (method == "ACK" && t_check_trans()) {
            t_relay();
        } else if (method != "ACK") {
            # A request within a dialog that ignores the routes it was given.
            sl_send_reply("404", "Not here");
        }
        exit;
    }
    record_route();
    if ($rU == "bob") $ru = "{bob}";
    t_relay();
}
"##;

/// Killed when it is dropped.
pub struct Kamailio {
    child: Child,
    sip: SocketAddr,
    log: PathBuf,
}

impl Kamailio {
    /// In front of `bob`, whose address this is.
    pub fn before(node: &Node, bob: &str) -> Kamailio {
        require("kamailio", "kamailio");
        let folder = node.file("kamailio");
        fs::create_dir_all(&folder).expect("a folder");
        let sip = SocketAddr::from((address(), PORT));
        let config = folder.join("kamailio.cfg");
        fs::write(&config, CONFIG.replace("{self}", &sip.to_string()).replace("{bob}", bob)).expect("a config file");
        let log = folder.join("log");
        let out = File::create(&log).expect("a log file");
        let errors = out.try_clone().expect("a second handle");
        // In the foreground, with as little memory as it takes, and with its files where the test's are.
        let mut command = Command::new("kamailio");
        command.arg("-f").arg(&config).args(["-DD", "-E", "-m", "16", "-M", "4", "-Y"]).arg(&folder).current_dir(&folder);
        let child = command.stdin(Stdio::null()).stdout(out).stderr(errors).spawn().expect("kamailio runs");
        let kamailio = Kamailio { child, sip, log };
        wait_udp(sip);
        kamailio
    }

    pub fn sip(&self) -> SocketAddr {
        self.sip
    }

    /// `sip:USER@` it.
    pub fn uri(&self, user: &str) -> String {
        format!("sip:{user}@{}", self.sip)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How many requests of this method it has passed on, those that were sent again not left out.
    pub fn passed(&self, method: &str) -> usize {
        let words = format!("{MARK} {method} ");
        self.log().lines().filter(|line| line.contains(&words)).count()
    }

    /// The last ones may still be on their way into the log.
    #[track_caller]
    pub fn wait_passed(&self, method: &str, times: usize) {
        wait_for(&format!("{times} {method} through the proxy"), || self.passed(method) >= times);
    }
}

impl Drop for Kamailio {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("kamailio said:\n{}", self.log());
        }
        // Its children end with the first process only where that is asked to end.
        let asked = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().is_ok_and(|s| s.success());
        if !asked {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}
