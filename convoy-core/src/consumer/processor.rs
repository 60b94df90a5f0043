//! The push side: a handler called for each message.

use std::sync::Arc;
use std::time::Duration;

use super::handler::Handler;
use super::payload::Payload;
use super::received::Context;
use super::run_token::RunToken;
use super::snapshot::{Report, Snapshot};
use super::{Failure, Received};
use crate::backend::FenceKind;
use crate::engine::{Start, Then};
use crate::error::{Error, Result};
use crate::runtime::{self, Driver};

/// A processor at work. Dropping it is an unclean end; [`drain`](Self::drain) is the clean one.
#[derive(Debug)]
pub struct Processor {
    driver: Arc<Driver>,
    drain_within: Duration,
}

impl Processor {
    pub(super) fn start<T: Payload>(
        driver: Arc<Driver>,
        handler: impl Handler<T>,
        drain_within: Duration,
        blocking: bool,
    ) -> Self {
        let handler = Arc::new(handler);
        let fence = driver.limits.fence;
        let undecodable = driver.undecodable();
        runtime::spawn_workers(&driver, blocking, move |start, token| {
            attempt(Arc::clone(&handler), start, token, fence, undecodable)
        });
        Self { driver, drain_within }
    }

    #[cfg(test)]
    pub(crate) fn driver(&self) -> &Arc<Driver> {
        &self.driver
    }

    /// Starts nothing more, keeps every session.
    pub fn pause(&self) {
        self.driver.pause(true);
    }

    /// Goes on after a pause.
    pub fn resume(&self) {
        self.driver.pause(false);
    }

    /// Whether it is connected and takes messages.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.snapshot().ready
    }

    /// What it is doing now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.driver)
    }

    /// Waits until something fails that ends it: a handler that asked to stop, or the broker for good. `None` when it was closed.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn failed(&self) -> Option<Error> {
        self.driver.failed().await;
        self.driver.take_failure()
    }

    /// Starts nothing more: what waits in the broker is left there, for whoever comes next. Lets running handlers end, settles what they did,
    /// gives every session back and closes. Handlers that run at the limit of [`drain_within`](super::ProcessorBuilder::drain_within) are told to end before it and dropped at it.
    ///
    /// Whether a handler had asked to stop is told by [`failed`](Self::failed), and by [`run_until`](super::ProcessorBuilder::run_until); not here.
    ///
    /// # Errors
    /// When the broker could not be told in time.
    ///
    /// # Cancel safety
    /// Dropping it makes the end an unclean one.
    pub async fn drain(self) -> Result<Report> {
        let drained = self.driver.drain(self.drain_within).await?;
        Ok(Report { drained, last: Snapshot { ready: false, ..self.snapshot() } })
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        self.driver.abandon();
    }
}

/// One attempt: the body is read, then handled.
async fn attempt<T: Payload, H: Handler<T>>(
    handler: Arc<H>,
    start: Start,
    token: Arc<RunToken>,
    fence: FenceKind,
    undecodable: Then,
) -> Result<(), Failure> {
    let received: Received<T> = match Context::new(start, token, fence, undecodable).decode() {
        Ok(received) => received,
        Err(error) => return Err(Failure::undecodable(error, undecodable)),
    };
    handler.handle(received).await
}
