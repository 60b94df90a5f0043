//! The engine's tables: grants with the ring of what was delivered under them, sessions with their queue, runs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::input::CancelWhy;
use crate::backend::{Grant, LeaseCell, Place};
use crate::message::Inbound;
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
    pub(super) ring: VecDeque<Entry>,
    /// The number of the ring's front entry; entries are numbered in the order of delivery.
    pub(super) base: u64,
    /// Messages buffered: delivered and not resolved.
    pub(super) messages: usize,
    pub(super) bytes: usize,
    /// Sessions of this place that meet their own bound.
    pub(super) full_sessions: usize,
    pub(super) reading: bool,
    pub(super) running: usize,
    /// Copies for a store that are under way.
    pub(super) asides: usize,
    /// Resolved messages that the broker was not told of yet.
    pub(super) untold: u32,
    pub(super) untold_since: Moment,
    /// Positions were passed that the broker was not told of yet.
    pub(super) passed: bool,
    /// Settlements without an answer.
    pub(super) in_flight: u32,
    /// Not before then, after one whose answer was lost.
    pub(super) settle_after: Moment,
    /// Somebody waits for the settlement.
    pub(super) urgent: bool,
    pub(super) leaving: Option<Leaving>,
    /// Since when nothing is to be done here.
    pub(super) idle_since: Option<Moment>,
    /// No renewal any more: the right is to run out.
    pub(super) lapsing: bool,
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

/// A delivery in the ring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) position: u64,
    pub(super) session: usize,
    pub(super) stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Buffered or running.
    Open,
    /// Resolved; the broker was not told.
    Done,
    /// The broker was told, under this ticket.
    Told(u64),
    /// The broker is known to have it.
    Settled,
}

impl GrantState {
    pub(super) fn entry(&mut self, seq: u64) -> Option<&mut Entry> {
        let at = usize::try_from(seq.checked_sub(self.base)?).ok()?;
        self.ring.get_mut(at)
    }

    /// Whether nothing is buffered and nothing runs.
    pub(super) fn is_quiet(&self) -> bool {
        self.running == 0 && self.messages == 0
    }

    /// Whether everything resolved here is known to the broker.
    pub(super) fn is_told(&self) -> bool {
        self.untold == 0 && self.in_flight == 0 && self.asides == 0
    }

    pub(super) fn is_proved(&self) -> bool {
        self.deadline.is_some()
    }
}

/// A session with its queue. It outlives its grant as long as a handler of it runs: that is the gate.
#[derive(Debug)]
pub(super) struct SessionState {
    pub(super) id: SessionId,
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
    /// Tells an outdated timer.
    pub(super) wake: u64,
    /// Why the head is set aside, while it is.
    pub(super) aside: Option<crate::backend::Reason>,
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
    /// The copy of its head for a store.
    Aside,
    /// The settlement of a dead letter's source, by its number in the ring.
    Barrier(u64),
}

impl SessionState {
    pub(super) fn new(id: SessionId) -> Self {
        Self {
            id,
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
            wake: 0,
            aside: None,
            listed: 0,
        }
    }

    /// Whether everything resolved in it is known to the broker.
    pub(super) fn is_flushed(&self) -> bool {
        self.entries == self.len && self.aside.is_none() && !matches!(self.step, Step::Barrier(_))
    }
}

/// A buffered message, linked to the next of its session.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) message: Inbound,
    pub(super) seq: u64,
    pub(super) size: usize,
    pub(super) next: Option<usize>,
}

/// A running handler.
#[derive(Debug)]
pub(super) struct RunState {
    pub(super) serial: u64,
    pub(super) session: usize,
    pub(super) grant: Grant,
    pub(super) position: crate::position::Position,
    pub(super) attempt: u32,
    pub(super) started: Moment,
    pub(super) cancelled: Option<CancelWhy>,
    older: Option<usize>,
    newer: Option<usize>,
}

/// The runs by age, so that a constant timeout needs no timer a run.
#[derive(Debug, Default)]
pub(super) struct RunList {
    oldest: Option<usize>,
    newest: Option<usize>,
}

impl RunState {
    pub(super) fn new(serial: u64, session: usize, grant: Grant, node: &Node, attempt: u32, started: Moment) -> Self {
        let position = node.message.position;
        Self { serial, session, grant, position, attempt, started, cancelled: None, older: None, newer: None }
    }
}

impl RunList {
    pub(super) fn oldest(&self) -> Option<usize> {
        self.oldest
    }

    pub(super) fn push(&mut self, runs: &mut slab::Slab<RunState>, index: usize) {
        runs[index].older = self.newest;
        match self.newest {
            Some(newest) => runs[newest].newer = Some(index),
            None => self.oldest = Some(index),
        }
        self.newest = Some(index);
    }

    /// Takes a run out of the list, if it is in it.
    pub(super) fn unlink(&mut self, runs: &mut slab::Slab<RunState>, index: usize) {
        let (older, newer) = (runs[index].older.take(), runs[index].newer.take());
        match older {
            Some(older) => runs[older].newer = newer,
            None if self.oldest == Some(index) => self.oldest = newer,
            None => return,
        }
        match newer {
            Some(newer) => runs[newer].older = older,
            None => self.newest = older,
        }
    }
}
