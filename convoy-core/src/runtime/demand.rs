//! How many sessions a consumer wants, on a broker that is asked for them.

use crate::backend::{Limits, Shape};
use crate::sync::{AtomicUsize, Mutex, Ordering};

/// The sessions held over all shards, and what the broker was told to find.
#[derive(Debug)]
pub(super) struct Demand {
    /// Requests that may be open at once; zero on a broker of lanes.
    pending: u32,
    held: AtomicUsize,
    told: Mutex<Told>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Told {
    wanted: u32,
    pressure: bool,
    leaving: bool,
}

/// What is told after something changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tell {
    /// To the broker: so many requests are to be open.
    Wanted(u32),
    /// To the shards: whether idle sessions should make room.
    Pressure(bool),
}

/// What a consumer would take.
#[derive(Clone, Copy, Debug)]
pub(super) enum Appetite {
    /// Up to so many sessions held at once.
    UpTo(usize),
    /// One for each pull loop that waits.
    Waiting(usize),
}

impl Demand {
    pub(super) fn new(limits: &Limits) -> Self {
        let pending = match limits.shape {
            Shape::Sessions { pending_accepts } => pending_accepts,
            Shape::Lanes => 0,
        };
        Self { pending, held: AtomicUsize::new(0), told: Mutex::new(Told::default()) }
    }

    /// Counts the rights of a shard anew; whether anybody cares.
    pub(super) fn count(&self, before: usize, after: usize) -> bool {
        if before == after {
            return false;
        }
        if after > before {
            self.held.fetch_add(after - before, Ordering::SeqCst);
        } else {
            self.held.fetch_sub(before - after, Ordering::SeqCst);
        }
        self.pending > 0
    }

    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    /// Nothing is wanted any more.
    pub(super) fn leave(&self) {
        self.told.lock().leaving = true;
    }

    /// Tells what changed. `tell` is called under the lock, so that what was decided last is told last; it may change what is held.
    pub(super) fn update(&self, appetite: Appetite, mut tell: impl FnMut(Tell)) {
        if self.pending == 0 {
            return;
        }
        let mut told = self.told.lock();
        loop {
            let held = self.held();
            let (room, pressure) = match appetite {
                Appetite::UpTo(most) => (most.saturating_sub(held), held >= most),
                Appetite::Waiting(waiting) => (waiting, false),
            };
            let wanted = if told.leaving { 0 } else { u32::try_from(room).unwrap_or(u32::MAX).min(self.pending) };
            if std::mem::replace(&mut told.wanted, wanted) != wanted {
                tell(Tell::Wanted(wanted));
            }
            if std::mem::replace(&mut told.pressure, pressure) == pressure {
                return;
            }
            tell(Tell::Pressure(pressure));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_for_what_there_is_room_for_and_tells_only_changes() {
        let demand = Demand::new(&Limits::sessions());
        let update = |most| told(&demand, most);
        assert_eq!(update(4), [Tell::Wanted(4)]);
        assert_eq!(update(4), []);
        assert!(demand.count(0, 4));
        assert_eq!(update(4), [Tell::Wanted(0), Tell::Pressure(true)]);
        assert!(demand.count(4, 3));
        assert_eq!(update(4), [Tell::Wanted(1), Tell::Pressure(false)]);
        assert_eq!(update(1_000), [Tell::Wanted(16)], "no more than the broker allows at once");
        demand.leave();
        assert_eq!(update(1_000), [Tell::Wanted(0)]);
    }

    #[test]
    fn a_broker_of_lanes_is_asked_for_nothing() {
        let demand = Demand::new(&Limits::lanes());
        assert!(!demand.count(0, 4));
        assert_eq!(demand.held(), 4);
        assert_eq!(told(&demand, 9), []);
    }

    #[test]
    fn what_pressure_frees_is_asked_for_again() {
        let demand = Demand::new(&Limits::sessions());
        demand.count(0, 2);
        let mut all = Vec::new();
        demand.update(Appetite::UpTo(2), |tell| {
            all.push(tell);
            if tell == Tell::Pressure(true) {
                demand.count(2, 1);
            }
        });
        assert_eq!(all, [Tell::Pressure(true), Tell::Wanted(1), Tell::Pressure(false)]);
    }

    fn told(demand: &Demand, most: usize) -> Vec<Tell> {
        let mut all = Vec::new();
        demand.update(Appetite::UpTo(most), |tell| all.push(tell));
        all
    }
}
