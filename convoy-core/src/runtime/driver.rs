//! What runs one consumer: its shards, the task that takes the broker's events, and one that keeps each shard's time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::demand::{Appetite, Demand, Tell};
use super::permits::Permits;
use super::shard::Shard;
use super::{instant, now};
use crate::backend::{Command, Event, Limits, Reason, Source};
use crate::engine::{Config, Counts, Engine, Input, Then, Totals};
use crate::error::{Error, ErrorKind, Result};
use crate::observe::Observer;
use crate::policy::Exhausted;
use crate::position::Position;
use crate::session::SessionId;
use crate::time::Moment;

/// After an error that is passing, the source is asked again after this.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// One consumer at work.
pub(crate) struct Driver {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) limits: Limits,
    pub(crate) shards: Box<[Shard]>,
    pub(crate) permits: Permits,
    pub(super) demand: Demand,
    pub(crate) pull: Pull,
    pub(crate) channel: String,
    pub(crate) group: String,
    pub(super) observers: Vec<Arc<dyn Observer>>,
    pub(super) grace: Duration,
    undecodable: Then,
    failure: Mutex<Option<Error>>,
    has_failed: AtomicBool,
    /// Somebody must look at the failure.
    failed: Notify,
    /// Something changed that a drain waits for.
    changed: Notify,
    leaving: AtomicBool,
    /// Every task of the consumer ends.
    pub(super) closed: CancellationToken,
}

/// What pull loops share.
#[derive(Debug, Default)]
pub(crate) struct Pull {
    /// A session may be there to be claimed.
    pub(crate) ready: Notify,
    /// Something happened that a wait for a named session may be over for.
    pub(crate) changed: Notify,
    /// Who waits; `None` in a processor.
    waiting: Option<Mutex<Waiting>>,
    denied: Mutex<Vec<(SessionId, Error)>>,
}

/// Pull loops that wait for a session.
#[derive(Debug, Default)]
struct Waiting {
    /// For the next free one.
    next: usize,
    /// For one by its name.
    named: Vec<SessionId>,
    /// Sessions that are out.
    claimed: usize,
}

impl Pull {
    pub(super) fn deny(&self, session: SessionId, error: Error) {
        // An answer for nobody would be taken for the next one's, or kept for ever.
        let Some(waiting) = &self.waiting else { return };
        if waiting.lock().named.contains(&session) {
            self.denied.lock().push((session, error));
        }
    }

    /// Whether this is a consumer to pull from.
    fn is_pulled(&self) -> bool {
        self.waiting.is_some()
    }

    pub(crate) fn take_denied(&self, session: &SessionId) -> Option<Error> {
        let mut denied = self.denied.lock();
        let at = denied.iter().position(|(id, _)| id == session)?;
        Some(denied.swap_remove(at).1)
    }
}

/// How a consumer is set up.
pub(crate) struct Setup {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) config: Config,
    pub(crate) channel: String,
    pub(crate) group: String,
    pub(crate) observers: Vec<Arc<dyn Observer>>,
    pub(crate) shards: usize,
    /// Handlers at once, in a processor; `None` for pull loops.
    pub(crate) concurrency: Option<usize>,
}

impl Driver {
    pub(crate) fn new(setup: Setup) -> Arc<Self> {
        let limits = setup.source.limits();
        let shards = setup.shards.max(1);
        let mut config = setup.config;
        config.observe = !setup.observers.is_empty();
        config.idle_under_pressure = limits.accept_cost;
        // Each shard bounds its own part, so that no lock is shared on the way of a message.
        let total = &mut config.bounds.total;
        *total = crate::policy::Bound::new(total.messages / shards, total.bytes / shards);
        let grace = config.grace;
        let undecodable = match config.retry.then {
            Some(Exhausted::DeadLetter) => Then::DeadLetter,
            Some(Exhausted::Stop) => Then::Stop,
            None => Then::Retry,
        };
        let engine = |_| Shard::new(Engine::new(config.clone(), limits.clone()));
        let waiting = setup.concurrency.is_none().then(Mutex::default);
        Arc::new(Self {
            demand: Demand::new(&limits),
            shards: (0..shards).map(engine).collect(),
            limits,
            permits: Permits::new(setup.concurrency.unwrap_or(usize::MAX)),
            pull: Pull { waiting, ..Pull::default() },
            source: setup.source,
            channel: setup.channel,
            group: setup.group,
            observers: setup.observers,
            grace,
            undecodable,
            failure: Mutex::new(None),
            has_failed: AtomicBool::new(false),
            failed: Notify::new(),
            changed: Notify::new(),
            leaving: AtomicBool::new(false),
            closed: CancellationToken::new(),
        })
    }

    /// Starts the tasks that every consumer has. `successor` starts another worker of a shard.
    pub(crate) fn spawn(self: &Arc<Self>, successor: Option<super::worker::Successor>) {
        tokio::spawn(Arc::clone(self).pump(GoesOn::new(self)));
        for index in 0..self.shards.len() {
            tokio::spawn(super::timer::run(Arc::clone(self), index, successor.clone(), GoesOn::new(self)));
        }
        self.held_changed();
    }

