//! Handlers and members that the scenarios share.

use std::sync::Arc;

use convoy_core::{Broker, Consumer, Failure, Processor, Received, Redelivered, with_state};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::seen::Seen;
use crate::stage::consumer;

/// A handler that takes a permit for each message, for good, and notes what it has handled.
#[derive(Clone)]
pub(crate) struct Gate {
    permits: Arc<Semaphore>,
    handled: Arc<Mutex<Vec<(String, Redelivered)>>>,
}

impl Gate {
    /// One that lets so many through.
    pub(crate) fn of(permits: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(permits)), handled: Arc::default() }
    }

    /// One that lets everything through.
    pub(crate) fn open() -> Self {
        Self::of(Semaphore::MAX_PERMITS)
    }

    /// Lets so many more through.
    pub(crate) fn let_through(&self, more: usize) {
        self.permits.add_permits(more);
    }

    /// The bodies that were handled, in order.
    pub(crate) fn handled(&self) -> Vec<String> {
        self.handled.lock().iter().map(|(body, _)| body.clone()).collect()
    }

    pub(crate) fn redelivered(&self) -> Vec<Redelivered> {
        self.handled.lock().iter().map(|(_, redelivered)| *redelivered).collect()
    }

    pub(crate) async fn handle(self, message: Received<String>) -> Result<(), Failure> {
        let permit = self.permits.acquire().await?;
        permit.forget();
        self.handled.lock().push((message.body.clone(), message.redelivered()));
        Ok(())
    }

    /// Starts a processor with this handler.
    pub(crate) async fn start(&self, broker: &Broker, seen: &Seen) -> Processor {
        let started = consumer(broker).observer(seen.clone()).processor();
        started.start(with_state(self.clone(), Self::handle)).await.expect("a processor")
    }
}

/// A member that takes what the broker hands out and handles nothing.
pub(crate) async fn idle(broker: &Broker, seen: &Seen) -> Consumer {
    consumer(broker).observer(seen.clone()).open().await.expect("a consumer")
}
