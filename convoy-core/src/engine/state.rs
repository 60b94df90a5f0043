//! The engine's tables: grants with the ring of what was delivered under them, sessions with their queue, runs.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;
use slab::Slab;

use super::input::CancelWhy;
use super::timers::TimerId;
use crate::backend::{Grant, LeaseCell, Place, Reason};
use crate::message::{Content, Defect, Inbound, Redelivered};
use crate::position::Position;
use crate::session::SessionId;
use crate::time::Moment;

/// A right, and everything delivered under it that is not settled yet.
#[derive(Debug)]
pub(super) struct GrantState {
    pub(super) grant: Grant,
    pub(super) place: Place,
    pub(super) cell: Arc<LeaseCell>,
    pub(super) granted_at: Moment,
    /// From here on nothing starts; `None` before the first evidence.
    pub(super) deadline: Option<Moment>,
    /// Whether the deadline has passed and its handlers were told.
    pub(super) suspended: bool,
    pub(super) renew_at: Moment,
    pub(super) renew_again: Duration,
    pub(super) generation: u32,
    /// The lowest position that the next delivery may have.
    pub(super) next_position: u64,
    /// One past the highest position delivered or passed.
    pub(super) end: u64,
    /// What was delivered and is not settled, by position; now and then settled ones in the middle.
    pub(super) ring: VecDeque<Entry>,
    /// So many entries at the front are told or settled ([`SettleStyle::Each`](crate::backend::SettleStyle::Each)).
    pub(super) told_in_front: usize,
    /// Settled entries that still stand in the ring.
    pub(super) settled_inside: usize,
    /// Messages buffered: delivered and not resolved.
    pub(super) messages: usize,
    pub(super) bytes: usize,
    /// Sessions of this place that meet their own bound.
    pub(super) full_sessions: usize,
    pub(super) reading: bool,
    pub(super) running: usize,
    /// Copies for a store that are under way.
    pub(super) asides: usize,
    /// Positions that are resolved and that the broker was not told of yet, in the order in which they were.
    pub(super) untold: Vec<u64>,
    pub(super) untold_since: Moment,
    /// When the first of what the settlement on its way speaks of was resolved.
    pub(super) told_since: Moment,
    /// Positions that the settlement on its way speaks of; not with [`SettleStyle::Each`](crate::backend::SettleStyle::Each).
    pub(super) told: Vec<u64>,
    /// Names that settlement.
    pub(super) ticket: u64,
    /// Nothing of what is untold can be told while the open sessions before it stay open.
    pub(super) no_room: bool,
    /// The first position that the last settlement had no room to speak of.
    pub(super) covered: u64,
    /// Something waits to start until more of what is done is settled.
    pub(super) held_back: bool,
    /// Positions were passed that the broker was not told of yet.
    pub(super) passed: bool,
    /// Settlements without an answer.
    pub(super) in_flight: u32,
    /// Not before then, after one whose answer was lost.
    pub(super) settle_after: Moment,
    /// Not before then only because nothing is left to do.
    pub(super) quiet_after: Moment,
    /// Somebody waits for the settlement.
    pub(super) urgent: bool,
    pub(super) leaving: Option<Leaving>,
    /// Messages resolved under this right, and when the first of them was started.
    pub(super) handled: u32,
    pub(super) began: Option<Moment>,
    /// Since when nothing is to be done here.
    pub(super) idle_since: Option<Moment>,
    pub(super) idle_links: Links,
    /// Sessions of this place that are claimed.
    pub(super) claims: usize,
    /// No renewal any more, and no evidence is taken: the right is to run out.
    pub(super) lapsing: bool,
    pub(super) timer: Option<TimerId>,
    /// When its timer is due.
    pub(super) armed: Moment,
}

/// A right that is to be given back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving {
    /// Handlers are told to end then, so that they are gone in time.
    pub(super) cancel_at: Moment,
    /// Then it is given back, settled or not, once no handler runs.
    pub(super) until: Moment,
    pub(super) cancelled: bool,
}

/// The memory of a grant that is gone.
#[derive(Debug, Default)]
pub(super) struct Spare {
    pub(super) ring: VecDeque<Entry>,
    pub(super) untold: Vec<u64>,
    pub(super) told: Vec<u64>,
}

