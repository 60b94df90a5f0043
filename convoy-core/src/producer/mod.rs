//! Sending in order: the order of the calls on one producer is the order in the session, through every failure.
//!
//! [`Pipeline`] decides and knows no clock, no I/O and no runtime; the simulation runs it by the million. `Producer` (feature `runtime`) is what programs hold.
//!
//! # What holds
//! - At most one run of a session is at the broker; sessions pipeline freely beside each other.
//! - **After a failed send nothing later of its session is sent until the session is resumed.** *Every* failure counts, also one that is told at
//!   the call (no room, too large): a caller who sends two messages without looking at the first outcome still never has the second overtake the
//!   first. What was queued behind the failure fails as [`Halted`](crate::ErrorKind::Halted), certainly not applied, and later sends are refused
//!   at once.
//! - What failed and what it held back is kept, in order, until [`Resume`] says what becomes of it. Each is also given back by its [`SendError`].
//! - Nothing waits longer than its deadline. What ran out of time in the queue is certainly not applied; at the broker, its outcome is unknown.
//! - Memory is bounded: at most [`Options::max_queued`] messages are queued and at most as many are added to those that halted sessions keep.
//!   When halted sessions keep that many, every send is refused until some of them are resumed; such a refusal halts nothing, since there is no
//!   room to remember it. Idle sessions are forgotten.

mod bugs;
#[cfg(feature = "runtime")]
mod driver;
mod error;
mod failure;
mod halt;
#[cfg(feature = "runtime")]
mod handle;
mod list;
mod load;
mod nodes;
mod options;
mod pipeline;
mod runs;
#[cfg(feature = "runtime")]
mod sending;
mod sessions;
#[cfg(feature = "runtime")]
mod settings;
#[cfg(feature = "runtime")]
mod shared;
#[cfg(test)]
mod tests;
#[cfg(feature = "runtime")]
mod watch;

#[cfg(feature = "runtime")]
pub use self::{
    handle::Producer,
    sending::{SendAllError, Sending, SendingAll},
    settings::ProducerOptions,
    watch::{SendEvent, Watch},
};
#[cfg(feature = "seeded-bugs")]
pub use bugs::ProducerBug;
pub use error::SendError;
pub use halt::{HaltedMessage, HaltedSession, Resume, Unsettled};
pub use options::Options;
pub use pipeline::{Pipeline, Receipt, SendId};
