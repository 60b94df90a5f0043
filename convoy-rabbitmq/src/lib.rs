//! The RabbitMQ backend of convoy: lanes on quorum queues with a single active consumer.

#![warn(clippy::unwrap_used, clippy::expect_used)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod backend;
mod config;
mod connection;
mod consumer;
mod dead;
mod envelope;
mod error;
mod guarantees;
mod lane;
mod members;
mod names;
mod outbox;
mod producer;
mod settle;
mod spread;
mod topology;

pub use backend::RabbitBroker;
pub use config::Options;
