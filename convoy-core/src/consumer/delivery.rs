//! One message of a pulled session. Settling consumes it.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use bytes::Bytes;

use super::pull::Session;
use super::received::Received;
use crate::backend::SettleStyle;
use crate::engine::{End, RunId, Then};
use crate::error::{Outcome, Result};
use crate::runtime::now;

/// How long a broker that settles message by message may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// A message to be settled. It borrows its session, so that there is one at a time, and settling consumes it, so that it is
/// settled once. Dropped unsettled it is offered again by the next [`Session::next`].
#[must_use = "a delivery that is dropped unsettled is offered again"]
pub struct Delivery<'a, T> {
    session: &'a mut Session,
    run: Option<RunId>,
    received: Received<T>,
}

impl<'a, T> Delivery<'a, T> {
    pub(super) fn new(session: &'a mut Session, run: RunId, received: Received<T>) -> Self {
        Self { session, run: Some(run), received }
    }

    /// The message is handled. Resolves when that is recorded: this holder will not see it again, and the broker is being told. On a broker
    /// that settles message by message it resolves when the broker has it; elsewhere [`Session::flush`] waits for that.
    ///
    /// # Errors
    /// [`LockLost`](crate::ErrorKind::LockLost) when the right was gone before (not applied), or ended before an answer came (unknown).
    ///
    /// # Cancel safety
    /// It is recorded at the first poll; dropping the future later only gives up waiting.
    pub async fn complete(self) -> Result<()> {
        self.settle("complete", End::Done).await
    }

    /// The message goes to the dead-letter store, and the session on behind it once that is confirmed.
    ///
    /// # Errors
    /// As [`complete`](Self::complete).
    ///
    /// # Cancel safety
    /// As [`complete`](Self::complete).
    pub async fn dead_letter(self, why: impl fmt::Display) -> Result<()> {
        let detail = why.to_string();
        self.settle("dead-letter", End::Failed { then: Then::DeadLetter, detail }).await
    }

    /// The message is tried again after `wait`; its session waits with it. It counts as a failed attempt.
    ///
    /// # Errors
    /// [`LockLost`](crate::ErrorKind::LockLost) when the right was gone before.
    ///
    /// # Cancel safety
    /// It is done at the first poll.
    pub async fn retry_in(mut self, wait: Duration) -> Result<()> {
        self.end("retry", End::Failed { then: Then::RetryIn(wait), detail: String::new() })
    }

    /// Replaces or removes the state of the session, as [`Session::set_state`], while this is out: so what was done with the message is kept before it is settled, and one that comes again is
    /// recognised by it.
    ///
    /// # Errors
    /// As [`Session::set_state`].
    ///
    /// # Cancel safety
    /// Whether it was applied is unknown when it is dropped.
    pub async fn set_state(&self, state: Option<Bytes>) -> Result<()> {
        self.session.set_state(state).await
    }

    async fn settle(mut self, operation: &'static str, end: End) -> Result<()> {
        self.end(operation, end)?;
        if self.session.driver.limits.settle != SettleStyle::Each {
            return Ok(());
        }
        self.session.flush_by(now() + ANSWER_WITHIN).await
    }

    fn end(&mut self, operation: &'static str, end: End) -> Result<()> {
        let counted = self.run.take().is_some_and(|run| self.session.end(run, end));
        if counted {
            return Ok(());
        }
        Err(self.session.lost_error(operation).with_outcome(Outcome::NotApplied))
    }
}

impl<T> Deref for Delivery<'_, T> {
    type Target = Received<T>;

    fn deref(&self) -> &Received<T> {
        &self.received
    }
}

impl<T> Drop for Delivery<'_, T> {
    fn drop(&mut self) {
        if let Some(run) = self.run.take() {
            self.session.end(run, End::Returned);
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Delivery<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Delivery").field(&self.received).finish()
    }
}
