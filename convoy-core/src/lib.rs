//! The semantics of convoy: messages that share a session id are handled in order, one at a time, by one holder; sessions in parallel.
//!
//! Programs use the facade, `convoy`, which re-exports this crate. Backends implement [`backend`]; what decides is [`engine`], which knows no
//! clock, no I/O and no runtime.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used))]

pub mod backend;
#[cfg(feature = "runtime")]
mod broker;
#[cfg(feature = "runtime")]
mod consumer;
pub mod engine;
mod error;
mod guarantee;
mod lease_cell;
mod message;
mod murmur;
mod observe;
pub mod option;
mod policy;
mod position;
pub mod producer;
#[cfg(feature = "runtime")]
pub mod runtime;
#[cfg(feature = "runtime")]
mod sentinel;
mod session;
mod sync;
mod time;
mod topology;

#[cfg(feature = "runtime")]
pub use broker::{Broker, DeadLetters};
pub use bytes::Bytes;
#[cfg(all(feature = "runtime", feature = "json"))]
pub use consumer::Json;
#[cfg(feature = "runtime")]
pub use consumer::{
    Consumer, ConsumerBuilder, Delivery, Failure, Handler, Lease, Payload, Processor, ProcessorBuilder, Received,
    Report, Router, RouterBuilder, Session, Snapshot, Stuck, Unknown, Versions, WithState, with_state,
};
pub use error::{Error, ErrorKind, Outcome, Result, Scope};
pub use guarantee::{Claim, Guarantee, Guarantees, Support};
pub use message::{Content, Defect, Headers, Inbound, Message, MessageId, MessageType, ProducerId, Redelivered, Stamp};
#[cfg(feature = "runtime")]
pub use observe::TracingObserver;
pub use observe::{Observed, Observer};
pub use policy::{Bound, Bounds, Defective, Exhausted, Foreign, Limited, Retry, Turn};
pub use position::{Fence, Position};
pub use producer::{HaltedMessage, HaltedSession, Receipt, Resume, SendError};
#[cfg(feature = "runtime")]
pub use producer::{Producer, ProducerOptions, SendAllError, Sending, SendingAll};
#[cfg(feature = "runtime")]
pub use runtime::shutdown_signal;
#[cfg(feature = "runtime")]
pub use sentinel::{Deviation, DeviationKind, Sentinel, SentinelCounts, SentinelOptions};
pub use session::{IntoSessionId, SessionId};
pub use time::Moment;
pub use topology::{ChannelSpec, Finding, Severity, Topology};
