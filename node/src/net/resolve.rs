//! Where a SIP host name leads (RFC 3263): addresses in the order in which to try them.
//!
//! Each look-up is a task on the runtime of TCP, so that the signalling thread never waits for a name server. Start with
//! [`Resolver::resolve`].

use crate::inbox::SwitchInbox;
use crate::limits;
use crate::metrics::{Metrics, add};
use hookswitch_call::Input;
use hookswitch_call::door::Resolve;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::runtime::Handle;
use tokio::time::timeout;

const SIP_PORT: u16 = 5060;

pub struct Resolver {
    handle: Handle,
    inbox: SwitchInbox,
    metrics: Arc<Metrics>,
    under_way: Arc<AtomicUsize>,
}

/// Counts a look-up for as long as its task lives, however that ends.
struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Resolver {
    pub fn new(handle: Handle, inbox: SwitchInbox, metrics: Arc<Metrics>) -> Resolver {
        Resolver { handle, inbox, metrics, under_way: Arc::default() }
    }

    /// The answer where it is known at once (too many are under way); else it comes by the inbox.
    pub fn resolve(&self, wanted: Resolve) -> Option<Input> {
        let (session, number) = (wanted.session, wanted.number);
        if self.under_way.fetch_add(1, Ordering::Relaxed) >= limits::RESOLVING {
            self.under_way.fetch_sub(1, Ordering::Relaxed);
            add(&self.metrics.resolve_failed, 1);
            return Some(Input::Resolved { session, number, addresses: Err("too many names are being looked up".into()) });
        }
        let counted = UnderWay(self.under_way.clone());
        let (inbox, metrics) = (self.inbox.clone(), self.metrics.clone());
        self.handle.spawn(async move {
            let _counted = counted;
            let addresses = timeout(limits::RESOLVE, look_up(&wanted)).await;
            let addresses = addresses.unwrap_or_else(|_| Err("no answer in time".to_owned()));
            add(if addresses.is_ok() { &metrics.resolved } else { &metrics.resolve_failed }, 1);
            inbox.send(Input::Resolved { session, number, addresses });
        });
        None
    }
}

async fn look_up(wanted: &Resolve) -> Result<Vec<SocketAddr>, String> {
    let host = wanted.host.trim_end_matches('.').to_ascii_lowercase();
    if is_localhost(&host) {
        // RFC 6761 6.3: no name server is asked for it.
        let port = wanted.port.unwrap_or(SIP_PORT);
        return Ok(vec![([127, 0, 0, 1], port).into(), (std::net::Ipv6Addr::LOCALHOST, port).into()]);
    }
    let found = tokio::net::lookup_host((host.as_str(), wanted.port.unwrap_or(SIP_PORT))).await.map_err(|error| error.to_string())?;
    let mut seen = BTreeSet::new();
    let addresses: Vec<SocketAddr> = found.filter(|address| seen.insert(*address)).take(limits::RESOLVED).collect();
    if addresses.is_empty() { Err("the name has no address".into()) } else { Ok(addresses) }
}

fn is_localhost(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost")
}
