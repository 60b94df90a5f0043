//! The engine: what decides. A state machine without a clock, I/O, a runtime or randomness.
//!
//! It is told events of a broker, ends of handlers and the time ([`Engine::handle`]), and is asked for the next message to handle ([`Engine::start`]). What it
//! wants done piles up as [`Command`]s for the broker and [`Notice`]s for whoever drives it. The driver of this crate and the
//! simulation of the conformance suite run the same engine.
//!
//! Split by concern: `dispatch` (which session's message starts), `lease` (grants, evidence, expiry), `settle` (what is done and recorded),
//! `retry` (what follows a failure), `bounds` (how much is buffered), `claims` (sessions held by a pull loop), `turns` (whose place goes to the next session) and `drain` (leaving).

mod bounds;
mod bugs;
mod claims;
mod dispatch;
mod drain;
mod input;
mod lease;
mod retry;
mod settle;
mod state;
#[cfg(test)]
mod tests;
mod timers;
mod turns;

use std::collections::VecDeque;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashTable};
use slab::Slab;

pub use self::bugs::Bug;
pub use self::claims::{ClaimId, Next, NotClaimed};
pub use self::input::{CancelWhy, Config, End, EndKind, How, Input, Note, Notice, RunId, Start, Then};

use self::state::{Fifo, GrantState, Node, RunState, SessionState};
use self::timers::Timers;
use crate::backend::{Command, Event, Grant, Limits, Place};
use crate::time::Moment;

/// The state machine of one shard of a consumer.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    limits: Limits,
    mode: Mode,
    grants: Slab<GrantState>,
    by_epoch: HashMap<u64, usize, FixedState>,
    by_place: HashMap<Place, usize, FixedState>,
    highest_epoch: Option<u64>,
    sessions: Slab<SessionState>,
    by_session: HashTable<usize>,
    hasher: FixedState,
    nodes: Slab<Node>,
    runs: Slab<RunState>,
    /// Runs without a cancellation, by age, when there is a handler timeout.
    by_age: Fifo,
    claims: Slab<claims::Claim>,
    /// Sessions whose turn comes, each with its [`turn`](SessionState::turn); what is out of date is passed over.
    ready: VecDeque<(usize, u64)>,
    /// How many of them are not.
    ready_now: usize,
    timers: Timers,
    /// Sessions without work, by how long, on a broker that locks sessions.
    idle: Fifo,
    pressure: bool,
    serial: u64,
    messages: usize,
    bytes: usize,
    /// Whether the bound of the whole is met.
    full: bool,
    commands: Vec<Command>,
    notices: Vec<Notice>,
    notes: Vec<Note>,
    /// Emptied rings and lists for the next grants.
    spare: Vec<state::Spare>,
    /// The position that an answer speaks of, when each message has its own.
    told: Vec<u64>,
    totals: Totals,
    /// Whether something that was handled was not settled when its right ended in a drain.
    left_behind: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Running,
    Paused,
    /// A handler asked to stop: nothing starts until the driver drains.
    Stopped,
    Draining {
        until: Moment,
        over: bool,
    },
}

/// What an engine holds, as numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Rights held.
    pub grants: usize,
    /// Sessions known: with messages, a handler, or settlements under way.
    pub sessions: usize,
    /// Sessions with a message ready to start.
    pub ready: usize,
    /// Handlers running.
    pub running: usize,
    /// Messages buffered, those of running handlers included.
    pub messages: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// What an engine has seen since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Messages handled.
    pub completed: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Waits before another attempt.
    pub retried: u64,
    /// Messages dead-lettered.
    pub dead_lettered: u64,
    /// Rights that ended otherwise than by being given back.
    pub lost: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.grants += other.grants;
        self.sessions += other.sessions;
        self.ready += other.ready;
        self.running += other.running;
        self.messages += other.messages;
        self.bytes += other.bytes;
    }
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.completed += other.completed;
        self.failed += other.failed;
        self.retried += other.retried;
        self.dead_lettered += other.dead_lettered;
        self.lost += other.lost;
    }
}

impl Engine {
    /// An engine with these policies over a source with these limits.
    #[must_use]
    pub fn new(config: Config, limits: Limits) -> Self {
        let hasher = FixedState::with_seed(config.hash_seed);
        Self {
            limits,
            mode: Mode::Running,
            grants: Slab::new(),
            by_epoch: HashMap::with_hasher(hasher.clone()),
            by_place: HashMap::with_hasher(hasher.clone()),
            by_session: HashTable::new(),
            highest_epoch: None,
            sessions: Slab::new(),
            hasher,
            nodes: Slab::new(),
            runs: Slab::new(),
            by_age: Fifo::default(),
            claims: Slab::new(),
            ready: VecDeque::new(),
            ready_now: 0,
            timers: Timers::default(),
            idle: Fifo::default(),
            pressure: false,
            serial: 0,
            messages: 0,
            bytes: 0,
            full: false,
            commands: Vec::new(),
            notices: Vec::new(),
            notes: Vec::new(),
            spare: Vec::new(),
            told: Vec::new(),
            totals: Totals::default(),
            left_behind: false,
            config,
        }
    }

