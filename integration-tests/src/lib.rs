//! The conformance suite of convoy: what happened is recorded as a [`history`], which [`watch`] writes from the seams that every program has, and
//! the [`checker`] judges it against the stated guarantees.

pub mod checker;
pub mod history;
pub mod watch;
pub mod sim;
