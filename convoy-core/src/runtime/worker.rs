//! Workers: handlers are polled in place first, and go on in a task of their own only when they are pending.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::driver::{Driver, GoesOn};
use super::now;
use super::shard::{Later, Shard};
use crate::consumer::{Failure, RunToken};
use crate::engine::{End, RunId, Start};

/// Starts another worker of a shard, under a number.
pub(crate) type Successor = Arc<dyn Fn(usize, u64) + Send + Sync>;

/// How a handler ended.
pub(crate) type Outcome = Result<(), Failure>;

/// A worker lets other tasks run after so many messages, or so much time.
const TURN: u32 = 64;
const TURN_TIME: Duration = Duration::from_micros(500);

/// A place for one handler's future, used again and again until a future has to be moved out with it.
type Slot<Fut> = Pin<Box<Option<Fut>>>;

/// Takes what is ready in a shard, one message at a time, and polls its handler in place.
pub(super) async fn run<F, Fut>(driver: Arc<Driver>, index: usize, number: u64, make: Arc<F>, mut goes_on: GoesOn)
where
    F: Fn(Start, Arc<RunToken>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    let mut worker = Worker::new(&driver, index, number);
    let mut turn_began = now();
    loop {
        let (start, woke) = worker.take();
        if woke {
            // Whom this worker woke waits on this thread, where nobody could take it while a handler blocks it.
            step_aside().await;
        }
        match start {
            Some((start, token)) => {
                let is_late = woke && !start.lease.holds(now());
                worker.poll(start, token, is_late, &*make);
            }
            None if worker.is_superseded() => {
                // What woke this one was meant for its successor; and what it ended may be followed by more.
                worker.shard().work.notify_one();
                goes_on.done();
                return;
            }
            None => {
                worker.give_permit_back();
                tokio::select! {
                    biased;
                    () = driver.closed.cancelled() => return,
                    () = worker.shard().work.notified() => {}
                }
                worker.turn = TURN;
            }
        }
        worker.turn += 1;
        if std::mem::take(&mut worker.spawned) {
            step_aside().await;
        }
        if worker.turn >= TURN || (worker.turn.is_multiple_of(8) && now().since(turn_began) > TURN_TIME) {
            worker.turn = 0;
            if driver.closed.is_cancelled() {
                return;
            }
            tokio::task::yield_now().await;
            turn_began = now();
        }
    }
}

/// Goes to the end of the runtime's queue, behind whom this task woke. Cheaper than a yield: the I/O driver is not polled.
async fn step_aside() {
    let mut aside = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut aside, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

struct Worker<'a, Fut> {
    driver: &'a Arc<Driver>,
    index: usize,
    number: u64,
    /// Whether this worker holds a place for a handler; kept from one message to the next.
    permit: bool,
    /// The run that ended in place, to be told together with the next start.
    ended: Option<(RunId, End)>,
    slot: Slot<Fut>,
    turn: u32,
    /// Whether a task was just spawned here.
    spawned: bool,
}

impl<'a, Fut: Future<Output = Outcome> + Send + 'static> Worker<'a, Fut> {
    fn new(driver: &'a Arc<Driver>, index: usize, number: u64) -> Self {
        Self { driver, index, number, permit: false, ended: None, slot: Box::pin(None), turn: 0, spawned: false }
    }

    fn shard(&self) -> &Shard {
        &self.driver.shards[self.index]
    }

    fn is_superseded(&self) -> bool {
        self.shard().watch.is_superseded(self.number)
    }

    /// Tells the end of the run before, and takes the next start: one lock and one reading of the clock a message. Whether somebody was woken.
    fn take(&mut self) -> (Option<(Start, Arc<RunToken>)>, bool) {
        let superseded = self.is_superseded();
        if !superseded && !self.permit {
            self.permit = self.driver.permits.try_acquire();
        }
        let may_start = self.permit && !superseded;
        let ended = self.ended.take();
        let some_ended = ended.is_some();
        let shard = &self.driver.shards[self.index];
        let last_of_turn = self.turn + 1 >= TURN;
        let (start, woke) = shard.work_with(self.driver, |core, now| {
            if let Some((run, end)) = ended {
                core.run_ended(run);
                core.engine.ended(now, run, end, fastrand::u64(..));
            }
            let start = if may_start { core.engine.start(now) } else { None };
            let start = start.map(|start| {
                let token = Arc::new(RunToken::default());
                core.run_starts(start.run, &token);
                shard.watch.enters_poll(now);
                (start, token)
            });
            let later = if start.is_none() || last_of_turn { Later::Never } else { Later::Soon };
            (start, later)
        });
        if some_ended {
            self.driver.run_is_over();
        }
        if superseded {
            self.give_permit_back();
        }
        (start, woke)
    }

    fn poll(&mut self, start: Start, token: Arc<RunToken>, is_late: bool, make: &impl Fn(Start, Arc<RunToken>) -> Fut) {
        let run = start.run;
        // The connection may have ended between the lock and here.
        if is_late || start.lease.is_ended() {
            self.shard().watch.leaves_poll(self.number);
            self.ended = Some((run, End::Returned));
            return;
        }
        let slot = &mut self.slot;
        // Whoever the future wakes during this poll need not be remembered: when it is pending it is polled again at once, in its own task.
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| {
            slot.set(Some(make(start, token)));
            match slot.as_mut().as_pin_mut() {
                Some(future) => future.poll(&mut Context::from_waker(Waker::noop())),
                None => Poll::Pending,
            }
        }));
        self.shard().watch.leaves_poll(self.number);
        match polled {
            Ok(Poll::Ready(outcome)) => self.ended = Some((run, end_of(outcome))),
            Ok(Poll::Pending) => self.go_on_in_a_task(run),
            Err(panic) => self.ended = Some((run, panicked(panic))),
        }
        if self.ended.is_some() {
            // The future is gone before its end is told.
            let slot = &mut self.slot;
            if let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(|| slot.set(None))) {
                let_go(panic);
                self.slot = Box::pin(None);
            }
        }
    }

    fn go_on_in_a_task(&mut self, run: RunId) {
        let slot = std::mem::replace(&mut self.slot, Box::pin(None));
        let report = Report { driver: Arc::clone(self.driver), index: self.index, run, end: None };
        self.permit = false;
        self.spawned = true;
        self.shard().work_with(self.driver, |core, _| {
            // Under the lock, so that the task cannot end before it is known.
            let task = tokio::spawn(RunTask { slot: Some(slot), report });
            core.run_goes_on(run, task.abort_handle());
            ((), Later::Soon)
        });
    }

    fn give_permit_back(&mut self) {
        if std::mem::take(&mut self.permit) && self.driver.permits.release() {
            self.driver.wake_all();
        }
    }
}

