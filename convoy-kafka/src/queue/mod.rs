//! The queue of one lane, which is read or left alone: what is left alone stays in it, and the client library fetches no more than it may hold.
//!
//! Two ways of reading it, with the same face: in batches, which the client library offers in C alone (`batch`, the only unsafe code of the project), and one by one (`single`, with the feature
//! `safe-queue`), about half a microsecond a record slower.

use std::fmt;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

#[cfg(not(feature = "safe-queue"))]
mod batch;
#[cfg(feature = "safe-queue")]
mod single;

#[cfg(not(feature = "safe-queue"))]
pub(crate) use batch::Queue;
#[cfg(feature = "safe-queue")]
pub(crate) use single::Queue;

/// So many records at most are read from a queue in one go.
pub(crate) const BATCH: usize = 256;

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Queue")
    }
}

/// Says that there is something to read.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    pub(crate) fn ring(&self) {
        *self.rung.lock() = true;
        self.heard.notify_one();
    }

    /// Waits until it rings, or has rung since this was asked last, or for so long.
    pub(crate) fn wait(&self, limit: Duration) {
        let mut rung = self.rung.lock();
        if !*rung {
            self.heard.wait_for(&mut rung, limit);
        }
        *rung = false;
    }
}
