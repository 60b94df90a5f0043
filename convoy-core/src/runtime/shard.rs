//! One engine with its lock, and what follows from each thing it is told.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::driver::Driver;
use super::now;
use super::watch::Watch;
use crate::backend::Loss;
use crate::consumer::RunToken;
use crate::engine::{ClaimId, Engine, Notice, RunId};
use crate::observe::Observed;
use crate::time::Moment;

/// A shard: places whose hash falls on it.
#[derive(Debug)]
pub(crate) struct Shard {
    core: Mutex<Core>,
    /// Something may be ready to start.
    pub(super) work: Notify,
    /// The next deadline moved to an earlier time, or a worker is to be watched.
    pub(super) timer: Notify,
    pub(super) watch: Watch,
}

/// What the lock of a shard guards.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) engine: Engine,
    pub(crate) claims: HashMap<ClaimId, Arc<ClaimCell>, FixedState>,
    runs: HashMap<RunId, Running, FixedState>,
    /// Runs that were to be dropped before their task was known here.
    dropped_early: Vec<RunId>,
    armed: Moment,
    grants: usize,
    notices: Vec<Notice>,
}

#[derive(Debug)]
struct Running {
    token: Arc<RunToken>,
    task: Option<AbortHandle>,
}

/// What a pull loop looks at while it waits for its session.
#[derive(Debug, Default)]
pub(crate) struct ClaimCell {
    pub(crate) wake: Notify,
    /// Cancelled when the right is gone.
    pub(crate) gone: CancellationToken,
    state: Mutex<ClaimState>,
}

#[derive(Debug, Default)]
pub(crate) struct ClaimState {
    pub(crate) lost: Option<Loss>,
    pub(crate) flushed: bool,
}

impl ClaimCell {
    pub(crate) fn lost(&self) -> Option<Loss> {
        self.state.lock().lost
    }

    pub(crate) fn take_flushed(&self) -> bool {
        std::mem::take(&mut self.state.lock().flushed)
    }

    pub(super) fn end(&self, why: Loss) {
        self.state.lock().lost = Some(why);
        self.gone.cancel();
        self.wake.notify_one();
    }
}

impl Shard {
    pub(super) fn new(engine: Engine) -> Self {
        Self {
            core: Mutex::new(Core {
                engine,
                claims: HashMap::default(),
                runs: HashMap::default(),
                dropped_early: Vec::new(),
                armed: Moment::NEVER,
                grants: 0,
                notices: Vec::new(),
            }),
            work: Notify::new(),
            timer: Notify::new(),
            watch: Watch::default(),
        }
    }

    /// Tells the engine something, and does what follows: commands to the broker, handlers cancelled and dropped, waiters woken.
    ///
    /// `act` is told the time as read under the lock, so that nothing starts on an old reading.
    pub(crate) fn with<R>(&self, driver: &Driver, act: impl FnOnce(&mut Core, Moment) -> R) -> R {
        let mut core = self.core.lock();
        let now = now();
        let result = act(&mut core, now);
        core.follow_up(driver, now, self);
        core.send(driver);
        let held_changed = core.count(driver);
        let ready = core.engine.has_ready();
        drop(core);
        if ready {
            self.work.notify_one();
            driver.pull.ready.notify_one();
            if self.watch.polling_since().is_some() {
                self.watch_worker();
            }
        }
        if held_changed {
            driver.held_changed();
        }
        result
    }

    /// As [`Shard::with`], for this shard's worker. `act` says whether commands may stay behind for the next one: what the worker wakes on its own thread could not run while a handler
    /// blocks it, and fewer and larger batches cost less. The timer task sends what stays behind for too long. Whether somebody was woken all the same.
    pub(super) fn work_with<R>(&self, driver: &Driver, act: impl FnOnce(&mut Core, Moment) -> (R, Later)) -> (R, bool) {
        let mut core = self.core.lock();
        let now = now();
        let (result, later) = act(&mut core, now);
        let mut woke = core.follow_up(driver, now, self);
        let held_changed = match later {
            Later::Never => {
                woke |= !core.engine.commands().is_empty();
                core.send(driver);
                core.count(driver)
            }
            Later::Soon => false,
        };
        let wants_watching = core.engine.has_ready() || !core.engine.commands().is_empty();
        drop(core);
        if held_changed {
            driver.held_changed();
        }
        if wants_watching && later == Later::Soon {
            woke |= self.watch_worker();
        }
        (result, woke)
    }

    /// Tells the engine whether idle sessions should make room. The caller sees to what changes by it.
    pub(super) fn tell_pressure(&self, driver: &Driver, on: bool) {
        let mut core = self.core.lock();
        let now = now();
        core.engine.handle(now, crate::engine::Input::Pressure(on));
        core.follow_up(driver, now, self);
        core.send(driver);
        core.count(driver);
    }

    /// Looks at the engine without telling it anything.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&Core) -> R) -> R {
        look(&self.core.lock())
    }

    /// When the engine wants to be told the time; from now on an earlier one is told by [`Shard::timer`].
    pub(super) fn arm(&self) -> Option<Moment> {
        let mut core = self.core.lock();
        let next = core.engine.next_deadline();
        core.armed = next.unwrap_or(Moment::NEVER);
        next
    }
}

