//! How many handlers may run at once, over all shards.

use crate::sync::{AtomicBool, AtomicUsize, Ordering};

/// Counts free places. Whoever finds none is told of when one is given back by [`Permits::release`] answering `true`.
#[derive(Debug)]
pub(crate) struct Permits {
    most: usize,
    free: AtomicUsize,
    peak: AtomicUsize,
    starved: AtomicBool,
}

impl Permits {
    pub(crate) fn new(most: usize) -> Self {
        let most = most.max(1);
        Self { most, free: AtomicUsize::new(most), peak: AtomicUsize::new(0), starved: AtomicBool::new(false) }
    }

    pub(crate) fn try_acquire(&self) -> bool {
        if self.take() {
            return true;
        }
        self.starved.store(true, Ordering::SeqCst);
        // One that was given back between the two steps would have told nobody.
        self.take()
    }

    fn take(&self) -> bool {
        let taken = self.free.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |free| free.checked_sub(1));
        if let Ok(free) = taken {
            let used = self.most - (free - 1);
            if used > self.peak.load(Ordering::Relaxed) {
                self.peak.fetch_max(used, Ordering::Relaxed);
            }
        }
        taken.is_ok()
    }

    /// Gives one back. Whether somebody found none before, and must be woken.
    #[must_use]
    pub(crate) fn release(&self) -> bool {
        self.free.fetch_add(1, Ordering::SeqCst);
        self.starved.load(Ordering::SeqCst) && self.starved.swap(false, Ordering::SeqCst)
    }

    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// The most that were used at once.
    pub(crate) fn peak(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }
}
