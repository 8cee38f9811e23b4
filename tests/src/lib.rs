//! What the end-to-end tests are made of: the real binary on addresses of its own, phones, peers from Debian, ears.
//!
//! Nothing here looks inside the node: it is driven by its command line, its sockets and its HTTP interface, as a user does. The
//! stories are in `tests/tests/e2e/`; start with [`node::Node`].

pub mod audio;
pub mod faults;
pub mod guests;
pub mod kamailio;
pub mod link;
pub mod node;
pub mod pcap;
pub mod peer;
pub mod receiver;
pub mod s3;
pub mod sipp;
pub mod tshark;
pub mod wire;
