//! Whether the broker answers at all: it does unless a fault froze it.

use std::sync::atomic::{AtomicBool, Ordering};

use convoy_core::runtime::instant;
use convoy_core::{Moment, Result};
use tokio::sync::Notify;
use tokio::time::timeout_at;

use crate::error;

/// Closed while the broker is frozen.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    frozen: AtomicBool,
    thawed: Notify,
}

impl Gate {
    pub(crate) fn is_open(&self) -> bool {
        !self.frozen.load(Ordering::Acquire)
    }

    pub(crate) fn freeze(&self) {
        self.frozen.store(true, Ordering::Release);
    }

    pub(crate) fn thaw(&self) {
        self.frozen.store(false, Ordering::Release);
        self.thawed.notify_waiters();
    }

    /// Waits until the broker answers, at most until then.
    pub(crate) async fn pass(&self, operation: &'static str, until: Moment) -> Result<()> {
        loop {
            let thawed = self.thawed.notified();
            if self.is_open() {
                return Ok(());
            }
            if timeout_at(instant(until), thawed).await.is_err() {
                return Err(error::no_answer(operation));
            }
        }
    }
}
