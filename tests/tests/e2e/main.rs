//! The stories of the people who use a node, each with the real binary, real sockets, real guests and, where one is named, a real
//! peer. One binary for all, so that it is linked once. The node, the phones and the ears are in `tests/src`.

mod bad_guests;
mod baresip;
mod bridged;
mod bridged_audio;
mod bridged_commands;
mod commands;
mod crash;
mod dialects;
mod h3;
mod hostile;
mod hosts;
mod isolation;
mod langs;
mod menu;
mod openapi;
mod phrases;
mod proxied;
mod recording_faults;
mod remote;
mod routed;
mod simulate;
mod sipp;
mod tcp;
mod tenants;
mod versions;
mod voicemail;
mod webhook;
