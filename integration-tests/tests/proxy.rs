//! The proxy that spoils links: on real sockets of this machine, in real time, each wait with a limit.

#[path = "proxy/ends.rs"]
mod ends;
#[path = "proxy/link.rs"]
mod link;
#[path = "proxy/stage.rs"]
mod stage;