/// When commands are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Later {
    /// Now.
    Never,
    /// With the next ones.
    Soon,
}

impl Core {
    /// Sends the commands: under the lock, so that those of one place leave in the order in which they were decided.
    fn send(&mut self, driver: &Driver) {
        let commands = self.engine.commands();
        if !commands.is_empty() {
            driver.source.submit(commands);
            commands.clear();
        }
    }

    /// Counts the rights held anew; whether the broker may have to be asked for more or fewer.
    fn count(&mut self, driver: &Driver) -> bool {
        let grants = self.engine.counts().grants;
        driver.demand.count(std::mem::replace(&mut self.grants, grants), grants)
    }

    /// Whether anything waits to be sent.
    pub(super) fn has_commands(&mut self) -> bool {
        !self.engine.commands().is_empty()
    }

    /// Tells observers, handlers, pull loops and the timer task. Whether the latter was woken. Before commands are sent: what a broker has of a process that is killed in between, its history
    /// has as well.
    fn follow_up(&mut self, driver: &Driver, now: Moment, shard: &Shard) -> bool {
        if !self.engine.notes().is_empty() {
            self.observe(driver, now);
        }
        if !self.engine.notices().is_empty() {
            std::mem::swap(&mut self.notices, self.engine.notices());
            let mut notices = std::mem::take(&mut self.notices);
            for notice in notices.drain(..) {
                self.notice(driver, notice);
            }
            self.notices = notices;
        }
        let due = self.engine.next_deadline().unwrap_or(Moment::NEVER);
        let earlier = due < self.armed;
        if earlier {
            self.armed = due;
            shard.timer.notify_one();
        }
        earlier
    }

    fn observe(&mut self, driver: &Driver, now: Moment) {
        for note in self.engine.notes().drain(..) {
            for observer in &driver.observers {
                let observed = Observed::new(now, &driver.channel, &driver.group, &note);
                // An observer only watches: what it panics over stops nobody.
                let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| observer.on(&observed)));
                if let Err(panic) = seen {
                    super::worker::let_go(panic);
                    tracing::error!(channel = driver.channel, group = driver.group, "an observer panicked");
                }
            }
        }
    }

    fn notice(&mut self, driver: &Driver, notice: Notice) {
        match notice {
            Notice::Cancel { run, .. } => {
                if let Some(running) = self.runs.get(&run) {
                    running.token.fire();
                }
            }
            Notice::Drop { run } => match self.runs.get(&run) {
                Some(Running { task: Some(task), .. }) => task.abort(),
                // A poll cannot be cut off: it is dropped when it returns pending.
                Some(_) => self.dropped_early.push(run),
                None => {}
            },
            Notice::Wake { claim } => {
                if let Some(cell) = self.claims.get(&claim) {
                    cell.wake.notify_one();
                }
            }
            Notice::Flushed { claim } => {
                if let Some(cell) = self.claims.get(&claim) {
                    cell.state.lock().flushed = true;
                    cell.wake.notify_one();
                }
            }
            Notice::ClaimLost { claim, why } => {
                if let Some(cell) = self.claims.remove(&claim) {
                    cell.end(why);
                }
            }
            Notice::Denied { session, error } => driver.pull.deny(session, error),
            Notice::Stop { session, position, reason } => driver.stop(&session, position, &reason),
        }
    }

    /// A run is about to be polled.
    pub(crate) fn run_starts(&mut self, run: RunId, token: &Arc<RunToken>) {
        self.runs.insert(run, Running { token: Arc::clone(token), task: None });
    }

    /// The token of a run that is known here.
    pub(crate) fn token_of(&self, run: RunId) -> Option<Arc<RunToken>> {
        self.runs.get(&run).map(|r| Arc::clone(&r.token))
    }

    /// A run goes on in a task of its own; one that was to be dropped meanwhile is.
    pub(super) fn run_goes_on(&mut self, run: RunId, task: AbortHandle) {
        if let Some(at) = self.dropped_early.iter().position(|r| *r == run) {
            self.dropped_early.swap_remove(at);
            task.abort();
        }
        if let Some(running) = self.runs.get_mut(&run) {
            running.task = Some(task);
        }
    }

    /// A run is over, its future gone.
    pub(crate) fn run_ended(&mut self, run: RunId) {
        self.runs.remove(&run);
        if !self.dropped_early.is_empty() {
            self.dropped_early.retain(|r| *r != run);
        }
    }

    /// Ends every task of a handler, and every wait of a pull loop, without a word to the engine.
    pub(super) fn abandon(&mut self) -> Vec<AbortHandle> {
        for cell in self.claims.values() {
            cell.end(Loss::Disconnected);
        }
        self.runs.values().for_each(|r| r.token.fire());
        self.runs.values().filter_map(|r| r.task.clone()).collect()
    }
}

impl Shard {
    /// The worker may be stuck with work that waits: the timer task is to look after it. Whether that was woken.
    fn watch_worker(&self) -> bool {
        let first = self.watch.ask();
        if first {
            self.timer.notify_one();
        }
        first
    }

    /// What the timer task looks for: sessions that wait or commands that stay behind while the worker is in a poll.
    pub(super) fn worker_is_waited_for(&self) -> bool {
        let mut core = self.core.lock();
        core.engine.has_ready() || core.has_commands()
    }
}
