//! The sessions that a sentinel remembers: a bounded table, and the order in which they were used.

use hashbrown::HashTable;

use super::counts::SentinelCounts;
use super::rights::Right;
use super::track::{Seen, Track};
use crate::message::Stamp;
use crate::position::Position;

/// The sessions whose hash falls here.
#[derive(Debug)]
pub(super) struct Stripe {
    index: HashTable<u32>,
    entries: Vec<Entry>,
    most: usize,
    /// The one used last, and the one used least recently.
    newest: u32,
    oldest: u32,
    counts: SentinelCounts,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    newer: u32,
    older: u32,
    /// Where the message stands that started last.
    position: Position,
    /// The producer whose message was seen last.
    track: Track,
    /// Other producers, the most recent last.
    #[allow(clippy::box_collection, reason = "a word where there is one producer, as nearly always")]
    others: Option<Box<Vec<Track>>>,
}

const NONE: u32 = u32::MAX;
/// Of more producers than these, beside the last one, the least recent are forgotten.
const OTHERS: usize = 7;

impl Stripe {
    pub(super) fn new(most: usize) -> Self {
        Self {
            index: HashTable::new(),
            entries: Vec::new(),
            most: most.clamp(1, NONE as usize - 1),
            newest: NONE,
            oldest: NONE,
            counts: SentinelCounts::default(),
        }
    }

    pub(super) fn counts(&self) -> SentinelCounts {
        SentinelCounts { sessions: self.entries.len() as u64, ..self.counts }
    }

    /// A message starts: what that is, and the greatest number before it.
    #[inline]
    pub(super) fn started(
        &mut self,
        hash: u64,
        stamp: Stamp,
        right: Right,
        position: Position,
        sees_all: bool,
    ) -> (Seen, u64) {
        self.counts.seen += 1;
        let Some(at) = self.find(hash) else {
            return (self.begin(hash, stamp, right, position, sees_all), 0);
        };
        self.use_again(at);
        let saw_all = sees_all && self.counts.forgotten == 0;
        let entry = &mut self.entries[at as usize];
        entry.position = position;
        if entry.track.producer != stamp.producer.as_u128()
            && let Some((seen, forgotten)) = entry.turn_to(stamp, right, saw_all)
        {
            seen.count(&mut self.counts);
            self.counts.forgotten += u64::from(forgotten);
            return (seen, 0);
        }
        let last = entry.track.top();
        let seen = entry.track.start(stamp, right, sees_all);
        if seen != Seen::AS_EXPECTED {
            seen.count(&mut self.counts);
        }
        (seen, last)
    }

    /// A message is out of the way without a start.
    pub(super) fn passed(&mut self, hash: u64, stamp: Stamp, right: Right, sees_all: bool) -> (Seen, u64) {
        let Some(at) = self.find(hash) else {
            return (self.begin(hash, stamp, right, Position::default(), sees_all), 0);
        };
        let saw_all = sees_all && self.counts.forgotten == 0;
        let entry = &mut self.entries[at as usize];
        if entry.track.producer != stamp.producer.as_u128()
            && let Some((seen, forgotten)) = entry.turn_to(stamp, right, saw_all)
        {
            seen.count(&mut self.counts);
            self.counts.forgotten += u64::from(forgotten);
            return (seen, 0);
        }
        let last = entry.track.top();
        let seen = entry.track.pass(stamp, right, sees_all);
        seen.count(&mut self.counts);
        (seen, last)
    }

    /// The run of the message at this place did not end well.
    pub(super) fn not_done(&mut self, hash: u64, right: Right, position: Position) {
        if let Some(at) = self.find(hash)
            && let Some(entry) = self.entries.get_mut(at as usize)
            && entry.position == position
        {
            entry.track.not_done(right);
        }
    }

    fn find(&self, hash: u64) -> Option<u32> {
        self.index.find(hash, |at| self.entries[*at as usize].hash == hash).copied()
    }

    #[cold]
    fn begin(&mut self, hash: u64, stamp: Stamp, right: Right, position: Position, sees_all: bool) -> Seen {
        let (track, seen) = Track::begin(stamp, right, sees_all && self.counts.forgotten == 0);
        seen.count(&mut self.counts);
        let entry = Entry { hash, newer: NONE, older: NONE, position, track, others: None };
        let at = if self.entries.len() < self.most {
            self.entries.push(entry);
            (self.entries.len() - 1) as u32
        } else {
            let oldest = self.oldest;
            self.unlink(oldest);
            let forgotten = std::mem::replace(&mut self.entries[oldest as usize], entry);
            if let Ok(found) = self.index.find_entry(forgotten.hash, |at| *at == oldest) {
                found.remove();
            }
            self.counts.forgotten += 1;
            oldest
        };
        let entries = &self.entries;
        self.index.insert_unique(hash, at, |at| entries[*at as usize].hash);
        self.link(at);
        seen
    }

    #[inline]
    fn use_again(&mut self, at: u32) {
        if self.newest != at {
            self.unlink(at);
            self.link(at);
        }
    }

    fn link(&mut self, at: u32) {
        let before = std::mem::replace(&mut self.newest, at);
        let entry = &mut self.entries[at as usize];
        (entry.newer, entry.older) = (NONE, before);
        match self.entries.get_mut(before as usize) {
            Some(before) => before.newer = at,
            None => self.oldest = at,
        }
    }

    fn unlink(&mut self, at: u32) {
        let Entry { newer, older, .. } = self.entries[at as usize];
        match self.entries.get_mut(newer as usize) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
        match self.entries.get_mut(older as usize) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
    }
}

impl Entry {
    /// Makes this producer the last one. What its message is, when it is the first of it; and whether another producer was forgotten for it.
    #[cold]
    fn turn_to(&mut self, stamp: Stamp, right: Right, saw_all: bool) -> Option<(Seen, bool)> {
        let others = self.others.get_or_insert_default();
        let known = others.iter().position(|track| track.producer == stamp.producer.as_u128());
        let (track, seen) = match known {
            Some(known) => (others.remove(known), None),
            None => {
                let (track, seen) = Track::begin(stamp, right, saw_all);
                (track, Some(seen))
            }
        };
        let forgotten = others.len() >= OTHERS;
        if forgotten {
            others.remove(0);
        }
        others.push(std::mem::replace(&mut self.track, track));
        seen.map(|seen| (seen, forgotten))
    }
}
