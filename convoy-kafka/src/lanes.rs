//! What a consumer knows of its lanes: which are assigned, which are held, what was told of each. One lock, which a revoke takes as well as whatever commits.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use convoy_core::backend::{Answer, Command, Event, Grant, LeaseCell, Loss, Place, Progress, Recovered, Ticket};
use convoy_core::runtime::now;
use convoy_core::{Error, Moment, Position};
use hashbrown::{HashMap, HashSet};
use parking_lot::{Condvar, Mutex, MutexGuard};
use rdkafka::message::{BorrowedMessage, Message as _};

use crate::config::Options;
use crate::dead::Copies;
use crate::envelope;
use crate::error;
use crate::hashing::Placement;
use crate::names::Names;
use crate::outbox::Outbox;
use crate::progress::{Done, METADATA_UNITS};

/// So many messages of a lane that is not to be delivered are kept before its fetching is paused: what was fetched is thrown away then, and fetched again later.
const ASIDE: usize = 256;

/// What the threads of a consumer share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) names: Names,
    /// The number of partitions that the channel was opened with.
    pub(crate) lanes: u32,
    /// Findings that the user allows.
    pub(crate) allowed: Vec<String>,
    pub(crate) events: Outbox<Event>,
    pub(crate) copies: Arc<Copies>,
    /// When the polling thread last took a turn: it is measured here, since nobody tells it when it is stuck.
    polled: AtomicU64,
    /// Whether the group gave this member an assignment, be it an empty one.
    pub(crate) joined: AtomicBool,
    /// Whether no broker can be reached.
    pub(crate) down: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) lanes: HashMap<u32, Lane, foldhash::fast::RandomState>,
    last_epoch: u64,
    last_serial: u64,
    /// Told in this order, with the lock held, so that nothing of a grant comes before its beginning or after its end.
    batch: Vec<Event>,
    /// No right is won any more.
    pub(crate) leaving: bool,
    /// The source is closed or dropped, by then.
    pub(crate) stop: Option<Moment>,
    /// This client cannot be trusted any more: it is given up, and another one is made.
    pub(crate) abandoned: bool,
    /// How many commits left, and how many of those have an answer. At most one is under way.
    pub(crate) commits_begun: u64,
    pub(crate) commits_ended: u64,
    /// Something is to be paused, resumed or opened.
    pub(crate) upkeep: bool,
    /// Partitions that went while they were paused: to the client library they are paused still when they come back.
    pub(crate) left_paused: HashSet<u32, foldhash::fast::RandomState>,
}

/// An assigned partition.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) phase: Phase,
    /// Which time it is that the group gave it: where it stood the time before may be long ago.
    pub(crate) serial: u64,
    /// Whether its fetching is paused.
    pub(crate) paused: bool,
}

#[derive(Debug)]
pub(crate) enum Phase {
    /// It is this member's, and read.
    Held(Box<Held>),
    /// It is this member's, and is to be won (again): from there, once that is known.
    Opening(Option<Found>),
    /// It is still this member's, and is to be nobody's until the group says more.
    Given,
}

/// Where a lane begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) done: Done,
}

#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) grant: Grant,
    lease: Arc<LeaseCell>,
    /// What a commit says.
    told: Done,
    /// What the broker is known to have, or may have.
    known: Done,
    /// Whether it was committed under this grant: a group that has committed nothing would begin somewhere else after a crash.
    pub(crate) committed: bool,
    /// What the holder before knew, until all of it has been passed.
    before: Option<Done>,
    /// The first offset that was not seen.
    next: u64,
    /// Whether what was seen last was done already, and nobody told.
    passing: bool,
    placement: Placement,
    reading: bool,
    aside: VecDeque<Event>,
    pub(crate) ticket: Option<Ticket>,
    pub(crate) renew: bool,
    pub(crate) revoking: bool,
}

