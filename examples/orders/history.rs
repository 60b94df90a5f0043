//! What happened in this run: what a run before it left at the broker is none of its affair.

use std::sync::atomic::{AtomicU32, Ordering};

use convoy_conformance::history::{Event, Memory, Recorder, What};

/// Keeps what happened to the messages of this run's producer.
#[derive(Debug)]
pub(crate) struct History {
    all: Memory,
    producer: AtomicU32,
}

impl History {
    pub(crate) fn new() -> Self {
        Self { all: Memory::new(1), producer: AtomicU32::new(0) }
    }

    pub(crate) fn take(&self) -> Vec<Event> {
        self.all.take()
    }
}

impl Recorder for History {
    fn record(&self, time: u64, group: u32, what: What) {
        if let What::SendReq { message, .. } = &what {
            self.producer.store(message.producer, Ordering::Relaxed);
        }
        let own = self.producer.load(Ordering::Relaxed);
        if what.message().is_none_or(|message| message.producer == own) {
            self.all.record(time, group, what);
        }
    }
}
