//! hookswitch: the binary and its I/O shell. Threads, sockets, files, HTTP and storage live here; what a call is lives in
//! `hookswitch-call`, what the wire says in `hookswitch-proto`, what a guest may do in `hookswitch-wasm`.
//!
//! Start with `run.rs` (what is started and who talks to whom).

pub mod api;
pub mod build;
pub mod cli;
pub mod config;
pub mod deliver;
pub mod demo;
mod files;
pub mod guest;
pub mod inbox;
mod jwt;
pub mod limits;
pub mod media;
pub mod metrics;
pub mod net;
pub mod outbox;
pub mod phone;
pub mod prompt;
pub mod prompt_files;
pub mod record;
pub mod reply_keys;
pub mod run;
pub mod simulate;
pub mod speech;
pub mod store;
pub mod switch_thread;
pub mod tenants_file;
pub mod usage;
pub mod versions;
