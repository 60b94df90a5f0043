//! The in-process broker of convoy: the embedded default, the broker of your unit tests, and the reference of the contracts.

#![warn(clippy::unwrap_used, clippy::expect_used)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod backend;
mod config;
mod consumer;
mod dead;
mod error;
mod faults;
mod gate;
mod guarantees;
mod inspect;
mod producer;
mod settle;
mod state;
mod topology;

pub use backend::MemoryBroker;
pub use config::Options;
pub use faults::{AnswerFault, ChannelFaults, ConsumerId, Faults, GroupFaults, Landing, SendFault, StaleEvent};
pub use inspect::{ChannelStats, GroupStats};
