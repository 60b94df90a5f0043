//! The in-process broker of convoy: the embedded default, the broker of your unit tests, and the reference of the contracts.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]
#![warn(clippy::unwrap_used, clippy::expect_used)]

mod backend;
mod config;
mod consumer;
mod dead;
mod error;
mod gate;
mod guarantees;
mod inspect;
mod producer;
mod settle;
mod state;
mod topology;

pub use backend::MemoryBroker;
pub use config::Options;
pub use inspect::{ChannelStats, GroupStats};
