//! The seam for whoever watches a producer.

use std::fmt;

use crate::message::Content;
use crate::session::SessionId;

use super::{Receipt, Resume, SendError};

/// Sees what happens in a producer, in the order in which it happens to each session.
///
/// It is called under the producer's lock: return fast, and call nothing of the same producer from within.
pub trait Watch: Send + Sync + 'static {
    /// Something happened.
    fn on(&self, event: &SendEvent<'_>);
}

/// Something that happened in a producer.
#[derive(Debug)]
#[non_exhaustive]
pub enum SendEvent<'a> {
    /// A message was taken and stamped.
    Queued {
        /// Its session.
        session: &'a SessionId,
        /// What it carries.
        content: &'a Content,
        /// Whether it is sent again after a halt.
        again: bool,
    },
    /// The broker has a message.
    Confirmed {
        /// Its session.
        session: &'a SessionId,
        /// Its receipt.
        receipt: &'a Receipt,
    },
    /// A send failed; with no `Queued` before when it was refused at the call.
    Failed {
        /// Why, which message, and whether it may have landed.
        error: &'a SendError,
    },
    /// A halted session goes on.
    Resumed {
        /// The session.
        session: &'a SessionId,
        /// How.
        how: Resume,
    },
}

impl<F: Fn(&SendEvent<'_>) + Send + Sync + 'static> Watch for F {
    fn on(&self, event: &SendEvent<'_>) {
        self(event);
    }
}

impl fmt::Debug for dyn Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}