/// A delivery in the ring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) position: u64,
    pub(super) session: usize,
    pub(super) stage: Stage,
}

impl Entry {
    /// Its session, while it is buffered or running. Later the session may be forgotten, and its place taken by another.
    pub(super) fn open(&self) -> Option<usize> {
        (self.stage == Stage::Open).then_some(self.session)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Buffered or running.
    Open,
    /// Resolved then; the broker was not told.
    Done(Moment),
    /// The broker was told, under this ticket.
    Told(u64),
    /// The broker is known to have it.
    Settled,
}

impl GrantState {
    /// The entry of this position. Where positions have no holes it stands as far behind the front as its position says.
    pub(super) fn entry(&mut self, position: u64) -> Option<&mut Entry> {
        let at = self.find(position)?;
        self.ring.get_mut(at)
    }

    fn find(&self, position: u64) -> Option<usize> {
        let at = usize::try_from(position.checked_sub(self.ring.front()?.position)?).ok()?;
        match self.ring.get(at) {
            Some(entry) if entry.position == position => Some(at),
            _ => self.ring.binary_search_by_key(&position, |entry| entry.position).ok(),
        }
    }

    /// How much is untold of these positions, and when the first of it was resolved.
    pub(super) fn untold_within(&self, positions: Range<u64>) -> (usize, Moment) {
        let since = |position: &u64| match self.ring.get(self.find(*position)?)?.stage {
            Stage::Done(since) => Some(since),
            _ => None,
        };
        let untold = self.untold.iter().filter(|position| positions.contains(position)).filter_map(since);
        untold.fold((0, Moment::NEVER), |(count, oldest), since| (count + 1, oldest.min(since)))
    }

    /// Whether nothing is buffered and nothing runs.
    pub(super) fn is_quiet(&self) -> bool {
        self.running == 0 && self.messages == 0
    }

    /// Whether everything resolved here is known to the broker.
    pub(super) fn is_told(&self) -> bool {
        self.untold.is_empty() && self.in_flight == 0 && self.asides == 0
    }

    /// Whether its right holds and stays: something may start under it.
    pub(super) fn may_start(&self, now: Moment) -> bool {
        self.deadline.is_some_and(|deadline| now < deadline) && !self.cell.is_ended() && self.leaving.is_none()
    }

    pub(super) fn is_proved(&self) -> bool {
        self.deadline.is_some()
    }
}

/// A session with its queue. It outlives its grant as long as a handler of it runs: that is the gate.
#[derive(Debug)]
pub(super) struct SessionState {
    pub(super) id: SessionId,
    /// The place it belongs to, as [`Grant::shard`] has it: one id in two lanes is two sessions, each with an order of its own.
    pub(super) shard: u32,
    /// The grant that its queue belongs to.
    pub(super) grant: Option<usize>,
    pub(super) head: Option<usize>,
    pub(super) tail: Option<usize>,
    pub(super) len: usize,
    pub(super) bytes: usize,
    /// Whether it meets its own bound.
    pub(super) full: bool,
    /// Its running handler, be it of an older grant.
    pub(super) run: Option<usize>,
    pub(super) claim: Option<usize>,
    pub(super) step: Step,
    /// Failed attempts of the head, and when the first one failed.
    pub(super) failures: u32,
    pub(super) failed_since: Moment,
    /// Entries in the ring of its grant.
    pub(super) entries: usize,
    /// Tells its entry in the line from an outdated one.
    pub(super) turn: u64,
    /// Ends its wait.
    pub(super) timer: Option<TimerId>,
    /// Why the head is set aside, while it is.
    pub(super) aside: Option<Box<Reason>>,
    /// The last list of open sessions it stands in.
    pub(super) listed: u64,
}

/// What a session with a message at its head waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A message, evidence for the lease, or the end of an older run.
    Idle,
    /// Its turn.
    Ready,
    /// Whoever claimed it.
    Offered,
    /// Its handler.
    Running,
    /// The end of a wait.
    Waiting,
    /// The settlement of what was done before its head, which is to be set aside.
    Settling,
    /// The copy of its head for a store.
    Aside,
    /// The settlement of a dead letter's source, by its position.
    Barrier(u64),
}