impl<Fut> Drop for Worker<'_, Fut> {
    fn drop(&mut self) {
        if self.permit && self.driver.permits.release() {
            self.driver.wake_all();
        }
    }
}

/// A handler that is pending, in a task of its own. Aborting the task drops the handler, then tells its end.
struct RunTask<Fut> {
    slot: Option<Slot<Fut>>,
    report: Report,
}

impl<Fut: Future<Output = Outcome>> Future for RunTask<Fut> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let Some(slot) = &mut this.slot else { return Poll::Ready(()) };
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| match slot.as_mut().as_pin_mut() {
            Some(future) => future.poll(cx),
            None => Poll::Pending,
        }));
        this.report.end = Some(match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(outcome)) => end_of(outcome),
            Err(panic) => panicked(panic),
        });
        Poll::Ready(())
    }
}

impl<Fut> Drop for RunTask<Fut> {
    fn drop(&mut self) {
        // First the handler, then the word that it is gone; a handler that panics while it is dropped is gone as well.
        drop_quietly(self.slot.take());
    }
}

/// Tells the engine that a run ended, when it is dropped: whatever ended it.
pub(crate) struct Report {
    pub(crate) driver: Arc<Driver>,
    pub(crate) index: usize,
    pub(crate) run: RunId,
    /// How it ended, when it ended by itself.
    pub(crate) end: Option<End>,
}

impl Drop for Report {
    fn drop(&mut self) {
        let (driver, run) = (&self.driver, self.run);
        let end = self.end.take().unwrap_or(End::Cancelled);
        driver.shards[self.index].with(driver, |core, now| {
            core.run_ended(run);
            core.engine.ended(now, run, end, fastrand::u64(..));
        });
        driver.run_is_over();
        if driver.permits.release() {
            driver.wake_all();
        }
    }
}

/// Runs handlers on threads of their own, for a handler that says that it blocks.
pub(super) async fn run_blocking<F, Fut>(driver: Arc<Driver>, index: usize, make: Arc<F>, _goes_on: GoesOn)
where
    F: Fn(Start, Arc<RunToken>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    let shard = &driver.shards[index];
    loop {
        let start = driver.permits.try_acquire().then(|| {
            shard.with(&driver, |core, now| {
                core.engine.start(now).map(|start| {
                    let token = Arc::new(RunToken::default());
                    core.run_starts(start.run, &token);
                    (start, token)
                })
            })
        });
        match start {
            Some(Some((start, token))) => {
                let report = Report { driver: Arc::clone(&driver), index, run: start.run, end: None };
                let make = Arc::clone(&make);
                let runtime = tokio::runtime::Handle::current();
                tokio::task::spawn_blocking(move || {
                    // The whole of it moves in here, to tell the end when it is dropped.
                    let mut report = report;
                    if start.lease.is_ended() {
                        report.end = Some(End::Returned);
                        return;
                    }
                    let ended = std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(make(start, token))));
                    report.end = Some(match ended {
                        Ok(outcome) => end_of(outcome),
                        Err(panic) => panicked(panic),
                    });
                });
            }
            taken => {
                if taken.is_some() && driver.permits.release() {
                    driver.wake_all();
                }
                tokio::select! {
                    biased;
                    () = driver.closed.cancelled() => return,
                    () = shard.work.notified() => {}
                }
            }
        }
    }
}

fn end_of(outcome: Outcome) -> End {
    match outcome {
        Ok(()) => End::Done,
        Err(Failure { then, detail }) => End::Failed { then, detail },
    }
}

fn panicked(panic: Box<dyn std::any::Any + Send>) -> End {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let detail = format!("the handler panicked: {}", text.unwrap_or("with something that is no text"));
    let_go(panic);
    End::Panicked { detail }
}

/// Drops what a panic carried. It may panic in its turn, and what that carries is the last that is looked at.
pub(super) fn let_go(panic: Box<dyn std::any::Any + Send>) {
    if let Err(again) = std::panic::catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
}

/// Drops something that may panic while it is dropped. Whether it did.
fn drop_quietly<T>(it: T) -> bool {
    match std::panic::catch_unwind(AssertUnwindSafe(|| drop(it))) {
        Ok(()) => false,
        Err(panic) => {
            let_go(panic);
            true
        }
    }
}
