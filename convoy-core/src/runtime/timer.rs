//! The task that keeps a shard's time, and looks after its worker.

use std::sync::Arc;
use std::time::Duration;

use super::driver::{Driver, GoesOn};
use super::shard::Shard;
use super::worker::Successor;
use super::{instant, now};
use crate::engine::Input;
use crate::time::Moment;

/// A worker that is so long in one poll, with sessions ready, gets a successor.
const STUCK_AFTER: Duration = Duration::from_millis(10);

/// Tells the engine the time when it wants to know, and nothing else: no handler is ever polled here, so that one that blocks its thread does not hold up renewals.
pub(super) async fn run(driver: Arc<Driver>, index: usize, successor: Option<Successor>, _goes_on: GoesOn) {
    let shard = &driver.shards[index];
    loop {
        let due = shard.arm().unwrap_or(Moment::NEVER);
        let watching = successor.is_some() && shard.watch.is_watched();
        let until = if watching { due.min(now() + STUCK_AFTER) } else { due };
        tokio::select! {
            biased;
            () = driver.closed.cancelled() => return,
            () = shard.timer.notified() => {}
            () = tokio::time::sleep_until(instant(until)) => {}
        }
        if now() >= due {
            shard.with(&driver, |core, now| core.engine.handle(now, Input::Tick));
            driver.run_is_over();
        }
        if let Some(successor) = &successor {
            look_after_worker(&driver, shard, index, successor);
        }
    }
}

fn look_after_worker(driver: &Driver, shard: &Shard, index: usize, successor: &Successor) {
    if !shard.watch.is_watched() {
        return;
    }
    if !shard.worker_is_waited_for() {
        shard.watch.rest();
        // What came between the look and the rest asked nobody to watch.
        if !shard.worker_is_waited_for() || !shard.watch.ask() {
            return;
        }
    }
    if shard.watch.polling_since().is_some_and(|since| now().since(since) >= STUCK_AFTER) {
        let number = shard.watch.supersede();
        // What stayed behind for the worker to send.
        shard.with(driver, |_, _| ());
        successor(index, number);
    }
}
