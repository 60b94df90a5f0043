//! What a consumer is doing, as data.

use std::time::Duration;

use crate::runtime::{Driver, now};
use crate::session::SessionId;

/// What a consumer is doing now.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Whether it is connected and starts messages: not closed, not leaving.
    pub ready: bool,
    /// Rights held: lanes, or sessions.
    pub held: usize,
    /// Sessions with messages, a handler, or settlements under way.
    pub active_sessions: usize,
    /// Sessions with a message that could start now.
    pub waiting_sessions: usize,
    /// Handlers running.
    pub running: usize,
    /// The most places for handlers that were taken at once; a worker that looks for a message has taken one.
    pub peak: usize,
    /// Messages buffered, those being handled included.
    pub buffered: usize,
    /// Their bytes.
    pub buffered_bytes: usize,
    /// Messages handled so far.
    pub completed: u64,
    /// Attempts that failed so far.
    pub failed: u64,
    /// Waits before another attempt so far.
    pub retried: u64,
    /// Messages dead-lettered so far.
    pub dead_lettered: u64,
    /// Rights that ended otherwise than by being given back.
    pub lost: u64,
    /// The session whose head has been failing for longest.
    pub stuck: Option<Stuck>,
}

/// A session that stands still because its head fails.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stuck {
    /// The session.
    pub session: SessionId,
    /// For how long it has been failing.
    pub since: Duration,
    /// How often its head failed.
    pub failures: u32,
}

/// How a consumer ended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// Whether every handler ended and everything was settled and given back in time. Then no message that was handled comes again.
    pub drained: bool,
    /// What it did.
    pub last: Snapshot,
}

impl Snapshot {
    pub(crate) fn of(driver: &Driver) -> Self {
        let (counts, totals) = driver.counts();
        let stuck =
            driver.stuck().map(|(session, since, failures)| Stuck { session, since: now().since(since), failures });
        Self {
            ready: !driver.is_closed() && !driver.is_leaving() && !driver.has_failed() && driver.source.is_ready(),
            held: driver.held(),
            active_sessions: counts.sessions,
            waiting_sessions: counts.ready,
            running: counts.running,
            peak: driver.permits.peak(),
            buffered: counts.messages,
            buffered_bytes: counts.bytes,
            completed: totals.completed,
            failed: totals.failed,
            retried: totals.retried,
            dead_lettered: totals.dead_lettered,
            lost: totals.lost,
            stuck,
        }
    }
}
