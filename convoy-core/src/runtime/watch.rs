//! Whether the timer task looks after a shard's worker, and since when that worker is in one poll.

use crate::sync::{AtomicBool, AtomicU64, Ordering};
use crate::time::Moment;

/// Shared between a shard's worker, whoever brings it work, and the timer task.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The worker that polls in place; one of another number is to end.
    worker: AtomicU64,
    /// Since when it is in a poll, in nanoseconds; zero between polls.
    polling_since: AtomicU64,
    /// Whether the timer task looks after it.
    watched: AtomicBool,
}

impl Watch {
    /// Work waits while the worker may be stuck. Whether the timer task must be told: it does not look after it yet.
    #[must_use]
    pub(super) fn ask(&self) -> bool {
        !self.watched.load(Ordering::SeqCst) && !self.watched.swap(true, Ordering::SeqCst)
    }

    pub(super) fn is_watched(&self) -> bool {
        self.watched.load(Ordering::SeqCst)
    }

    /// Stops looking. Whoever brings work from now on asks again; the caller looks once more for what was brought before.
    pub(super) fn rest(&self) {
        self.watched.store(false, Ordering::SeqCst);
    }

    /// The worker enters a poll.
    pub(super) fn enters_poll(&self, at: Moment) {
        self.polling_since.store(at.as_nanos(), Ordering::SeqCst);
    }

    /// A worker comes back from a poll. One that has a successor leaves the mark alone.
    pub(super) fn leaves_poll(&self, worker: u64) {
        if !self.is_superseded(worker) {
            self.polling_since.store(0, Ordering::SeqCst);
        }
    }

    pub(super) fn polling_since(&self) -> Option<Moment> {
        match self.polling_since.load(Ordering::SeqCst) {
            0 => None,
            since => Some(Moment::from_nanos(since)),
        }
    }

    /// The worker is given up: the number of its successor.
    pub(super) fn supersede(&self) -> u64 {
        self.polling_since.store(0, Ordering::SeqCst);
        self.worker.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(super) fn is_superseded(&self, worker: u64) -> bool {
        self.worker.load(Ordering::SeqCst) != worker
    }
}
