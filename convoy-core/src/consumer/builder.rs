//! How a consumer is set up.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::handler::Handler;
use super::payload::Payload;
use super::processor::Processor;
use super::pull::Consumer;
use super::snapshot::Report;
use crate::backend::{Backend, ConsumerSpec};
use crate::engine::Config;
use crate::error::Result;
use crate::observe::Observer;
use crate::policy::{Bounds, Defective, Foreign, Retry, Turn};
use crate::runtime::{Driver, Setup};

/// A consumer in the making; made by [`Broker::consumer`](crate::Broker::consumer).
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `.processor()…run_until(…)` or `.open()`"]
pub struct ConsumerBuilder {
    backend: Arc<dyn Backend>,
    spec: ConsumerSpec,
    pub(super) config: Config,
    observers: Vec<Arc<dyn Observer>>,
    shards: Option<usize>,
}

/// A processor in the making.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `.run_until(…)` or `.start(…)`"]
pub struct ProcessorBuilder {
    consumer: ConsumerBuilder,
    concurrency: usize,
    drain_within: Duration,
    blocking: bool,
}

impl ConsumerBuilder {
    pub(crate) fn new(backend: Arc<dyn Backend>, channel: String) -> Self {
        let spec = ConsumerSpec::new(channel, ConsumerSpec::DEFAULT_GROUP);
        Self { backend, spec, config: Config::default(), observers: Vec::new(), shards: None }
    }

    /// The consumer group; [`ConsumerSpec::DEFAULT_GROUP`] unless said. Consumers of a group share the channel's work; each group sees every session.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.spec.group = group.into();
        self
    }

    /// Starts although the broker's set-up has this finding, by its code. The guarantee that the finding breaks does not hold then.
    pub fn allow(mut self, finding: impl Into<String>) -> Self {
        self.spec = self.spec.allowing(finding);
        self
    }

    /// How much is buffered ahead of handling.
    pub fn bounds(mut self, bounds: Bounds) -> Self {
        self.config.bounds = bounds;
        self
    }

    /// How long a handler may go on after it was told to end, before its future is dropped. 2 s unless said.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.config.grace = grace;
        self
    }

    /// How long a session without work is kept, on a broker that locks sessions. 1 s unless said. While others may be waiting it is shorter.
    pub fn idle_release(mut self, idle: Duration) -> Self {
        self.config.idle_release = idle;
        self
    }

    /// What happens to messages without a session id. To the dead-letter store unless said.
    pub fn foreign(mut self, policy: Foreign) -> Self {
        self.config.foreign = policy;
        self
    }

    /// What happens to messages whose envelope cannot be read. To the dead-letter store unless said.
    pub fn defective(mut self, policy: Defective) -> Self {
        self.config.defective = policy;
        self
    }

    /// What happens to messages that stand in a lane where the channel's hash would not put their session. The consumer stops unless said.
    pub fn misrouted(mut self, policy: Defective) -> Self {
        self.config.misrouted = policy;
        self
    }

    /// Adds an observer of everything that happens.
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observers.push(Arc::new(observer));
        self
    }

    /// How many engines share the work: one for each core, at most eight, unless said. Sessions of one lane share an engine.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = Some(shards);
        self
    }

    /// Calls a handler for each message.
    pub fn processor(self) -> ProcessorBuilder {
        ProcessorBuilder { consumer: self, concurrency: 64, drain_within: Duration::from_secs(30), blocking: false }
    }

    /// Opens it for pulling: sessions are accepted one by one.
    ///
    /// # Errors
    /// When the channel or group does not exist, the credentials do not allow it, or the broker's set-up breaks a guarantee.
    ///
    /// # Cancel safety
    /// Nothing is held when it is dropped.
    pub async fn open(self) -> Result<Consumer> {
        let driver = self.driver(None).await?;
        driver.spawn(None);
        Ok(Consumer::new(driver))
    }

    async fn driver(self, concurrency: Option<usize>) -> Result<Arc<Driver>> {
        let source = self.backend.consumer(&self.spec).await?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Driver::new(Setup {
            source,
            config: self.config,
            channel: self.spec.channel,
            group: self.spec.group,
            observers: self.observers,
            shards: self.shards.unwrap_or(cores.min(8)),
            concurrency,
        }))
    }
}

impl ProcessorBuilder {
    /// How many sessions are handled at once. 64 unless said. On a broker that locks sessions, as many are held.
    pub fn max_concurrent_sessions(mut self, sessions: usize) -> Self {
        self.concurrency = sessions.max(1);
        self
    }

    /// How much of one session is handled before its place goes to another one, on a broker that locks sessions. Without limit unless said: a session that always has more
    /// keeps its place.
    pub fn turn(mut self, turn: Turn) -> Self {
        self.consumer.config.turn = Some(turn);
        self
    }

    /// What follows a failed attempt. Without limit, from 50 ms to 30 s, unless said.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.consumer.config.retry = retry;
        self
    }

    /// How long a handler may run; then it is told to end, dropped after the grace time, and that is a failed attempt. Without limit unless said.
    /// A handler that ends well within the grace time has handled its message.
    pub fn handler_timeout(mut self, limit: Duration) -> Self {
        self.consumer.config.handler_timeout = Some(limit);
        self
    }

    /// How long a shutdown waits for running handlers. 30 s unless said.
    pub fn drain_within(mut self, limit: Duration) -> Self {
        self.drain_within = limit;
        self
    }

    /// Says that the handler blocks its thread: it runs on a thread of its own, and its right is not given up under it. Such a handler cannot be
    /// dropped; it should look at its [lease](crate::Lease) and end by itself.
    ///
    /// In tests under tokio's paused clock it must not wait for tokio's timers: while a thread blocks that clock stands still.
    pub fn blocking(mut self) -> Self {
        self.blocking = true;
        self
    }

    /// Handles messages until `shutdown`, then drains: starts nothing more, lets running handlers end, settles what they did and gives every session back.
    ///
    /// # Errors
    /// When it cannot start; when a handler asked to stop or ran out of attempts with [`Exhausted::Stop`](crate::Exhausted::Stop), after a
    /// drain; when the broker failed for good.
    ///
    /// # Cancel safety
    /// Dropping it is an unclean end: handlers are dropped, what they had not settled comes again, and rights go with the connection.
    pub async fn run_until<T: Payload>(self, shutdown: impl Future, handler: impl Handler<T>) -> Result<Report> {
        let processor = self.start(handler).await?;
        tokio::select! {
            _ = shutdown => processor.drain().await,
            error = processor.failed() => {
                let drained = processor.drain().await;
                match error {
                    Some(error) => Err(error),
                    None => drained,
                }
            }
        }
    }

    /// Starts it and gives the handle that pauses, looks at and drains it.
    ///
    /// # Errors
    /// When the channel or group does not exist, the credentials do not allow it, or the broker's set-up breaks a guarantee.
    ///
    /// # Cancel safety
    /// Nothing is held when it is dropped.
    pub async fn start<T: Payload>(self, handler: impl Handler<T>) -> Result<Processor> {
        let driver = self.consumer.driver(Some(self.concurrency)).await?;
        Ok(Processor::start(driver, handler, self.drain_within, self.blocking))
    }
}
