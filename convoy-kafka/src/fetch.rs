//! The thread that reads lanes. A lane that is not to be read is left alone, and the others go on; so they do while the polling thread waits for a hand-over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use convoy_core::Inbound;
use convoy_core::backend::Grant;
use rdkafka::error::KafkaError;

use crate::envelope::{self, Copying};
use crate::lanes::{Shared, Slot};
use crate::queue::BATCH;

/// With so many events that nobody has taken yet, no more are read.
const UNTAKEN: usize = 2_048;
/// How long it waits for something to read.
const IDLE: Duration = Duration::from_millis(50);

/// What runs on the thread.
pub(crate) struct Fetch {
    pub(crate) shared: Arc<Shared>,
    /// Until this says no.
    pub(crate) alive: Arc<AtomicBool>,
}

impl Fetch {
    pub(crate) fn run(self) {
        let mut lanes = Vec::new();
        let (mut records, mut copies) = (Vec::with_capacity(BATCH), Copying::default());
        while self.alive.load(Ordering::Acquire) {
            self.shared.state().readable(&mut lanes);
            let mut more = false;
            for (grant, slot) in lanes.drain(..) {
                more |= self.read(grant, &slot, &mut records, &mut copies);
                // Handlers are what it waits for, and not with a queue in hand.
                self.shared.events.wait_for_room(UNTAKEN, IDLE);
            }
            if !more {
                self.shared.bell.wait(IDLE);
            }
        }
    }

    /// Reads one batch of a lane. Whether there may be more.
    fn read(&self, grant: Grant, slot: &Slot, records: &mut Vec<Inbound>, copies: &mut Copying) -> bool {
        let shared = &self.shared;
        let mut slot = slot.lock();
        // From here on nobody opens it anew, and it does not go back to the client library.
        let Some(queue) = slot.as_mut().filter(|_| shared.state().reads(grant)) else { return false };
        let mut trouble: Option<KafkaError> = None;
        let got = queue.read(|record| match record {
            Ok(record) => {
                if let (Ok(lane), Ok(offset)) = (u32::try_from(record.lane()), u64::try_from(record.offset())) {
                    records.push(envelope::incoming(record, lane, offset, copies));
                }
            }
            Err(why) => trouble = Some(why),
        });
        if got == 0 {
            return false;
        }
        let more = got == BATCH;
        let mut state = shared.state();
        shared.deliver(&mut state, grant, records, !more);
        if trouble.is_some() {
            state.trouble = trouble;
        }
        shared.flush(&mut state);
        more
    }
}