    /// Takes one input. What follows from it is in [`commands`](Self::commands), [`notices`](Self::notices) and [`notes`](Self::notes).
    pub fn handle(&mut self, now: Moment, input: Input) {
        match input {
            Input::Event(event) => self.on_event(now, event),
            Input::Ended { run, end, jitter } => {
                self.ended(now, run, end, jitter);
            }
            Input::Tick => self.tick(now),
            Input::Pause if self.mode == Mode::Running => self.mode = Mode::Paused,
            Input::Resume if self.mode == Mode::Paused => self.resume(),
            Input::Pause | Input::Resume => {}
            Input::Drain { until } => self.drain(now, until),
            Input::Pressure(on) => {
                self.pressure = on;
                self.release_idle(now);
            }
        }
    }

    fn on_event(&mut self, now: Moment, event: Event) {
        match event {
            Event::Granted { grant, place, start, lease, .. } => self.granted(now, grant, place, start, lease),
            Event::Delivered { grant, message } => self.delivered(now, grant, message),
            Event::Passed { grant, below } => self.passed(now, grant, below),
            Event::Proved { grant, asked_at, valid_for } => self.proved(now, grant, asked_at, valid_for),
            Event::Settled { grant, ticket, answer } => self.settled(now, grant, ticket, answer),
            Event::SetAside { grant, position, answer } => self.set_aside_answered(now, grant, position, answer),
            Event::Revoking { grant, until } => self.revoking(now, grant, until),
            Event::Lost { grant, why } => {
                if let Some(gi) = self.live(grant) {
                    self.lose(now, gi, why);
                }
            }
            Event::Denied { session, error } => self.notices.push(Notice::Denied { session, error }),
        }
    }

    /// The one place where an old grant is told from a live one: what comes under another is dropped here.
    fn live(&self, grant: Grant) -> Option<usize> {
        self.by_epoch.get(&grant.epoch()).copied()
    }

    /// Whether this grant is still held, and at this place of the table.
    fn holds(&self, gi: usize, grant: Grant) -> bool {
        self.grants.get(gi).is_some_and(|g| g.grant == grant)
    }

    /// When [`Input::Tick`] is wanted next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        let mut next = self.timers.next().unwrap_or(Moment::NEVER);
        if let Some(timeout) = self.config.handler_timeout
            && let Some(oldest) = self.by_age.oldest()
        {
            next = next.min(self.runs[oldest].started + timeout);
        }
        if let Some(until) = self.idle_until() {
            next = next.min(until);
        }
        if let Mode::Draining { until, over: false } = self.mode {
            next = next.min(until);
        }
        (next < Moment::NEVER).then_some(next)
    }

    fn tick(&mut self, now: Moment) {
        self.time_out_runs(now);
        self.release_idle(now);
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                timers::Timer::Grant(gi) => {
                    let g = &mut self.grants[gi];
                    (g.timer, g.armed) = (None, Moment::NEVER);
                    self.check_grant(now, gi);
                }
                timers::Timer::Session(si) => {
                    self.sessions[si].timer = None;
                    self.wait_is_over(now, si);
                }
                timers::Timer::Run(index) => self.grace_is_over(index),
            }
        }
        if let Mode::Draining { until, over: false } = self.mode
            && now >= until
        {
            self.drain_is_over(now, until);
        }
    }

    /// What is asked of the broker, in order; to be taken by whoever drives the engine.
    pub fn commands(&mut self) -> &mut Vec<Command> {
        &mut self.commands
    }

    /// What the driver must do or know; to be taken by it.
    pub fn notices(&mut self) -> &mut Vec<Notice> {
        &mut self.notices
    }

    /// What happened, for observers, when [`Config::observe`] is on.
    pub fn notes(&mut self) -> &mut Vec<Note> {
        &mut self.notes
    }

    /// Whether something may be ready to start.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        self.mode == Mode::Running && self.ready_now > 0
    }

    /// Whether a drain is finished: no right is held and no handler runs.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        matches!(self.mode, Mode::Draining { .. }) && self.grants.is_empty() && self.runs.is_empty()
    }

    /// Whether everything that was handled was settled before its right ended in the drain: then none of it comes again.
    #[must_use]
    pub fn left_nothing_behind(&self) -> bool {
        !self.left_behind
    }

    /// What it holds, as numbers.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            grants: self.grants.len(),
            sessions: self.sessions.len(),
            ready: self.ready_now,
            running: self.runs.len(),
            messages: self.messages,
            bytes: self.bytes,
        }
    }

    /// What it has seen since it was made.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Gives memory back that a burst of sessions had needed.
    pub fn shrink(&mut self) {
        self.nodes.shrink_to_fit();
        self.sessions.shrink_to_fit();
        self.grants.shrink_to_fit();
        self.runs.shrink_to_fit();
        let (sessions, hasher) = (&self.sessions, &self.hasher);
        self.by_session.shrink_to_fit(|si| sessions[*si].hash(hasher));
        self.by_place.shrink_to_fit();
        self.by_epoch.shrink_to_fit();
        self.ready.shrink_to_fit();
        self.timers.shrink();
        self.spare = Vec::new();
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    #[inline]
    fn note(&mut self, note: impl FnOnce(&Self) -> Note) {
        if self.config.observe {
            let note = note(self);
            self.notes.push(note);
        }
    }

    /// Whether this defect is switched on: never, but in a build for the simulation.
    #[cfg(feature = "seeded-bugs")]
    fn bug(&self, bug: Bug) -> bool {
        self.config.bug == Some(bug)
    }

    #[cfg(not(feature = "seeded-bugs"))]
    #[allow(clippy::unused_self)]
    const fn bug(&self, _: Bug) -> bool {
        false
    }
}
