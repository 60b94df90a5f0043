//! What threads have to tell, until it is asked for.

use std::time::Duration;

use convoy_core::{Error, Result};
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

/// A queue of many writers and one reader that takes all at once.
#[derive(Debug)]
pub(crate) struct Outbox<T> {
    held: Mutex<Held<T>>,
    notify: Notify,
    taken: Condvar,
}

#[derive(Debug)]
struct Held<T> {
    told: Vec<T>,
    failed: Option<Error>,
    closed: bool,
}

impl<T> Outbox<T> {
    pub(crate) fn new() -> Self {
        let held = Held { told: Vec::new(), failed: None, closed: false };
        Self { held: Mutex::new(held), notify: Notify::new(), taken: Condvar::new() }
    }

    pub(crate) fn push(&self, told: T) {
        self.held.lock().told.push(told);
        self.notify.notify_one();
    }

    pub(crate) fn append(&self, told: &mut Vec<T>) {
        if !told.is_empty() {
            self.held.lock().told.append(told);
            self.notify.notify_one();
        }
    }

    /// Waits, on a thread that may, until less than so much is left to take, or for so long.
    pub(crate) fn wait_for_room(&self, most: usize, limit: Duration) {
        let mut held = self.held.lock();
        if held.told.len() >= most && !held.closed && held.failed.is_none() {
            self.taken.wait_for(&mut held, limit);
        }
    }

    /// The reader gets what is left, then this.
    pub(crate) fn fail(&self, error: Error) {
        self.held.lock().failed.get_or_insert(error);
        self.notify.notify_one();
        self.taken.notify_all();
    }

    /// The reader gets what is left, then that it was closed.
    pub(crate) fn close(&self) {
        self.held.lock().closed = true;
        self.notify.notify_one();
        self.taken.notify_all();
    }

    /// Waits for something to take. Cancel safe: it takes and returns in one step.
    pub(crate) async fn take(&self, into: &mut Vec<T>, closed: impl Fn() -> Error) -> Result<()> {
        loop {
            {
                let mut held = self.held.lock();
                if !held.told.is_empty() {
                    into.append(&mut held.told);
                    self.taken.notify_all();
                    return Ok(());
                }
                if let Some(error) = held.failed.take() {
                    return Err(error);
                }
                if held.closed {
                    return Err(closed());
                }
            }
            self.notify.notified().await;
        }
    }
}
