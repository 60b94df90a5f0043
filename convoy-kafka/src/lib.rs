//! The Kafka backend of convoy: lanes on partitions, record keys as sessions.

#![warn(clippy::unwrap_used, clippy::expect_used)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod backend;
mod client;
mod config;
mod consumer;
mod dead;
mod envelope;
mod error;
mod guarantees;
mod hashing;
mod lanes;
mod names;
mod outbox;
mod positions;
mod producer;
mod progress;
mod publisher;
mod reader;
mod rebalance;
mod settle;
mod topology;

pub use backend::KafkaBroker;
pub use config::{Assignor, Options, Sasl, Start};
pub use guarantees::guarantees;
pub use hashing::Hashing;
