//! The broker against the rules of the contract, by its own events and commands, under paused time.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod faults;
mod lanes;
mod random;
mod sends;
mod sessions;
mod support;
mod topology;
