//! The tables by themselves: timers and lists by age.

use slab::Slab;

use super::super::state::{Fifo, Linked, Links};
use super::super::timers::{Timer, TimerId, Timers};
use super::*;

#[test]
fn timers_come_in_the_order_of_their_time_whatever_was_moved_or_taken_out() {
    let mut random = generator(7);
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

/// A small generator (splitmix), so that a test is the same every time.
pub(super) fn generator(mut state: u64) -> impl FnMut() -> u64 {
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
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
    let mut random = generator(3);
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
