//! Points in time at which something must be looked at again.

use slab::Slab;

use crate::time::Moment;

/// What is looked at, by its place in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    Grant(usize),
    Session(usize),
    Run(usize),
}

/// Names a timer that is set; kept by whoever it is for, so that the timer goes with it and a place that is used again meets no old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimerId(usize);

/// A binary heap whose entries can be moved and taken out.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: Vec<(Moment, usize)>,
    slots: Slab<Slot>,
}

#[derive(Debug)]
struct Slot {
    timer: Timer,
    /// Where it stands in the heap.
    at: usize,
}

impl Timers {
    /// Sets the timer, or moves it.
    pub(super) fn set(&mut self, id: &mut Option<TimerId>, due: Moment, timer: Timer) {
        let at = match *id {
            Some(TimerId(slot)) => {
                let at = self.slots[slot].at;
                self.heap[at].0 = due;
                at
            }
            None => {
                let at = self.heap.len();
                let slot = self.slots.insert(Slot { timer, at });
                self.heap.push((due, slot));
                *id = Some(TimerId(slot));
                at
            }
        };
        let at = self.rise(at);
        self.sink(at);
    }

    /// Takes the timer out, if it is set.
    pub(super) fn cancel(&mut self, id: &mut Option<TimerId>) {
        if let Some(TimerId(slot)) = id.take() {
            self.remove(self.slots[slot].at);
        }
    }

    pub(super) fn next(&self) -> Option<Moment> {
        self.heap.first().map(|(due, _)| *due)
    }

    /// Takes out the next timer that is due. Its owner must forget its name.
    pub(super) fn pop(&mut self, now: Moment) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        Some(self.remove(0))
    }

    pub(super) fn shrink(&mut self) {
        self.heap.shrink_to_fit();
        self.slots.shrink_to_fit();
    }

    fn remove(&mut self, at: usize) -> Timer {
        let (_, slot) = self.heap.swap_remove(at);
        if at < self.heap.len() {
            let at = self.rise(at);
            self.sink(at);
        }
        self.slots.remove(slot).timer
    }

    fn rise(&mut self, mut at: usize) -> usize {
        while at > 0 && self.heap[at].0 < self.heap[(at - 1) / 2].0 {
            self.heap.swap(at, (at - 1) / 2);
            self.stands_at(at);
            at = (at - 1) / 2;
        }
        self.stands_at(at);
        at
    }

    fn sink(&mut self, mut at: usize) {
        loop {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            let mut least = at;
            for child in [left, right] {
                if child < self.heap.len() && self.heap[child].0 < self.heap[least].0 {
                    least = child;
                }
            }
            if least == at {
                return;
            }
            self.heap.swap(at, least);
            self.stands_at(at);
            self.stands_at(least);
            at = least;
        }
    }

    fn stands_at(&mut self, at: usize) {
        let (_, slot) = self.heap[at];
        self.slots[slot].at = at;
    }
}

#[cfg(test)]
impl Timers {
    /// When this timer is due.
    pub(super) fn due(&self, id: TimerId) -> Moment {
        self.heap[self.slots[id.0].at].0
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn check(&self) {
        assert_eq!(self.heap.len(), self.slots.len());
        for (at, (due, slot)) in self.heap.iter().enumerate() {
            assert_eq!(self.slots[*slot].at, at);
            assert!(at == 0 || self.heap[(at - 1) / 2].0 <= *due);
        }
    }
}
