//! The channel: every message in one order, what became of it, and the dead letters.

use std::sync::Arc;

use convoy_core::{Content, Defect};

use crate::history::Message;

/// A message at the broker. Its position is its number in the log plus one.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The session's number; see [`session_key`](super::names::session_key) for those without one.
    pub(crate) session: u8,
    pub(crate) place: u8,
    pub(crate) message: Message,
    pub(crate) content: Arc<Content>,
    pub(crate) defect: Option<Defect>,
    /// Its handler always fails.
    pub(crate) poison: bool,
    pub(crate) settled: bool,
    pub(crate) delivered: u16,
}

impl Entry {
    /// What the checker calls its session.
    pub(crate) fn key(&self, position: u64) -> u64 {
        match self.defect {
            Some(Defect::NoSession | Defect::SessionTooLong) => super::names::LONE | position,
            _ => u64::from(self.session),
        }
    }
}

/// The messages and the dead-letter store.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) entries: Vec<Entry>,
    pub(crate) unsettled: u32,
    pub(crate) dead: Vec<u32>,
}

impl Log {
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.dead.clear();
        self.unsettled = 0;
    }

    pub(crate) fn at(&self, position: u64) -> Option<&Entry> {
        self.entries.get((position as usize).wrapping_sub(1))
    }

    /// Marks an entry; says whether that is new.
    pub(crate) fn settle(&mut self, entry: u32) -> bool {
        let entry = &mut self.entries[entry as usize];
        let new = !std::mem::replace(&mut entry.settled, true);
        self.unsettled -= u32::from(new);
        new
    }

    pub(crate) fn unsettle(&mut self, entry: u32) {
        let entry = &mut self.entries[entry as usize];
        self.unsettled += u32::from(std::mem::replace(&mut entry.settled, false));
    }
}
