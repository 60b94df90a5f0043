//! Slots that are used again, and lists threaded through them: no allocation a message or a lock.

use std::ops::{Index, IndexMut};

/// No slot.
pub(crate) const NONE: u32 = u32::MAX;

/// So many slots are kept when a slab becomes empty; more are given back to the allocator.
pub(crate) const KEPT: usize = 1 << 16;

/// Values at stable small numbers. A free slot holds the default value.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    items: Vec<T>,
    free: Vec<u32>,
}

impl<T: Default> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self { items: Vec::new(), free: Vec::new() }
    }

    pub(crate) fn insert(&mut self, value: T) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.items[slot as usize] = value;
            return slot;
        }
        let slot = self.items.len() as u32;
        self.items.push(value);
        slot
    }

    pub(crate) fn remove(&mut self, slot: u32) -> T {
        let value = std::mem::take(&mut self.items[slot as usize]);
        self.free.push(slot);
        if self.free.len() == self.items.len() && self.items.capacity() > KEPT {
            self.items = Vec::new();
            self.free = Vec::new();
        }
        value
    }

    /// How many slots are taken.
    pub(crate) fn len(&self) -> usize {
        self.items.len() - self.free.len()
    }

    /// One past the highest slot that was ever taken.
    pub(crate) fn end(&self) -> u32 {
        self.items.len() as u32
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.items
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, slot: u32) -> &T {
        &self.items[slot as usize]
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, slot: u32) -> &mut T {
        &mut self.items[slot as usize]
    }
}

/// The place of an item in a [`List`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    prev: u32,
    next: u32,
}

impl Default for Link {
    fn default() -> Self {
        Self { prev: NONE, next: NONE }
    }
}

/// An item that can stand in a list.
pub(crate) trait Linked {
    fn link(&mut self) -> &mut Link;
}

/// A doubly linked list through the slots of a slice: constant time at both ends and in the middle.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List {
    head: u32,
    tail: u32,
    len: usize,
}

impl Default for List {
    fn default() -> Self {
        Self { head: NONE, tail: NONE, len: 0 }
    }
}

impl List {
    pub(crate) fn front(&self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn push_back<T: Linked>(&mut self, items: &mut [T], slot: u32) {
        *items[slot as usize].link() = Link { prev: self.tail, next: NONE };
        match self.tail {
            NONE => self.head = slot,
            tail => items[tail as usize].link().next = slot,
        }
        self.tail = slot;
        self.len += 1;
    }

    /// Takes `slot`, which must stand in this list, out of it.
    pub(crate) fn remove<T: Linked>(&mut self, items: &mut [T], slot: u32) {
        let Link { prev, next } = std::mem::take(items[slot as usize].link());
        match prev {
            NONE => self.head = next,
            prev => items[prev as usize].link().next = next,
        }
        match next {
            NONE => self.tail = prev,
            next => items[next as usize].link().prev = prev,
        }
        self.len -= 1;
    }

    pub(crate) fn pop_front<T: Linked>(&mut self, items: &mut [T]) -> Option<u32> {
        let slot = self.front()?;
        self.remove(items, slot);
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Item(Link);

    impl Linked for Item {
        fn link(&mut self) -> &mut Link {
            &mut self.0
        }
    }

    #[test]
    fn a_list_gives_in_order_and_loses_from_the_middle() {
        let mut items: Vec<Item> = (0..4).map(|_| Item::default()).collect();
        let mut list = List::default();
        for slot in 0..4 {
            list.push_back(&mut items, slot);
        }
        list.remove(&mut items, 2);
        list.remove(&mut items, 0);
        list.push_back(&mut items, 2);
        let order: Vec<u32> = std::iter::from_fn(|| list.pop_front(&mut items)).collect();
        assert_eq!(order, [1, 3, 2]);
        assert!(list.is_empty() && list.front().is_none());
    }

    #[test]
    fn slots_are_used_again_and_an_empty_slab_gives_its_memory_back() {
        let mut slab: Slab<u64> = Slab::new();
        for i in 0..100_000 {
            slab.insert(i);
        }
        for slot in 0..100_000 {
            assert_eq!(slab.remove(slot), u64::from(slot));
        }
        assert_eq!((slab.len(), slab.end(), slab.items.capacity()), (0, 0, 0));
        assert_eq!(slab.insert(7), 0);
    }
}
