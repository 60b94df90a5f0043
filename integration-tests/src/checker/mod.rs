//! The checker: judges a [history](crate::history) in one streaming pass.
//!
//! ```
//! use convoy_conformance::checker::{Checker, Options};
//!
//! let mut checker = Checker::new(Options::total());
//! for event in convoy_conformance::checker::correct(1_000) {
//!     checker.push(&event);
//! }
//! let verdict = checker.finish();
//! assert!(verdict.is_ok(), "{verdict}");
//! ```
//!
//! Events are pushed in the order of (time, process, number). The cost is constant an event; what
//! is remembered is about a hundred bytes a session of a group, and what is sent and not settled.
//! Each concern has a file: what was sent (`producer`), the order of starts (`order`), who may run
//! (`exclusion`, `grants`), settlements (`settle`), dead letters (`dead`), sinks and state (`effects`),
//! and what remains at the end (`finish`).

mod bench;
mod convoy;
mod dead;
mod effects;
mod exclusion;
mod finish;
mod grants;
mod histogram;
mod names;
mod options;
mod order;
mod producer;
mod report;
mod ring;
mod settle;
mod verdict;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

pub use bench::{bench, correct};
pub use names::{Fatal, Liveness, Reported};
pub use options::{Options, Order};
pub use verdict::{Finding, Spread, Verdict};

use crate::history::{Event, What};

/// Judges one history. [`Checker::reset`] readies it for the next and keeps its memory.
#[derive(Debug)]
pub struct Checker {
    options: Options,
    events: u64,
    now: u64,
    /// Until then what was acknowledged may come back: a broker node was lost.
    returns_until: u64,
    groups: Vec<u32>,
    processes: HashMap<u32, grants::Process, RandomState>,
    convoys: convoy::Convoys,
    ring: ring::Ring,
    grants: grants::Grants,
    runs: exclusion::Runs,
    sends: producer::Sends,
    settles: settle::Settles,
    dead: dead::Dead,
    effects: effects::Effects,
    report: report::Report,
}

impl Checker {
    /// A checker for a backend that promises what the options say.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            events: 0,
            now: 0,
            returns_until: 0,
            groups: Vec::new(),
            processes: HashMap::default(),
            convoys: convoy::Convoys::default(),
            ring: ring::Ring::default(),
            grants: grants::Grants::default(),
            runs: exclusion::Runs::default(),
            sends: producer::Sends::default(),
            settles: settle::Settles::default(),
            dead: dead::Dead::default(),
            effects: effects::Effects::default(),
            report: report::Report::default(),
        }
    }

    /// The options, to be changed between two histories.
    pub fn options_mut(&mut self) -> &mut Options {
        &mut self.options
    }

    /// Forgets the history and keeps the memory.
    pub fn reset(&mut self) {
        (self.events, self.now, self.returns_until) = (0, 0, 0);
        self.groups.clear();
        self.processes.clear();
        self.convoys.clear();
        self.ring.clear();
        self.grants.clear();
        self.runs.clear();
        self.sends.clear();
        self.settles.clear();
        self.dead.clear();
        self.effects.clear();
        self.report.clear();
    }

    /// Takes the next event, in the order of (time, process, number).
    pub fn push(&mut self, event: &Event) {
        self.events += 1;
        self.now = self.now.max(event.time);
        if !self.runs.none_accused() {
            self.convict(Some(event.process));
        }
        let e = event;
        match e.what {
            What::GroupStart => self.group_start(e.group),
            What::SendReq { session, message, hash, .. } => self.send_req(e, session, message, hash),
            What::Send { session, message, outcome, position } => self.send(e, session, message, outcome, position),
            What::Resume { session, producer } => self.resume(session, producer),
            What::Grant { place, grant, sent_at, lock } => self.grant(e, place, grant, sent_at, lock),
            What::Renewed { grant, sent_at } => self.renewed(e, grant, sent_at),
            What::Lost { grant, cause } => self.lost(e, grant, cause),
            What::Deliver { session, message, grant, hash, position, malformed } => {
                self.deliver(e, session, message, grant, hash, position, malformed);
            }
            What::Start { session, message, grant, checked_at, deadline, position, blocking, .. } => {
                let start = order::Start { session, message, grant, checked_at, deadline, position, blocking };
                self.start(e, &start);
            }
            What::End { session, message, grant, how } => self.end(e, session, message, grant, how),
            What::SettleReq { session, message, grant, kind } => self.asked(e, session, message, grant, kind),
            What::Settle { session, message, grant, answer } => self.answered(e, session, message, grant, answer),
            What::Copied { session, message, grant, store, answer } => {
                self.copied(e, session, message, grant, store, answer);
            }
            What::Stored { session, message, store } => self.stored(e, session, message, store),
            What::Redrive { session, message } => self.redrive(e, session, message),
            What::Purge { session, message } => self.purge(e, session, message),
            What::Effect { session, message, position, accepted } => {
                self.effect(e, session, message, position, accepted);
            }
            What::StateReq { session, grant, version } => self.state_req(e, session, grant, version),
            What::State { session, grant, version, answer } => self.state(e, session, grant, version, answer),
            What::StateRead { session, grant, version } => self.state_read(e, session, grant, version),
            What::KillSent { target } => self.kill_sent(e, target),
            What::Reaped { target } => self.reaped(e, target),
            What::Fault { fault, side, phase, target } => self.fault(e, fault, side, phase, target),
        }
    }

    /// Ends the history and says what is to be said of it. Only [`Checker::reset`] may follow.
    pub fn finish(&mut self) -> Verdict {
        self.judge_runs();
        self.judge_sends();
        self.judge_dead();
        self.verdict()
    }

    fn group_start(&mut self, group: u32) {
        if !self.groups.contains(&group) {
            self.groups.push(group);
        }
    }

    /// The bit of a group among those owed a message; none beyond 64 groups, which are then
    /// judged in everything but `lost`.
    fn group_bit(&self, group: u32) -> u64 {
        let at = self.groups.iter().position(|other| *other == group);
        at.and_then(|at| 1u64.checked_shl(u32::try_from(at).ok()?)).unwrap_or(0)
    }
}
