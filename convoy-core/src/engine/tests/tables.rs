//! The tables by themselves: timers and lists by age.

use slab::Slab;

use super::super::state::{Fifo, Linked, Links};
use super::super::timers::{Timer, TimerId, Timers};
use super::*;

#[test]
fn timers_come_in_the_order_of_their_time_whatever_was_moved_or_taken_out() {
    let mut random = fastrand_like(7);
    let mut timers = Timers::default();
    let mut set: Vec<Option<(TimerId, u64)>> = vec![None; 50];
    for _ in 0..5_000 {
        let (owner, due) = ((random() % 50) as usize, random() % 1_000);
        let mut id = set[owner].map(|(id, _)| id);
        if random() % 3 < 1 {
            timers.cancel(&mut id);
            assert_eq!(id, None);
            set[owner] = None;
        } else {
            timers.set(&mut id, Moment::from_nanos(due), Timer::Grant(owner));
            set[owner] = id.map(|id| (id, due));
        }
        timers.check();
        assert_eq!(timers.next(), set.iter().flatten().map(|(_, due)| Moment::from_nanos(*due)).min());
    }
    for now in 0..1_000 {
        while let Some(timer) = timers.pop(Moment::from_nanos(now)) {
            let Timer::Grant(owner) = timer else { panic!("{timer:?}") };
            assert_eq!(set[owner].take().map(|(_, due)| due), Some(now));
        }
        timers.check();
    }
    assert!(set.iter().all(Option::is_none));
    assert_eq!((timers.next(), timers.pop(Moment::NEVER), timers.len()), (None, None, 0));
}

/// A small generator, so that a test prints nothing and is the same every time.
pub(super) fn fastrand_like(mut state: u64) -> impl FnMut() -> u64 {
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    }
}

#[derive(Default)]
struct Item(Links);

impl Linked for Item {
    fn links(&mut self) -> &mut Links {
        &mut self.0
    }
}

#[test]
fn a_fifo_keeps_the_order_of_age_whatever_is_taken_out() {
    let mut random = fastrand_like(3);
    let mut table: Slab<Item> = (0..20).map(|index| (index, Item::default())).collect();
    let mut fifo = Fifo::default();
    let mut expected: VecDeque<usize> = VecDeque::new();
    for _ in 0..5_000 {
        let index = (random() % 20) as usize;
        fifo.unlink(&mut table, index);
        expected.retain(|other| *other != index);
        if random() & 1 < 1 {
            fifo.push(&mut table, index);
            expected.push_back(index);
        }
        assert_eq!(fifo.oldest(), expected.front().copied());
    }
    while let Some(oldest) = fifo.oldest() {
        assert_eq!(expected.pop_front(), Some(oldest));
        fifo.unlink(&mut table, oldest);
    }
    assert!(expected.is_empty());
}
