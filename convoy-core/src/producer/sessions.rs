//! The sessions that have messages, or had some lately: a table, and the order in which idle ones are forgotten.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::backend::Ticket;
use crate::error::Error;
use crate::session::SessionId;
use crate::time::Moment;

use super::list::{Link, List, NIL};

#[derive(Debug)]
pub(super) struct Session {
    /// `None` when the slot is free.
    pub(super) id: Option<SessionId>,
    /// Its messages: those that are out, those that wait, those that are halted.
    pub(super) queue: List,
    /// How many are out.
    pub(super) out: u32,
    /// Whether it is in the list of those that may hand out a run.
    pub(super) ready: bool,
    /// The number of its latest message that was not given up; 0 for none.
    pub(super) last: u64,
    /// Whether messages behind `last` were given up.
    pub(super) skipped: bool,
    pub(super) halt: Option<Box<Halt>>,
    idle_since: Moment,
    idle: Link,
}

/// Why a session stands still.
#[derive(Debug)]
pub(super) struct Halt {
    /// Grows with every failure, so that a decision about an older one is recognised.
    pub(super) serial: u64,
    pub(super) since: Moment,
    pub(super) cause: Arc<Error>,
    /// The run whose outcome is unknown.
    pub(super) unknown: Option<Ticket>,
}

#[derive(Debug)]
pub(super) struct Sessions {
    pub(super) items: Vec<Session>,
    free: Vec<u32>,
    table: HashTable<u32>,
    hasher: RandomState,
    idle: List,
    idle_count: usize,
}

impl Sessions {
    pub(super) fn new() -> Self {
        Self {
            items: Vec::new(),
            free: Vec::new(),
            table: HashTable::new(),
            hasher: RandomState::default(),
            idle: List::EMPTY,
            idle_count: 0,
        }
    }

    pub(super) fn find(&self, id: &SessionId) -> Option<u32> {
        let items = &self.items;
        self.table.find(self.hasher.hash_one(id), |at| items[*at as usize].id.as_ref() == Some(id)).copied()
    }

    /// Finds the session for a message that joins it, or makes it. It is idle no more.
    pub(super) fn join(&mut self, id: &SessionId) -> u32 {
        if let Some(at) = self.find(id) {
            if self.items[at as usize].queue.is_empty() {
                self.leave_idle(at);
            }
            return at;
        }
        // Detached: the id may be a slice of a large buffer.
        let session = Session {
            id: Some(id.detached()),
            queue: List::EMPTY,
            out: 0,
            ready: false,
            last: 0,
            skipped: false,
            halt: None,
            idle_since: Moment::ORIGIN,
            idle: Link::NONE,
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.items[at as usize] = session;
                at
            }
            None => {
                self.items.push(session);
                (self.items.len() - 1) as u32
            }
        };
        let (items, hasher) = (&self.items, &self.hasher);
        self.table.insert_unique(hasher.hash_one(id), at, |at| match &items[*at as usize].id {
            Some(id) => hasher.hash_one(id),
            None => 0,
        });
        at
    }

    /// The session has no message left: remember it for a while, among at most `most`.
    pub(super) fn became_idle(&mut self, now: Moment, at: u32, most: usize) {
        self.items[at as usize].idle_since = now;
        let tail = self.idle.tail;
        self.idle.insert_after(&mut self.items, |s| &mut s.idle, tail, at);
        self.idle_count += 1;
        while self.idle_count > most {
            self.forget_oldest();
        }
    }

    /// When the oldest idle session became so.
    pub(super) fn idle_since(&self) -> Option<Moment> {
        (self.idle.head != NIL).then(|| self.items[self.idle.head as usize].idle_since)
    }

    pub(super) fn forget_oldest(&mut self) {
        let at = self.idle.head;
        self.leave_idle(at);
        let Some(id) = self.items[at as usize].id.take() else { return };
        if let Ok(entry) = self.table.find_entry(self.hasher.hash_one(&id), |other| *other == at) {
            entry.remove();
        }
        self.free.push(at);
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    fn leave_idle(&mut self, at: u32) {
        self.idle.remove(&mut self.items, |s| &mut s.idle, at);
        self.idle_count -= 1;
    }
}