    /// Takes the broker's events to their shards, oldest first. It never waits for a handler.
    async fn pump(self: Arc<Self>, mut goes_on: GoesOn) {
        let mut events = Vec::new();
        let mut parts: Vec<Vec<Event>> = self.shards.iter().map(|_| Vec::new()).collect();
        loop {
            let result = tokio::select! {
                biased;
                () = self.closed.cancelled() => return,
                result = self.source.next(&mut events) => result,
            };
            let won = self.pull.is_pulled() && events.iter().any(|e| matches!(e, Event::Granted { .. }));
            for event in events.drain(..) {
                let shard = event.grant().map_or(0, |g| g.shard() as usize % parts.len());
                parts[shard].push(event);
            }
            for (shard, part) in self.shards.iter().zip(&mut parts).filter(|(_, part)| !part.is_empty()) {
                shard.with(&self, |core, now| {
                    for event in part.drain(..) {
                        core.engine.handle(now, Input::Event(event));
                    }
                });
            }
            if won {
                self.release_unclaimed();
            }
            self.changed.notify_waiters();
            self.pull.changed.notify_waiters();
            match result {
                Ok(()) => {}
                Err(error) if error.is_retryable() => {
                    tracing::warn!(channel = self.channel, group = self.group, %error, "source failed; asking again");
                    tokio::time::sleep(ASK_AGAIN).await;
                }
                Err(error) => {
                    // A close of our own is no failure.
                    if !self.leaving.load(Ordering::SeqCst) || error.kind() != ErrorKind::Closed {
                        self.fail(error);
                    }
                    goes_on.done();
                    return;
                }
            }
        }
    }

    /// The number of rights changed, or what is wanted: the broker and the shards are told.
    pub(crate) fn held_changed(&self) {
        self.changed.notify_waiters();
        let appetite = match &self.pull.waiting {
            Some(waiting) => {
                // What is held and not claimed is on its way to somebody who waits.
                let waiting = waiting.lock();
                Appetite::Waiting(waiting.next.saturating_sub(self.demand.held().saturating_sub(waiting.claimed)))
            }
            None => Appetite::UpTo(self.permits.most()),
        };
        self.demand.update(appetite, |tell| match tell {
            Tell::Wanted(wanted) => self.source.submit(&mut vec![Command::Accept { wanted }]),
            Tell::Pressure(on) => self.shards.iter().for_each(|shard| shard.tell_pressure(self, on)),
        });
    }

    /// A pull loop waits for a session, the next free one or a named one, until what is given back is dropped.
    pub(crate) fn wait_for<'a>(&'a self, session: Option<&'a SessionId>) -> WaitsFor<'a> {
        if let Some(waiting) = &self.pull.waiting {
            let mut waiting = waiting.lock();
            match session {
                Some(session) => waiting.named.push(session.clone()),
                None => waiting.next += 1,
            }
            drop(waiting);
            self.held_changed();
        }
        WaitsFor { driver: self, session }
    }

    /// A pull loop got a session, or gave it back.
    pub(crate) fn session_is_out(&self, out: bool) {
        let Some(waiting) = &self.pull.waiting else { return };
        let mut waiting = waiting.lock();
        if out {
            // Whoever got it stops waiting next, which tells the broker; told before, it would find a session for nobody.
            waiting.claimed += 1;
            return;
        }
        waiting.claimed = waiting.claimed.saturating_sub(1);
        drop(waiting);
        self.held_changed();
    }

    /// On a broker that locks sessions, gives back what was won for loops that wait no more.
    fn release_unclaimed(&self) {
        let Some(waiting) = &self.pull.waiting else { return };
        let named = {
            let waiting = waiting.lock();
            if waiting.next > 0 {
                return;
            }
            waiting.named.clone()
        };
        for shard in &self.shards {
            shard.with(self, |core, now| core.engine.release_unclaimed(now, |id| named.contains(id)));
        }
    }

    /// A message says that the consumer must stop.
    pub(super) fn stop(&self, session: &SessionId, position: Position, reason: &Reason) {
        let kind = match reason.code {
            "misrouted" => ErrorKind::Misrouted,
            _ => ErrorKind::HandlerStopped,
        };
        let why = format!("{}: {}", reason.code, reason.detail);
        let error = Error::new(kind, "process").because(why).with("session", session).with("position", position);
        self.fail(error.with("attempts", reason.attempts));
    }

    fn fail(&self, error: Error) {
        self.has_failed.store(true, Ordering::SeqCst);
        self.failure.lock().get_or_insert(error);
        self.failed.notify_waiters();
        self.failed.notify_one();
    }

    pub(crate) fn take_failure(&self) -> Option<Error> {
        self.failure.lock().take()
    }

    /// Waits until something failed that ends the consumer.
    pub(crate) async fn failed(&self) {
        let failed = self.failed.notified();
        if self.has_failed.load(Ordering::SeqCst) || self.closed.is_cancelled() {
            return;
        }
        tokio::select! {
            () = failed => {}
            () = self.closed.cancelled() => {}
        }
    }

