//! What a consumer knows of its lanes: which are assigned, which are held, what was told of each. One lock, which a revoke takes as well as whatever commits.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use convoy_core::backend::{Answer, Command, Event, Grant, LeaseCell, Loss, Place, Progress, Recovered, Ticket};
use convoy_core::runtime::now;
use convoy_core::{Defect, Error, Inbound, Moment, Position};
use hashbrown::HashMap;
use parking_lot::{Condvar, Mutex, MutexGuard};
use rdkafka::error::KafkaError;

use crate::config::Options;
use crate::dead::Copies;
use crate::error;
use crate::hashing::Placement;
use crate::names::Names;
use crate::outbox::Outbox;
use crate::progress::{Done, METADATA_UNITS};
use crate::queue::{Bell, Queue};
use crate::rebalance::Client;

/// What the polling thread is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    Polling,
    Change,
    Commits,
    Leaving,
}

impl About {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Polling, "it was polling"),
        (Self::Change, "a change of the group was under way"),
        (Self::Commits, "a commit, or a question for the group's positions, had no answer"),
        (Self::Leaving, "leaving the group had no answer: it is left when the session's timeout has passed"),
    ];
}

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
    /// The client that is the present one.
    pub(crate) client: Mutex<Weak<Client>>,
    /// Rung when there may be something to read.
    pub(crate) bell: Arc<Bell>,
    /// When the polling thread last took a turn: it is measured here, since nobody tells it when it is stuck.
    polled: AtomicU64,
    /// Whether the group gave this member an assignment, be it an empty one.
    pub(crate) joined: AtomicBool,
    /// Whether no broker can be reached.
    pub(crate) down: AtomicBool,
    /// What the polling thread is about, which is asked for when it takes too long.
    pub(crate) about: AtomicU8,
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
    /// Something is to be opened.
    pub(crate) upkeep: bool,
    /// What the client library had to say while lanes were read.
    pub(crate) trouble: Option<KafkaError>,
}

/// An assigned partition.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) phase: Phase,
    /// Which time it is that the group gave it: where it stood the time before may be long ago.
    pub(crate) serial: u64,
    pub(crate) queue: Slot,
}

/// Where a lane's queue is, as long as the lane is assigned. Whoever reads it keeps this locked until what was read is told; so whoever has it, or has emptied it, knows that nothing is on the way.
pub(crate) type Slot = Arc<Mutex<Option<Queue>>>;

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
    /// What was read when it was not to be any more.
    aside: Vec<Event>,
    pub(crate) ticket: Option<Ticket>,
    pub(crate) renew: bool,
    pub(crate) revoking: bool,
}

impl Lane {
    /// What is held of it by this grant.
    fn held(&mut self, grant: Grant) -> Option<&mut Held> {
        match &mut self.phase {
            Phase::Held(held) if held.grant == grant => Some(held),
            _ => None,
        }
    }
}

impl Held {
    fn tell(&mut self, batch: &mut Vec<Event>, event: Event) {
        if self.reading { batch.push(event) } else { self.aside.push(event) }
    }

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

/// Queues of lanes that were given up.
#[derive(Default)]
pub(crate) struct Queues(Vec<Slot>);

impl Queues {
    /// Ends them, once nobody reads them any more. Before the lanes go back to the client library: a reader that is late would take what comes after they were given again.
    pub(crate) fn end(self) {
        for slot in self.0 {
            drop(slot.lock().take());
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
            client: Mutex::default(),
            bell: Arc::default(),
            polled: AtomicU64::new(now().as_nanos()),
            joined: AtomicBool::new(false),
            down: AtomicBool::new(false),
            about: AtomicU8::new(About::Polling as u8),
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

    /// Says what comes now.
    pub(crate) fn is_about(&self, what: About) {
        self.about.store(what as u8, Ordering::Release);
    }

    /// What it is about now, in words.
    pub(crate) fn now_about(&self) -> &'static str {
        let now = self.about.load(Ordering::Acquire);
        About::ALL.iter().find(|(about, _)| *about as u8 == now).map_or("", |(_, said)| said)
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
            aside: Vec::new(),
            ticket: None,
            renew: false,
            revoking: false,
        };
        let start = Position::new(done.watermark);
        state.batch.push(Event::Granted { grant, place, start, recovered: Recovered::default(), lease });
        if let Some(of) = state.lanes.get_mut(&lane) {
            of.phase = Phase::Held(Box::new(held));
        }
    }

