//! What users hold on the consuming side: a processor that calls a handler, or sessions to pull from.

mod builder;
mod delivery;
mod failure;
mod handler;
mod payload;
mod processor;
mod pull;
mod received;
mod router;
mod run_token;
mod snapshot;

pub use builder::{ConsumerBuilder, ProcessorBuilder};
pub use delivery::Delivery;
pub use failure::Failure;
pub use handler::{Handler, WithState, with_state};
#[cfg(feature = "json")]
pub use payload::Json;
pub use payload::Payload;
pub use processor::Processor;
pub use pull::{Consumer, Session};
pub use received::{Lease, Received};
pub use router::{Router, RouterBuilder, Unknown, Versions};
pub(crate) use run_token::RunToken;
pub use snapshot::{Report, Snapshot, Stuck};