impl Held {
    /// The first offset that was not seen.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// A settlement ended. One that did not happen must not happen later, with a commit that only proves the right.
    pub(crate) fn settled(&mut self, answer: Answer) {
        match answer {
            // Unless the next one is there already.
            Answer::NotApplied if self.ticket.is_none() => self.told = self.known.clone(),
            Answer::NotApplied => {}
            _ => self.known = self.told.clone(),
        }
    }
}

/// What one lane commits.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) lane: u32,
    pub(crate) grant: Grant,
    pub(crate) ticket: Option<Ticket>,
    pub(crate) offset: u64,
    pub(crate) metadata: String,
}

impl Shared {
    pub(crate) fn new(options: Options, names: Names, lanes: u32, allowed: Vec<String>, copies: Arc<Copies>) -> Self {
        Self {
            options,
            names,
            lanes,
            allowed,
            events: Outbox::new(),
            copies,
            polled: AtomicU64::new(now().as_nanos()),
            joined: AtomicBool::new(false),
            down: AtomicBool::new(false),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Waits until something changes, or for so long.
    pub(crate) fn wait(&self, state: &mut MutexGuard<'_, State>, until: Moment) {
        let limit = until.since(now());
        if !limit.is_zero() {
            self.changed.wait_for(state, limit);
        }
    }

    pub(crate) fn wake(&self) {
        self.changed.notify_all();
    }

    /// Hands out what is told. With the lock held.
    pub(crate) fn flush(&self, state: &mut State) {
        self.events.append(&mut state.batch);
    }

    pub(crate) fn takes_a_turn(&self) {
        self.polled.store(now().as_nanos(), Ordering::Release);
    }

    pub(crate) fn last_turn(&self) -> Moment {
        Moment::from_nanos(self.polled.load(Ordering::Acquire))
    }

    pub(crate) fn allows(&self, code: &str) -> bool {
        self.allowed.iter().any(|allowed| allowed == code)
    }

    /// Ends the consumer with this.
    pub(crate) fn fail(&self, why: Error) {
        tracing::error!(channel = self.names.channel, group = self.names.group, error = ?why, "the consumer cannot go on");
        let mut state = self.state();
        self.flush(&mut state);
        drop(state);
        self.events.fail(why);
    }

    /// Wins a lane that the group gave to this member.
    pub(crate) fn grant(&self, state: &mut State, lane: u32, found: &Found) {
        let place = Place::Lane(lane);
        state.last_epoch += 1;
        let grant = Grant::new(state.last_epoch, &place);
        let lease = Arc::new(LeaseCell::default());
        let done = &found.done;
        let held = Held {
            grant,
            lease: Arc::clone(&lease),
            told: done.clone(),
            known: done.clone(),
            committed: false,
            before: (done.end > done.watermark).then(|| done.clone()),
            next: done.watermark,
            passing: false,
            placement: Placement::new(self.options.hash, lane, self.lanes),
            reading: true,
            aside: VecDeque::new(),
            ticket: None,
            renew: false,
            revoking: false,
        };
        let start = Position::new(done.watermark);
        state.batch.push(Event::Granted { grant, place, start, recovered: Recovered::default(), lease });
        if let Some(of) = state.lanes.get_mut(&lane) {
            of.phase = Phase::Held(Box::new(held));
            state.upkeep |= of.paused;
        }
    }

    /// A record came. What is done already is left out.
    pub(crate) fn deliver(&self, state: &mut State, record: &BorrowedMessage<'_>) {
        let (Ok(lane), Ok(offset)) = (u32::try_from(record.partition()), u64::try_from(record.offset())) else {
            return;
        };
        let State { lanes, batch, upkeep, .. } = state;
        let Some(Lane { phase: Phase::Held(held), paused, .. }) = lanes.get_mut(&lane) else { return };
        // The client library goes on where it is told to; whatever comes from before that is no news.
        if offset < held.next {
            return;
        }
        held.next = offset.saturating_add(1);
        let key = envelope::session(record.key(), lane, offset);
        if held.before.as_ref().is_some_and(|before| before.has(&key.0, offset)) {
            held.passing = true;
            return;
        }
        held.passing = false;
        let message = envelope::incoming(record, key, (lane, offset), &mut held.placement);
        let event = Event::Delivered { grant: held.grant, message };
        if held.reading {
            return batch.push(event);
        }
        held.aside.push_back(event);
        *upkeep |= held.aside.len() >= ASIDE && !*paused;
    }

    /// Nothing more is there for the moment: tells how far the lanes are that end with what was done already.
    pub(crate) fn pass(&self, state: &mut State) {
        let State { lanes, batch, .. } = state;
        for lane in lanes.values_mut() {
            if let Phase::Held(held) = &mut lane.phase
                && std::mem::take(&mut held.passing)
            {
                let event = Event::Passed { grant: held.grant, below: held.next };
                if held.reading { batch.push(event) } else { held.aside.push_back(event) }
            }
        }
    }

    /// Carries out what can be done at once, and notes the rest for the threads.
    pub(crate) fn submit(self: &Arc<Self>, commands: &mut Vec<Command>) {
        let mut copies = Vec::new();
        let mut state = self.state();
        for command in commands.drain(..) {
            match command {
                Command::Settle { grant, ticket, progress } => state.settle(grant, ticket, &progress),
                Command::Renew { grant } => {
                    if let Some((_, held)) = state.held(grant) {
                        held.renew = true;
                    }
                }
                Command::Read { grant, on } => state.read(grant, on),
                Command::SetAside { grant, message, reason } if state.held(grant).is_some() => {
                    copies.push((grant, message, reason));
                }
                Command::Leave => state.leaving = true,
                Command::Release { grant } | Command::Surrender { grant } => state.give_up(grant),
                Command::AcceptNamed { session, .. } => {
                    let error = error::named_on_lanes();
                    state.batch.push(Event::Denied { session, error });
                }
                _ => {}
            }
        }
        self.flush(&mut state);
        drop(state);
        self.wake();
        // Not under the lock: a copy that cannot leave is answered at once, and that takes it.
        for (grant, message, reason) in copies {
            self.copies.put(self, grant, &message, &reason);
        }
    }

    /// How a copy for the dead-letter store ended.
    pub(crate) fn set_aside(&self, grant: Grant, position: u64, answer: Answer) {
        let mut state = self.state();
        if state.held(grant).is_some() {
            state.batch.push(Event::SetAside { grant, position, answer });
            self.flush(&mut state);
        }
    }
}

impl State {
    /// The lane of a grant, if that is still the one. The shard of a grant is the stable hash of its place, which is the lane itself.
    pub(crate) fn held(&mut self, grant: Grant) -> Option<(u32, &mut Held)> {
        match self.lanes.get_mut(&grant.shard()) {
            Some(Lane { phase: Phase::Held(held), .. }) if held.grant == grant => Some((grant.shard(), held)),
            _ => None,
        }
    }

    pub(crate) fn tell(&mut self, event: Event) {
        self.batch.push(event);
    }

    fn settle(&mut self, grant: Grant, ticket: Ticket, progress: &Progress) {
        let Some((_, held)) = self.held(grant) else { return };
        let mut done = Done::of(progress);
        if let Some(before) = &held.before {
            let passed = before.end <= done.end;
            done = done.with_what_was_known(before);
            if passed {
                held.before = None;
            }
        }
        held.told = done;
        held.ticket = Some(ticket);
    }

    fn read(&mut self, grant: Grant, on: bool) {
        let Self { lanes, batch, upkeep, .. } = self;
        let Some(Lane { phase: Phase::Held(held), paused, .. }) = lanes.get_mut(&grant.shard()) else { return };
        if held.grant != grant {
            return;
        }
        held.reading = on;
        if on {
            batch.extend(held.aside.drain(..));
        }
        *upkeep |= on && *paused;
    }

    /// The engine gave a right back. It is won again, unless this member is leaving or the group takes it.
    fn give_up(&mut self, grant: Grant) {
        let leaving = self.leaving || self.stop.is_some();
        if let Some((_, held)) = self.held(grant) {
            held.lease.end();
            let phase = if leaving || held.revoking { Phase::Given } else { Phase::Opening(None) };
            if let Some(lane) = self.lanes.get_mut(&grant.shard()) {
                lane.phase = phase;
            }
            self.upkeep = true;
        }
    }

    /// A right is gone: that is told, and the lane is won again, or is nobody's any more.
    pub(crate) fn lose(&mut self, grant: Grant, why: Loss) {
        if let Some((_, held)) = self.held(grant) {
            held.lease.end();
            self.batch.push(Event::Lost { grant, why });
            self.forget(grant);
        }
    }

    /// As [`lose`](Self::lose), where the engine knows.
    pub(crate) fn forget(&mut self, grant: Grant) {
        self.give_up(grant);
    }

    /// The group took lanes: whatever is still held of them is lost.
    pub(crate) fn remove(&mut self, lanes: &[u32], why: Loss) {
        for lane in lanes {
            let Some(of) = self.lanes.remove(lane) else { continue };
            if of.paused {
                self.left_paused.insert(*lane);
            }
            if let Phase::Held(held) = of.phase {
                held.lease.end();
                self.batch.push(Event::Lost { grant: held.grant, why });
            }
        }
    }

    /// The group gave a lane to this member.
    pub(crate) fn add(&mut self, lane: u32, phase: Phase) {
        let paused = self.left_paused.remove(&lane);
        self.last_serial += 1;
        self.lanes.insert(lane, Lane { phase, serial: self.last_serial, paused });
        self.upkeep = true;
    }

    /// Whether the engine holds one of these.
    pub(crate) fn holds_any(&self, lanes: &[u32]) -> bool {
        lanes.iter().any(|lane| matches!(self.lanes.get(lane), Some(Lane { phase: Phase::Held(_), .. })))
    }

    /// All lanes that are held.
    pub(crate) fn grants(&self) -> Vec<Grant> {
        let held = |lane: &Lane| match &lane.phase {
            Phase::Held(held) => Some(held.grant),
            _ => None,
        };
        self.lanes.values().filter_map(held).collect()
    }

    /// Asks the engine to give these back by then.
    pub(crate) fn revoke(&mut self, lanes: &[u32], until: Moment) {
        for lane in lanes {
            match self.lanes.get_mut(lane).map(|lane| &mut lane.phase) {
                Some(Phase::Held(held)) if !held.revoking => {
                    held.revoking = true;
                    self.batch.push(Event::Revoking { grant: held.grant, until });
                }
                Some(phase @ Phase::Opening(_)) => *phase = Phase::Given,
                _ => {}
            }
        }
    }

    /// What is to be committed now, of the lanes that are this member's now.
    pub(crate) fn take_commit(&mut self, partitions: u32) -> Vec<Told> {
        let mut told = Vec::new();
        let mut too_large = Vec::new();
        for (lane, of) in &mut self.lanes {
            let Phase::Held(held) = &mut of.phase else { continue };
            if held.ticket.is_none() && !held.renew {
                continue;
            }
            let ticket = held.ticket.take();
            held.renew = false;
            match held.told.write(partitions, METADATA_UNITS) {
                Ok(metadata) => {
                    told.push(Told { lane: *lane, grant: held.grant, ticket, offset: held.told.watermark, metadata })
                }
                Err(why) => too_large.push((*lane, held.grant, ticket, why)),
            }
        }
        for (lane, grant, ticket, why) in too_large {
            tracing::error!(lane, ?why, "what is done of a lane does not fit into a commit");
            if let Some(ticket) = ticket {
                self.batch.push(Event::Settled { grant, ticket, answer: Answer::NotApplied });
            }
        }
        told
    }

    /// Whether a lane's fetching should be paused.
    pub(crate) fn wants_pause(lane: &Lane) -> bool {
        match &lane.phase {
            Phase::Held(held) => !held.reading && (lane.paused || held.aside.len() >= ASIDE),
            Phase::Opening(_) | Phase::Given => true,
        }
    }
}