    /// Records of a lane came, by its grant: those which are done already are left out. `all` says that no more are there for the moment.
    pub(crate) fn deliver(&self, state: &mut State, grant: Grant, records: &mut Vec<Inbound>, all: bool) {
        let State { lanes, batch, .. } = state;
        let Some(held) = lanes.get_mut(&grant.shard()).and_then(|lane| lane.held(grant)) else {
            return records.clear();
        };
        for mut message in records.drain(..) {
            let offset = message.position.value;
            // The client library goes on where it is told to; whatever comes from before that is no news.
            if offset < held.next {
                continue;
            }
            held.next = offset.saturating_add(1);
            held.passing = held.before.as_ref().is_some_and(|before| before.has(&message.session, offset));
            if held.passing {
                continue;
            }
            if !message.session.is_lone() && !held.placement.fits(&message.session) {
                message.defect = Some(Defect::Misrouted);
            }
            held.tell(batch, Event::Delivered { grant, message });
        }
        // How far it is when it ends with what was done already.
        if all && std::mem::take(&mut held.passing) {
            let below = held.next;
            held.tell(batch, Event::Passed { grant, below });
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
                Command::Read { grant, on } => state.read(grant, on, &self.events),
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
        self.bell.ring();
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
        self.lanes.get_mut(&grant.shard())?.held(grant).map(|held| (grant.shard(), held))
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

    /// What nobody took yet when reading ends is kept until it goes on.
    fn read(&mut self, grant: Grant, on: bool, told: &Outbox<Event>) {
        let Self { lanes, batch, .. } = self;
        let Some(held) = lanes.get_mut(&grant.shard()).and_then(|lane| lane.held(grant)) else { return };
        held.reading = on;
        if on {
            return batch.append(&mut held.aside);
        }
        let of_it = |event: &Event| match event {
            Event::Delivered { grant: of, .. } | Event::Passed { grant: of, .. } => *of == grant,
            _ => false,
        };
        told.withdraw(of_it, &mut held.aside);
    }

    /// Whether a lane is read by this grant.
    pub(crate) fn reads(&mut self, grant: Grant) -> bool {
        self.held(grant).is_some_and(|(_, held)| held.reading)
    }

    /// What is to be read.
    pub(crate) fn readable(&self, into: &mut Vec<(Grant, Slot)>) {
        into.extend(self.lanes.values().filter_map(|lane| match &lane.phase {
            Phase::Held(held) if held.reading => Some((held.grant, Arc::clone(&lane.queue))),
            _ => None,
        }));
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

    /// The group took lanes: whatever is still held of them is lost. Their queues are to be emptied of whoever reads them, without this lock.
    #[must_use]
    pub(crate) fn remove(&mut self, lanes: &[u32], why: Loss) -> Queues {
        let mut queues = Queues::default();
        for lane in lanes {
            let Some(of) = self.lanes.remove(lane) else { continue };
            queues.0.push(of.queue);
            if let Phase::Held(held) = of.phase {
                held.lease.end();
                self.batch.push(Event::Lost { grant: held.grant, why });
            }
        }
        queues
    }

    /// The group gave a lane to this member.
    pub(crate) fn add(&mut self, lane: u32, phase: Phase, queue: Option<Queue>) {
        self.last_serial += 1;
        self.lanes.insert(lane, Lane { phase, serial: self.last_serial, queue: Arc::new(Mutex::new(queue)) });
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
}
