//! The options of a producer.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::policy::Bound;

use super::Options;
use super::watch::Watch;

/// The options of a [`Producer`](super::Producer).
///
/// ```
/// use std::time::Duration;
/// use convoy_core::producer::ProducerOptions;
///
/// let options = ProducerOptions::default().send_timeout(Duration::from_secs(5)).remember(0);
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProducerOptions {
    /// How long a send may take, queueing included. 30 s by default.
    pub send_timeout: Duration,
    /// How much may be queued or at the broker; halted sessions may keep as much again. 65 536 messages or 64 MiB by default.
    pub queue: Bound,
    /// Of how many idle sessions the number of the last message is remembered. 16 384 by default.
    pub remember: usize,
    /// For how long. Five minutes by default.
    pub remember_for: Duration,
    pub(super) watch: Option<Arc<dyn Watch>>,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        let Options { max_queued, max_queued_bytes, remember, remember_for, .. } = Options::default();
        let queue = Bound::new(max_queued, max_queued_bytes);
        Self { send_timeout: Duration::from_secs(30), queue, remember, remember_for, watch: None }
    }
}

impl ProducerOptions {
    /// How long a send may take, queueing included.
    #[must_use]
    pub fn send_timeout(mut self, limit: Duration) -> Self {
        self.send_timeout = limit;
        self
    }

    /// How much may be queued or at the broker.
    #[must_use]
    pub fn queue(mut self, bound: Bound) -> Self {
        self.queue = bound;
        self
    }

    /// Of how many idle sessions the number of the last message is remembered, for the `prev` of the next.
    #[must_use]
    pub fn remember(mut self, sessions: usize) -> Self {
        self.remember = sessions;
        self
    }

    /// For how long an idle session is remembered.
    #[must_use]
    pub fn remember_for(mut self, time: Duration) -> Self {
        self.remember_for = time;
        self
    }

    /// Tells `watch` what happens.
    #[must_use]
    pub fn watch(mut self, watch: Arc<dyn Watch>) -> Self {
        self.watch = Some(watch);
        self
    }

    pub(super) fn pipeline(&self, max_message: usize, max_run: usize) -> Result<Options> {
        if self.send_timeout.is_zero() {
            return Err(Error::new(ErrorKind::InvalidOption, "producer").because("send_timeout must be more than zero"));
        }
        Ok(Options {
            max_queued: self.queue.messages,
            max_queued_bytes: self.queue.bytes,
            max_message,
            max_run,
            remember: self.remember,
            remember_for: self.remember_for,
            answer_margin: (self.send_timeout / 10).min(Duration::from_secs(1)),
            ..Options::default()
        })
    }
}
