//! The conformance suite of convoy: what happened is recorded as a [`history`], and the
//! [`checker`] judges it against the stated guarantees.

pub mod checker;
pub mod history;
