//! The driver: what runs an engine on tokio. Its clock, its timers, its workers.
//!
//! A consumer has one task that takes the broker's events, and for each shard one that keeps time and one that polls handlers in place. A handler that is pending
//! goes on in a task of its own. Handlers are never polled by the tasks that renew.

mod clock;
mod demand;
mod driver;
mod permits;
mod shard;
mod shutdown;
#[cfg(test)]
mod tests;
mod timer;
mod watch;
mod worker;

use std::future::Future;
use std::sync::Arc;

pub use clock::{instant, now};
use driver::GoesOn;
pub(crate) use driver::{Driver, Setup};
pub(crate) use shard::{ClaimCell, Core};
pub use shutdown::shutdown_signal;
pub(crate) use worker::{Outcome, Successor};

use crate::consumer::RunToken;
use crate::engine::Start;

/// Starts a processor's workers. `make` makes the future that handles a message.
pub(crate) fn spawn_workers<F, Fut>(driver: &Arc<Driver>, blocking: bool, make: F)
where
    F: Fn(Start, Arc<RunToken>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    let make = Arc::new(make);
    if blocking {
        for index in 0..driver.shards.len() {
            tokio::spawn(worker::run_blocking(Arc::clone(driver), index, Arc::clone(&make), GoesOn::new(driver)));
        }
        return driver.spawn(None);
    }
    let weak = Arc::downgrade(driver);
    let successor: Successor = Arc::new(move |index, number| {
        if let Some(driver) = weak.upgrade() {
            let goes_on = GoesOn::new(&driver);
            tokio::spawn(worker::run(driver, index, number, Arc::clone(&make), goes_on));
        }
    });
    for index in 0..driver.shards.len() {
        successor(index, 0);
    }
    driver.spawn(Some(successor));
}
