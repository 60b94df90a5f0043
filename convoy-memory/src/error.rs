//! The failures of this broker, each made in one place.

use convoy_core::{Error, ErrorKind, Outcome};

pub(crate) fn invalid_option(name: &str, why: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOption, "memory broker").because(why).with("option", name)
}

pub(crate) fn channel_missing(operation: &'static str, channel: &str) -> Error {
    Error::new(ErrorKind::NotFound, operation).because("the channel does not exist").with("channel", channel)
}

pub(crate) fn group_missing(operation: &'static str, channel: &str, group: &str) -> Error {
    Error::new(ErrorKind::NotFound, operation)
        .because("the consumer group does not exist")
        .with("channel", channel)
        .with("group", group)
}

pub(crate) fn closed(operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, operation)
}

/// The limit passed while the session was somebody else's.
pub(crate) fn not_in_time() -> Error {
    Error::new(ErrorKind::Timeout, "accept")
        .because("another consumer held the session until the limit")
        .with_outcome(Outcome::NotApplied)
}

pub(crate) fn disconnected(operation: &'static str) -> Error {
    Error::new(ErrorKind::Disconnected, operation)
}

pub(crate) fn no_answer(operation: &'static str) -> Error {
    Error::new(ErrorKind::Timeout, operation).because("the broker did not answer in time")
}

pub(crate) fn refused(operation: &'static str) -> Error {
    Error::new(ErrorKind::Refused, operation)
}

pub(crate) fn unknown(operation: &'static str) -> Error {
    Error::new(ErrorKind::OutcomeUnknown, operation)
}

pub(crate) fn no_two_lanes() -> Error {
    Error::new(ErrorKind::Unsupported, "foreign message")
        .because("a message is misrouted only where there are two lanes")
}

pub(crate) fn lock_lost(operation: &'static str) -> Error {
    Error::new(ErrorKind::LockLost, operation)
}

pub(crate) fn named_on_lanes() -> Error {
    Error::new(ErrorKind::Unsupported, "accept").because("a broker with lanes assigns lanes and no single sessions")
}

pub(crate) fn too_large(operation: &'static str, size: usize, most: usize) -> Error {
    Error::new(ErrorKind::TooLarge, operation).with("bytes", size).with("most", most)
}

/// Its sender had stopped waiting before the broker got it.
pub(crate) fn too_late() -> Error {
    Error::new(ErrorKind::Timeout, "send").with_outcome(Outcome::NotApplied)
}

pub(crate) fn full(channel: &str, messages: u64, bytes: u64) -> Error {
    Error::new(ErrorKind::Backpressure, "send")
        .because("the channel is full")
        .with("channel", channel)
        .with("messages", messages)
        .with("bytes", bytes)
}

pub(crate) fn topology(channel: &str, findings: &[String]) -> Error {
    Error::new(ErrorKind::Topology, "open consumer").because(findings.join("; ")).with("channel", channel)
}
