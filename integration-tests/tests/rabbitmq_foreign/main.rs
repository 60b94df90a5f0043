//! Publishers that are not convoy's, on a real broker: one in another language that hashes as convoy does, and those that cannot hash.

mod entry;
#[path = "../support/http.rs"]
mod http;
mod python;
mod vhost;