    /// Starts nothing more, lets what runs end and settle, gives every right back and closes the source. Whether all ended and was settled in time.
    pub(crate) async fn drain(&self, limit: Duration) -> Result<bool> {
        let until = now() + limit;
        self.leaving.store(true, Ordering::SeqCst);
        self.demand.leave();
        self.held_changed();
        for shard in &self.shards {
            shard.with(self, |core, now| core.engine.handle(now, Input::Drain { until }));
        }
        // A handler is told to end before the limit and dropped at it; what the broker then answers has a little time more.
        let last = until + self.grace + Duration::from_millis(500);
        let drained = tokio::time::timeout_at(instant(last), self.drained()).await.is_ok();
        let closed = self.source.close((now() + Duration::from_secs(5)).max(last)).await;
        let settled = self.shards.iter().all(|s| s.look(|core| core.engine.left_nothing_behind()));
        self.abandon();
        closed.map(|()| drained && settled)
    }

    async fn drained(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.shards.iter().all(|s| s.look(|core| core.engine.is_drained())) {
                return;
            }
            changed.await;
        }
    }

    /// Ends every task at once. Rights that are still held run out by themselves, or go with the connection.
    pub(crate) fn abandon(&self) {
        self.closed.cancel();
        let tasks = self.shards.iter().flat_map(|s| s.with(self, |core, _| core.abandon()));
        // Not under the lock: a task that is dropped here reports its end there.
        tasks.collect::<Vec<_>>().iter().for_each(tokio::task::AbortHandle::abort);
        self.pull.ready.notify_waiters();
        self.pull.changed.notify_waiters();
    }

    pub(crate) fn pause(&self, on: bool) {
        for shard in &self.shards {
            shard.with(self, |core, now| core.engine.handle(now, if on { Input::Pause } else { Input::Resume }));
        }
    }

    /// What follows when a body cannot be read: the path of exhausted attempts, at once.
    pub(crate) fn undecodable(&self) -> Then {
        self.undecodable
    }

    /// Wakes everybody who may start something.
    pub(super) fn wake_all(&self) {
        self.shards.iter().for_each(|s| s.work.notify_one());
    }

    /// A run ended somewhere: what a drain waits for may be there.
    pub(super) fn run_is_over(&self) {
        if self.leaving.load(Ordering::Relaxed) {
            self.changed.notify_waiters();
        }
    }

    pub(crate) fn counts(&self) -> (Counts, Totals) {
        self.shards.iter().fold((Counts::default(), Totals::default()), |(mut counts, mut totals), shard| {
            let (c, t) = shard.look(|core| (core.engine.counts(), core.engine.totals()));
            counts += c;
            totals += t;
            (counts, totals)
        })
    }

    pub(crate) fn stuck(&self) -> Option<(SessionId, Moment, u32)> {
        let stuck = |s: &Shard| s.look(|core| core.engine.stuck().map(|(id, since, n)| (id.clone(), since, n)));
        self.shards.iter().filter_map(stuck).min_by_key(|(_, since, _)| *since)
    }

    /// Whether something failed that ended it, now or before.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::SeqCst)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::SeqCst)
    }

    pub(crate) fn held(&self) -> usize {
        self.demand.held()
    }
}

/// A pull loop that waits.
pub(crate) struct WaitsFor<'a> {
    driver: &'a Driver,
    session: Option<&'a SessionId>,
}

impl Drop for WaitsFor<'_> {
    fn drop(&mut self) {
        let Some(waiting) = &self.driver.pull.waiting else { return };
        let mut waiting = waiting.lock();
        match self.session {
            Some(session) => {
                let at = waiting.named.iter().position(|id| id == session);
                at.map(|at| waiting.named.swap_remove(at));
                if !waiting.named.contains(session) {
                    self.driver.pull.denied.lock().retain(|(id, _)| id != session);
                }
            }
            None => waiting.next = waiting.next.saturating_sub(1),
        }
        drop(waiting);
        self.driver.release_unclaimed();
        // What woke this loop may be meant for another.
        self.driver.pull.ready.notify_one();
        self.driver.held_changed();
    }
}

/// A task that a consumer cannot be without. When it ends before the consumer is closed, since something in it panicked or its runtime was dropped, that ends the consumer
/// with an error, and does not leave it waiting.
pub(super) struct GoesOn {
    driver: Arc<Driver>,
    done: bool,
}

impl GoesOn {
    /// Made with the task and not by it: one that never ran is missed too.
    pub(super) fn new(driver: &Arc<Driver>) -> Self {
        Self { driver: Arc::clone(driver), done: false }
    }

    /// It ends as it should.
    pub(super) fn done(&mut self) {
        self.done = true;
    }
}

impl Drop for GoesOn {
    fn drop(&mut self) {
        if self.done || self.driver.closed.is_cancelled() {
            return;
        }
        let why = match std::thread::panicking() {
            true => "a task of the consumer panicked: in the backend, or in convoy itself",
            false => "the runtime that the consumer ran on was dropped",
        };
        self.driver.fail(Error::new(ErrorKind::Closed, "consume").because(why));
    }
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("channel", &self.channel).field("group", &self.group).finish_non_exhaustive()
    }
}
