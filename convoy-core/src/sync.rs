//! The primitives of what is concurrent here: `tests/interleavings.rs` builds the same files on a scheduler that tries their interleavings.

#[cfg(feature = "runtime")]
pub(crate) use parking_lot::Mutex;
#[cfg(feature = "runtime")]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize};
pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
