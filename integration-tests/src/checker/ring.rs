//! The messages of all sessions that are delivered and not settled: a list a session in log
//! order, in one slab, so that an idle session holds nothing.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::history::{Message, Position};

pub(super) const NIL: u32 = u32::MAX;

/// Bits of [`Entry::flags`].
pub(super) mod flag {
    pub(crate) const STARTED: u16 = 1;
    /// A run of it ended well, in some grant.
    pub(crate) const ENDED_OK: u16 = 1 << 1;
    /// A crash cut off a run of it, and it was not started since.
    pub(crate) const CUT: u16 = 1 << 2;
    /// Its settlement is asked for and not answered: maybe settled.
    pub(crate) const ASKED: u16 = 1 << 3;
    pub(crate) const SETTLED: u16 = 1 << 4;
    /// What is asked for is to set it aside: nothing starts behind it until that is known.
    pub(crate) const ASIDE: u16 = 1 << 5;
    pub(crate) const DEAD: u16 = 1 << 6;
    pub(crate) const MALFORMED: u16 = 1 << 7;
    /// A later one started although this one was not done.
    pub(crate) const OVERTAKEN: u16 = 1 << 8;
    /// Outside the order: a second copy of a resent message, or one that came back.
    pub(crate) const EXTRA: u16 = 1 << 9;
    pub(crate) const RETURNED: u16 = 1 << 10;
    /// A run of it ended, in whatever way.
    pub(crate) const RAN: u16 = 1 << 11;
    /// The last run of it ended well: a start now repeats it, and is no retry.
    pub(crate) const DONE: u16 = 1 << 12;
    /// A settlement that was asked for had no answer: a refusal of the next one does not say what became of it.
    pub(crate) const UNSURE: u16 = 1 << 13;
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) message: Message,
    pub(super) position: Option<Position>,
    /// Compares as the places of two entries of a session do; renumbered when there is no room.
    pub(super) rank: i64,
    pub(super) ended_at: u64,
    pub(super) session: u32,
    pub(super) prev: u32,
    pub(super) next: u32,
    /// The next copy of the same message.
    pub(super) copy: u32,
    /// Grants, by their number in order of time: last delivered in, last ended well in, asked in.
    pub(super) delivered_in: u32,
    pub(super) ended_in: u32,
    pub(super) asked_in: u32,
    /// Attempts that failed, crashes included.
    pub(super) failed: u32,
    pub(super) flags: u16,
}

impl Entry {
    pub(super) fn has(&self, flags: u16) -> bool {
        self.flags & flags != 0
    }
}

/// The ends of a session's list.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    pub(super) head: u32,
    pub(super) tail: u32,
}

impl Default for List {
    fn default() -> Self {
        Self { head: NIL, tail: NIL }
    }
}

const STEP: i64 = 1 << 24;

#[derive(Debug, Default)]
pub(super) struct Ring {
    entries: Vec<Entry>,
    free: Vec<u32>,
    live: HashMap<(u32, Message), u32, RandomState>,
}

impl Ring {
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.free.clear();
        self.live.clear();
    }

    pub(super) fn get(&self, id: u32) -> Option<&Entry> {
        self.entries.get(id as usize)
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Entry> {
        self.entries.get_mut(id as usize)
    }

    /// The oldest live copy of a message.
    pub(super) fn find(&self, session: u32, message: Message) -> u32 {
        self.live.get(&(session, message)).copied().unwrap_or(NIL)
    }

    /// As [`Ring::find`], with a guess that saves the look-up.
    pub(super) fn find_near(&self, guess: u32, session: u32, message: Message) -> u32 {
        match self.get(guess) {
            Some(entry) if entry.message == message && entry.session == session => guess,
            _ => self.find(session, message),
        }
    }

    pub(super) fn next(&self, id: u32) -> u32 {
        self.get(id).map_or(NIL, |entry| entry.next)
    }

    /// Whether `a` lies before `b`; both are of one session.
    pub(super) fn before(&self, a: u32, b: u32) -> bool {
        matches!((self.get(a), self.get(b)), (Some(a), Some(b)) if a.rank < b.rank)
    }

    /// Puts a new entry behind `after`, or in front of all if that is `NIL`.
    pub(super) fn insert(&mut self, list: &mut List, after: u32, entry: Entry) -> u32 {
        let before = if after == NIL { list.head } else { self.next(after) };
        let rank = match (self.get(after).map(|e| e.rank), self.get(before).map(|e| e.rank)) {
            (None, None) => 0,
            (Some(low), None) => low + STEP,
            (None, Some(high)) => high - STEP,
            (Some(low), Some(high)) if high - low > 1 => low + (high - low) / 2,
            (Some(_), Some(_)) => {
                self.renumber(list.head);
                return self.insert(list, after, entry);
            }
        };
        let key = (entry.session, entry.message);
        let entry = Entry { rank, prev: after, next: before, copy: NIL, ..entry };
        let id = self.store(entry);
        match self.get_mut(after) {
            Some(entry) => entry.next = id,
            None => list.head = id,
        }
        match self.get_mut(before) {
            Some(entry) => entry.prev = id,
            None => list.tail = id,
        }
        let mut last = *self.live.entry(key).or_insert(id);
        while last != id {
            match self.get_mut(last) {
                Some(entry) if entry.copy == NIL => {
                    entry.copy = id;
                    break;
                }
                Some(entry) => last = entry.copy,
                None => break,
            }
        }
        id
    }

    pub(super) fn remove(&mut self, list: &mut List, id: u32) {
        let Some(entry) = self.get(id).cloned() else { return };
        match self.get_mut(entry.prev) {
            Some(prev) => prev.next = entry.next,
            None => list.head = entry.next,
        }
        match self.get_mut(entry.next) {
            Some(next) => next.prev = entry.prev,
            None => list.tail = entry.prev,
        }
        let key = (entry.session, entry.message);
        let first = self.find(key.0, key.1);
        if first == id {
            if entry.copy == NIL {
                self.live.remove(&key);
            } else {
                self.live.insert(key, entry.copy);
            }
        } else {
            let owner = self.copies(first).find(|at| self.get(*at).is_some_and(|e| e.copy == id));
            if let Some(owner) = owner.and_then(|at| self.get_mut(at)) {
                owner.copy = entry.copy;
            }
        }
        if let Some(gone) = self.get_mut(id) {
            gone.session = NIL;
        }
        self.free.push(id);
    }

    /// An entry and the copies behind it.
    pub(super) fn copies(&self, first: u32) -> impl Iterator<Item = u32> + '_ {
        std::iter::successors((first != NIL).then_some(first), |id| {
            self.get(*id).map(|entry| entry.copy).filter(|copy| *copy != NIL)
        })
    }

    fn store(&mut self, entry: Entry) -> u32 {
        if let Some(id) = self.free.pop()
            && let Some(slot) = self.get_mut(id)
        {
            *slot = entry;
            return id;
        }
        self.entries.push(entry);
        u32::try_from(self.entries.len() - 1).unwrap_or(NIL)
    }

    fn renumber(&mut self, head: u32) {
        let (mut at, mut rank) = (head, 0);
        while let Some(entry) = self.get_mut(at) {
            entry.rank = rank;
            rank += STEP;
            at = entry.next;
        }
    }
}
