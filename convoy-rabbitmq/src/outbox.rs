//! What tasks have to tell, until it is asked for.

use convoy_core::{Error, Result};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// A queue of many writers and one reader that takes all at once.
#[derive(Debug)]
pub(crate) struct Outbox<T> {
    held: Mutex<Held<T>>,
    notify: Notify,
}

#[derive(Debug)]
struct Held<T> {
    told: Vec<T>,
    failed: Option<Error>,
    closed: bool,
}

impl<T> Outbox<T> {
    pub(crate) fn new() -> Self {
        Self { held: Mutex::new(Held { told: Vec::new(), failed: None, closed: false }), notify: Notify::new() }
    }

    pub(crate) fn push(&self, told: T) {
        self.held.lock().told.push(told);
        self.notify.notify_one();
    }

    /// Tells what is made while nobody else can tell anything: for what has to be told in the order of its numbers.
    pub(crate) fn push_with<R>(&self, make: impl FnOnce() -> (T, R)) -> R {
        let mut held = self.held.lock();
        let (told, made) = make();
        held.told.push(told);
        drop(held);
        self.notify.notify_one();
        made
    }

    pub(crate) fn append(&self, told: &mut Vec<T>) {
        if !told.is_empty() {
            self.held.lock().told.append(told);
            self.notify.notify_one();
        }
    }

    /// The reader gets what is left, then this.
    pub(crate) fn fail(&self, error: Error) {
        self.held.lock().failed.get_or_insert(error);
        self.notify.notify_one();
    }

    /// The reader gets what is left, then that it was closed.
    pub(crate) fn close(&self) {
        self.held.lock().closed = true;
        self.notify.notify_one();
    }

    /// Waits for something to take. Cancel safe: it takes and returns in one step.
    pub(crate) async fn take(&self, into: &mut Vec<T>, closed: impl Fn() -> Error) -> Result<()> {
        loop {
            {
                let mut held = self.held.lock();
                if !held.told.is_empty() {
                    into.append(&mut held.told);
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
