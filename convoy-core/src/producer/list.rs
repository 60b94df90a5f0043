//! A doubly linked list through the items of a slab: no allocation, and an item leaves it in a constant time.

/// No item.
pub(super) const NIL: u32 = u32::MAX;

/// An item's neighbours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) prev: u32,
    pub(super) next: u32,
}

impl Link {
    pub(super) const NONE: Self = Self { prev: NIL, next: NIL };
}

/// The ends of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    pub(super) head: u32,
    pub(super) tail: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self { head: NIL, tail: NIL };

    pub(super) fn is_empty(self) -> bool {
        self.head == NIL
    }

    /// Puts `at` behind `after`; at the front when that is [`NIL`].
    pub(super) fn insert_after<T>(&mut self, items: &mut [T], link: impl Fn(&mut T) -> &mut Link, after: u32, at: u32) {
        let next = if after == NIL { self.head } else { link(&mut items[after as usize]).next };
        *link(&mut items[at as usize]) = Link { prev: after, next };
        if after == NIL {
            self.head = at;
        } else {
            link(&mut items[after as usize]).next = at;
        }
        if next == NIL {
            self.tail = at;
        } else {
            link(&mut items[next as usize]).prev = at;
        }
    }

    /// Takes `at` out. It must be in this list.
    pub(super) fn remove<T>(&mut self, items: &mut [T], link: impl Fn(&mut T) -> &mut Link, at: u32) {
        let Link { prev, next } = std::mem::replace(link(&mut items[at as usize]), Link::NONE);
        if prev == NIL {
            self.head = next;
        } else {
            link(&mut items[prev as usize]).next = next;
        }
        if next == NIL {
            self.tail = prev;
        } else {
            link(&mut items[next as usize]).prev = prev;
        }
    }
}
