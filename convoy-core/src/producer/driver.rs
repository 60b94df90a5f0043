//! The one task of a producer: it hands runs to the sink, takes its answers, and keeps time.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Sleep, sleep, sleep_until, timeout_at};

use crate::backend::Sent;
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::{instant, now};
use crate::time::Moment;

use super::shared::{Buffers, Shared, Step};

/// How much longer than its limit a sink may take to close before it is left alone.
pub(super) const GRACE: Duration = Duration::from_millis(250);

/// Between two calls of a sink that fails in a passing way.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Runs until the producer is closed and every send has its outcome, then closes the sink.
pub(super) async fn drive(shared: Arc<Shared>) {
    // Should this task be dropped or panic, nobody may wait for ever.
    let shared = Guard(shared);
    let failure = run(&shared.0).await;
    if let Some(error) = &failure {
        shared.0.stop(&format!("the producer failed: {error}"));
    }
    let until = shared.0.state.lock().until.unwrap_or_else(|| now() + shared.0.timeout);
    let failure = match (failure, timeout_at(instant(until) + GRACE, shared.0.sink.close(until)).await) {
        (Some(error), _) | (None, Ok(Err(error))) => Some(error),
        (None, Ok(Ok(()))) => None,
        (None, Err(_)) => Some(Error::new(ErrorKind::Timeout, "close")),
    };
    shared.0.end(failure.map(Arc::new));
}

struct Guard(Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.stop("the producer's task ended");
        let gone = Error::new(ErrorKind::Closed, "producer").because("the producer's task ended");
        self.0.end(Some(Arc::new(gone)));
    }
}

/// Until nothing is left to do; or until the sink can never send again, which is the error.
async fn run(shared: &Shared) -> Option<Error> {
    let mut buffers = Buffers::default();
    let mut answers = Vec::new();
    let mut pause = Duration::ZERO;
    let mut timer = Timer { sleep: Box::pin(sleep_until(instant(Moment::NEVER))), armed: Moment::NEVER };
    loop {
        let step = shared.step(&mut answers, &mut buffers);
        let result = until_answered(shared, step, &mut answers, &mut buffers, pause, &mut timer).await?;
        pause = match result {
            Ok(()) => Duration::ZERO,
            Err(error) if error.is_retryable() => (pause * 2).clamp(PAUSES.0, PAUSES.1),
            Err(error) => {
                shared.step(&mut answers, &mut buffers);
                return Some(error);
            }
        };
    }
}

/// Until the sink has answers or fails; `None` when nothing is left to do. Meanwhile it is handed what is queued.
async fn until_answered(
    shared: &Shared,
    mut step: Step,
    answers: &mut Vec<Sent>,
    buffers: &mut Buffers,
    pause: Duration,
    timer: &mut Timer,
) -> Option<Result<()>> {
    // One call is kept while others are woken: making it anew may cost a request.
    let mut next = std::pin::pin!(async {
        if !pause.is_zero() {
            sleep(pause).await;
        }
        shared.sink.next(answers).await
    });
    while !step.done {
        timer.fire_by(step.at);
        tokio::select! {
            biased;
            result = &mut next => return Some(result),
            () = shared.wake.notified() => {}
            () = timer.sleep.as_mut() => timer.fire_by(Moment::NEVER),
        }
        step = shared.step(&mut Vec::new(), buffers);
    }
    None
}

/// One sleep for the whole producer.
struct Timer {
    sleep: Pin<Box<Sleep>>,
    armed: Moment,
}

impl Timer {
    /// One that fires too early does no harm: it is moved only when it would be late, or has fired.
    fn fire_by(&mut self, at: Moment) {
        if at < self.armed || self.sleep.is_elapsed() {
            self.armed = at;
            self.sleep.as_mut().reset(instant(at));
        }
    }
}
