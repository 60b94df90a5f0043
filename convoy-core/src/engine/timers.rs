//! Points in time at which something must be looked at again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::Moment;

/// What is looked at. Each carries a number by which an outdated one is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    Grant { index: usize, epoch: u64 },
    Session { index: usize, serial: u64 },
    Run { index: usize, serial: u64 },
}

/// A heap of timers. Outdated ones stay until they are due, so owners arm sparingly.
#[derive(Debug, Default)]
pub(super) struct Timers(BinaryHeap<Reverse<(Moment, Timer)>>);

impl Timers {
    pub(super) fn arm(&mut self, at: Moment, timer: Timer) {
        self.0.push(Reverse((at, timer)));
    }

    pub(super) fn next(&self) -> Option<Moment> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    /// The next timer that is due, and when it was.
    pub(super) fn pop(&mut self, now: Moment) -> Option<(Moment, Timer)> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse(due)| due)
    }

    pub(super) fn shrink(&mut self) {
        self.0.shrink_to_fit();
    }
}
