//! The part of a lease that may be looked at from any thread.

use crate::sync::{AtomicU64, Ordering};
use crate::time::Moment;

/// The deadline of one grant, shared between the backend that made it, the engine that moves it, and whoever holds a delivery.
///
/// The engine moves the deadline. A backend ends it the moment it sees that the right is gone, so that nothing starts while the news is on its way. An
/// end is for good.
#[derive(Debug, Default)]
pub struct LeaseCell(AtomicU64);

/// No deadline can be that late: evidence is finite.
const ENDED: u64 = u64::MAX;

impl LeaseCell {
    /// The moment from which nothing may start; the origin before the first evidence and after the end.
    #[must_use]
    pub fn deadline(&self) -> Moment {
        match self.0.load(Ordering::Acquire) {
            ENDED => Moment::ORIGIN,
            deadline => Moment::from_nanos(deadline),
        }
    }

    /// Whether the right holds at `now`.
    #[must_use]
    pub fn holds(&self, now: Moment) -> bool {
        now < self.deadline()
    }

    /// Ends it for good.
    pub fn end(&self) {
        self.0.store(ENDED, Ordering::Release);
    }

    /// Whether it was ended for good.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.0.load(Ordering::Acquire) == ENDED
    }

    /// Moves the deadline, unless it was ended.
    pub(crate) fn set(&self, deadline: Moment) {
        let deadline = deadline.as_nanos().min(ENDED - 1);
        // One thread sets at a time; the loop only meets an end that came in between.
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| (now != ENDED).then_some(deadline));
    }
}