impl SessionState {
    pub(super) fn new(id: SessionId, shard: u32) -> Self {
        Self {
            id,
            shard,
            grant: None,
            head: None,
            tail: None,
            len: 0,
            bytes: 0,
            full: false,
            run: None,
            claim: None,
            step: Step::Idle,
            failures: 0,
            failed_since: Moment::ORIGIN,
            entries: 0,
            turn: 0,
            timer: None,
            aside: None,
            listed: 0,
        }
    }

    pub(super) fn is_in_line(&self, turn: u64) -> bool {
        self.step == Step::Ready && self.turn == turn
    }

    /// The hash by which it is found.
    pub(super) fn hash(&self, hasher: &FixedState) -> u64 {
        Self::hash_of(hasher, self.shard, &self.id)
    }

    pub(super) fn hash_of(hasher: &FixedState, shard: u32, id: &SessionId) -> u64 {
        let mut hasher = hasher.build_hasher();
        hasher.write_u64(u64::from(shard) << 1 | u64::from(id.is_lone()));
        hasher.write(id.as_bytes());
        hasher.finish()
    }

    /// Whether everything resolved in it is known to the broker.
    pub(super) fn is_flushed(&self) -> bool {
        self.entries == self.len && self.aside.is_none() && !matches!(self.step, Step::Barrier(_))
    }
}

/// A buffered message, linked to the next of its session.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) position: Position,
    pub(super) defect: Option<Defect>,
    redelivered: Redelivered,
    pub(super) content: Arc<Content>,
    /// As it came, until it is handed out for the first time: one counted reference less to make and to drop.
    session: Option<SessionId>,
    pub(super) size: usize,
    pub(super) next: Option<usize>,
}

impl Node {
    pub(super) fn new(message: Inbound, size: usize) -> Self {
        let Inbound { position, session, redelivered, defect, content } = message;
        Self { position, defect, redelivered, content, session: Some(session), size, next: None }
    }

    /// The message, for a handler or a store.
    pub(super) fn message(&mut self, id: &SessionId) -> Inbound {
        Inbound {
            position: self.position,
            session: self.session.take().unwrap_or_else(|| id.clone()),
            redelivered: self.redelivered,
            defect: self.defect,
            content: Arc::clone(&self.content),
        }
    }
}

/// A running handler.
#[derive(Debug)]
pub(super) struct RunState {
    pub(super) serial: u64,
    pub(super) session: usize,
    pub(super) grant: Grant,
    /// The place of its grant in the table, as long as that is held.
    pub(super) grant_index: usize,
    pub(super) position: Position,
    pub(super) attempt: u32,
    pub(super) started: Moment,
    pub(super) cancelled: Option<CancelWhy>,
    /// Ends its grace time.
    pub(super) timer: Option<TimerId>,
    pub(super) links: Links,
}

/// The neighbours in a [`Fifo`].
#[derive(Debug, Default)]
pub(super) struct Links {
    older: Option<usize>,
    newer: Option<usize>,
}

pub(super) trait Linked {
    fn links(&mut self) -> &mut Links;
}

impl Linked for RunState {
    fn links(&mut self) -> &mut Links {
        &mut self.links
    }
}

impl Linked for GrantState {
    fn links(&mut self) -> &mut Links {
        &mut self.idle_links
    }
}

/// Entries of a table by age, so that what waits for a constant time needs no timer of its own.
#[derive(Debug, Default)]
pub(super) struct Fifo {
    oldest: Option<usize>,
    newest: Option<usize>,
}

impl Fifo {
    pub(super) fn oldest(&self) -> Option<usize> {
        self.oldest
    }

    pub(super) fn push<T: Linked>(&mut self, table: &mut Slab<T>, index: usize) {
        table[index].links().older = self.newest;
        match self.newest {
            Some(newest) => table[newest].links().newer = Some(index),
            None => self.oldest = Some(index),
        }
        self.newest = Some(index);
    }

    /// Takes an entry out, if it is in.
    pub(super) fn unlink<T: Linked>(&mut self, table: &mut Slab<T>, index: usize) {
        let Links { older, newer } = std::mem::take(table[index].links());
        match older {
            Some(older) => table[older].links().newer = newer,
            None if self.oldest == Some(index) => self.oldest = newer,
            None => return,
        }
        match newer {
            Some(newer) => table[newer].links().older = older,
            None => self.newest = older,
        }
    }
}
