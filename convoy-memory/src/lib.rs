//! The in-process broker of convoy: the embedded default, the broker of your unit tests, and the reference of the contracts.
//!
//! It keeps the promise that convoy makes of every broker, within one process: messages of a session in order, at least once, one holder at
//! a time, stale settlements refused. Programs reach it by `convoy::connect("memory://name")`, and find this crate as `convoy::memory`. What
//! is sent is gone when the process ends, and when nobody is connected any more.
//!
//! # Two shapes of broker
//!
//! | | `memory://name` | `memory://name?lanes=8` |
//! |---|---|---|
//! | like | Service Bus | Kafka, RabbitMQ |
//! | a lock covers | one session; a consumer asks for the next free one, or for one by name | one lane with all its sessions; shared out evenly among the consumers of the group |
//! | a session belongs to | whoever holds its lock | the lane that its [stable hash](convoy_core::SessionId::stable_hash) names |
//! | settled | each message, in order | a watermark, and what is done above it |
//! | dead-lettered | copied and settled in one step | copied, then settled |
//! | session state | yes, fenced by the lock, 64 KiB | no |
//! | when a consumer comes or goes | nothing moves | lanes move: the holder is told, drains, and gives them back within `handover` |
//!
//! A lock runs out `lock` after it was won or renewed last (30 s by default), on tokio's clock. A consumer that is dropped is a connection
//! that died: its locks are free at once. One that is closed lets them run out. What is offered again begins at the first message that is
//! not settled, and says how often it was handed over.
//!
//! # Groups and bounds
//!
//! Each consumer group sees every message that is sent after the group was made; the first group of a channel also sees what was sent
//! before. A message is stored once and kept until every group has settled it. A channel is bounded (`capacity`, `capacity_bytes`); a full one
//! refuses a send as [`Backpressure`](convoy_core::ErrorKind::Backpressure), and loses nothing. On lanes a message counts until the watermark
//! of its lane has passed it, so that one session that stands still keeps its lane's later messages in memory. A session without messages,
//! holder and state costs nothing. [`Options`] lists what can be set; [`MemoryBroker::stats`] shows what is there.
//!
//! What it does not do: nothing is written to a disk, there is no parking store, and attempts do not outlive the process.
//! [`guarantees`](convoy_core::backend::Backend::guarantees) says it by name.
//!
//! # In your own unit tests
//!
//! Give each test a broker of its own, and pause tokio's clock (its feature `test-util`): locks, retries and time-outs then run on a clock that
//! jumps as soon as everybody waits. [`Faults`] makes the broker misbehave in the ways real ones do. Here the answer to the first settlement is
//! lost, so that the consumer cannot know whether the broker has it; and the handler of the second message fails twice.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use convoy_core::{Broker, Failure, Message, Received, Retry};
//! use convoy_memory::{AnswerFault, MemoryBroker};
//! use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
//!
//! async fn bill(seen: Arc<UnboundedSender<(String, u32)>>, order: Received<String>) -> Result<(), Failure> {
//!     tokio::time::sleep(Duration::from_secs(20)).await;
//!     let attempt = order.attempt();
//!     seen.send((order.body.clone(), attempt)).ok();
//!     if order.body == "ship" && attempt < 3 { Err(Failure::retry("not now")) } else { Ok(()) }
//! }
//!
//! // #[tokio::test(start_paused = true)]
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let memory = MemoryBroker::new();
//!     let broker = Broker::new(memory.clone());
//!     memory.faults().group("orders", "billing")?.settlements(1, AnswerFault::AnswerLost);
//!
//!     let orders = broker.producer("orders").await?;
//!     orders.send_all([Message::new("order-17", "pay")?, Message::new("order-17", "ship")?]).await?;
//!
//!     let (seen, mut handled) = unbounded_channel();
//!     let handler = convoy_core::with_state(Arc::new(seen), bill);
//!     let retry = Retry::exponential(Duration::from_secs(1)..Duration::from_secs(60));
//!     let processor = broker.consumer("orders").group("billing").processor().retry(retry).start(handler).await?;
//!
//!     while memory.stats("orders").is_some_and(|orders| orders.messages > 0) {
//!         tokio::time::sleep(Duration::from_secs(1)).await;
//!     }
//!     processor.drain().await?;
//!     let all: Vec<_> = std::iter::from_fn(|| handled.try_recv().ok()).collect();
//!     let (pay, ship) = ("pay".to_owned(), "ship".to_owned());
//!     assert_eq!(all, [(pay, 1), (ship.clone(), 1), (ship.clone(), 2), (ship, 3)]);
//!     Ok(())
//! }
//! ```
//!
//! Under the paused clock no real time passes: this takes milliseconds, though the handler sleeps for more than a minute.

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
