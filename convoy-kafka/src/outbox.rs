//! What threads have to tell, until it is asked for.

use std::collections::VecDeque;
use std::time::Duration;

use convoy_core::{Error, Result};
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

/// So much is taken at once: what is left can still be withdrawn.
const TAKEN: usize = 512;

/// A queue of many writers and one reader.
#[derive(Debug)]
pub(crate) struct Outbox<T> {
    held: Mutex<Held<T>>,
    notify: Notify,
    taken: Condvar,
}

#[derive(Debug)]
struct Held<T> {
    told: VecDeque<T>,
    failed: Option<Error>,
    closed: bool,
}

impl<T> Outbox<T> {
    pub(crate) fn new() -> Self {
        let held = Held { told: VecDeque::new(), failed: None, closed: false };
        Self { held: Mutex::new(held), notify: Notify::new(), taken: Condvar::new() }
    }

    pub(crate) fn push(&self, told: T) {
        self.held.lock().told.push_back(told);
        self.notify.notify_one();
    }

    pub(crate) fn append(&self, told: &mut Vec<T>) {
        if !told.is_empty() {
            self.held.lock().told.extend(told.drain(..));
            self.notify.notify_one();
        }
    }

    /// Takes back what nobody has taken yet, of this kind, in order.
    pub(crate) fn withdraw(&self, is_it: impl Fn(&T) -> bool, into: &mut Vec<T>) {
        let mut held = self.held.lock();
        if !held.told.iter().any(&is_it) {
            return;
        }
        for told in std::mem::take(&mut held.told) {
            if is_it(&told) { into.push(told) } else { held.told.push_back(told) }
        }
        self.taken.notify_all();
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
                    let many = held.told.len().min(TAKEN);
                    into.extend(held.told.drain(..many));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_not_taken_can_be_withdrawn_and_the_rest_keeps_its_order() {
        let outbox = Outbox::new();
        outbox.append(&mut (0..2 * TAKEN).collect());
        let (mut taken, mut withdrawn) = (Vec::new(), Vec::new());
        outbox.take(&mut taken, || unreachable!()).await.unwrap();
        assert_eq!(taken, (0..TAKEN).collect::<Vec<_>>());
        outbox.withdraw(|n| n % 2 == 0, &mut withdrawn);
        assert_eq!(withdrawn, (TAKEN..2 * TAKEN).step_by(2).collect::<Vec<_>>());
        taken.clear();
        outbox.take(&mut taken, || unreachable!()).await.unwrap();
        assert_eq!(taken, (TAKEN + 1..2 * TAKEN).step_by(2).collect::<Vec<_>>());
    }
}
